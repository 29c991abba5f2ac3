//! What a storage node offers to gateways and to other nodes, as plain data and one trait.
//!
//! [`ShardClient`] speaks to one node; [`Nodes`] finds the node of an enclosure. Both have
//! implementations in process and remote (HTTP/1.1) that callers cannot tell apart.

pub mod append;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod error;
pub mod read;
pub mod shape;

use std::sync::Arc;

use async_trait::async_trait;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_placement::{
    BlobId, ClusterId, DriveId, EnclosureId, Epoch, Generation, Incarnation, UploadId, VolumeId,
};
use serde::{Deserialize, Serialize};

use append::{AppendAck, AppendRequest};
use error::ShardError;
use read::{FragmentRead, InventoryPage, InventoryRequest, ReadRequest};

/// A shard, under the epoch and attach generation that the caller knows. Every message to a node
/// carries all of it (PROTOCOLS 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShardAddress {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The drive that the shard is on.
    pub drive: DriveId,
    /// The drive's attach generation.
    pub generation: Generation,
    /// The volume.
    pub volume: VolumeId,
    /// The volume's epoch.
    pub epoch: Epoch,
    /// The member index of the drive in the volume.
    pub member: u8,
}

/// Whom a blob was written for; kept in the first record of every extent (PROTOCOLS 19).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The key.
    pub at: ObjectKey,
    /// The upload and part number, when it is a part.
    pub upload: Option<(UploadId, u16)>,
}

/// What bytes are read or written for: traffic is counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Cause {
    /// A client reads.
    #[default]
    Get,
    /// A client writes.
    Put,
    /// Lost redundancy is restored.
    Repair,
    /// Shards move for evenness, or to empty a drive.
    Rebalance,
    /// Everything at rest is verified.
    Scrub,
    /// Logs are written anew, without what is dead in them.
    Compaction,
}

impl Cause {
    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Repair => "repair",
            Self::Rebalance => "rebalance",
            Self::Scrub => "scrub",
            Self::Compaction => "compaction",
        }
    }
}

/// One storage node.
///
/// Every method may be repeated. Dropping a future leaves the request done or not done, never half:
/// an append that was not acked may still be in the log, unreferenced.
#[async_trait]
pub trait ShardClient: Send + Sync + 'static {
    /// Appends fragments of consecutive stripes of one blob to a shard.
    ///
    /// `Ok` means that they are synced on the drive: they survive power loss from here on
    /// (PROTOCOLS 11). The node has compared the checksums with the bytes before. Appending the
    /// same stripes of the same blob again is harmless; the bytes must be the same.
    async fn append(&self, request: AppendRequest) -> Result<AppendAck, ShardError>;

    /// Reads ranges of fragments of one blob. The answer has one entry for each range, in order.
    ///
    /// Every byte of an `Ok` entry has been compared with its checksum, by the node and, when it
    /// crossed a wire, after it. A fault of one range does not hide the others.
    async fn read(&self, request: ReadRequest) -> Result<Vec<FragmentRead>, ShardError>;

    /// A page of the fragments that a shard holds, in order of blob and stripe.
    async fn inventory(&self, request: InventoryRequest) -> Result<InventoryPage, ShardError>;
}

/// Finds nodes.
pub trait Nodes: Send + Sync + 'static {
    /// The node of an enclosure; `None` when the enclosure is unknown or has no address.
    fn node(&self, enclosure: EnclosureId) -> Option<Arc<dyn ShardClient>>;
}

/// Blobs that a gateway knows to be committed, so that nodes need not ask for them.
pub type CommitMarks = Vec<BlobId>;
