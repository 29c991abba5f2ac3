//! The replicas of a group: its leader brings the voters to those that root asks for (PROTOCOLS 1).
//!
//! A replica joins as a learner, and votes once it has caught up, by the log or by a streamed
//! snapshot; so a new one never weakens a majority. What leaves, leaves in the same joint change.
//! Every step is found from the membership and the root state as they are: any leader goes on where
//! another stopped.
//!
//! A leader may know an old root state, in which a replica belongs that has left since and has
//! cleared what it acked. So the log of the group holds the last change that a leader acted on, and
//! no leader acts on an earlier one; the root group knows its own changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{EnclosureId, Epoch, IntentId, PartitionId, RequestId};
use openraft::{BasicNode, ChangeMembers, Instant as _};

use super::{MetadataService, read};
use crate::api::command::{GroupTime, PartitionCommand, PartitionEnvelope};
use crate::api::encoding::encode;
use crate::api::error::MetadataError;
use crate::api::root::{RootCommand, RootView};
use crate::api::{MetadataClient, Result};
use crate::call::{Answer, Call};
use crate::client::{call_replica, in_process};
use crate::partition;
use crate::raft::groups::{FIRST_PARTITION, Group};

/// A learner that lacks fewer entries than this has caught up: some are always under way.
const CAUGHT_UP: u64 = 2000;

/// The longest that one step takes, whatever becomes of this leader meanwhile.
const STEP_MAX: Duration = Duration::from_secs(10);

/// What to do next for the membership of one group.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Replicas are waited for.
    None,
    /// The members are those that are wanted.
    Done,
    /// A leader stopped in the midst of a change: it is ended.
    Settle,
    /// These are to learn.
    Learn(BTreeSet<u64>),
    /// These are to learn no more.
    Dismiss(BTreeSet<u64>),
    /// These, and no others, are to vote.
    Vote(BTreeSet<u64>),
}

/// The members of a group, as its leader sees them.
#[derive(Debug, Default)]
struct Members {
    /// Whether a change is half done.
    joint: bool,
    voters: BTreeSet<u64>,
    /// How many entries each learner lacks.
    learners: BTreeMap<u64, u64>,
}

/// The next step towards `wanted` voters.
fn step(wanted: &BTreeSet<u64>, members: &Members) -> Step {
    if members.joint {
        return Step::Settle;
    }
    let Members {
        voters, learners, ..
    } = members;
    let missing: BTreeSet<u64> = wanted.difference(voters).copied().collect();
    let unknown = |id: &&u64| !learners.contains_key(id);
    let new: BTreeSet<u64> = missing.iter().filter(unknown).copied().collect();
    if !new.is_empty() {
        return Step::Learn(new);
    }
    let unwanted = |id: &&u64| !wanted.contains(id);
    let unwanted: BTreeSet<u64> = learners.keys().filter(unwanted).copied().collect();
    if !unwanted.is_empty() {
        return Step::Dismiss(unwanted);
    }
    if missing.is_empty() {
        return match voters == wanted {
            true => Step::Done,
            false => Step::Vote(wanted.clone()),
        };
    }
    let caught_up = |id: &&u64| learners.get(id).is_some_and(|behind| *behind < CAUGHT_UP);
    let ready: BTreeSet<u64> = missing.iter().filter(caught_up).copied().collect();
    if ready == missing {
        return Step::Vote(wanted.clone());
    }
    // A group that only grows takes in those that are ready, but no even number of voters: that
    // tolerates no more than one fewer.
    let larger: BTreeSet<u64> = voters.union(&ready).copied().collect();
    if voters.is_subset(wanted) && !ready.is_empty() && !larger.len().is_multiple_of(2) {
        return Step::Vote(larger);
    }
    Step::None
}

/// The members of a group. A learner that does not answer lacks everything, however short the log
/// is: it must not become a voter.
fn members_of(group: &Group, silence_max: Duration) -> Members {
    let state = group.metrics();
    let heard = state.heartbeat.clone().unwrap_or_default();
    let answers = |id: &u64| {
        let heard = heard.get(id).copied().flatten();
        heard.is_some_and(|heard| heard.elapsed() < silence_max)
    };
    let members = state.membership_config.membership();
    let last = state.last_log_index.unwrap_or(0);
    let progress = state.replication.clone().unwrap_or_default();
    let behind = members.learner_ids().map(|id| {
        let matched = progress.get(&id).cloned().flatten();
        let behind = matched.map_or(u64::MAX, |log_id| last.saturating_sub(log_id.index));
        (id, if answers(&id) { behind } else { u64::MAX })
    });
    Members {
        joint: members.get_joint_config().len() > 1,
        voters: members.voter_ids().collect(),
        learners: behind.collect(),
    }
}

fn raft_ids(replicas: &[EnclosureId]) -> BTreeSet<u64> {
    replicas.iter().map(|id| u64::from(id.get())).collect()
}

