//! The root state as the replicas of the root group see it, and waiting for it to change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use enfilade_placement::PartitionId;

use super::{MetadataService, read};
use crate::api::Result;
use crate::api::command::GroupTime;
use crate::api::error::MetadataError;
use crate::api::root::RootView;
use crate::root;

/// The longest that an answer is held back.
const WATCH_MAX: Duration = Duration::from_secs(60);

/// The last view that was made.
#[derive(Default)]
pub(super) struct Views(Mutex<Option<Arc<RootView>>>);

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
            let mut last = self
                .0
                .views
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(last) = last.as_ref().filter(|view| view.revision == revision) {
                return Ok(Arc::clone(last));
            }
            let view = Arc::new(root::read::view(rows).map_err(read::failed)?);
            *last = Some(Arc::clone(&view));
            Ok(view)
        })
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
