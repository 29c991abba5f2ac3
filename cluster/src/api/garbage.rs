//! Dead blobs, and how members' nodes get rid of them (PROTOCOLS 20).

use enfilade_placement::{BlobId, Epoch, PartitionId, VolumeId};
use serde::{Deserialize, Serialize};

/// What a node asks: what is due for these shards of its?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageQuery {
    /// The partition asked.
    pub partition: PartitionId,
    /// The shards: volume and member index.
    pub shards: Vec<(VolumeId, u8)>,
    /// At most so many entries.
    pub limit: u32,
}

/// A dead blob in one volume that a member has not acked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageEntry {
    /// Its number in the partition; ascending.
    pub sequence: u64,
    /// The volume.
    pub volume: VolumeId,
    /// The member that is to drop it.
    pub member: u8,
    /// The blob: all its fragments in that shard.
    pub blob: BlobId,
}

/// A member has dropped a blob, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageAck {
    /// The entry's number.
    pub sequence: u64,
    /// The volume.
    pub volume: VolumeId,
    /// The volume's epoch that the node holds the shard under; the proposer has checked that it is
    /// the root's.
    pub epoch: Epoch,
    /// The member, and the vacant members that the lowest present one speaks for.
    pub members: Vec<u8>,
}
