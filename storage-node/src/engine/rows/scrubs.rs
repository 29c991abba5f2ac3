//! Rows about scrub: how far it is, and when each shard was scrubbed last.

use enfilade_cluster::api::encoding;
use enfilade_placement::{BlobId, VolumeId};
use serde::{Deserialize, Serialize};

use super::{Rows, ShardKey};
use crate::engine::index::{Batch, IndexError};

/// Where scrub is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScrubPlace {
    pub(crate) volume: VolumeId,
    pub(crate) member: u8,
    /// Whether the log was walked; then fragments before these are verified.
    pub(crate) walked: bool,
    pub(crate) blob: BlobId,
    pub(crate) stripe: u32,
}

impl ScrubPlace {
    pub(crate) const fn shard(&self) -> ShardKey {
        ShardKey {
            volume: self.volume,
            member: self.member,
        }
    }
}

impl Rows<'_> {
    /// Where scrub was left.
    pub(crate) fn scrub_place(&self) -> Result<Option<ScrubPlace>, IndexError> {
        self.read(b"p")
    }

    pub(crate) fn put_scrub_place(&self, place: &ScrubPlace) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.put(b"p".to_vec(), encoding::encode(place));
        self.0.write(batch)
    }

    /// When a shard was scrubbed last, by the drive's clock.
    pub(crate) fn scrubbed(&self, key: ShardKey) -> Result<Option<u64>, IndexError> {
        self.read(&key.rows(b'v'))
    }

    /// Notes that a shard was scrubbed, to its end.
    pub(crate) fn put_scrubbed(&self, key: ShardKey, ms: u64) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.put(key.rows(b'v'), encoding::encode(&ms));
        batch.delete(b"p".to_vec());
        self.0.write(batch)
    }

    /// Notes that a shard is new: there is nothing in it that could have been scrubbed.
    pub(crate) fn put_new(&self, key: ShardKey, ms: u64) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.put(key.rows(b'v'), encoding::encode(&ms));
        self.0.write(batch)
    }
}
