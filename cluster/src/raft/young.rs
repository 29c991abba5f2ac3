//! Replicas that were made empty vote only when they have caught up.
//!
//! A replica that has lost its folder comes back as a member that has forgotten what it acked: with
//! its vote, one that lacks the same could lead, and what was acked would be gone. Nothing tells it
//! from one that is new. So neither votes nor stands before it holds what its leader knew it to
//! hold when it was made, and an entry of the leader's own term; a mark that is as durable as its
//! first rows says so after a restart.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::vote::RaftLeaderId;

use super::types::{LogId, TypeConfig, Vote};

/// For so many heartbeats after the first word of a leader its knowledge of this replica is noted:
/// acks from before may still have been on their way.
const HEARD_HEARTBEATS: u32 = 2;

/// What an append says of how far the replica should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    vote: Vote,
    upto: Option<LogId>,
}

impl Heard {
    pub(super) fn of(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        let last = request.entries.last().map(RaftEntry::log_id);
        let upto = request.prev_log_id.max(last).max(request.leader_commit);
        let vote = request.vote;
        Self { vote, upto }
    }
}

/// How far the log is, and how far it is durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub(super) last: Option<LogId>,
    pub(super) stored: Option<u64>,
}

/// What has been heard of one leader.
#[derive(Debug)]
struct Watch {
    vote: Vote,
    since: Duration,
    upto: Option<LogId>,
    /// What must be durable here, once that is known.
    goal: Option<LogId>,
}

/// Whether a replica is young, and what it waits for.
#[derive(Debug)]
pub(super) struct Young(Mutex<State>);

#[derive(Debug)]
enum State {
    Grown,
    Young(Option<Watch>),
}

impl Young {
    pub(super) const fn new(young: bool) -> Self {
        Self(Mutex::new(match young {
            true => State::Young(None),
            false => State::Grown,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is(&self) -> bool {
        matches!(*self.state(), State::Young(_))
    }

    /// It has caught up, and that is durable.
    pub(super) fn grow(&self) {
        *self.state() = State::Grown;
    }

    /// It has lost what it held.
    pub(super) fn lose(&self) {
        *self.state() = State::Young(None);
    }

    /// Notes an append that was not refused; whether the replica has caught up by now.
    pub(super) fn hear(
        &self,
        heard: Heard,
        reached: Reached,
        now: Duration,
        heartbeat: Duration,
    ) -> bool {
        let mut state = self.state();
        let State::Young(watch) = &mut *state else {
            return false;
        };
        let new = Watch {
            vote: heard.vote,
            since: now,
            upto: None,
            goal: None,
        };
        if watch.as_ref().is_none_or(|watch| watch.vote != heard.vote) {
            *watch = Some(new);
        }
        let Some(watch) = watch else { return false };
        if watch.goal.is_none() {
            watch.upto = watch.upto.max(heard.upto);
        }
        if now.saturating_sub(watch.since) < heartbeat * HEARD_HEARTBEATS {
            return false;
        }
        // All that was committed in earlier terms is before the first entry of this one.
        let own = watch.vote.leader_id.to_committed();
        let last = reached.last.filter(|last| last.leader_id == own);
        if watch.goal.is_none() && last.is_some() {
            watch.goal = last.max(watch.upto);
        }
        watch
            .goal
            .is_some_and(|goal| reached.last >= Some(goal) && reached.stored >= Some(goal.index))
    }
}

#[cfg(test)]
mod tests {
    use openraft::alias::CommittedLeaderIdOf;

    use super::*;

    const BEAT: Duration = Duration::from_millis(100);

    fn log(term: u64, index: u64) -> LogId {
        let leader: CommittedLeaderIdOf<TypeConfig> = vote(term).leader_id.to_committed();
        LogId::new(leader, index)
    }

    fn vote(term: u64) -> Vote {
        Vote::new_committed(term, 1)
    }

    fn heard(term: u64, upto: Option<LogId>) -> Heard {
        let vote = vote(term);
        Heard { vote, upto }
    }

    fn at(young: &Young, ms: u64, heard: Heard, last: Option<LogId>, stored: u64) -> bool {
        let stored = last.map(|_| stored);
        let reached = Reached { last, stored };
        young.hear(heard, reached, Duration::from_millis(ms), BEAT)
    }

    #[test]
    fn a_replica_grows_when_it_holds_what_its_leader_knew_it_to_hold() {
        let young = Young::new(true);
        let known = heard(3, Some(log(2, 40)));
        assert!(!at(&young, 0, known, None, 0));
        // The last ack of its former life came late.
        assert!(!at(&young, 150, heard(3, Some(log(3, 50))), None, 0));
        // Until it is known what has to be here, whatever the leader says counts.
        let later = heard(3, Some(log(3, 50)));
        assert!(
            !at(&young, 300, later, Some(log(2, 40)), 40),
            "of an earlier term"
        );
        assert!(!at(&young, 400, later, Some(log(3, 45)), 45), "too little");
        assert!(!at(&young, 500, later, Some(log(3, 50)), 49), "not durable");
        assert!(at(&young, 600, later, Some(log(3, 50)), 50));
        young.grow();
        assert!(!young.is());
    }

    #[test]
    fn what_one_leader_knew_says_nothing_of_another() {
        let young = Young::new(true);
        let first = heard(3, None);
        assert!(!at(&young, 0, first, None, 0));
        let second = heard(4, Some(log(3, 9)));
        assert!(!at(&young, 1_000, second, Some(log(3, 9)), 9));
        assert!(!at(&young, 2_000, second, Some(log(3, 9)), 9));
        assert!(at(&young, 3_000, second, Some(log(4, 10)), 10));
    }

    #[test]
    fn a_new_learner_that_nothing_is_known_of_grows_with_the_log() {
        let young = Young::new(true);
        assert!(!at(&young, 0, heard(1, None), None, 0));
        assert!(!at(&young, 500, heard(1, None), None, 0), "an empty log");
        assert!(at(&young, 600, heard(1, None), Some(log(1, 3)), 3));
    }
}
