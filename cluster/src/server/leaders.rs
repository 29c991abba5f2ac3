//! Which replica leads which group: no process is to lead more than its share.
//!
//! Elections make whoever is first a leader, so after some failures one process may lead all
//! groups. Every process works out the same wish from the root state ([`wished`]), and gives a
//! group away when it leads more than its share, or when its enclosure is to be left alone. One
//! that leads no more than its share changes nothing, however the wish changes: so a failure moves
//! few leaders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use enfilade_placement::{EnclosureId, EnclosureState, PartitionId};
use openraft::Instant as _;

use super::MetadataService;
use crate::api::moves::Subject;
use crate::api::root::RootView;
use crate::raft::groups::Group;

/// A replica that lacks more entries than this is not made a leader: nothing is written meanwhile.
const LEADS_BEHIND: u64 = 200;

/// The longest that a process which stops waits for others to lead its groups, and how often it
/// looks.
const RESIGN_MAX: Duration = Duration::from_secs(1);
const RESIGN_LOOK: Duration = Duration::from_millis(10);

/// Whether replicas in an enclosure are to lead.
fn may_lead(view: &RootView, id: EnclosureId) -> bool {
    let enclosure = view.topology.enclosures.get(&id);
    let up = enclosure.is_some_and(|one| one.state == EnclosureState::Up);
    let drained = view.moves.drains.contains(&Subject::Enclosure(id));
    up && !drained && !view.maintenance.contains_key(&id)
}

/// Who is to lead each group: of its replicas the one that leads fewest before it. None for a group
/// that none may lead.
fn wished(view: &RootView) -> BTreeMap<PartitionId, EnclosureId> {
    let (mut wished, mut led) = (BTreeMap::new(), BTreeMap::<EnclosureId, usize>::new());
    // What has the fewest to choose from chooses first.
    let fit = |group| {
        let replicas = view.replicas_of(group).iter().copied();
        let fit = replicas.filter(|id| may_lead(view, *id));
        (group, fit.collect::<Vec<EnclosureId>>())
    };
    let mut groups: Vec<_> = view.groups().map(fit).collect();
    groups.sort_by_key(|(group, fit)| (fit.len(), *group));
    for (group, fit) in groups {
        let held = |id: &&EnclosureId| (led.get(*id).copied().unwrap_or(0), **id);
        if let Some(leader) = fit.iter().min_by_key(held).copied() {
            *led.entry(leader).or_default() += 1;
            wished.insert(group, leader);
        }
    }
    wished
}

/// The groups of which a process gives the first away that it can, and to whom; `led` are those
/// that it leads.
pub(super) fn next(
    view: &RootView,
    own: EnclosureId,
    led: &BTreeSet<PartitionId>,
) -> Vec<(PartitionId, EnclosureId)> {
    let wished = wished(view);
    let hosts = view.groups().flat_map(|group| view.replicas_of(group));
    let hosts: BTreeSet<&EnclosureId> = hosts.filter(|id| may_lead(view, **id)).collect();
    let share = match may_lead(view, own) {
        true => view.groups().count().div_ceil(hosts.len().max(1)),
        false => 0,
    };
    if led.len() <= share {
        return Vec::new();
    }
    // A change of replicas may be about to take the leader along.
    let calm = |group: &&PartitionId| !view.replicas.changes.contains_key(*group);
    let given = led.iter().filter(calm).filter_map(|group| {
        let to = wished.get(group).copied().filter(|to| *to != own)?;
        Some((*group, to))
    });
    given.collect()
}

impl MetadataService {
    /// Has another replica lead a group, if that has all but the last entries, and would vote: the
    /// group has no leader for as long as the rest of the log takes to get there, and an election.
    /// One that would not stand is not asked: a leader that gives its group away does nothing more
    /// for it. Whether that was begun.
    pub(super) async fn give_away(&self, group: &Group, to: EnclosureId) -> bool {
        let state = group.metrics();
        let (to, last) = (u64::from(to.get()), state.last_log_index.unwrap_or(0));
        let members = state.membership_config.membership();
        let calm = members.get_joint_config().len() == 1 && members.voter_ids().any(|id| id == to);
        let matched = state.replication.as_ref();
        let matched = matched.and_then(|all| all.get(&to).copied().flatten());
        let behind = matched.map_or(u64::MAX, |matched| last.saturating_sub(matched.index));
        let heard = state.heartbeat.as_ref();
        let heard = heard.and_then(|all| all.get(&to).copied().flatten());
        let silence_max = self.0.settings.raft.election_min;
        let answers = heard.is_some_and(|heard| heard.elapsed() < silence_max);
        let limit = self.0.settings.raft.rpc;
        if !calm || !answers || behind > LEADS_BEHIND || !self.would_vote(group.id, to, limit).await
        {
            return false;
        }
        tracing::info!(group = %group.id, to, "another replica is to lead");
        group.raft.trigger().transfer_leader(to).await.is_ok()
    }

