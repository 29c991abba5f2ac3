//! Gives a member to the drive that its shard was made on (PROTOCOLS 21).

use enfilade_placement::spread::violations;
use enfilade_placement::{Chain, Drive, Enclosure, Topology, Volume};

use crate::api::moves::{Flip, Intent, Reason, Stage, may_move};
use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys::{self, Kind};
use crate::root::state::{self, DriveRow, State, Stop};
use crate::rows::{RowsError, Table};
use crate::typed;

use super::ledger;

/// Compare-and-set on the volume's epoch and the intent. The old shard is nobody's from then on;
/// its node keeps it for readers who do not know yet.
pub(super) fn apply(state: &mut State<'_, '_>, flip: &Flip) -> Result<RootReply, Stop> {
    let key = keys::intent(flip.volume, flip.member);
    let intent = state.load::<Intent>(&key)?;
    let making = |intent: &Intent| intent.id == flip.intent && intent.stage == Stage::Make;
    let Some(intent) = intent.filter(making) else {
        return Err(RootRefusal::IntentEnded(flip.intent).into());
    };
    let mut volume = state.volume_at(flip.volume, flip.epoch)?;
    let member = volume.members.get_mut(usize::from(flip.member));
    let Some(member) = member.filter(|member| **member == intent.from) else {
        return Err(RootRefusal::IntentEnded(flip.intent).into());
    };
    *member = Some(intent.to);
    if !may_move(&volume) {
        return Err(RootRefusal::WrongState(volume).into());
    }
    volume.epoch = volume.epoch.next();
    volume.violation = violated(state, &volume)?;
    state.set_volume(&volume)?;
    let stage = Stage::Check;
    let (reason, bytes) = (intent.reason, flip.bytes);
    state.set(key, &Intent { stage, ..intent })?;
    ledger::replace(state, (flip.volume, flip.member), &flip.lacks)?;
    let sum = match reason {
        Reason::Repair => &mut state.head.rebuilt_bytes,
        Reason::Drain | Reason::Spread | Reason::Rebalance => &mut state.head.moved_bytes,
    };
    *sum = sum.saturating_add(bytes);
    let now = state::clock(state.rows())?.now;
    state.head.work.step(now, bytes);
    if reason == Reason::Repair {
        state.head.repair.step(now, bytes);
    }
    Ok(RootReply::Volume(volume))
}

/// Whether a volume's members are spread less than its profile wants.
fn violated(state: &State<'_, '_>, volume: &Volume) -> Result<bool, RowsError> {
    let mut topology = Topology::default();
    for (_, chain) in all::<Chain>(state, Kind::Chain)? {
        topology.chains.insert(chain.id, chain);
    }
    for (_, enclosure) in all::<Enclosure>(state, Kind::Enclosure)? {
        topology.enclosures.insert(enclosure.id, enclosure);
    }
    for (_, id) in volume.present() {
        let row = state.load::<DriveRow>(&keys::drive(id))?;
        let drive: Option<Drive> = row.map(|row| row.drive);
        topology.drives.extend(drive.map(|drive| (id, drive)));
    }
    Ok(!violations(&topology, volume.profile, &volume.members).is_empty())
}

fn all<T: serde::de::DeserializeOwned>(
    state: &State<'_, '_>,
    kind: Kind,
) -> Result<Vec<(Vec<u8>, T)>, RowsError> {
    typed::collect(state.rows(), Table::Root, &keys::all(kind), usize::MAX)
}
