//! Digests of bodies: MD5 for the ETag, CRC-64/NVME for the record, and what the client asked for.
//!
//! CRCs are computed where the bytes are in the cache anyway and put together ([`crc`]); MD5 of all
//! bodies side by side ([`lanes`]); SHA has no lanes worth the name and runs by itself.

pub mod bench;
pub mod crc;
pub mod kernel;
pub mod lanes;
pub mod md5;

use enfilade_cluster::api::record::ChecksumAlgorithm;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Digests of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// MD5, when it was wanted.
    pub md5: Option<[u8; 16]>,
    /// CRC-64/NVME.
    pub crc64: u64,
    /// The one that was asked for, as raw bytes (CRCs big endian).
    pub asked: Option<(ChecksumAlgorithm, Vec<u8>)>,
}

/// A digest of the SHA family: takes in the bytes of a body, in order.
pub enum Sha {
    /// SHA-1.
    Sha1(Box<Sha1>),
    /// SHA-256.
    Sha256(Box<Sha256>),
}

impl Sha {
    /// The digest of that name; none for CRCs.
    pub fn of(algorithm: ChecksumAlgorithm) -> Option<Self> {
        match algorithm {
            ChecksumAlgorithm::Sha1 => Some(Self::Sha1(Box::default())),
            ChecksumAlgorithm::Sha256 => Some(Self::Sha256(Box::default())),
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c | ChecksumAlgorithm::Crc64Nvme => {
                None
            }
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

/// The ETag of bytes whose MD5 nobody computed: their CRC-64/NVME and their length, 32 digits like
/// an MD5, and `-1` so that no client takes it for one.
pub fn fast_etag(crc64: u64, len: u64) -> String {
    format!("{crc64:016x}{len:016x}-1")
}

#[cfg(test)]
mod tests;
