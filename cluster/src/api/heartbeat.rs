//! What nodes tell the root leader every second, and what the leader tells of it.

use std::time::Duration;

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
    /// Of those, bytes of shard logs, with all that is dead in them or only waits to be dropped.
    pub logs: u64,
    /// Why it is not healthy, for people; empty when it is. At most [`TEXT_MAX`] bytes.
    pub reason: String,
    /// Where another drive with the same UUID was found, for people; empty when nowhere
    /// (PROTOCOLS 26). At most [`TEXT_MAX`] bytes.
    pub twin: String,
    /// How far its scrub is; none while it is not served.
    pub scrub: Option<ScrubBeat>,
}

impl DriveBeat {
    /// A drive of which there is nothing else to say.
    pub const fn new(drive: DriveId, state: DriveState, capacity: u64, used: u64) -> Self {
        Self {
            drive,
            state,
            capacity,
            used,
            logs: 0,
            reason: String::new(),
            twin: String::new(),
            scrub: None,
        }
    }
}

/// The most bytes that a text of a heartbeat has: with all drives of an enclosure it stays small.
pub const TEXT_MAX: usize = 400;

/// How far the scrub of a drive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScrubBeat {
    /// Within which every shard is to be scrubbed, in seconds.
    pub period_s: u64,
    /// How long ago every shard had been scrubbed, in seconds that the drive was served; none: it
    /// has never come to that, or has no shards.
    pub complete_s: Option<u64>,
    /// For how long the shard was not scrubbed that was not for longest; 0 without shards.
    pub oldest_s: u64,
    /// How much of what it holds is not due for scrub, in percent; 100 when it holds nothing.
    pub percent: u8,
}

/// What a node said last of one drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveReport {
    /// The enclosure whose node said it.
    pub enclosure: EnclosureId,
    /// How long ago.
    pub age: Duration,
    /// What it said.
    pub beat: DriveBeat,
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
