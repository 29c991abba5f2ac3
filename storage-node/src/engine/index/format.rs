//! Which version of rows an index holds: a file beside it, looked at before the index is opened.
//!
//! An index is built anew when it is damaged; one of a newer program must not be taken for that
//! (PROTOCOLS 10). The file, integers little-endian:
//!
//! ```text
//! "ENFINDEX" | version: u32 | CRC32C of what is before it: u32
//! ```

use crc_fast::{CrcAlgorithm, checksum};

use crate::drive::{Drive, DriveError, Open, read_up_to, replace};

const NAME: &str = "index-format";
const MAGIC: &[u8; 8] = b"ENFINDEX";
const VERSION: u32 = 1;
const LEN: usize = 16;

/// What the file says of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Of this program.
    Ours,
    /// There is no such file: there is no index yet, or it is of an early build.
    Unnamed,
    /// The file is rotten, so the index may be of anybody.
    Rotten,
    /// Of a newer program, with this version.
    Newer(u32),
}

/// Reads the file.
///
/// # Errors
/// Those of the device.
pub(crate) fn read(drive: &dyn Drive) -> Result<Format, DriveError> {
    let file = match drive.open(NAME, Open::Existing) {
        Ok(file) => file,
        Err(DriveError::NotFound(_)) => return Ok(Format::Unnamed),
        Err(error) => return Err(error),
    };
    Ok(decode(&read_up_to(file.as_ref(), 0, LEN)?))
}

/// Writes the file, durably.
///
/// # Errors
/// Those of the device.
pub(crate) fn write(drive: &dyn Drive) -> Result<(), DriveError> {
    replace(drive, NAME, &encode(VERSION))
}

fn encode(version: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&crc(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Format {
    let Some((covered, sum)) = bytes.split_at_checked(LEN - 4) else {
        return Format::Rotten;
    };
    if sum != crc(covered).to_le_bytes() {
        return Format::Rotten;
    }
    let version = covered.strip_prefix(MAGIC).and_then(|v| v.try_into().ok());
    match version.map(u32::from_le_bytes) {
        Some(VERSION) => Format::Ours,
        Some(newer) => Format::Newer(newer),
        None => Format::Rotten,
    }
}

fn crc(bytes: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).expect("a CRC of 32 bits")
}

#[cfg(test)]
pub(crate) fn store_newer(drive: &dyn Drive) {
    replace(drive, NAME, &encode(VERSION + 1)).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::memory::MemoryDrive;

    #[test]
    fn the_format_is_the_one_on_the_drives() {
        let golden = "454e46494e44455801000000a098c5ce";
        assert_eq!(hex::encode(encode(VERSION)), golden);
    }

    #[test]
    fn rot_and_a_newer_version_are_told_apart() {
        let drive = MemoryDrive::default();
        assert_eq!(read(&drive), Ok(Format::Unnamed));
        write(&drive).unwrap();
        assert_eq!(read(&drive), Ok(Format::Ours));
        store_newer(&drive);
        assert_eq!(read(&drive), Ok(Format::Newer(VERSION + 1)));
        for at in 0..LEN as u64 {
            assert!(drive.rot(NAME, at));
            assert_eq!(read(&drive), Ok(Format::Rotten), "{at}");
            assert!(drive.rot(NAME, at));
        }
    }
}
