//! Questions to the root state: pure reads of its rows.

use std::collections::BTreeMap;

use enfilade_placement::{Chain, Enclosure, EnclosureId, IntentId, Topology, Volume, VolumeId};
use serde::de::DeserializeOwned;

use crate::api::command::GroupTime;
use crate::api::moves::{Intent, Moves};
use crate::api::replicas::{ReplicaChange, Replicas};
use crate::api::root::{Bucket, LedgerQuery, LedgerRow, Partition, RootView};
use crate::root::keys::{self, Kind};
use crate::root::state::{self, DriveRow, Head};
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

/// The whole view, without sealed and retired volumes. Revision 0 before the cluster is born.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn view(rows: &dyn Rows) -> Result<RootView, RowsError> {
    let Some(head) = state::head(rows)? else {
        return Ok(RootView::default());
    };
    let topology = topology(rows)?;
    let live = live(rows)?;
    let buckets = all::<Bucket>(rows, Kind::Bucket)?;
    let partitions = all::<Partition>(rows, Kind::Partition)?;
    Ok(RootView {
        revision: head.revision,
        cluster: head.cluster,
        incarnation: head.incarnation,
        level: head.level,
        time: state::clock(rows)?.now,
        profile: Some(head.profile),
        volume_target: head.volume_target,
        open_volumes: head.open_volumes,
        topology,
        volumes: volumes(rows, &live)?
            .into_iter()
            .map(|one| (one.id, one))
            .collect(),
        buckets: buckets
            .into_iter()
            .map(|one| (one.name.clone(), one))
            .collect(),
        partitions: partitions.into_iter().map(|one| (one.id, one)).collect(),
        sealed_volumes: head.sealed_volumes,
        ledger_rows: head.ledger_rows,
        moves: moves(rows, &head)?,
        maintenance: times(rows, Kind::Maintenance)?,
        tuning: head.tuning,
        replicas: replicas(rows, head)?,
        outs: times(rows, Kind::Out)?,
    })
}

fn replicas(rows: &dyn Rows, head: Head) -> Result<Replicas, RowsError> {
    let changes = all::<ReplicaChange>(rows, Kind::Replicas)?;
    let span = keys::all(Kind::Leftover);
    let leftovers = typed::collect::<IntentId>(rows, Table::Root, &span, usize::MAX)?;
    let leftover = |(key, change): (Vec<u8>, _)| Some((keys::left_over(&key)?, change));
    let (root, root_change) = head.root_replicas;
    Ok(Replicas {
        root,
        root_change,
        changes: changes.into_iter().map(|one| (one.group, one)).collect(),
        leftovers: leftovers.into_iter().filter_map(leftover).collect(),
        most: head.replicas_most,
    })
}

/// Times of enclosures.
fn times(rows: &dyn Rows, kind: Kind) -> Result<BTreeMap<EnclosureId, GroupTime>, RowsError> {
    let span = keys::all(kind);
    let found = typed::collect::<GroupTime>(rows, Table::Root, &span, usize::MAX)?;
    let entry = |(key, until): (Vec<u8>, _)| Some((keys::enclosure_of(&key)?, until));
    Ok(found.into_iter().filter_map(entry).collect())
}

fn moves(rows: &dyn Rows, head: &Head) -> Result<Moves, RowsError> {
    let drains = typed::keys(rows, Table::Root, &keys::all(Kind::Drain), usize::MAX)?;
    Ok(Moves {
        intents: all::<Intent>(rows, Kind::Intent)?,
        drains: drains.iter().filter_map(|key| keys::drained(key)).collect(),
        paused: head.moves_paused,
        rebuilt_bytes: head.rebuilt_bytes,
        moved_bytes: head.moved_bytes,
        plan: head.plan,
        rate: head.work.rate(),
        repair_rate: head.repair.rate(),
    })
}

