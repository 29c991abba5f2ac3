//! Takes a drive, or an enclosure with its drives, out of the topology for good.

use std::collections::BTreeSet;

use enfilade_placement::{DriveId, Enclosure, Volume, VolumeState};

use crate::api::moves::{Intent, Subject};
use crate::api::replicas::ReplicaChange;
use crate::api::root::{Partition, RootRefusal, RootReply};
use crate::root::keys::{self, Kind};
use crate::root::state::{DriveRow, State, Stop};
use crate::rows::{RowsError, Table};
use crate::typed;

/// Refused with the reason as long as anything is there, or is on its way there. What was removed
/// is remembered, so that it does not come back by a restart. Looks through all volumes: a second a
/// million, of an order that is rare.
pub(super) fn apply(state: &mut State<'_, '_>, subject: Subject) -> Result<RootReply, Stop> {
    let rows = all::<DriveRow>(state, Kind::Drive)?;
    let drives: BTreeSet<DriveId> = match subject {
        Subject::Drive(id) => BTreeSet::from([state.drive(id)?.drive.id]),
        Subject::Enclosure(id) => {
            let id = state.enclosure(id)?.id;
            let here = rows.iter().filter(|row| row.drive.enclosure == id);
            here.map(|row| row.drive.id).collect()
        }
    };
    if let Some(reason) = held(state, subject, &drives)? {
        return Err(RootRefusal::Unfit(reason).into());
    }
    for drive in drives {
        state.unset(keys::drive(drive))?;
        state.unset(keys::drain(Subject::Drive(drive)))?;
        state.mark(keys::removed(Subject::Drive(drive)))?;
    }
    if let Subject::Enclosure(id) = subject {
        let chain = state.enclosure(id)?.chain;
        state.unset(keys::enclosure(id))?;
        state.unset(keys::drain(subject))?;
        state.unset(keys::maintenance(id))?;
        state.unset(keys::out(id))?;
        state.mark(keys::removed(subject))?;
        // What replicas left there stays known: its process may run for long, and has voted.
        let others = all::<Enclosure>(state, Kind::Enclosure)?;
        if !others.iter().any(|other| other.chain == chain) {
            state.unset(keys::chain(chain))?;
        }
    }
    Ok(RootReply::Done)
}

/// What is still there.
fn held(
    state: &State<'_, '_>,
    subject: Subject,
    drives: &BTreeSet<DriveId>,
) -> Result<Option<String>, RowsError> {
    let what = match subject {
        Subject::Drive(id) => format!("drive {id}"),
        Subject::Enclosure(id) => {
            let placed = |partition: &Partition| partition.replicas.contains(&id);
            let partitions = all::<Partition>(state, Kind::Partition)?;
            if let Some(partition) = partitions.iter().find(|one| placed(one)) {
                let group = partition.id;
                return Ok(Some(format!(
                    "enclosure {id} has a metadata replica of partition {group}: it must be \
                     placed elsewhere first"
                )));
            }
            let changes = all::<ReplicaChange>(state, Kind::Replicas)?;
            let (root, _) = &state.head.root_replicas;
            if root.contains(&id) || changes.iter().any(|one| one.touched.contains(&id)) {
                return Ok(Some(format!(
                    "enclosure {id} has a metadata replica of the root group, or one is on its \
                     way: it must be placed elsewhere first"
                )));
            }
            format!("enclosure {id}")
        }
    };
    let mut shards = 0usize;
    let span = keys::all(Kind::Volume);
    typed::scan(state.rows(), Table::Root, &span, &mut |key, value| {
        let volume: Volume = typed::decode(Table::Root, key, value)?;
        if volume.state != VolumeState::Retired {
            let here = volume.present().filter(|(_, drive)| drives.contains(drive));
            shards += here.count();
        }
        Ok(typed::go_on_while(true))
    })?;
    if shards > 0 {
        return Ok(Some(format!(
            "{what} still holds {shards} shards of volumes: drain it first"
        )));
    }
    let mut intents = all::<Intent>(state, Kind::Intent)?.into_iter();
    let comes = intents.any(|one| drives.contains(&one.to));
    Ok(comes.then(|| format!("shards are on their way to {what}: drain it first")))
}

fn all<T: serde::de::DeserializeOwned>(
    state: &State<'_, '_>,
    kind: Kind,
) -> Result<Vec<T>, RowsError> {
    let rows = typed::collect(state.rows(), Table::Root, &keys::all(kind), usize::MAX)?;
    Ok(rows.into_iter().map(|(_, value)| value).collect())
}
