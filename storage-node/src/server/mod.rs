//! The shard service of one node: its drives, and the checks ahead of every request.
//!
//! [`StorageNode`] is the one service object; [`http`] and the in-process client are thin adapters
//! over it.

mod check;
pub mod http;
mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::RootView;
use enfilade_placement::{
    ClusterId, DriveId, EnclosureId, Generation, Incarnation, Volume, VolumeId, VolumeState,
};

use self::volumes::Volumes;
use crate::api::append::{AppendAck, AppendHeader, AppendRequest};
use crate::api::error::ShardError;
use crate::api::read::{FragmentFault, InventoryPage, InventoryRequest, ReadRequest};
use crate::api::{Cause, ShardAddress};
use crate::engine::{Admission, Append, Blocks, Engine, EngineError, Paced, ShardKey};
use crate::host::{Host, Lease};

/// The longest that a read of a move waits for the pace of the drive that gives: whoever asks has a
/// deadline.
const PACED_MAX: Duration = Duration::from_secs(5);

/// Who a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The enclosure that the node is in.
    pub enclosure: EnclosureId,
}

/// The node of one enclosure.
pub struct StorageNode {
    host: Host,
    identity: Identity,
    drives: RwLock<BTreeMap<DriveId, Served>>,
    volumes: Volumes,
}

/// A drive that is served.
#[derive(Clone)]
struct Served {
    engine: Arc<Engine>,
    generation: Generation,
}

/// An append that passed all checks that need no bytes; room for them is leased.
pub(crate) struct Admitted {
    engine: Arc<Engine>,
    admission: Admission,
    header: AppendHeader,
}

impl StorageNode {
    /// A node without drives, which asks the root group about volumes that it does not know.
    pub fn new(host: Host, identity: Identity, metadata: Arc<dyn MetadataClient>) -> Arc<Self> {
        Self::with(host, identity, Volumes::new(metadata))
    }

    /// A node that believes every address: for tests that have no metadata service.
    #[cfg(any(test, feature = "test-util"))]
    pub fn trusting(host: Host, identity: Identity) -> Arc<Self> {
        Self::with(host, identity, Volumes::trusting())
    }

    fn with(host: Host, identity: Identity, volumes: Volumes) -> Arc<Self> {
        Arc::new(Self {
            host,
            identity,
            drives: RwLock::default(),
            volumes,
        })
    }

    /// What it shares with the process's other nodes.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Serves a drive from now on, under the generation that the root group gave (PROTOCOLS 26).
    pub fn serve(&self, engine: Arc<Engine>, generation: Generation) {
        let mut drives = self.drives.write().unwrap_or_else(PoisonError::into_inner);
        drives.insert(engine.id(), Served { engine, generation });
    }

    /// Serves a drive no longer.
    pub fn withdraw(&self, drive: DriveId) -> Option<Arc<Engine>> {
        let mut drives = self.drives.write().unwrap_or_else(PoisonError::into_inner);
        drives.remove(&drive).map(|served| served.engine)
    }

    /// The drives that are served.
    pub fn engines(&self) -> Vec<Arc<Engine>> {
        let drives = self.drives.read().unwrap_or_else(PoisonError::into_inner);
        drives
            .values()
            .map(|served| Arc::clone(&served.engine))
            .collect()
    }

    /// The engine of a drive that is served.
    pub(crate) fn engine_of(&self, drive: DriveId) -> Option<Arc<Engine>> {
        let drives = self.drives.read().unwrap_or_else(PoisonError::into_inner);
        let served = drives.get(&drive)?;
        Some(Arc::clone(&served.engine))
    }

    /// Takes in a volume as the root group has told it.
    pub(crate) fn learn_volume(&self, volume: Volume) {
        self.volumes.keep(volume);
    }

    /// Takes in what the root group tells.
    pub fn learn(&self, view: Arc<RootView>) {
        self.volumes.learn(view);
    }

    /// Appends fragments; see [`crate::api::ShardClient::append`].
    ///
    /// # Errors
    /// [`ShardError`].
    pub async fn append(&self, request: AppendRequest) -> Result<AppendAck, ShardError> {
        self.admit(request.header)
            .await?
            .commit(request.fragments)
            .await
    }

