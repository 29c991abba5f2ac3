//! Vocabulary and placement of Enfilade: pure functions over plain data.
//!
//! This crate holds the words that all others share (ids, profiles, volumes, the topology) and the
//! decisions about where data lives. It performs no I/O, is never async and reads no clock:
//! time and randomness come in as arguments, so that every decision replays from its inputs.
//!
//! `serde` is here so that the crates which keep these values in records and commands need no
//! twin of each type; the encodings themselves (and their version bytes) belong to those crates.

pub(crate) mod bound;
pub mod choose;
pub mod durability;
pub mod health;
pub mod ids;
pub mod liveness;
pub mod plan;
pub mod profile;
pub mod reach;
pub mod replicas;
#[cfg(any(test, feature = "test-util"))]
pub mod sample;
pub mod seed;
#[cfg(any(test, feature = "test-util"))]
pub mod simulate;
pub mod spread;
pub mod topology;
pub mod units;
pub mod volume;

pub use ids::{
    BlobId, BucketId, ChainId, ClusterId, DriveId, EnclosureId, Epoch, Generation, Incarnation,
    IntentId, PartitionId, RequestId, Stamp, UploadId, VolumeId,
};
pub use profile::Profile;
pub use topology::{Chain, Drive, DriveState, Enclosure, EnclosureState, Topology};
pub use volume::{Volume, VolumeState};
