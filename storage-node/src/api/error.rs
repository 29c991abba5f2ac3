//! Errors of a storage node, by what the caller does next.

use enfilade_placement::{Epoch, Generation, VolumeId};
use serde::{Deserialize, Serialize};

/// Why a request to a node failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ShardError {
    /// The caller's epoch is older than the volume's: end the extent, refresh the volume.
    #[error("volume {volume} is at epoch {current}")]
    StaleEpoch {
        /// The volume.
        volume: VolumeId,
        /// Its epoch as the node knows it.
        current: Epoch,
    },
    /// The volume takes no appends: end the extent, use another.
    #[error("volume {0} takes no appends")]
    NotOpen(VolumeId),
    /// The node does not serve that drive under that generation, or not as that member: refresh the
    /// topology; treat the shard as absent.
    #[error("the drive is not served here under generation {0}")]
    NotHere(Generation),
    /// The drive failed; nothing of the request is durable. End the extent, use another volume.
    #[error("the drive failed: {0}")]
    DriveFailed(String),
    /// The drive has no room (PROTOCOLS 15): end the extent, use another volume.
    #[error("the drive is full")]
    Full,
    /// The node's queue is full: try again after a while, or elsewhere.
    #[error("the node is busy")]
    Busy,
    /// The bytes do not match their checksums, or the header is not well formed: a fault on the way
    /// or a defect. Send again once.
    #[error("refused: {0}")]
    Invalid(String),
    /// The node does not answer, or not in time. An append may or may not be durable.
    #[error("the node does not answer: {0}")]
    Unreachable(String),
    /// Another cluster, an older incarnation, or a wrong credential: do not try again.
    #[error("refused: {0}")]
    Forbidden(String),
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// End the extent and write on in another volume; read from other members.
    OtherVolume,
    /// As [`Remedy::OtherVolume`], and refresh what is known of the volume and the topology.
    Refresh,
    /// Wait and send again.
    Wait,
    /// Give up.
    GiveUp,
}

impl ShardError {
    /// What the caller does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::StaleEpoch { .. } | Self::NotOpen(_) | Self::NotHere(_) => Remedy::Refresh,
            Self::DriveFailed(_) | Self::Full | Self::Unreachable(_) | Self::Invalid(_) => {
                Remedy::OtherVolume
            }
            Self::Busy => Remedy::Wait,
            Self::Forbidden(_) => Remedy::GiveUp,
        }
    }
}