    /// Checks all of an append that needs no bytes, and leases room for them.
    pub(crate) async fn admit(&self, header: AppendHeader) -> Result<Admitted, ShardError> {
        let admitted = self.admit_unmeasured(header).await;
        if let Err(error) = &admitted {
            self.refused(error);
        }
        admitted
    }

    async fn admit_unmeasured(&self, header: AppendHeader) -> Result<Admitted, ShardError> {
        check::header(&header)?;
        let engine = self.engine(&header.at)?;
        self.check_open(&header.at).await?;
        let admission = engine
            .admit(header.payload_len() as u64)
            .map_err(|error| shard_error(header.at.volume, error))?;
        Ok(Admitted {
            engine,
            admission,
            header,
        })
    }

    fn refused(&self, error: &ShardError) {
        let reason = match error {
            ShardError::StaleEpoch { .. } => "stale_epoch",
            ShardError::NotOpen(_) => "not_open",
            ShardError::NotHere(_) => "not_here",
            ShardError::DriveFailed(_) => "drive_failed",
            ShardError::Full => "full",
            ShardError::Busy => "busy",
            ShardError::Invalid(_) => "invalid",
            ShardError::Unreachable(_) => "unreachable",
            ShardError::Forbidden(_) => "forbidden",
        };
        self.host.metrics.refused.with_label_values(&[reason]).inc();
    }

    /// The engine of the drive that an address names, when everything else in it is ours.
    fn engine(&self, at: &ShardAddress) -> Result<Arc<Engine>, ShardError> {
        if at.cluster != self.identity.cluster {
            return Err(ShardError::Forbidden(format!(
                "this is cluster {}",
                self.identity.cluster
            )));
        }
        if at.incarnation != self.identity.incarnation {
            let ours = self.identity.incarnation;
            return Err(ShardError::Forbidden(format!(
                "the cluster's incarnation is {ours}"
            )));
        }
        let drives = self.drives.read().unwrap_or_else(PoisonError::into_inner);
        match drives.get(&at.drive) {
            Some(served) if served.generation == at.generation => Ok(Arc::clone(&served.engine)),
            Some(served) => Err(ShardError::NotHere(served.generation)),
            None => Err(ShardError::NotHere(Generation::default())),
        }
    }

    /// The volume takes appends under exactly this epoch, and the drive is that member of it
    /// (PROTOCOLS 11).
    async fn check_open(&self, at: &ShardAddress) -> Result<(), ShardError> {
        let Some(volume) = self.volumes.at_least(at.volume, at.epoch).await? else {
            return if self.volumes.trusts() {
                Ok(())
            } else {
                Err(ShardError::NotOpen(at.volume))
            };
        };
        if at.epoch < volume.epoch {
            return Err(ShardError::StaleEpoch {
                volume: at.volume,
                current: volume.epoch,
            });
        }
        if at.epoch > volume.epoch {
            let reason = format!("volume {} has no epoch {} yet", at.volume, at.epoch);
            return Err(ShardError::Invalid(reason));
        }
        if self.volumes.is_returned(at.drive) {
            return Err(ShardError::NotOpen(at.volume));
        }
        // A suspended volume takes the rest of extents that were begun (PROTOCOLS 14).
        if !matches!(volume.state, VolumeState::Open | VolumeState::Suspended) {
            return Err(ShardError::NotOpen(at.volume));
        }
        match volume.members.get(usize::from(at.member)) {
            Some(Some(drive)) if *drive == at.drive => Ok(()),
            _ => Err(ShardError::NotHere(at.generation)),
        }
    }

