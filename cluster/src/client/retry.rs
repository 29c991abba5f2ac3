//! Reaching the leader of a group: which replica to ask, when to ask again, when to give up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use enfilade_placement::{EnclosureId, PartitionId, RequestId};

use crate::api::Result;
use crate::api::command::GroupTime;
use crate::api::error::{MetadataError, Retry};
use crate::api::root::RootView;
use crate::call::{Answer, Call};
use crate::env::Env;

/// A way of reaching replicas.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// The replicas that may be asked, in a fixed order.
    fn replicas(&self) -> Vec<EnclosureId>;

    /// Asks one replica, once, and waits at most `limit` for its answer.
    ///
    /// [`MetadataError::Unavailable`] when the call certainly was not acted on, and
    /// [`MetadataError::UnknownOutcome`] when it writes and may have been.
    async fn call(&self, replica: EnclosureId, call: &Call, limit: Duration) -> Result<Answer>;

    /// Tells of the root state, for the addresses of replicas.
    fn learn(&self, _view: &RootView) {}
}

/// How long a client tries.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The longest time spent on one call of the API, with all attempts.
    pub total: Duration,
    /// The longest time spent on one attempt, so that a paused leader is left quickly.
    pub attempt: Duration,
    /// The first pause between attempts; doubled each time up to `pause_max`.
    pub pause: Duration,
    /// The longest pause between attempts.
    pub pause_max: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(20),
            attempt: Duration::from_secs(3),
            pause: Duration::from_millis(20),
            pause_max: Duration::from_millis(500),
        }
    }
}

/// How many hints of a leader are followed without a pause: elections change the leader seldom.
const HINTS_MAX: u32 = 3;

/// A client over any transport.
pub struct Client<T> {
    pub(crate) transport: T,
    pub(super) env: Env,
    pub(super) settings: ClientSettings,
    state: Mutex<State>,
}

/// What a client remembers between calls; all of it only saves time.
#[derive(Default)]
struct State {
    leaders: BTreeMap<PartitionId, EnclosureId>,
    times: BTreeMap<PartitionId, (GroupTime, Duration)>,
    view: Option<Arc<RootView>>,
}

/// The attempts of one call of the API.
pub(super) struct Effort {
    end: Duration,
    pause: Duration,
    turn: usize,
    hints: u32,
    /// Set once an attempt may have written.
    uncertain: Option<MetadataError>,
}

impl<T: Transport> Client<T> {
    /// A client that knows nothing yet.
    pub fn new(transport: T, env: Env, settings: ClientSettings) -> Self {
        Self {
            transport,
            env,
            settings,
            state: Mutex::default(),
        }
    }

    pub(super) fn effort(&self) -> Effort {
        Effort {
            end: self.env.clock.now().saturating_add(self.settings.total),
            pause: self.settings.pause,
            turn: 0,
            hints: 0,
            uncertain: None,
        }
    }

    /// A new random request id.
    pub(super) fn request_id(&self) -> RequestId {
        RequestId::new(self.env.random.next_u128())
    }

