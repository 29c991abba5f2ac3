//! The data path: bodies to blobs in volumes, and back. Nothing of S3 below here.
//!
//! Writing: [`put`] cuts the body into stripes and runs, [`run`] encodes them, [`window`] keeps a
//! few runs under way and moves on when a volume fails, [`append`] sends one run to all members.
//!
//! Reading: [`pieces`] goes over an object's blobs, [`plan`] finds the stripes and fragments of a
//! range, [`hedge`] fetches a group of stripes and decodes around what is absent or late, [`get`]
//! makes a stream of it.

mod append;
mod budget;
mod codecs;
mod compute;
mod digests;
mod get;
mod hedge;
mod latency;
mod marks;
mod missing;
mod pieces;
mod plan;
mod put;
mod run;
mod shape;
mod source;
mod stripe;
#[cfg(test)]
pub(crate) mod tests;
pub mod types;
mod window;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::record::Blob;
use enfilade_cluster::env::{Clock, Env};
use enfilade_placement::{DriveId, Generation, Volume, VolumeId};
use enfilade_storage_node::api::error::ShardError;
use enfilade_storage_node::api::{Nodes, ShardAddress, ShardClient};

use crate::metrics::PathMetrics;
use crate::settings::PathSettings;
use crate::view::View;
use crate::volumes::{Shunned, Volumes};
use budget::Budget;
use codecs::Codecs;
use compute::Compute;
use latency::Latency;
use marks::Marks;
use missing::Reporter;
use types::{ReadContent, ReadError, ReadStream, WriteBody, WriteError, Written};

/// Writes and reads the bytes of objects. One a process; shared by all its requests.
pub struct DataPath {
    inner: Arc<Inner>,
}

/// What the tasks of a request share.
struct Inner {
    settings: PathSettings,
    env: Env,
    metadata: Arc<dyn MetadataClient>,
    nodes: Arc<dyn Nodes>,
    view: Arc<View>,
    volumes: Arc<Volumes>,
    codecs: Codecs,
    /// For encoding, decoding and checksums of fragments.
    coding: Compute,
    /// For digests of bodies, which take far longer: they must not hold up the encoding.
    digesting: Compute,
    marks: Marks,
    missing: Reporter,
    /// Drives that failed to read; kept apart from those that failed to write.
    sick: Shunned<DriveId>,
    /// Volumes that were asked for anew not long ago.
    looked: Shunned<VolumeId>,
    latency: Latency,
    /// Of appends.
    appends: Latency,
    write_budget: Budget,
    read_budget: Budget,
    metrics: PathMetrics,
}

