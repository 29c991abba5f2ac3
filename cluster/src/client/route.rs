//! Routes and deadlines: what a call to a partition needs to know first.

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{Epoch, PartitionId};

use super::retry::{Client, Effort, Transport, unexpected};
use crate::api::Result;
use crate::api::command::GroupTime;
use crate::api::error::MetadataError;
use crate::api::key::RowPrefix;
use crate::api::root::RootView;
use crate::call::{Answer, Call};
use crate::partition::DEADLINE_MS;

/// How long a known group time serves for deadlines. Less than the 10 minutes of a deadline by a
/// wide margin; group time never runs faster than the monotonic clock (PROTOCOLS 3).
const TIME_KEPT: Duration = Duration::from_secs(180);

impl<T: Transport> Client<T> {
    /// The root state, as known or asked for now.
    pub(super) async fn view(&self, effort: &mut Effort) -> Result<Arc<RootView>> {
        match self.known_view() {
            Some(view) => Ok(view),
            None => self.refresh(effort).await,
        }
    }

    /// The root state as it is now.
    pub(super) async fn refresh(&self, effort: &mut Effort) -> Result<Arc<RootView>> {
        let call = Call::Watch {
            since: 0,
            wait: Duration::ZERO,
        };
        match self.perform(&call, effort).await? {
            Answer::View(view) => {
                self.learn(&view);
                Ok(Arc::new(view))
            }
            _ => Err(unexpected(&call)),
        }
    }

    /// The partition that holds a row, and its epoch.
    pub(super) async fn route(
        &self,
        row: &RowPrefix,
        effort: &mut Effort,
    ) -> Result<(PartitionId, Epoch)> {
        loop {
            let view = self.view(effort).await?;
            if let Some(partition) = view.partition_of(row.as_bytes()) {
                return Ok((partition.id, partition.epoch));
            }
            let error = MetadataError::Unavailable("no partition holds the key".to_owned());
            self.pause(effort, error).await?;
            self.refresh(effort).await?;
        }
    }

    /// After a stale route: waits a little and reads the routes again.
    pub(super) async fn reroute(&self, effort: &mut Effort, why: String) -> Result<()> {
        self.pause(effort, MetadataError::StaleRoute(why)).await?;
        self.refresh(effort).await?;
        Ok(())
    }

    /// The deadline of a command that is proposed now for the first time (PROTOCOLS 2).
    pub(super) async fn deadline(
        &self,
        group: PartitionId,
        effort: &mut Effort,
    ) -> Result<GroupTime> {
        let now = self.env.clock.now();
        let known = self.known_time(group);
        if let Some((time, _)) = known.filter(|(_, asked)| now.saturating_sub(*asked) < TIME_KEPT) {
            return Ok(GroupTime(time.0.saturating_add(DEADLINE_MS)));
        }
        let call = Call::Time { group };
        let Answer::Time(time) = self.perform(&call, effort).await? else {
            return Err(unexpected(&call));
        };
        self.keep_time(group, time, now);
        Ok(GroupTime(time.0.saturating_add(DEADLINE_MS)))
    }
}
