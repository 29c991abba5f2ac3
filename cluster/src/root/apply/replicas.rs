//! Changes the replicas of groups (PROTOCOLS 1).
//!
//! A change is an intent: the group's leader carries it out and says so. What has left is kept in
//! mind until its process has cleared it: until then no replica of the group comes back there, so
//! that none ever votes that has forgotten what it acked.

use std::collections::BTreeSet;

use enfilade_placement::replicas::REPLICAS_MAX;
use enfilade_placement::{Enclosure, EnclosureId, IntentId, PartitionId};

use crate::api::replicas::ReplicaChange;
use crate::api::root::{Partition, RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop, not_found};
use crate::rows::{Rows as _, Table};

fn unfit(text: impl Into<String>) -> Stop {
    RootRefusal::UnfitReplicas(text.into()).into()
}

/// The replicas of a group, and the last change of them that was begun.
fn replicas_of(
    state: &State<'_, '_>,
    group: PartitionId,
) -> Result<(Vec<EnclosureId>, IntentId), Stop> {
    if group == PartitionId::ROOT {
        return Ok(state.head.root_replicas.clone());
    }
    let partition = partition(state, group)?;
    Ok((partition.replicas, partition.change))
}

fn partition(state: &State<'_, '_>, group: PartitionId) -> Result<Partition, Stop> {
    let found = state.load::<Partition>(&keys::partition(group))?;
    found.ok_or_else(|| not_found(format!("partition: {group}")))
}

fn set_replicas(
    state: &mut State<'_, '_>,
    group: PartitionId,
    replicas: Vec<EnclosureId>,
    change: IntentId,
) -> Result<(), Stop> {
    if group == PartitionId::ROOT {
        state.set_root_replicas(replicas, change);
        return Ok(());
    }
    let partition = Partition {
        replicas,
        change,
        ..partition(state, group)?
    };
    Ok(state.set(keys::partition(group), &partition)?)
}

pub(super) fn begin(
    state: &mut State<'_, '_>,
    group: PartitionId,
    from: &[EnclosureId],
    to: &[EnclosureId],
    replaces: Option<IntentId>,
) -> Result<RootReply, Stop> {
    let (current, _) = replicas_of(state, group)?;
    let running = state.load::<ReplicaChange>(&keys::replicas(group))?;
    if current != from || running.as_ref().map(|change| change.id) != replaces {
        return Err(unfit("they were changed meanwhile"));
    }
    let wanted: BTreeSet<EnclosureId> = to.iter().copied().collect();
    if wanted.len() != to.len() || wanted.len().is_multiple_of(2) || wanted.len() > REPLICAS_MAX {
        return Err(unfit("an odd number of enclosures, at most 7, is needed"));
    }
    let mut touched: BTreeSet<EnclosureId> = current.iter().copied().collect();
    touched.extend(running.iter().flat_map(|change| &change.touched));
    for id in &wanted {
        if touched.insert(*id) && !may_come(state, group, *id)? {
            return Err(unfit(format!("none can come to enclosure {id}")));
        }
    }
    let id = IntentId::new(state.head.next.intent);
    state.head.next.intent += 1;
    let change = ReplicaChange {
        id,
        group,
        from: current.clone(),
        to: wanted.into_iter().collect(),
        touched,
    };
    state.set(keys::replicas(group), &change)?;
    set_replicas(state, group, current, id)?;
    Ok(RootReply::Done)
}

/// Whether a new replica of a group may come to an enclosure: it is there, and holds nothing that
/// an earlier one left.
fn may_come(state: &State<'_, '_>, group: PartitionId, id: EnclosureId) -> Result<bool, Stop> {
    let known = state.load::<Enclosure>(&keys::enclosure(id))?.is_some();
    let left = state.rows().get(Table::Root, &keys::leftover(group, id))?;
    Ok(known && left.is_none())
}

pub(super) fn end(
    state: &mut State<'_, '_>,
    group: PartitionId,
    change: IntentId,
) -> Result<RootReply, Stop> {
    let running = state.load::<ReplicaChange>(&keys::replicas(group))?;
    let Some(running) = running.filter(|running| running.id == change) else {
        return Err(RootRefusal::IntentEnded(change).into());
    };
    for left in running.touched.iter().filter(|id| !running.to.contains(id)) {
        state.set(keys::leftover(group, *left), &change)?;
    }
    state.unset(keys::replicas(group))?;
    set_replicas(state, group, running.to, change)?;
    Ok(RootReply::Done)
}

pub(super) fn cleared(
    state: &mut State<'_, '_>,
    group: PartitionId,
    enclosure: EnclosureId,
    change: IntentId,
) -> Result<RootReply, Stop> {
    let key = keys::leftover(group, enclosure);
    // What left by a later change was not cleared by what this says.
    if state.load::<IntentId>(&key)? == Some(change) {
        state.unset(key)?;
    }
    Ok(RootReply::Done)
}
