//! Reading fragments.

use bytes::Bytes;
use enfilade_placement::{BlobId, Epoch};
use serde::{Deserialize, Serialize};

use super::{Cause, Owner, ShardAddress};

/// Ranges of fragments of one blob, on one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The shard.
    pub at: ShardAddress,
    /// The blob.
    pub blob: BlobId,
    /// The ranges.
    pub ranges: Vec<FragmentRange>,
    /// What for.
    pub cause: Cause,
}

impl ReadRequest {
    /// What a client's read asks for.
    pub const fn get(at: ShardAddress, blob: BlobId, ranges: Vec<FragmentRange>) -> Self {
        Self {
            at,
            blob,
            ranges,
            cause: Cause::Get,
        }
    }
}

/// A range of bytes of one fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FragmentRange {
    /// The stripe.
    pub stripe: u32,
    /// Offset of the first byte in the fragment.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// What came of one range: exactly its bytes, verified; or why not.
pub type FragmentRead = Result<Bytes, FragmentFault>;

/// Why a range could not be read. To the reader each is an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FragmentFault {
    /// The shard does not hold that fragment, or it is shorter than the range.
    #[error("the fragment is missing")]
    Missing,
    /// The bytes do not match their checksum; the node has entered it in its log (PROTOCOLS 22).
    #[error("the fragment is corrupt")]
    Corrupt,
    /// The drive failed to read.
    #[error("the drive failed: {0}")]
    Drive(String),
    /// The fragment was moved; the volume's epoch is newer. Not a fault (PROTOCOLS 21).
    #[error("the fragment moved; the volume is at epoch {0}")]
    Moved(Epoch),
}

/// A page of what a shard holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRequest {
    /// The shard.
    pub at: ShardAddress,
    /// Only blobs after this one.
    pub after: Option<BlobId>,
    /// At most so many blobs, 1 to 10,000.
    pub limit: u32,
}

/// Blobs of a shard, ordered by id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InventoryPage {
    /// The blobs.
    pub blobs: Vec<InventoryBlob>,
    /// Whether there are more.
    pub more: bool,
    /// Whether the shard knows all that it was given: no place of its log is damaged, and the log
    /// is not one that took a lost one's place. Else, that it does not name a blob says nothing.
    pub complete: bool,
}

impl InventoryBlob {
    /// Its fragments: stripe and bytes of each.
    pub fn fragments(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let stripes = self.stripes.iter().flat_map(|(first, last)| *first..=*last);
        let lens = self.lens.iter();
        stripes.zip(lens.flat_map(|(count, len)| std::iter::repeat_n(*len, *count as usize)))
    }
}

/// The fragments of one blob in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryBlob {
    /// The blob.
    pub blob: BlobId,
    /// Whom it was written for, when a record here says so.
    pub owner: Option<Owner>,
    /// Whether a gateway has marked it as committed.
    pub committed: bool,
    /// Runs of stripes: first and last.
    pub stripes: Vec<(u32, u32)>,
    /// Lengths of their fragments, in order: (how many fragments, of how many bytes).
    pub lens: Vec<(u32, u32)>,
    /// Stripes whose fragment is known to be corrupt.
    pub bad: Vec<u32>,
}
