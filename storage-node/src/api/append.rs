//! Appending fragments.

use bytes::Bytes;
use enfilade_placement::{BlobId, Epoch};
use serde::{Deserialize, Serialize};

use super::{CommitMarks, Owner, ShardAddress};

/// The most bytes of fragments in one append.
pub const APPEND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Fragments of consecutive stripes, for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRequest {
    /// What goes ahead of the bytes.
    pub header: AppendHeader,
    /// The fragments, in order of their stripes; as many as `header.fragments`, of those lengths.
    pub fragments: Vec<Bytes>,
}

/// The part of an append that a node reads, and may refuse, before the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendHeader {
    /// The shard.
    pub at: ShardAddress,
    /// The blob.
    pub blob: BlobId,
    /// The number of the first stripe within the blob.
    pub first_stripe: u32,
    /// One entry a fragment, of consecutive stripes.
    pub fragments: Vec<FragmentHeader>,
    /// Whom the blob is for; on the first append of every extent.
    pub owner: Option<Owner>,
    /// Blobs in this volume that are committed.
    pub committed: CommitMarks,
}

/// Length and checksums of a fragment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentHeader {
    /// Bytes; a multiple of [`enfilade_placement::profile::UNIT_ALIGN`].
    pub len: u32,
    /// One CRC32C for each 4 KiB block, the last of which may be shorter; seeded as
    /// [`crate::erasure::checksum`] says. Computed by the gateway in the pass that encodes, and
    /// stored as they are (PROTOCOLS 18).
    pub checksums: Vec<u32>,
}

/// The fragments are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendAck {
    /// The epoch of the volume that the node holds.
    pub epoch: Epoch,
    /// Bytes of the shard's log from now on.
    pub shard_bytes: u64,
}

impl AppendHeader {
    /// Bytes of all fragments.
    pub fn payload_len(&self) -> usize {
        self.fragments
            .iter()
            .map(|fragment| fragment.len as usize)
            .sum()
    }
}
