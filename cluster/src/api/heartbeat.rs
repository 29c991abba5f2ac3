//! What nodes tell the root leader every second.

use enfilade_placement::{
    ClusterId, DriveId, DriveState, EnclosureId, Epoch, Incarnation, VolumeId,
};
use serde::{Deserialize, Serialize};

/// A sign of life, with the condition of the drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The enclosure.
    pub enclosure: EnclosureId,
    /// Its drives.
    pub drives: Vec<DriveBeat>,
    /// Its shards of volumes that are not yet sealed.
    pub shards: Vec<ShardBeat>,
}

/// The condition of one drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveBeat {
    /// The drive.
    pub drive: DriveId,
    /// Its condition.
    pub state: DriveState,
    /// Bytes that it can hold.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
}

/// The state of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardBeat {
    /// The volume.
    pub volume: VolumeId,
    /// The member index.
    pub member: u8,
    /// The epoch that the shard accepts.
    pub epoch: Epoch,
    /// Bytes of its log.
    pub bytes: u64,
}

/// What the root leader answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// The revision of the root state, so that a node knows when to ask for it.
    pub revision: u64,
}