impl MetadataService {
    /// Whether root placed a replica of a group here, as far as is known here. The root group may
    /// come to a process that knows nothing yet: who places it is authenticated.
    pub(super) fn is_placed_here(&self, group: PartitionId) -> bool {
        let own = self.0.replica;
        let Some(view) = self.known_view() else {
            return group == PartitionId::ROOT;
        };
        let left = view.replicas.leftovers.contains_key(&(group, own));
        let (placed, _) = view.placed(group);
        !left && (placed.contains(&own) || view.replicas_of(group).contains(&own))
    }

    /// Takes the next step for a group that this replica leads.
    pub(super) async fn keep_members(&self, group: &Arc<Group>) {
        if group.id == PartitionId::ROOT && self.0.groups.get(FIRST_PARTITION).is_none() {
            // A crash may have interrupted the birth: no other replica knows the root group yet.
            self.finish_birth(group).await;
        }
        // A step that is given up is found again: it may have been done in part.
        match tokio::time::timeout(STEP_MAX, self.take_step(group)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(group = %group.id, %error, "the membership is changed later");
            }
            Err(_) => tracing::warn!(group = %group.id, "a change of members takes too long"),
        }
    }

    async fn take_step(&self, group: &Arc<Group>) -> Result<()> {
        // Whatever a leader before this one acted on is applied here then.
        group.linearize().await?;
        let view = match group.id {
            PartitionId::ROOT => Some(self.local_view()?),
            _ => self.known_view(),
        };
        let Some(view) = view.filter(|view| view.revision > 0) else {
            return Ok(());
        };
        let (placed, change) = view.placed(group.id);
        if placed.is_empty() {
            return Ok(());
        }
        let wanted = raft_ids(placed);
        let silence_max = self.0.settings.raft.election_max;
        let members = members_of(group, silence_max);
        let next = step(&wanted, &members);
        let begun = view.replicas.changes.contains_key(&group.id);
        if next == Step::None || (next == Step::Done && !begun) {
            return Ok(());
        }
        // Also before a change that has nothing to do is ended: none acts on an earlier one then.
        if !self.may_act(group, change).await? {
            return Ok(());
        }
        match next {
            Step::Done => self.report(group, &view, &wanted).await,
            Step::Vote(voters) if !self.could_elect(group, &voters, &members).await => Ok(()),
            next => self.act(group, next).await,
        }
    }

    /// Whether no leader has acted on a later change; from then on none acts on an earlier one.
    async fn may_act(&self, group: &Group, change: IntentId) -> Result<bool> {
        if group.id == PartitionId::ROOT {
            return Ok(true);
        }
        let last = group.with_rows(|rows| {
            partition::read::replica_change(rows, group.id).map_err(read::failed)
        })?;
        if last < change {
            let envelope = PartitionEnvelope {
                request: RequestId::new(self.0.env.random.next_u128()),
                deadline: GroupTime(u64::MAX),
                epoch: Epoch::FIRST,
                command: PartitionCommand::Replicas { change },
            };
            group.propose(Bytes::from(encode(&envelope))).await?;
        }
        Ok(last <= change)
    }

    /// Whether a group of these voters could elect a leader: all new ones would vote, and most of
    /// all. A replica that was made empty does not before it has found out that it has caught up,
    /// and one that is gone never will.
    async fn could_elect(&self, group: &Group, voters: &BTreeSet<u64>, members: &Members) -> bool {
        let own = u64::from(self.0.replica.get());
        let limit = self.0.settings.raft.rpc;
        let others = voters.iter().filter(|id| **id != own);
        let asked = others.map(async |id| (*id, self.would_vote(group.id, *id, limit).await));
        let answers = futures::future::join_all(asked).await;
        let new = |id: &u64| !members.voters.contains(id);
        let all_new = answers.iter().all(|(id, votes)| *votes || !new(id));
        let votes = answers.iter().filter(|(_, votes)| *votes).count();
        let votes = votes + usize::from(voters.contains(&own));
        all_new && votes * 2 > voters.len()
    }

    /// Whether a replica answers that it would vote in a group.
    pub(super) async fn would_vote(&self, group: PartitionId, id: u64, limit: Duration) -> bool {
        let Ok(enclosure) = u32::try_from(id).map(EnclosureId::new) else {
            return false;
        };
        match call_replica(&self.0.peers, enclosure, &Call::Groups, limit).await {
            Ok(Answer::Groups(all)) => all.iter().any(|one| one.group == group && one.votes),
            _ => false,
        }
    }

    async fn act(&self, group: &Group, step: Step) -> Result<()> {
        let change = match step {
            Step::None | Step::Done => return Ok(()),
            Step::Settle => ChangeMembers::AddVoterIds(BTreeSet::new()),
            Step::Learn(new) => return self.learn(group, new).await,
            Step::Dismiss(old) => ChangeMembers::RemoveNodes(old),
            Step::Vote(voters) => ChangeMembers::ReplaceAllVoters(voters),
        };
        tracing::info!(group = %group.id, ?change, "the members of a group change");
        let changed = group.raft.change_membership(change, false).await;
        changed
            .map(drop)
            .map_err(|error| MetadataError::Unavailable(error.to_string()))
    }

    async fn learn(&self, group: &Group, new: BTreeSet<u64>) -> Result<()> {
        for id in new {
            let Ok(enclosure) = u32::try_from(id).map(EnclosureId::new) else {
                continue;
            };
            let Some(address) = self.0.peers.address(enclosure) else {
                continue;
            };
            let node = BasicNode::new(address);
            let added = group.raft.add_learner(id, node, false).await;
            added.map_err(|error| MetadataError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }

    /// Tells root that the change is done, once no later leader can find it undone.
    async fn report(&self, group: &Group, view: &RootView, wanted: &BTreeSet<u64>) -> Result<()> {
        let Some(change) = view.replicas.changes.get(&group.id) else {
            return Ok(());
        };
        let state = group.metrics();
        let committed = &state.committed_membership_config;
        let all = committed.membership();
        let settled = *committed == state.membership_config
            && all.get_joint_config().len() == 1
            && all.voter_ids().collect::<BTreeSet<u64>>() == *wanted;
        if !settled {
            return Ok(());
        }
        let command = RootCommand::EndReplicas {
            group: group.id,
            change: change.id,
        };
        let request = RequestId::new(self.0.env.random.next_u128());
        let outcome = in_process::client(self).root(request, command).await?;
        let to = &change.to;
        tracing::info!(group = %group.id, ?to, ok = outcome.is_ok(), "a group has new replicas");
        Ok(())
    }

    async fn finish_birth(&self, root: &Group) {
        let own = u64::from(self.0.replica.get());
        let state = root.metrics();
        let alone = state.membership_config.membership().voter_ids().eq([own]);
        // Only at the birth: after a change another replica may hold the partition.
        let unchanged = self.local_view().is_ok_and(|view| {
            let first = view.partitions.get(&FIRST_PARTITION);
            first.is_some_and(|first| first.change == IntentId::new(0))
        });
        if !alone || !unchanged || !self.is_placed_here(FIRST_PARTITION) {
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

    fn check(wanted: &[u64], voters: &[u64], behind: &[(u64, u64)], expect: &Step) {
        let members = Members {
            joint: false,
            voters: voters.iter().copied().collect(),
            learners: behind.iter().copied().collect(),
        };
        assert_eq!(step(&wanted.iter().copied().collect(), &members), *expect);
    }

    fn vote(ids: &[u64]) -> Step {
        Step::Vote(ids.iter().copied().collect())
    }

    fn learn(ids: &[u64]) -> Step {
        Step::Learn(ids.iter().copied().collect())
    }

    #[test]
    fn replicas_learn_first_and_vote_when_they_have_caught_up() {
        let three = [1, 2, 3];
        check(&three, &[1], &[], &learn(&[2, 3]));
        check(&three, &[1], &[(2, 0), (3, 5_000)], &Step::None);
        check(&three, &[1], &[(2, 0), (3, 5)], &vote(&three));
        check(&three, &[1, 2], &[(3, 5)], &vote(&three));
        check(&three, &three, &[], &Step::Done);
        let five = [1, 2, 3, 4, 5];
        check(
            &five,
            &[1],
            &[(2, 0), (3, 0), (4, 0), (5, 5_000)],
            &Step::None,
        );
        check(
            &five,
            &[1],
            &[(2, 0), (3, 0), (4, 5_000), (5, 5_000)],
            &vote(&three),
        );
    }

    #[test]
    fn what_leaves_leaves_when_its_successors_have_caught_up() {
        let wanted = [1, 2, 4];
        check(&wanted, &[1, 2, 3], &[], &learn(&[4]));
        check(&wanted, &[1, 2, 3], &[(4, 5_000)], &Step::None);
        check(&wanted, &[1, 2, 3], &[(4, 0)], &vote(&wanted));
        check(&[1], &[1, 2, 3], &[], &vote(&[1]));
        check(&[4], &[1], &[(4, 0)], &vote(&[4]));
        let left = Step::Dismiss(BTreeSet::from([5]));
        check(&wanted, &[1, 2, 3], &[(4, 5_000), (5, 0)], &left);
    }

    #[test]
    fn a_change_that_is_half_done_is_ended_first() {
        let members = Members {
            joint: true,
            voters: BTreeSet::from([1, 2, 3, 4]),
            learners: BTreeMap::new(),
        };
        assert_eq!(step(&BTreeSet::from([1, 2, 4]), &members), Step::Settle);
    }
}
