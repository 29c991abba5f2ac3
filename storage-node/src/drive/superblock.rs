//! The superblock: which drive this is, of which cluster (PROTOCOLS 26).
//!
//! Two files, written one after the other, each replaced in one durable step. A rotten one is
//! written anew from the other; two rotten ones are refused, never reformatted. On the drive:
//!
//! ```text
//! "ENFSUPER" | version: u32 | length: u32 | body, as cluster::api::encoding has it | CRC32C: u32
//! ```
//!
//! Integers are little-endian; the CRC covers everything before it.

use crc_fast::{CrcAlgorithm, checksum};
use enfilade_cluster::api::encoding;
use enfilade_placement::{ClusterId, DriveId, Generation, Incarnation, RequestId};
use serde::{Deserialize, Serialize};

use super::{Drive, DriveError, Open, read_up_to, replace};

const NAMES: [&str; 2] = ["superblock", "superblock.copy"];
const MAGIC: &[u8; 8] = b"ENFSUPER";
const VERSION: u32 = 1;
const LEN_MAX: usize = 4096;

/// The identity of a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    /// How often it was written: of two copies, the higher one counts.
    pub revision: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The drive's UUID.
    pub drive: DriveId,
    /// The UUID of the file system that it was formatted on; 0 when unknown, or when it is free to
    /// be copied with everything else, as the drives of an embedded cluster are.
    pub file_system: u128,
    /// The attach generation that the root group gave last.
    pub generation: Generation,
    /// The request that was about to ask for the next generation when this was written. If the
    /// root group has granted it already, the crash came between its commit and our writing it
    /// down; a copy of the drive that was made earlier does not know it.
    pub pending: Option<RequestId>,
}

/// Why there is no superblock to go by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// No copy is there.
    #[error("there is no superblock")]
    Missing,
    /// No copy is whole: restore one, or take the drive out and rebuild it elsewhere.
    #[error("both copies of the superblock are corrupt: {0}")]
    Corrupt(String),
    /// Written by a newer program.
    #[error("the superblock has version {0}, known here: {VERSION}")]
    Version(u32),
    /// The drive failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

enum Copy {
    Whole(Superblock),
    Absent,
    Rotten(String),
}

/// The names of the files.
pub(crate) const fn names() -> [&'static str; 2] {
    NAMES
}

/// Reads the superblock; restores a copy that is rotten, missing or behind.
///
/// # Errors
/// When no copy is whole, or any is of a newer version; see [`SuperblockError`].
pub fn load(drive: &dyn Drive) -> Result<Superblock, SuperblockError> {
    let copies = NAMES.into_iter().map(|name| read(drive, name));
    let Best {
        best,
        whole,
        rotten,
    } = choose(copies)?;
    if !whole {
        tracing::warn!(drive = %best.drive, ?rotten, "restoring a copy of the superblock");
        store(drive, &best)?;
    }
    Ok(best)
}

/// Reads the superblock, and leaves copies as they are.
///
/// # Errors
/// As those of [`load`].
pub fn peek(drive: &dyn Drive) -> Result<Superblock, SuperblockError> {
    choose(NAMES.into_iter().map(|name| read(drive, name))).map(|found| found.best)
}

/// The superblock in the bytes of its files, without a drive.
///
/// # Errors
/// As those of [`load`].
pub(crate) fn of_bytes(
    files: impl Iterator<Item = Option<Vec<u8>>>,
) -> Result<Superblock, SuperblockError> {
    let copy = |bytes: Option<Vec<u8>>| bytes.map_or(Ok(Copy::Absent), |bytes| decode(&bytes));
    choose(files.map(copy)).map(|found| found.best)
}

struct Best {
    best: Superblock,
    /// Whether all copies are that one.
    whole: bool,
    rotten: Vec<String>,
}

fn choose(
    copies: impl Iterator<Item = Result<Copy, SuperblockError>>,
) -> Result<Best, SuperblockError> {
    let mut whole: Vec<Superblock> = Vec::new();
    let (mut rotten, mut found) = (Vec::new(), false);
    for (name, copy) in NAMES.into_iter().zip(copies) {
        match copy? {
            Copy::Whole(superblock) => whole.push(superblock),
            Copy::Absent => {}
            Copy::Rotten(reason) => rotten.push(format!("{name}: {reason}")),
        }
        found |= !whole.is_empty() || !rotten.is_empty();
    }
    let Some(best) = whole
        .iter()
        .max_by_key(|superblock| superblock.revision)
        .cloned()
    else {
        return Err(match found {
            true => SuperblockError::Corrupt(rotten.join("; ")),
            false => SuperblockError::Missing,
        });
    };
    let same = whole.iter().all(|superblock| *superblock == best);
    Ok(Best {
        whole: same && whole.len() == NAMES.len(),
        best,
        rotten,
    })
}

/// Writes both copies, durably.
///
/// # Errors
/// Those of the drive; at least one copy is whole then, old or new.
pub fn store(drive: &dyn Drive, superblock: &Superblock) -> Result<(), SuperblockError> {
    let bytes = encode(superblock);
    for name in NAMES {
        replace(drive, name, &bytes)?;
    }
    Ok(())
}

fn read(drive: &dyn Drive, name: &str) -> Result<Copy, SuperblockError> {
    let file = match drive.open(name, Open::Existing) {
        Ok(file) => file,
        Err(DriveError::NotFound(_)) => return Ok(Copy::Absent),
        Err(error) => return Err(error.into()),
    };
    // An unreadable sector is rot of this copy; the other one may do.
    match read_up_to(file.as_ref(), 0, LEN_MAX) {
        Ok(bytes) => decode(&bytes),
        Err(error) => Ok(Copy::Rotten(error.to_string())),
    }
}

fn encode(superblock: &Superblock) -> Vec<u8> {
    let body = encoding::encode(superblock);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let len = u32::try_from(body.len()).expect("a superblock is small");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Copy, SuperblockError> {
    let rotten = |reason: &str| Ok(Copy::Rotten(reason.to_owned()));
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return rotten("too short");
    };
    if magic != MAGIC {
        return rotten("no superblock");
    }
    let Some((version, rest)) = rest.split_first_chunk::<4>() else {
        return rotten("too short");
    };
    let Some((len, rest)) = rest.split_first_chunk::<4>() else {
        return rotten("too short");
    };
    let len = u32::from_le_bytes(*len) as usize;
    let Some((body, sum)) = rest.split_at_checked(len) else {
        return rotten("too short");
    };
    if sum != crc(&bytes[..16 + len]).to_le_bytes() {
        return rotten("checksum mismatch");
    }
    // Whole, so the version is what was written, not rot.
    match u32::from_le_bytes(*version) {
        VERSION => {}
        newer => return Err(SuperblockError::Version(newer)),
    }
    match encoding::decode(body) {
        Ok(superblock) => Ok(Copy::Whole(superblock)),
        Err(encoding::EncodingError::Version { version, .. }) => {
            Err(SuperblockError::Version(u32::from(version)))
        }
        Err(error) => rotten(&error.to_string()),
    }
}

fn crc(bytes: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).expect("a CRC of 32 bits")
}

#[cfg(test)]
mod tests;
