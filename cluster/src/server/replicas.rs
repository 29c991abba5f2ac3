//! Which replicas the groups are to have: what the root leader begins, and what each process clears
//! that has left (PROTOCOLS 1).

use std::collections::BTreeSet;
use std::time::Duration;

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

/// Enclosures that are to be emptied and that replicas have yet to leave: no shard moves before.
/// Not those that replicas cannot leave, as there is no other place for them.
pub(super) fn left(view: &RootView) -> BTreeSet<EnclosureId> {
    let leaving = leaving(view);
    let planned = plan(view);
    let begun = view.replicas.changes.values();
    let begun = begun.map(|change| (&change.from, &change.to));
    let planned = planned.iter().filter_map(|command| match command {
        RootCommand::BeginReplicas { from, to, .. } => Some((from, to)),
        _ => None,
    });
    let goes = |(from, to): (&Vec<EnclosureId>, &Vec<EnclosureId>)| -> Vec<EnclosureId> {
        let gone = from.iter().filter(|id| !to.contains(id));
        gone.filter(|id| leaving.contains(id)).copied().collect()
    };
    begun.chain(planned).flat_map(goes).collect()
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
    let leftovers = view.replicas.leftovers.keys();
    let of_group = leftovers.filter(|(of, _)| *of == group);
    Wish {
        widest_m: view.profile.map_or(0, enfilade_placement::Profile::m),
        most: usize::try_from(view.replicas.most).unwrap_or(usize::MAX),
        leaving: leaving(view),
        barred: of_group.map(|(_, enclosure)| *enclosure).collect(),
    }
}

/// Whether a change can come to its end: nothing of it is to be emptied or is given up, and what is
/// to get a replica is up.
fn is_sound(view: &RootView, change: &ReplicaChange) -> bool {
    let leaving = leaving(view);
    change.to.iter().all(|id| {
        let state = view.topology.enclosures.get(id).map(|one| one.state);
        let fit = match change.from.contains(id) {
            true => state != Some(EnclosureState::Out),
            false => state == Some(EnclosureState::Up),
        };
        fit && !leaving.contains(id)
    })
}

impl MetadataService {
    /// Clears what replicas left here that are not of their groups any more, and says so. Only what
    /// root says now: the view of this process may be of a time before a replica came back.
    pub(super) async fn clear_leftovers(&self) {
        let (own, client) = (self.0.replica, in_process::client(self));
        let view = match client.watch(0, Duration::ZERO).await {
            Ok(view) => view,
            Err(error) => {
                tracing::debug!(%error, "what was left here is cleared later");
                return;
            }
        };
        for ((group, enclosure), change) in &view.replicas.leftovers {
            if *enclosure != own {
                continue;
            }
            // None comes back before this process has said that it is cleared. That may have been
            // said before, and have been on its way for long: then a newer view knows.
            let still_left = || {
                let known = self.known_view();
                let newest = known.filter(|known| known.revision > view.revision);
                let newest = newest.as_deref().unwrap_or(&view);
                newest.replicas.leftovers.get(&(*group, own)) == Some(change)
            };
            match self.0.groups.leave(*group, still_left).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    tracing::error!(%group, %error, "a replica that left cannot be cleared");
                    continue;
                }
            }
            tracing::info!(%group, "a replica that left its group is cleared");
            metrics().forget_group(&group.to_string());
            let command = RootCommand::ReplicaCleared {
                group: *group,
                enclosure: own,
                change: *change,
            };
            let request = RequestId::new(self.0.env.random.next_u128());
            if let Err(error) = client.root(request, command).await {
                tracing::debug!(%group, %error, "it is told later");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use enfilade_placement::{Chain, ChainId, Enclosure, IntentId, Profile, Topology};

    use super::*;

    fn ids(numbers: &[u32]) -> Vec<EnclosureId> {
        numbers.iter().copied().map(EnclosureId::new).collect()
    }

    /// So many enclosures that are up, the root group in the first three.
    fn view(enclosures: u32) -> RootView {
        let chain = ChainId::new(1);
        let enclosure = |id: u32| Enclosure {
            id: EnclosureId::new(id),
            chain,
            position: id,
            state: EnclosureState::Up,
            shard_address: String::new(),
            meta_address: format!("10.0.0.{id}:1"),
            admin_address: String::new(),
        };
        let enclosures = (1..=enclosures).map(|id| (EnclosureId::new(id), enclosure(id)));
        let mut view = RootView {
            profile: Some(Profile::new(2, 1).unwrap()),
            topology: Topology {
                chains: BTreeMap::from([(
                    chain,
                    Chain {
                        id: chain,
                        closed: false,
                    },
                )]),
                enclosures: enclosures.collect(),
                drives: BTreeMap::new(),
            },
            ..RootView::default()
        };
        view.replicas.root = ids(&[1, 2, 3]);
        view
    }

    fn set(view: &mut RootView, id: u32, state: EnclosureState) {
        let enclosures = &mut view.topology.enclosures;
        enclosures.get_mut(&EnclosureId::new(id)).unwrap().state = state;
    }

    fn wanted(view: &RootView) -> Option<Vec<EnclosureId>> {
        match plan(view).pop() {
            Some(RootCommand::BeginReplicas { to, .. }) => Some(to),
            _ => None,
        }
    }

    #[test]
    fn a_change_whose_goal_has_died_is_replaced_also_where_an_old_member_died() {
        let mut view = view(5);
        set(&mut view, 3, EnclosureState::Out);
        assert_eq!(wanted(&view), Some(ids(&[1, 2, 4])));
        let change = ReplicaChange {
            id: IntentId::new(1),
            group: PartitionId::ROOT,
            from: ids(&[1, 2, 3]),
            to: ids(&[1, 2, 4]),
            touched: ids(&[1, 2, 3, 4]).into_iter().collect(),
        };
        view.replicas.changes.insert(PartitionId::ROOT, change);
        assert_eq!(wanted(&view), None, "it is under way");
        set(&mut view, 2, EnclosureState::Out);
        assert_eq!(wanted(&view), Some(ids(&[1, 4, 5])));
        // Without another place it stays as it is.
        set(&mut view, 5, EnclosureState::Down);
        assert_eq!(wanted(&view), None);
    }

    #[test]
    fn only_what_is_drained_and_can_be_left_holds_shards_back() {
        let mut view = view(4);
        assert!(left(&view).is_empty());
        set(&mut view, 3, EnclosureState::Out);
        assert!(left(&view).is_empty(), "what it held is rebuilt");
        set(&mut view, 3, EnclosureState::Up);
        let drained = Subject::Enclosure(EnclosureId::new(1));
        view.moves.drains.insert(drained);
        assert_eq!(left(&view), ids(&[1]).into_iter().collect());
        view.replicas.root = ids(&[2, 3, 4]);
        assert!(left(&view).is_empty());
    }
}
