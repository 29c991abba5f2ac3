//! The root state as this process knows it, and waiting for it to change.
//!
//! A process with a replica of the root group has it in its rows. One without follows it, as
//! gateways do; and so does one whose replica no longer hears anything: it may have left the group.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_placement::PartitionId;

use super::{MetadataService, read};
use crate::api::command::GroupTime;
use crate::api::error::MetadataError;
use crate::api::root::RootView;
use crate::api::{MetadataClient, Result};
use crate::client::in_process;
use crate::root;

/// The longest that an answer is held back.
const WATCH_MAX: Duration = Duration::from_secs(60);

/// The longest that one question of a follower waits.
const FOLLOW_WAIT: Duration = Duration::from_secs(2);

/// Views of the root state.
#[derive(Default)]
pub(super) struct Views {
    /// The last one that was made of the own rows.
    own: Mutex<Option<Arc<RootView>>>,
    /// The last one that was heard of others.
    heard: Mutex<Option<Arc<RootView>>>,
}

fn lock(view: &Mutex<Option<Arc<RootView>>>) -> MutexGuard<'_, Option<Arc<RootView>>> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MetadataService {
    /// The root group's time as this replica has applied it.
    pub(super) fn root_time(&self) -> Result<GroupTime> {
        let group = self.group(PartitionId::ROOT)?;
        group.with_rows(|rows| root::read::time(rows).map_err(read::failed))
    }

    /// The root state as this replica has applied it: possibly old, unless it was linearized. Its
    /// time is that of its last change.
    pub(crate) fn local_view(&self) -> Result<Arc<RootView>> {
        self.group(PartitionId::ROOT)?.with_rows(|rows| {
            let revision = root::read::revision(rows).map_err(read::failed)?;
            let mut last = lock(&self.0.views.own);
            if let Some(last) = last.as_ref().filter(|view| view.revision == revision) {
                return Ok(Arc::clone(last));
            }
            let view = Arc::new(root::read::view(rows).map_err(read::failed)?);
            *last = Some(Arc::clone(&view));
            Ok(view)
        })
    }

    /// The newest root state that this process knows of; none before the cluster's birth, or when
    /// nothing was heard yet.
    pub(crate) fn known_view(&self) -> Option<Arc<RootView>> {
        let own = self.local_view().ok().filter(|view| view.revision > 0);
        let heard = lock(&self.0.views.heard).clone();
        match (own, heard) {
            (Some(own), Some(heard)) if heard.revision > own.revision => Some(heard),
            (own, heard) => own.or(heard),
        }
    }

    /// Notes what was heard of the root state.
    pub(super) fn hear(&self, view: RootView) {
        *lock(&self.0.views.heard) = Some(Arc::new(view));
    }

    /// Follows the root state while the own rows do not show it, until the service stops.
    pub(super) async fn follow(self) {
        let client = in_process::client(&self);
        let mut quiet = (0, self.0.env.clock.now());
        let mut pause = self.0.settings.keeper.period;
        while self.pause(pause).await {
            pause = self.0.settings.keeper.period;
            if self.sees_root(&mut quiet) {
                continue;
            }
            let known = self.known_view();
            let since = known.as_ref().map_or(0, |view| view.revision);
            let ask = client.watch(since, FOLLOW_WAIT);
            let Some(heard) = self.0.stop.run_until_cancelled(ask).await else {
                return;
            };
            match heard {
                Ok(view) if view.cluster == self.0.peers.identity().cluster => {
                    self.hear(view);
                }
                // Not born yet.
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the root state is not heard");
                    pause = FOLLOW_WAIT;
                }
            }
        }
    }

    /// Whether the own replica of the root group leads, or has applied something of late: its
    /// leader tells it the time at least once a minute.
    fn sees_root(&self, quiet: &mut (u64, Duration)) -> bool {
        let Ok(root) = self.group(PartitionId::ROOT) else {
            return false;
        };
        let (applied, now) = (*root.applied().borrow(), self.0.env.clock.now());
        if applied != quiet.0 || root.leads() {
            *quiet = (applied, now);
        }
        now.saturating_sub(quiet.1) < self.0.settings.keeper.root_quiet
    }

    /// The root state, once it is newer than `since` or `wait` has passed; linearizable.
    pub(super) async fn watch(&self, since: u64, wait: Duration) -> Result<RootView> {
        let group = self.group(PartitionId::ROOT)?;
        let end = self.0.env.clock.now().saturating_add(wait.min(WATCH_MAX));
        let mut applied = group.applied();
        loop {
            applied.borrow_and_update();
            group.linearize().await?;
            let view = self.local_view()?;
            let left = end.saturating_sub(self.0.env.clock.now());
            if view.revision > since || left.is_zero() {
                return Ok(RootView {
                    time: self.root_time()?,
                    ..view.as_ref().clone()
                });
            }
            tokio::select! {
                changed = applied.changed() => if changed.is_err() {
                    let text = "the replica has stopped".to_owned();
                    return Err(MetadataError::Unavailable(text));
                },
                () = self.0.env.clock.sleep(left) => {}
            }
        }
    }
}
