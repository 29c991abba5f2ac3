//! Checksums of fragments, end to end (PROTOCOLS 18).
//!
//! Every block of 4096 bytes of a fragment has a CRC32C of its own; the last block may be shorter.
//! The gateway computes them when it encodes, the node verifies and stores them, and they are
//! compared on every read. The CRC covers a seed before the bytes, the block's address, so that the
//! right bytes in the wrong place are found as well as wrong bytes:
//!
//! ```text
//! CRC32C(volume: u64 | blob: u128 | stripe: u32 | index: u8 | block: u32 | bytes of the block)
//! ```
//!
//! Integers are little-endian, 33 bytes in all; `block` counts from 0 in each fragment. CRC32C is
//! that of RFC 3720 (iSCSI): polynomial 0x1EDC6F41, reflected, initial value and final XOR all
//! ones.

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes that one checksum covers: the block of the drives.
pub const CHECKSUM_BLOCK_BYTES: usize = 4096;

/// The address of a fragment, which its checksums cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentSeed {
    /// The volume's id.
    pub volume: u64,
    /// The blob's id.
    pub blob: u128,
    /// The stripe's number within the blob.
    pub stripe: u32,
    /// The member index in the volume: data `0..k`, parity `k..k + m`.
    pub index: u8,
}

/// Bytes do not have the checksums that they came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// A block is rotten or belongs elsewhere: treat the fragment as an erasure.
    #[error("checksum mismatch in block {block}")]
    Mismatch {
        /// The first block that differs, counted from the start of the fragment.
        block: u32,
    },
    /// There is not one checksum for each block: refuse the message or record.
    #[error("{actual} checksums for {expected} blocks")]
    Count {
        /// Blocks of the bytes given.
        expected: usize,
        /// Checksums given.
        actual: usize,
    },
}

/// How many checksums a fragment of `length` bytes has.
#[must_use]
pub const fn checksum_count(length: usize) -> usize {
    length.div_ceil(CHECKSUM_BLOCK_BYTES)
}

/// The checksum of one block, numbered from the start of its fragment.
#[must_use]
pub fn block_checksum(seed: FragmentSeed, block: u32, bytes: &[u8]) -> u32 {
    continue_checksum(seeded(seed), block, bytes)
}

/// The checksums of all blocks of a fragment, in order.
pub fn fragment_checksums(seed: FragmentSeed, fragment: &[u8]) -> impl Iterator<Item = u32> + '_ {
    checksums_from(seed, 0, fragment)
}

/// Compares a whole fragment with its checksums.
///
/// # Errors
///
/// [`ChecksumError::Count`] unless there is one checksum a block, [`ChecksumError::Mismatch`] with
/// the first block that differs.
pub fn verify(seed: FragmentSeed, fragment: &[u8], expected: &[u32]) -> Result<(), ChecksumError> {
    verify_blocks(seed, 0, fragment, expected)
}

/// Compares a run of blocks, of which the first has the number `first_block` in its fragment, with
/// their checksums. Only the last block of a fragment may be shorter than a block.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_blocks(
    seed: FragmentSeed,
    first_block: u32,
    bytes: &[u8],
    expected: &[u32],
) -> Result<(), ChecksumError> {
    let blocks = checksum_count(bytes.len());
    if blocks != expected.len() {
        return Err(ChecksumError::Count {
            expected: blocks,
            actual: expected.len(),
        });
    }
    let differs = checksums_from(seed, first_block, bytes)
        .zip(expected)
        .zip(numbers_from(first_block))
        .find(|((actual, expected), _)| actual != *expected);
    match differs {
        Some((_, block)) => Err(ChecksumError::Mismatch { block }),
        None => Ok(()),
    }
}

fn checksums_from(
    seed: FragmentSeed,
    first_block: u32,
    bytes: &[u8],
) -> impl Iterator<Item = u32> + '_ {
    let digest = seeded(seed);
    bytes
        .chunks(CHECKSUM_BLOCK_BYTES)
        .zip(numbers_from(first_block))
        .map(move |(bytes, block)| continue_checksum(digest, block, bytes))
}

/// Block numbers. They wrap, since a number that came with a message must not panic here: past the
/// last one nothing can match.
fn numbers_from(first_block: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(first_block), |block| Some(block.wrapping_add(1)))
}

/// A digest that has taken in the seed but for the block's number, the same for a whole fragment.
fn seeded(seed: FragmentSeed) -> Digest {
    let mut bytes = [0; 29];
    bytes[..8].copy_from_slice(&seed.volume.to_le_bytes());
    bytes[8..24].copy_from_slice(&seed.blob.to_le_bytes());
    bytes[24..28].copy_from_slice(&seed.stripe.to_le_bytes());
    bytes[28] = seed.index;
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes);
    digest
}

fn continue_checksum(mut digest: Digest, block: u32, bytes: &[u8]) -> u32 {
    digest.update(&block.to_le_bytes());
    digest.update(bytes);
    u32::try_from(digest.finalize()).expect("a CRC of 32 bits")
}

#[cfg(test)]
mod tests;
