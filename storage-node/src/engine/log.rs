//! The log of one shard: a file with a head of its own, then records.
//!
//! The head is written twice, at 0 and 2048, so that one rotten sector does not take the log's
//! incarnation away; records begin at 4096. Integers are little-endian:
//!
//! ```text
//! "ENFLOG" | version u16 | incarnation u64 | drive 16 B | volume u64 | member u8 | CRC32C u32
//! ```

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use enfilade_placement::{DriveId, Epoch};

use super::record::{
    ALIGN, Body, FIXED_LEN, HEADER_LEN_MAX, MAGIC, Record, RecordError, claimed_incarnation,
    header_len,
};
use super::rows::{ShardKey, ShardRow};
use crate::drive::{DriveError, DriveFile, Lenient, read_up_to};
use crate::erasure::checksum::{FragmentSeed, verify};

/// Where the first record begins.
pub(crate) const HEAD_LEN: u64 = 4096;

const HEAD_COPY: u64 = 2048;
const HEAD_MAGIC: &[u8; 6] = b"ENFLOG";
const HEAD_VERSION: u16 = 1;
const HEAD_BYTES: usize = 6 + 2 + 8 + 16 + 8 + 1 + 4;

/// Bytes that the search for a record after a damaged place reads at a time.
const SEARCH_BYTES: usize = 1024 * 1024;

/// Bytes that are read for a header at first: enough for one of a full append of 1 MiB.
const HEADER_GUESS: usize = 2048;

/// A log as the committer knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// What the index holds of it.
    pub(crate) row: ShardRow,
    /// Where the next record goes; above `row.position` what is written and not synced.
    pub(crate) tail: u64,
    /// The next record's sequence number.
    pub(crate) sequence: u64,
    /// Epochs below this are refused.
    pub(crate) epoch: Epoch,
    /// Everything below this is proven to be synced by a record that is synced itself.
    pub(crate) proven: u64,
    /// Whether the file is there.
    pub(crate) exists: bool,
    /// Whether its name is durable in its folder.
    pub(crate) named: bool,
}

/// What can be wrong with a log as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogError {
    /// The drive failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// Written by a newer program: never skipped, never overwritten (PROTOCOLS 10).
    #[error("written by a newer program: {0}")]
    Newer(String),
}

/// The head of a new log.
pub(crate) fn encode_head(incarnation: u64, drive: DriveId, key: ShardKey) -> Vec<u8> {
    let mut head = HEAD_MAGIC.to_vec();
    head.extend_from_slice(&HEAD_VERSION.to_le_bytes());
    head.extend_from_slice(&incarnation.to_le_bytes());
    head.extend_from_slice(&drive.to_bytes());
    head.extend_from_slice(&key.volume.get().to_le_bytes());
    head.push(key.member);
    head.extend_from_slice(&crc(&head).to_le_bytes());
    let mut bytes = vec![0; usize::try_from(HEAD_LEN).expect("4096")];
    for at in [0, usize::try_from(HEAD_COPY).expect("2048")] {
        bytes[at..at + head.len()].copy_from_slice(&head);
    }
    bytes
}

/// What the beginning of a log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) incarnation: u64,
    /// Whether both copies are whole.
    pub(crate) whole: bool,
    /// Whether what is left of a copy names this incarnation.
    pub(crate) named: bool,
}

/// Bytes of a head that follow from the incarnation by chance only: itself, and the checksum.
const TELLING: [std::ops::Range<usize>; 2] = [8..16, HEAD_BYTES - 4..HEAD_BYTES];
/// So many of those twelve, zeros not counted, are left of a head that rotted. What was never
/// written has none of them, and what belonged to another log has that many once in 2^38 or so.
const TELLING_LEAST: usize = 6;

