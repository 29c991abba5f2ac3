//! What a node knows of volumes: from the root group's view, and by asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::RootView;
use enfilade_placement::{DriveId, DriveState, Epoch, Volume, VolumeId};

use crate::api::ShardAddress;
use crate::api::error::ShardError;

/// Volumes that were asked for and are kept: sealed ones, which the view leaves out.
const KEPT_MAX: usize = 4096;

pub(super) struct Volumes {
    /// None: every address is believed.
    metadata: Option<Arc<dyn MetadataClient>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    view: Arc<RootView>,
    asked: BTreeMap<VolumeId, Volume>,
}

impl Known {
    /// The newest that is known of a volume.
    fn get(&self, id: VolumeId) -> Option<&Volume> {
        let both = [self.view.volumes.get(&id), self.asked.get(&id)];
        both.into_iter()
            .flatten()
            .max_by_key(|volume| (volume.epoch, volume.state))
    }
}

impl Volumes {
    pub(super) fn new(metadata: Arc<dyn MetadataClient>) -> Self {
        Self {
            metadata: Some(metadata),
            known: Mutex::default(),
        }
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn trusting() -> Self {
        Self {
            metadata: None,
            known: Mutex::default(),
        }
    }

    pub(super) fn trusts(&self) -> bool {
        self.metadata.is_none()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn learn(&self, view: Arc<RootView>) {
        let mut known = self.known();
        if view.revision >= known.view.revision {
            known.asked.retain(|id, asked| {
                let shown = view.volumes.get(id);
                shown.is_none_or(|shown| (shown.epoch, shown.state) < (asked.epoch, asked.state))
            });
            known.view = view;
        }
    }

    /// A volume of at least this epoch when there is one: asks the root group when it is unknown
    /// here, or known under an older one.
    pub(super) async fn at_least(
        &self,
        id: VolumeId,
        epoch: Epoch,
    ) -> Result<Option<Volume>, ShardError> {
        let known = self.known().get(id).cloned();
        match known.filter(|volume| volume.epoch >= epoch) {
            Some(volume) => Ok(Some(volume)),
            None => self.get(id).await,
        }
    }

    /// A volume as the root group has it now.
    pub(super) async fn get(&self, id: VolumeId) -> Result<Option<Volume>, ShardError> {
        let Some(metadata) = &self.metadata else {
            return Ok(None);
        };
        let volumes = metadata.volumes(&[id]).await;
        let volumes = volumes.map_err(|error| {
            ShardError::Unreachable(format!("the root group, about volume {id}: {error}"))
        })?;
        let volume = volumes.into_iter().find(|volume| volume.id == id);
        if let Some(volume) = &volume {
            self.keep(volume.clone());
        }
        Ok(volume)
    }

    /// Keeps a volume as root has told it.
    pub(super) fn keep(&self, volume: Volume) {
        let mut known = self.known();
        if known
            .get(volume.id)
            .is_some_and(|old| old.epoch > volume.epoch)
        {
            return;
        }
        known.asked.insert(volume.id, volume);
        if known.asked.len() > KEPT_MAX {
            known.asked.pop_first();
        }
    }

    /// Whether a drive came back after it was given up: it is read from, and not written to
    /// (PROTOCOLS 26).
    pub(super) fn is_returned(&self, drive: DriveId) -> bool {
        let known = self.known();
        let drive = known.view.topology.drives.get(&drive);
        drive.is_some_and(|drive| drive.state == DriveState::Returned)
    }

    /// Checks, with the root group as it is now, that a shard of which there is nothing here is not
    /// another drive's: what moved away, and was dropped, is not empty.
    pub(super) async fn check_member(&self, at: &ShardAddress) -> Result<(), ShardError> {
        if self.trusts() {
            return Ok(());
        }
        let volume = self.get(at.volume).await?;
        let volume = volume.ok_or(ShardError::NotOpen(at.volume))?;
        if volume.members.get(usize::from(at.member)) == Some(&Some(at.drive)) {
            return Ok(());
        }
        Err(ShardError::StaleEpoch {
            volume: at.volume,
            current: volume.epoch,
        })
    }

    /// The epoch under which the shard is elsewhere (PROTOCOLS 21). What is not known here is asked
    /// for: a shard that was dropped is not missing.
    pub(super) async fn moved(&self, at: &ShardAddress) -> Option<Epoch> {
        let known = self.known().get(at.volume).cloned();
        let known = match known {
            Some(volume) => Some(volume),
            None => self.get(at.volume).await.ok().flatten(),
        };
        let volume = known.filter(|volume| volume.epoch > at.epoch)?;
        let member = volume
            .members
            .get(usize::from(at.member))
            .copied()
            .flatten();
        (member != Some(at.drive)).then_some(volume.epoch)
    }
}