impl DataPath {
    /// Puts the parts together. Must be called within a tokio runtime.
    pub fn new(
        settings: PathSettings,
        env: Env,
        metadata: Arc<dyn MetadataClient>,
        nodes: Arc<dyn Nodes>,
        view: Arc<View>,
    ) -> Self {
        let shared = (env.clone(), Arc::clone(&metadata), Arc::clone(&view));
        let volumes = Volumes::new(shared.0, shared.1, shared.2, settings.shun_time);
        let metrics = PathMetrics::new();
        let inner = Inner {
            volumes: Arc::new(volumes),
            codecs: Codecs::default(),
            coding: Compute::new(),
            digesting: Compute::new(),
            marks: Marks::default(),
            missing: Reporter::start(env.clone(), Arc::clone(&metadata)),
            sick: Shunned::new(settings.shun_time),
            looked: Shunned::new(settings.shun_time),
            latency: Latency::default(),
            appends: Latency::default(),
            write_budget: Budget::new(settings.write_budget, metrics.write_budget.clone()),
            read_budget: Budget::new(settings.read_budget, metrics.read_budget.clone()),
            metrics,
            settings,
            env,
            metadata,
            nodes,
            view,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Writes a body as one blob.
    ///
    /// `Ok` means that the blob is durable (PROTOCOLS 11); it is named by nothing until the caller
    /// commits a record with it, and is an orphan if it does not. Dropping the future leaves no
    /// more than an orphan.
    ///
    /// # Errors
    /// See [`WriteError`]; in no case is a record affected.
    pub async fn write(&self, body: WriteBody) -> Result<Written, WriteError> {
        put::write(Arc::clone(&self.inner), body).await
    }

    /// Opens the bytes `range` of an object; a range past the end is cut to it.
    ///
    /// The first bytes are fetched and verified before this returns, so that an unreadable object
    /// is an error here. Later errors end the stream; a stream that ends without an error gave all.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(
        &self,
        at: ObjectKey,
        content: ReadContent,
        range: Range<u64>,
    ) -> Result<ReadStream, ReadError> {
        get::read(Arc::clone(&self.inner), at, content, range).await
    }

    /// Notes that a record names the blob, so that the nodes which hold it are told with later
    /// appends and need not ask (PROTOCOLS 19). Best effort.
    pub fn committed(&self, blob: &Blob) {
        self.inner.marks.add(blob, &self.inner.view.root());
    }

    /// How a blob is coded; `None` when it is inline.
    #[cfg(test)]
    fn shape_of(&self, blob: &Blob) -> Option<shape::Shape> {
        shape::Shape::of(blob)
    }

    /// The metrics, to be shown in a registry.
    pub fn metrics(&self) -> &PathMetrics {
        &self.inner.metrics
    }
}

impl Inner {
    /// Whether a member is expected to answer a read: it is not vacant, and neither the root state
    /// nor this process's own experience says otherwise.
    fn expects(&self, volume: &Volume, member: usize) -> bool {
        let now = self.env.clock.now();
        let there = |drive: DriveId| {
            self.view.root().topology.is_present(drive) && !self.sick.contains(&drive, now)
        };
        volume
            .members
            .get(member)
            .copied()
            .flatten()
            .is_some_and(there)
    }

    /// The volume, asked for anew when it has members that are not there: a shard may have been
    /// rebuilt elsewhere since. Asks only now and then.
    async fn look_again(&self, volume: Arc<Volume>) -> Arc<Volume> {
        let (now, root) = (self.env.clock.now(), self.view.root());
        let gone =
            |drive: &Option<DriveId>| drive.is_none_or(|drive| !root.topology.is_present(drive));
        let ask = volume.members.iter().any(gone)
            && !root.volumes.contains_key(&volume.id)
            && !self.looked.contains(&volume.id, now);
        if !ask {
            return volume;
        }
        self.looked.add(volume.id, now);
        match self.view.volume_after(volume.id, volume.epoch).await {
            Ok(Some(newer)) => newer,
            Ok(None) | Err(_) => volume,
        }
    }

    /// Notes that a member failed to answer a read.
    fn read_failed(&self, volume: &Volume, member: usize, error: &ShardError) {
        let drive = volume.members.get(member).copied().flatten();
        let sick = matches!(
            error,
            ShardError::DriveFailed(_) | ShardError::Unreachable(_)
        );
        if let Some(drive) = drive.filter(|_| sick) {
            self.sick.add(drive, self.env.clock.now());
        }
    }

    /// The node of a member, and the address of the shard there as far as is known.
    fn shard(
        &self,
        volume: &Volume,
        member: usize,
    ) -> Result<(Arc<dyn ShardClient>, ShardAddress), ShardError> {
        let root = self.view.root();
        let drive = volume.members.get(member).copied().flatten();
        let drive = drive.and_then(|drive| root.topology.drives.get(&drive));
        let drive = drive.ok_or(ShardError::NotHere(Generation::default()))?;
        let unknown = || ShardError::Unreachable(format!("enclosure {}", drive.enclosure));
        let client = self.nodes.node(drive.enclosure).ok_or_else(unknown)?;
        let at = ShardAddress {
            cluster: root.cluster,
            incarnation: root.incarnation,
            drive: drive.id,
            generation: drive.generation,
            volume: volume.id,
            epoch: volume.epoch,
            member: u8::try_from(member).expect("a profile has at most 116 members"),
        };
        Ok((client, at))
    }
}

/// What a future gives, or `None` when it takes longer than `time`.
async fn within<T>(
    clock: &dyn Clock,
    time: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = clock.sleep(time) => None,
    }
}