/// The incarnation of a log: by its head, or else by the first record that is valid under the one
/// that it claims, which may have been left by an earlier file in recycled space; none when there
/// is nothing valid in the file at all.
pub(crate) fn find_head(
    file: &dyn DriveFile,
    drive: DriveId,
    key: ShardKey,
) -> Result<Option<Head>, LogError> {
    let (mut copies, mut left) = ([None; 2], Vec::new());
    for (copy, at) in copies.iter_mut().zip([0, HEAD_COPY]) {
        let bytes = read_up_to(file, at, HEAD_BYTES)?;
        *copy = decode_head(&bytes, drive, key)?;
        left.push(bytes);
    }
    let whole = copies[0].is_some() && copies[0] == copies[1];
    if let Some(incarnation) = copies[0].or(copies[1]) {
        return Ok(Some(Head {
            incarnation,
            whole,
            named: true,
        }));
    }
    // Any record tells: what cannot be read matters only when there is none.
    let unread = AtomicBool::new(false);
    let lenient = Lenient::new(file, |_, _: &str| {
        unread.store(true, Ordering::Relaxed);
        true
    });
    let scan = Scan {
        file: &lenient,
        len: file.size()?,
        key,
        incarnation: None,
    };
    let found = scan.search(HEAD_LEN)?;
    if found.is_none() && unread.load(Ordering::Relaxed) {
        let error = "a log without a head, and without a record that can be read";
        return Err(DriveError::Unreadable(error.to_owned()).into());
    }
    Ok(found.map(|found| {
        let expected = encode_head(found.incarnation, drive, key);
        Head {
            incarnation: found.incarnation,
            whole,
            named: left.iter().any(|copy| is_left_of(copy, &expected)),
        }
    }))
}

/// Whether bytes are what rot left of a copy of a head.
fn is_left_of(copy: &[u8], head: &[u8]) -> bool {
    let places = TELLING.into_iter().flatten();
    let same = places.filter(|place| {
        let byte = head.get(*place);
        byte != Some(&0) && copy.get(*place) == byte
    });
    same.count() >= TELLING_LEAST
}

fn decode_head(bytes: &[u8], drive: DriveId, key: ShardKey) -> Result<Option<u64>, LogError> {
    if bytes.len() < HEAD_BYTES || !bytes.starts_with(HEAD_MAGIC) {
        return Ok(None);
    }
    let (covered, sum) = bytes.split_at(HEAD_BYTES - 4);
    if sum != crc(covered).to_le_bytes() {
        return Ok(None);
    }
    let version = u16::from_le_bytes([covered[6], covered[7]]);
    if version != HEAD_VERSION {
        return Err(LogError::Newer(format!("log head of version {version}")));
    }
    let (incarnation, rest) = covered[8..]
        .split_first_chunk::<8>()
        .expect("the length was checked");
    let incarnation = u64::from_le_bytes(*incarnation);
    // A file of another drive or shard that was put in this place is not this log.
    Ok((rest == &encode_head(incarnation, drive, key)[16..HEAD_BYTES - 4]).then_some(incarnation))
}

fn crc(bytes: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).expect("a CRC of 32 bits")
}

/// Writes a record and its payload at an offset.
pub(crate) fn write_record(
    file: &dyn DriveFile,
    offset: u64,
    header: &[u8],
    payload: &[Bytes],
) -> Result<(), DriveError> {
    let mut slices = Vec::with_capacity(1 + payload.len());
    slices.push(IoSlice::new(header));
    slices.extend(payload.iter().map(|bytes| IoSlice::new(bytes)));
    file.write_at(offset, &slices)
}

/// Reads the record at an offset, without its payload.
pub(crate) fn read_record(
    file: &dyn DriveFile,
    offset: u64,
    incarnation: u64,
) -> Result<Result<(Record, usize), RecordError>, DriveError> {
    record_by(|len| read_up_to(file, offset, len), offset, incarnation)
}

/// As [`read_record`], by whatever reads so many bytes from the offset on.
pub(crate) fn record_by<E>(
    read: impl Fn(usize) -> Result<Vec<u8>, E>,
    offset: u64,
    incarnation: u64,
) -> Result<Result<(Record, usize), RecordError>, E> {
    let mut bytes = read(HEADER_GUESS)?;
    let Some(len) = header_len(&bytes) else {
        return Ok(Err(RecordError::Invalid));
    };
    if len > bytes.len() {
        bytes = read(len)?;
    }
    Ok(Record::decode(&bytes, incarnation, offset))
}

/// A record found in a log.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) offset: u64,
    pub(crate) header_len: usize,
    pub(crate) incarnation: u64,
}

