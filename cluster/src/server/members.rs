//! The replicas of the groups: brings those that root placed into the groups' membership.
//!
//! Adds only. A replica joins as a learner, and votes once it has caught up; so a new one never
//! weakens a majority. Nothing here removes a replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enfilade_placement::{EnclosureId, PartitionId};
use openraft::{BasicNode, ChangeMembers};

use super::MetadataService;
use crate::api::root::RootView;
use crate::raft::groups::{FIRST_PARTITION, Group};

/// A learner that lacks fewer entries than this has caught up.
const CAUGHT_UP: u64 = 100;

/// What to do next for the membership of one group.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// All replicas vote.
    None,
    /// These are to learn.
    Learn(BTreeSet<u64>),
    /// These are to vote.
    Vote(BTreeSet<u64>),
}

/// The next step towards `wanted` voters; `behind` is how many entries each learner lacks.
fn step(wanted: &BTreeSet<u64>, voters: &BTreeSet<u64>, behind: &BTreeMap<u64, u64>) -> Step {
    let missing: BTreeSet<u64> = wanted.difference(voters).copied().collect();
    let new: BTreeSet<u64> = missing
        .iter()
        .filter(|id| !behind.contains_key(id))
        .copied()
        .collect();
    if !new.is_empty() {
        return Step::Learn(new);
    }
    let caught_up = |id: &&u64| behind.get(id).is_some_and(|behind| *behind < CAUGHT_UP);
    let ready: BTreeSet<u64> = missing.iter().filter(caught_up).copied().collect();
    // An even number of voters tolerates no more than one fewer: wait for the next.
    let even = (voters.len() + ready.len()).is_multiple_of(2);
    if ready.is_empty() || (even && ready.len() < missing.len() && ready.len() == 1) {
        return Step::None;
    }
    Step::Vote(ready)
}

impl MetadataService {
    /// Where a group's replicas were placed. The root group's are where partition 1's are.
    fn placed(view: &RootView, group: PartitionId) -> BTreeSet<u64> {
        let group = if group == PartitionId::ROOT {
            FIRST_PARTITION
        } else {
            group
        };
        let replicas = view.partitions.get(&group).map(|p| p.replicas.as_slice());
        replicas
            .unwrap_or_default()
            .iter()
            .map(|id| u64::from(id.get()))
            .collect()
    }

    /// Whether root placed a replica of a group here, as far as is known here. The root group may
    /// come to any process that holds none: who places it is authenticated.
    pub(super) fn is_placed_here(&self, group: PartitionId) -> bool {
        let own = u64::from(self.0.replica.get());
        group == PartitionId::ROOT
            || self
                .local_view()
                .is_ok_and(|view| Self::placed(&view, group).contains(&own))
    }

    /// Takes the next step for a group that this replica leads.
    pub(super) async fn keep_members(&self, group: &Arc<Group>, view: &RootView) {
        if group.id == PartitionId::ROOT && self.0.groups.get(FIRST_PARTITION).is_none() {
            // A crash interrupted the birth: no other replica knows the root group yet.
            self.finish_birth(group).await;
            return;
        }
        let state = group.metrics();
        let members = state.membership_config.membership();
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        if members.get_joint_config().len() > 1 {
            // A leader stopped half-way: all that vote now go on to vote.
            let change = ChangeMembers::ReplaceAllVoters(voters);
            let changed = group.raft.change_membership(change, true).await;
            tracing::info!(group = %group.id, ok = changed.is_ok(), "a change of members is ended");
            return;
        }
        let last = state.last_log_index.unwrap_or(0);
        let progress = state.replication.clone().unwrap_or_default();
        let behind = members.learner_ids().map(|id| {
            let matched = progress
                .get(&id)
                .cloned()
                .flatten()
                .map_or(0, |log_id| log_id.index);
            (id, last.saturating_sub(matched))
        });
        let result = match step(&Self::placed(view, group.id), &voters, &behind.collect()) {
            Step::None => return,
            Step::Learn(new) => self.learn(group, new).await,
            Step::Vote(ready) => {
                tracing::info!(group = %group.id, ?ready, "replicas begin to vote");
                let change = ChangeMembers::AddVoterIds(ready);
                group
                    .raft
                    .change_membership(change, true)
                    .await
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            }
        };
        if let Err(error) = result {
            tracing::debug!(group = %group.id, error, "the membership is changed later");
        }
    }

    async fn learn(&self, group: &Group, new: BTreeSet<u64>) -> Result<(), String> {
        for id in new {
            let enclosure = u32::try_from(id)
                .map(EnclosureId::new)
                .map_err(|e| e.to_string())?;
            let Some(address) = self.0.peers.address(enclosure) else {
                continue;
            };
            let added = group
                .raft
                .add_learner(id, BasicNode::new(address), false)
                .await;
            added.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn finish_birth(&self, root: &Group) {
        let own = u64::from(self.0.replica.get());
        let state = root.metrics();
        let alone = state.membership_config.membership().voter_ids().eq([own]);
        if !alone || !self.is_placed_here(FIRST_PARTITION) {
            return;
        }
        let held = self.0.groups.hold(FIRST_PARTITION).await;
        let begun = match held {
            Ok(first) => first
                .begin(&self.0.address)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = begun {
            tracing::error!(error, "partition 1 cannot be created");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(voters: &[u64], behind: &[(u64, u64)], expect: &Step) {
        let wanted = BTreeSet::from([1, 2, 3]);
        let voters = voters.iter().copied().collect();
        assert_eq!(
            step(&wanted, &voters, &behind.iter().copied().collect()),
            *expect
        );
    }

    #[test]
    fn replicas_learn_first_and_vote_when_they_have_caught_up() {
        check(&[1], &[], &Step::Learn(BTreeSet::from([2, 3])));
        check(&[1], &[(2, 0), (3, 5_000)], &Step::None);
        check(&[1], &[(2, 0), (3, 5)], &Step::Vote(BTreeSet::from([2, 3])));
        check(&[1, 2], &[(3, 5)], &Step::Vote(BTreeSet::from([3])));
        check(&[1, 2, 3], &[], &Step::None);
    }
}