    /// Asks the leader of the call's group until there is an answer, an error that another attempt
    /// cannot mend, or no time left. Stale routes are the caller's to mend.
    pub(super) async fn perform(&self, call: &Call, effort: &mut Effort) -> Result<Answer> {
        let group = call.group().unwrap_or(PartitionId::ROOT);
        loop {
            let Some((replica, hinted)) = self.next_replica(group, effort) else {
                return Err(MetadataError::Unavailable("no replica is known".to_owned()));
            };
            let limit = self.settings.attempt.saturating_add(call.wait());
            let error = match self.transport.call(replica, call, limit).await {
                Ok(answer) => {
                    self.state().leaders.insert(group, replica);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if matches!(error, MetadataError::UnknownOutcome(_)) {
                effort.uncertain = Some(error.clone());
            }
            if matches!(error, MetadataError::StaleRoute(_)) || error.retry() == Retry::Never {
                return Err(effort.uncertain.take().unwrap_or(error));
            }
            if self.follow_hint(group, replica, &error, effort) {
                continue;
            }
            if hinted {
                self.state().leaders.remove(&group);
            }
            self.pause(effort, error).await?;
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// When no time is left: that the outcome is unknown if any attempt may have written, else
    /// that the service is unavailable.
    pub(super) async fn pause(&self, effort: &mut Effort, error: MetadataError) -> Result<()> {
        let now = self.env.clock.now();
        if now >= effort.end {
            let last = match error {
                MetadataError::NotLeader { .. } => {
                    MetadataError::Unavailable("no leader was found".to_owned())
                }
                MetadataError::StaleRoute(text) => MetadataError::Unavailable(text),
                other => other,
            };
            return Err(effort.uncertain.take().unwrap_or(last));
        }
        let half = u64::try_from(effort.pause.as_micros() / 2).unwrap_or(u64::MAX);
        let jitter = self.env.random.next_u64() % half.max(1);
        let pause = Duration::from_micros(half.saturating_add(jitter));
        self.env
            .clock
            .sleep(pause.min(effort.end.saturating_sub(now)))
            .await;
        effort.pause = effort.pause.saturating_mul(2).min(self.settings.pause_max);
        Ok(())
    }

    /// The replica to ask, and whether it is believed to lead.
    fn next_replica(&self, group: PartitionId, effort: &mut Effort) -> Option<(EnclosureId, bool)> {
        if let Some(leader) = self.state().leaders.get(&group) {
            return Some((*leader, true));
        }
        let mut replicas = self.transport.replicas();
        // Those that hold the group, as far as is known, before others, which may know more.
        if let Some(view) = self.known_view() {
            let (placed, _) = view.placed(group);
            let before = view.replicas_of(group);
            replicas.sort_by_key(|id| !placed.contains(id) && !before.contains(id));
        }
        let replica = replicas.get(effort.turn % replicas.len().max(1)).copied()?;
        effort.turn += 1;
        Some((replica, false))
    }

    /// Notes the leader that an error names; whether to ask it at once.
    fn follow_hint(
        &self,
        group: PartitionId,
        asked: EnclosureId,
        error: &MetadataError,
        effort: &mut Effort,
    ) -> bool {
        let MetadataError::NotLeader {
            leader: Some(leader),
        } = error
        else {
            return false;
        };
        let Ok(leader) = u32::try_from(*leader).map(EnclosureId::new) else {
            return false;
        };
        if leader == asked || effort.hints >= HINTS_MAX {
            return false;
        }
        effort.hints += 1;
        self.state().leaders.insert(group, leader);
        true
    }

    pub(super) fn known_view(&self) -> Option<Arc<RootView>> {
        self.state().view.clone()
    }

    /// Keeps a view, unless a newer one is known.
    pub(super) fn learn(&self, view: &RootView) {
        let mut state = self.state();
        if state
            .view
            .as_ref()
            .is_none_or(|known| known.revision <= view.revision)
        {
            state.view = Some(Arc::new(view.clone()));
            drop(state);
            self.transport.learn(view);
        }
    }

    /// The group's time when it was last asked, and when (by the own clock) that was.
    pub(super) fn known_time(&self, group: PartitionId) -> Option<(GroupTime, Duration)> {
        self.state().times.get(&group).copied()
    }

    pub(super) fn keep_time(&self, group: PartitionId, time: GroupTime, asked: Duration) {
        self.state().times.insert(group, (time, asked));
    }

    /// Has the group's times asked for again.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn forget_times(&self) {
        self.state().times.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer of another variant than the call's: a defect of the replica.
pub(super) fn unexpected(call: &Call) -> MetadataError {
    MetadataError::Undecodable(format!("the answer to {} is of another kind", call.name()))
}