impl Found {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.record.span(self.header_len)
    }
}

/// What a walk through a log comes across.
#[derive(Debug, Clone)]
pub(crate) enum Stretch {
    /// A valid record.
    Record(Found),
    /// No valid record: from here to the next one, or to the end of the file.
    Damage { from: u64, to: u64 },
}

impl Stretch {
    /// Its first byte.
    pub(crate) const fn start(&self) -> u64 {
        match self {
            Self::Record(found) => found.offset,
            Self::Damage { from, .. } => *from,
        }
    }

    /// The first byte after it.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Record(found) => found.end(),
            Self::Damage { to, .. } => *to,
        }
    }
}

/// Walks through a log.
pub(crate) struct Scan<'a> {
    pub(crate) file: &'a dyn DriveFile,
    /// Bytes of the file.
    pub(crate) len: u64,
    pub(crate) key: ShardKey,
    /// The log's incarnation; none: whatever a record claims that is else valid.
    pub(crate) incarnation: Option<u64>,
}

impl Scan<'_> {
    /// What there is from an offset on; none at the end of the file.
    pub(crate) fn next(&self, offset: u64) -> Result<Option<Stretch>, LogError> {
        if offset >= self.len {
            return Ok(None);
        }
        let mut bytes = read_up_to(self.file, offset, HEADER_GUESS)?;
        if let Some(len) = header_len(&bytes).filter(|len| *len > bytes.len()) {
            bytes = read_up_to(self.file, offset, len)?;
        }
        if let Some(found) = self.accept(&bytes, offset)? {
            return Ok(Some(Stretch::Record(found)));
        }
        let next = self.search((offset + 1).next_multiple_of(ALIGN))?;
        let to = next.map_or(self.len, |found| found.offset);
        Ok(Some(Stretch::Damage { from: offset, to }))
    }

    /// The first valid record at or after an offset.
    fn search(&self, from: u64) -> Result<Option<Found>, LogError> {
        let mut start = from.next_multiple_of(ALIGN);
        while start < self.len {
            // Overlapping, so that a header is not cut in two.
            let window = read_up_to(self.file, start, SEARCH_BYTES + HEADER_LEN_MAX)?;
            let places = window.len().min(SEARCH_BYTES);
            for at in (0..places).step_by(ALIGN as usize) {
                if !window[at..].starts_with(&MAGIC) {
                    continue;
                }
                if let Some(found) = self.accept(&window[at..], start + at as u64)? {
                    return Ok(Some(found));
                }
            }
            start += SEARCH_BYTES as u64;
        }
        Ok(None)
    }

    fn accept(&self, bytes: &[u8], offset: u64) -> Result<Option<Found>, LogError> {
        let claimed = claimed_incarnation(bytes);
        let Some(incarnation) = self.incarnation.or(claimed) else {
            return Ok(None);
        };
        match Record::decode(bytes, incarnation, offset) {
            Ok((record, header_len)) => {
                let here = record.volume == self.key.volume && record.member == self.key.member;
                Ok(here.then_some(Found {
                    record,
                    offset,
                    header_len,
                    incarnation,
                }))
            }
            Err(RecordError::Invalid) => Ok(None),
            Err(error @ RecordError::Version(_)) => Err(LogError::Newer(error.to_string())),
        }
    }

    /// Whether the payload of a record is whole.
    pub(crate) fn payload_is_whole(&self, found: &Found) -> Result<bool, LogError> {
        let Body::Append {
            blob,
            first_stripe,
            fragments,
            ..
        } = &found.record.body
        else {
            return Ok(true);
        };
        let mut at = found.offset + found.header_len as u64;
        for (fragment, stripe) in fragments.iter().zip(*first_stripe..) {
            let bytes = read_up_to(self.file, at, fragment.len as usize)?;
            let seed = FragmentSeed {
                volume: self.key.volume.get(),
                blob: blob.get(),
                stripe,
                index: self.key.member,
            };
            if verify(seed, &bytes, &fragment.checksums).is_err() {
                return Ok(false);
            }
            at += u64::from(fragment.len);
        }
        Ok(true)
    }
}

const _: () = assert!(FIXED_LEN < HEADER_GUESS);

#[cfg(test)]
mod tests;