/// Chains, enclosures and drives.
pub(super) fn topology(rows: &dyn Rows) -> Result<Topology, RowsError> {
    let chains = all::<Chain>(rows, Kind::Chain)?;
    let enclosures = all::<Enclosure>(rows, Kind::Enclosure)?;
    let drives = all::<DriveRow>(rows, Kind::Drive)?;
    Ok(Topology {
        chains: chains.into_iter().map(|chain| (chain.id, chain)).collect(),
        enclosures: enclosures.into_iter().map(|one| (one.id, one)).collect(),
        drives: drives
            .into_iter()
            .map(|row| (row.drive.id, row.drive))
            .collect(),
    })
}

/// The revision alone; 0 before the cluster is born.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn revision(rows: &dyn Rows) -> Result<u64, RowsError> {
    Ok(state::head(rows)?.map_or(0, |head| head.revision))
}

/// The group's time alone, for deadlines.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn time(rows: &dyn Rows) -> Result<GroupTime, RowsError> {
    Ok(state::clock(rows)?.now)
}

/// Volumes by id, in any state; those that never were are left out.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn volumes(rows: &dyn Rows, ids: &[VolumeId]) -> Result<Vec<Volume>, RowsError> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(typed::load::<Volume>(
            rows,
            Table::Root,
            &keys::volume(*id),
        )?);
    }
    Ok(found)
}

/// A page of all volumes, ordered by id, after `after`; at most `limit`.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn all_volumes(
    rows: &dyn Rows,
    after: Option<VolumeId>,
    limit: usize,
) -> Result<Vec<Volume>, RowsError> {
    let span = after.map_or_else(|| keys::all(Kind::Volume), keys::volumes_after);
    let page = typed::collect(rows, Table::Root, &span, limit)?;
    Ok(page.into_iter().map(|(_, volume)| volume).collect())
}

/// The ledger's rows, at most `limit`.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn ledger(rows: &dyn Rows, limit: usize) -> Result<Vec<LedgerRow>, RowsError> {
    let page = typed::collect(rows, Table::Root, &keys::all(Kind::Ledger), limit)?;
    Ok(page.into_iter().map(|(_, row)| row).collect())
}

/// As [`crate::api::MetadataClient::ledger_of`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn ledger_of(rows: &dyn Rows, query: &LedgerQuery) -> Result<Vec<LedgerRow>, RowsError> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let (all, end) = keys::all(Kind::Ledger);
    let first = match query.after {
        Some((volume, member)) => keys::ledger_of_shard(volume, member).1.unwrap_or(all),
        None => all,
    };
    let mut found: Vec<LedgerRow> = Vec::new();
    let mut last: Option<((VolumeId, u8), bool)> = None;
    typed::scan(rows, Table::Root, &(first, end), &mut |key, value| {
        let row: LedgerRow = typed::decode(Table::Root, key, value)?;
        let shard = (row.volume, row.member);
        let ours = match last {
            Some((seen, ours)) if seen == shard => ours,
            _ if found.len() >= limit => return Ok(typed::go_on_while(false)),
            _ => {
                let volume = typed::load::<Volume>(rows, Table::Root, &keys::volume(row.volume))?;
                let members = volume.map(|volume| volume.members).unwrap_or_default();
                let drive = members.get(usize::from(row.member)).copied().flatten();
                drive.is_some_and(|drive| query.drives.contains(&drive))
            }
        };
        last = Some((shard, ours));
        if ours {
            found.push(row);
        }
        Ok(typed::go_on_while(true))
    })?;
    Ok(found)
}

/// The volumes that are open, suspended or sealing.
pub(super) fn live(rows: &dyn Rows) -> Result<Vec<VolumeId>, RowsError> {
    let keys = typed::keys(rows, Table::Root, &keys::all(Kind::Live), usize::MAX)?;
    Ok(keys.iter().filter_map(|key| keys::live_id(key)).collect())
}

fn all<T: DeserializeOwned>(rows: &dyn Rows, kind: Kind) -> Result<Vec<T>, RowsError> {
    let all = typed::collect(rows, Table::Root, &keys::all(kind), usize::MAX)?;
    Ok(all.into_iter().map(|(_, value)| value).collect())
}
