//! Which replicas the groups are to have: what the root leader begins, and what each process clears
//! that has left (PROTOCOLS 1).

use std::collections::BTreeSet;

use enfilade_placement::replicas::{Wish, improve};
use enfilade_placement::{EnclosureId, EnclosureState, PartitionId, RequestId};

use super::MetadataService;
use crate::api::MetadataClient;
use crate::api::moves::Subject;
use crate::api::replicas::ReplicaChange;
use crate::api::root::{RootCommand, RootView};
use crate::client::in_process;
use crate::metrics::metrics;

/// Changes that bring all groups to the replicas that they should have.
pub(super) fn plan(view: &RootView) -> Vec<RootCommand> {
    let next = |group| {
        let from = view.replicas_of(group).to_vec();
        let running = view.replicas.changes.get(&group);
        if running.is_some_and(|change| is_sound(view, change)) {
            return None;
        }
        let to = improve(&view.topology, &wish(view, group), &from);
        let wanted = running.map_or(&from, |change| &change.to);
        let replaces = running.map(|change| change.id);
        (to != *wanted).then_some(RootCommand::BeginReplicas {
            group,
            from,
            to,
            replaces,
        })
    };
    view.groups().filter_map(next).collect()
}

/// Whether the replicas of some group are on their way out of what is given up or to be emptied:
/// no shard moves before.
pub(super) fn are_leaving(view: &RootView) -> bool {
    let leaving = leaving(view);
    let leaves = |id: &EnclosureId| {
        let state = view.topology.enclosures.get(id).map(|one| one.state);
        leaving.contains(id) || state == Some(EnclosureState::Out)
    };
    let planned = plan(view);
    let begun = view.replicas.changes.values();
    let begun = begun.map(|change| (&change.from, &change.to));
    let planned = planned.iter().filter_map(|command| match command {
        RootCommand::BeginReplicas { from, to, .. } => Some((from, to)),
        _ => None,
    });
    begun.chain(planned).any(|(from, to)| {
        let mut left = from.iter().filter(|id| !to.contains(id));
        left.any(leaves)
    })
}

/// Enclosures that are to be emptied.
fn leaving(view: &RootView) -> BTreeSet<EnclosureId> {
    let drains = view.moves.drains.iter();
    let enclosures = drains.filter_map(|subject| match subject {
        Subject::Enclosure(id) => Some(*id),
        Subject::Drive(_) => None,
    });
    enclosures.collect()
}

fn wish(view: &RootView, group: PartitionId) -> Wish {
    let leftovers = view.replicas.leftovers.iter();
    let of_group = leftovers.filter(|(of, _)| *of == group);
    Wish {
        widest_m: view.profile.map_or(0, enfilade_placement::Profile::m),
        most: usize::try_from(view.replicas.most).unwrap_or(usize::MAX),
        leaving: leaving(view),
        barred: of_group.map(|(_, enclosure)| *enclosure).collect(),
    }
}

/// Whether a change can come to its end: nothing of it is to be emptied, and what is to get a
/// replica is up.
fn is_sound(view: &RootView, change: &ReplicaChange) -> bool {
    let leaving = leaving(view);
    change.to.iter().all(|id| {
        let state = view.topology.enclosures.get(id).map(|one| one.state);
        let fit = change.from.contains(id) || state == Some(EnclosureState::Up);
        fit && !leaving.contains(id)
    })
}

impl MetadataService {
    /// Clears what replicas left here that are not of their groups any more, and says so.
    pub(super) async fn clear_leftovers(&self, view: &RootView) {
        let own = self.0.replica;
        let left = view.replicas.leftovers.iter();
        let left: Vec<PartitionId> = left
            .filter(|(_, enclosure)| *enclosure == own)
            .map(|(group, _)| *group)
            .collect();
        for group in left {
            if let Err(error) = self.0.groups.leave(group).await {
                tracing::error!(%group, %error, "a replica that left cannot be cleared");
                continue;
            }
            tracing::info!(%group, "a replica that left its group is cleared");
            metrics().forget_group(&group.to_string());
            let command = RootCommand::ReplicaCleared {
                group,
                enclosure: own,
            };
            let request = RequestId::new(self.0.env.random.next_u128());
            if let Err(error) = in_process::client(self).root(request, command).await {
                tracing::debug!(%group, %error, "it is told later");
            }
        }
    }
}