    /// Gives all groups away that this replica leads, as far as others can take them at once: else
    /// nobody would lead them until an election.
    pub(super) async fn resign(&self) {
        let own = u64::from(self.0.replica.get());
        let mut given = Vec::new();
        for group in self
            .0
            .groups
            .all()
            .into_iter()
            .filter(|group| group.leads())
        {
            let members = group.metrics().membership_config.membership().clone();
            let others = members.voter_ids().filter(|id| *id != own);
            for to in others.filter_map(|id| u32::try_from(id).ok()) {
                if self.give_away(&group, EnclosureId::new(to)).await {
                    given.push(group);
                    break;
                }
            }
        }
        let end = self.0.env.clock.now().saturating_add(RESIGN_MAX);
        while given.iter().any(|group| group.leads()) && self.0.env.clock.now() < end {
            self.0.env.clock.sleep(RESIGN_LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use enfilade_placement::{Chain, ChainId, Enclosure, Epoch, IntentId};
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;
    use crate::api::key::RowPrefix;
    use crate::api::root::Partition;

    fn view(enclosures: u32, groups: &[Vec<u32>]) -> RootView {
        let mut view = RootView::default();
        let chain = ChainId::new(1);
        let new = Chain {
            id: chain,
            closed: false,
        };
        view.topology.chains.insert(chain, new);
        for id in (1..=enclosures).map(EnclosureId::new) {
            let enclosure = Enclosure {
                id,
                chain,
                position: id.get(),
                state: EnclosureState::Up,
                shard_address: String::new(),
                meta_address: "10.0.0.1:1".to_owned(),
                admin_address: String::new(),
            };
            view.topology.enclosures.insert(id, enclosure);
        }
        for (id, replicas) in (0..).zip(groups) {
            let replicas = replicas.iter().copied().map(EnclosureId::new).collect();
            if id == 0 {
                view.replicas.root = replicas;
                continue;
            }
            let partition = Partition {
                id: PartitionId::new(id),
                epoch: Epoch::FIRST,
                start: RowPrefix::default(),
                end: None,
                replicas,
                change: IntentId::new(0),
            };
            view.partitions.insert(partition.id, partition);
        }
        view
    }

    /// Lets all processes give groups away until none does; answers how many each leads.
    fn settle(view: &RootView, mut led: BTreeMap<PartitionId, EnclosureId>) -> Vec<usize> {
        let own = |led: &BTreeMap<PartitionId, EnclosureId>, id| -> BTreeSet<PartitionId> {
            let own = led.iter().filter(|(_, leader)| **leader == id);
            own.map(|(group, _)| *group).collect()
        };
        let ids: Vec<EnclosureId> = view.topology.enclosures.keys().copied().collect();
        for _ in 0..1000 {
            let next = ids
                .iter()
                .find_map(|id| next(view, *id, &own(&led, *id)).first().copied());
            let Some((group, to)) = next else {
                return ids.iter().map(|id| own(&led, *id).len()).collect();
            };
            led.insert(group, to);
        }
        panic!("it does not settle: {led:?}");
    }

    fn all_at(view: &RootView, id: u32) -> BTreeMap<PartitionId, EnclosureId> {
        let groups = view.groups();
        groups.map(|group| (group, EnclosureId::new(id))).collect()
    }

    #[test]
    fn one_process_does_not_go_on_leading_all_groups() {
        let three = view(3, &vec![vec![1, 2, 3]; 7]);
        let mut led = settle(&three, all_at(&three, 2));
        led.sort_unstable();
        assert_eq!(led, [2, 2, 3]);
        let two = view(5, &vec![vec![1, 2, 3, 4, 5]; 2]);
        assert!(settle(&two, all_at(&two, 4)).iter().all(|led| *led <= 1));
    }

    #[test]
    fn who_leads_no_more_than_its_share_changes_nothing() {
        let view = view(3, &vec![vec![1, 2, 3]; 3]);
        let led = [3, 1, 2].map(EnclosureId::new);
        for (group, leader) in view.groups().zip(led) {
            assert_eq!(next(&view, leader, &BTreeSet::from([group])), []);
        }
    }

    #[test]
    fn an_enclosure_under_maintenance_or_to_be_emptied_leads_nothing_that_another_can() {
        let mut view = view(3, &[vec![1, 2, 3], vec![1], vec![1, 2, 3]]);
        view.maintenance
            .insert(EnclosureId::new(1), Default::default());
        assert_eq!(settle(&view, all_at(&view, 1)), [1, 1, 1]);
        view.maintenance.clear();
        let drained = Subject::Enclosure(EnclosureId::new(2));
        view.moves.drains.insert(drained);
        let mut led = all_at(&view, 2);
        led.insert(PartitionId::new(1), EnclosureId::new(1));
        assert_eq!(settle(&view, led)[1], 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn giving_away_ends_and_leads_nobody_to_more_than_the_wish_or_its_share(
            replicas in vec(btree_set(1u32..7, 1..5), 1..20)
        ) {
            let groups: Vec<Vec<u32>> =
                replicas.iter().map(|one| one.iter().copied().collect()).collect();
            let view = view(6, &groups);
            let first = view.groups().map(|group| (group, view.replicas_of(group)[0]));
            let led = settle(&view, first.collect());
            let wished = wished(&view);
            let hosts: BTreeSet<u32> = replicas.iter().flatten().copied().collect();
            let share = groups.len().div_ceil(hosts.len());
            for (id, led) in (1..).zip(led) {
                let wish = wished.values().filter(|leader| leader.get() == id).count();
                prop_assert!(led <= wish.max(share), "{id} leads {led}: {groups:?}");
            }
        }
    }
}