    /// Reads the blocks that hold ranges of fragments of one blob; one answer each, and the lease
    /// of their room in memory.
    pub(crate) async fn read_blocks(
        &self,
        request: &ReadRequest,
    ) -> Result<(Vec<Result<Blocks, FragmentFault>>, Lease), ShardError> {
        let bytes = check::ranges(&request.ranges)?;
        let engine = self.engine(&request.at)?;
        if request.cause == Cause::Rebalance {
            // The drive that gives has clients, too: they are not to wait for room meanwhile.
            engine.spend(bytes, Paced::Moves, PACED_MAX).await;
        }
        let lease = self.host.reads.lease(bytes).await;
        let key = shard_key(&request.at);
        let began = self.host.env.clock.now();
        let mut answers = engine.read(key, request.blob, request.ranges.clone()).await;
        let read = answers.iter().flatten().map(|b| b.bytes.len() as u64).sum();
        self.host.metrics.count_read(request.cause, read);
        if request.cause == Cause::Get {
            engine.observe(began, read);
        }
        if answers
            .iter()
            .any(|answer| matches!(answer, Err(FragmentFault::Missing)))
            && let Some(epoch) = self.volumes.moved(&request.at).await
        {
            for answer in &mut answers {
                if matches!(answer, Err(FragmentFault::Missing)) {
                    *answer = Err(FragmentFault::Moved(epoch));
                }
            }
        }
        Ok((answers, lease))
    }

    /// Reads ranges of fragments; see [`crate::api::ShardClient::read`].
    ///
    /// # Errors
    /// [`ShardError`].
    pub async fn read(
        &self,
        request: ReadRequest,
    ) -> Result<Vec<Result<Bytes, FragmentFault>>, ShardError> {
        let (answers, _lease) = self.read_blocks(&request).await?;
        let cut = |(answer, range): (Result<Blocks, FragmentFault>, _)| {
            answer.and_then(|blocks| blocks.cut(range).ok_or(FragmentFault::Missing))
        };
        Ok(answers.into_iter().zip(&request.ranges).map(cut).collect())
    }

    /// A page of an inventory; see [`crate::api::ShardClient::inventory`].
    ///
    /// # Errors
    /// [`ShardError`].
    pub async fn inventory(&self, request: InventoryRequest) -> Result<InventoryPage, ShardError> {
        let limit = check::page(request.limit)?;
        let engine = self.engine(&request.at)?;
        let key = shard_key(&request.at);
        let page = engine.inventory(key, request.after, limit).await;
        let (blobs, more) = page.map_err(|error| shard_error(request.at.volume, error))?;
        // Looked at last: a shard may be dropped at any time.
        let complete = match engine.shard_stats(key) {
            Some(shard) => shard.damaged == 0,
            None => {
                self.volumes.check_member(&request.at).await?;
                true
            }
        };
        Ok(InventoryPage {
            blobs,
            more,
            complete,
        })
    }
}

impl Admitted {
    /// What was announced.
    pub(crate) fn header(&self) -> &AppendHeader {
        &self.header
    }

    /// Appends the fragments; they are synced when this returns `Ok`.
    pub(crate) async fn commit(self, fragments: Vec<Bytes>) -> Result<AppendAck, ShardError> {
        let Self {
            engine,
            admission,
            header,
        } = self;
        let (key, volume) = (shard_key(&header.at), header.at.volume);
        let bytes = header.payload_len() as u64;
        let append = Append {
            epoch: header.at.epoch,
            blob: header.blob,
            first_stripe: header.first_stripe,
            fragments: header.fragments,
            owner: header.owner,
            marks: header.committed,
            payload: fragments,
        };
        let began = engine.host().env.clock.now();
        let ack = engine.append(key, append, admission).await;
        if ack.is_ok() {
            engine.observe(began, bytes);
            engine.host().metrics.count_write(Cause::Put, bytes);
        }
        ack.map_err(|error| shard_error(volume, error))
    }
}

fn shard_key(at: &ShardAddress) -> ShardKey {
    ShardKey {
        volume: at.volume,
        member: at.member,
    }
}

fn shard_error(volume: VolumeId, error: EngineError) -> ShardError {
    match error {
        EngineError::Stale(current) => ShardError::StaleEpoch { volume, current },
        EngineError::Invalid(reason) => ShardError::Invalid(reason),
        EngineError::Full => ShardError::Full,
        EngineError::Busy => ShardError::Busy,
        EngineError::Failed(reason) => ShardError::DriveFailed(reason),
    }
}

#[cfg(test)]
mod tests;
