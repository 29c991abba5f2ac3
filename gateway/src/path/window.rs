//! The runs of one body that are being appended, and the extents that came of those that are done.
//!
//! Runs are settled in order. When one fails, it and all after it go to another volume: so every
//! extent begins with the append that names its owner, and no stripe is acked thinner than its
//! profile (promise P3).

use std::collections::VecDeque;
use std::sync::Arc;

use enfilade_cluster::api::record::Extent;
use enfilade_placement::{Profile, Volume, VolumeId};
use enfilade_storage_node::api::Owner;
use tokio_util::task::AbortOnDropHandle;

use super::Inner;
use super::append::{AppendFailure, append_run};
use super::run::Run;
use super::types::WriteError;
use crate::volumes::Fault;

/// How often one run is tried before the write is given up. Each try but the first waits for a
/// volume that is not known to be bad.
const TRIES_MAX: u32 = 8;

/// Appends the runs of one body, a bounded number at the same time.
pub(super) struct Window {
    inner: Arc<Inner>,
    owner: Owner,
    profile: Profile,
    /// Where the next run goes.
    target: Option<Arc<Volume>>,
    /// Where the run before went.
    last: Option<VolumeId>,
    runs: VecDeque<InFlight>,
    extents: Vec<Extent>,
}

struct InFlight {
    run: Arc<Run>,
    volume: Arc<Volume>,
    append: AbortOnDropHandle<Result<(), AppendFailure>>,
}

impl Window {
    pub(super) fn new(inner: Arc<Inner>, owner: Owner, profile: Profile) -> Self {
        Self {
            inner,
            owner,
            profile,
            target: None,
            last: None,
            runs: VecDeque::new(),
            extents: Vec::new(),
        }
    }

    /// The volume that the next stripes should be encoded for; waits for one.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) async fn target(&mut self) -> Result<Arc<Volume>, WriteError> {
        if let Some(volume) = &self.target
            && self.inner.volumes.still_usable(volume)
        {
            return Ok(Arc::clone(volume));
        }
        let wait = self.inner.settings.volume_wait;
        let volume = self
            .inner
            .volumes
            .choose(self.profile, wait)
            .await
            .ok_or_else(|| {
                WriteError::NoVolume(format!(
                    "no healthy open volume of profile {}",
                    self.profile
                ))
            })?;
        self.target = Some(Arc::clone(&volume));
        Ok(volume)
    }

    /// Begins to append a run; waits until the window has room.
    ///
    /// # Errors
    /// When an earlier run finds no volume that takes it.
    pub(super) async fn push(&mut self, run: Run) -> Result<(), WriteError> {
        while self.runs.len() >= self.inner.settings.runs_in_flight.max(1) {
            self.settle_first().await?;
        }
        let volume = self.target().await?;
        self.submit(Arc::new(run), volume).await
    }

    /// Waits until all runs are acked.
    ///
    /// # Errors
    /// When one finds no volume that takes it.
    pub(super) async fn settle(&mut self) -> Result<(), WriteError> {
        while !self.runs.is_empty() {
            self.settle_first().await?;
        }
        Ok(())
    }

    /// The extents of all runs that were settled.
    pub(super) fn into_extents(self) -> Vec<Extent> {
        self.extents
    }

    async fn submit(&mut self, run: Arc<Run>, volume: Arc<Volume>) -> Result<(), WriteError> {
        let run = if run.volume == volume.id {
            run
        } else {
            let (run, id) = (Arc::clone(&run), volume.id);
            let reseed = self.inner.coding.run(move || run.for_volume(id)).await;
            Arc::new(reseed.await.map_err(|_| ended_early())?)
        };
        let owner = (self.last != Some(volume.id)).then(|| self.owner.clone());
        self.last = Some(volume.id);
        let (inner, task_run, task_volume) = (&self.inner, Arc::clone(&run), Arc::clone(&volume));
        let append = append_run(Arc::clone(inner), task_run, task_volume, owner);
        let append = AbortOnDropHandle::new(tokio::spawn(append));
        self.runs.push_back(InFlight {
            run,
            volume,
            append,
        });
        Ok(())
    }

    /// Waits until the first run is acked, by whatever volume.
    async fn settle_first(&mut self) -> Result<(), WriteError> {
        let mut busy = false;
        for _ in 0..TRIES_MAX {
            let Some(first) = self.runs.pop_front() else {
                return Ok(());
            };
            match first.append.await.map_err(|_| ended_early())? {
                Ok(()) => {
                    self.acked(&first.run, &first.volume);
                    return Ok(());
                }
                Err(failure) => {
                    busy = failure.fault() == Fault::Overloaded;
                    tracing::debug!(volume = %first.volume.id, %failure, "an extent ends");
                    self.inner.metrics.extents_ended.inc();
                    self.inner
                        .volumes
                        .failed(&first.volume, failure.drive, failure.fault());
                    self.move_on(first.run).await?;
                }
            }
        }
        if busy {
            return Err(WriteError::Busy);
        }
        Err(WriteError::NoVolume(format!(
            "{TRIES_MAX} volumes failed one after another"
        )))
    }

    /// Appends a run that failed, and all after it, to another volume.
    async fn move_on(&mut self, failed: Arc<Run>) -> Result<(), WriteError> {
        let later = std::mem::take(&mut self.runs)
            .into_iter()
            .map(|in_flight| in_flight.run);
        let runs: Vec<Arc<Run>> = std::iter::once(failed).chain(later).collect();
        (self.target, self.last) = (None, None);
        let volume = self.target().await?;
        for run in runs {
            self.submit(run, Arc::clone(&volume)).await?;
        }
        Ok(())
    }

    fn acked(&mut self, run: &Run, volume: &Volume) {
        match self.extents.last_mut() {
            Some(extent) if extent.volume == volume.id => extent.stripes += run.count(),
            _ => self.extents.push(Extent {
                volume: volume.id,
                first_stripe: run.first_stripe(),
                stripes: run.count(),
            }),
        }
    }
}

/// A task of this process was stopped: it is shutting down.
pub(super) fn ended_early() -> WriteError {
    WriteError::NoVolume("the gateway is shutting down".to_owned())
}
