//! Log records: version 1 of the format on drives (PROTOCOLS 24).
//!
//! A record is a header and, for an append, the fragments' bytes after it. It begins at a multiple
//! of 8 in its log, and its header is a multiple of 8 long. Integers are little-endian:
//!
//! ```text
//!  0  magic "EFLR"            32  synced        u64    72  first stripe u32
//!  4  version        u16      40  volume        u64    76  fragments    u32
//!  6  kind           u8       48  epoch         u64    80  runs         u32
//!  7  member         u8       56  blob          16 B   84  marks        u32
//!  8  header length  u32                               88  owner length u32
//! 12  payload length u32                               92  padding      u32
//! 16  incarnation    u64
//! 24  sequence       u64
//! 96  fragments: (length u32, CRC32C u32 a block of 4 KiB) | runs: (first, last: u32)
//!     | marks: blob 16 B | owner | zeros to a multiple of 8, less 4 | header CRC32C u32
//! ```
//!
//! The header's CRC covers (incarnation u64 | offset of the record in its log u64 | header): bytes
//! of another life of the file, in another place, or inside a payload are never a valid record.
//! The payload is covered by the fragments' own checksums. After it come so many zeros as `padding`
//! says: the last record of a commit group is padded to a block of the drive, so that no group
//! writes to a block that an earlier one synced, and so that groups can be written without the page
//! cache (PROTOCOLS 17).

use crc_fast::{CrcAlgorithm, Digest};
use enfilade_cluster::api::encoding;
use enfilade_placement::{BlobId, Epoch, VolumeId};

use crate::api::Owner;
use crate::api::append::{APPEND_BYTES_MAX, FragmentHeader};
use crate::erasure::checksum::checksum_count;

/// The first bytes of every record.
pub(crate) const MAGIC: [u8; 4] = *b"EFLR";
/// Records begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// Commit groups begin and end at multiples of this, unless a log was cut elsewhere.
pub(crate) const BLOCK: u64 = 4096;
/// The part of a header that every record has.
pub(crate) const FIXED_LEN: usize = 96;
/// Where in a header the padding stands.
const PADDING_AT: usize = 92;
/// No header is longer: fragments, marks and an owner within their bounds take far less.
pub(crate) const HEADER_LEN_MAX: usize = 1024 * 1024;

const VERSION: u16 = 1;

/// A run of stripes: first and last.
pub(crate) type Run = (u32, u32);

/// What a record says, without the bytes of fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Numbers the records of a log, from 0, without gaps.
    pub(crate) sequence: u64,
    /// Every byte of the log below this was synced when the record was written.
    pub(crate) synced: u64,
    pub(crate) volume: VolumeId,
    pub(crate) member: u8,
    /// The epoch that the log accepted when the record was written; for a fence, the new one.
    pub(crate) epoch: Epoch,
    /// Zeros after the payload; less than [`BLOCK`].
    pub(crate) padding: u32,
    pub(crate) body: Body,
}

/// The kinds of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// Fragments of consecutive stripes of a blob.
    Append {
        blob: BlobId,
        first_stripe: u32,
        fragments: Vec<FragmentHeader>,
        owner: Option<Owner>,
        marks: Vec<BlobId>,
    },
    /// Stripes of a blob are dropped; all of it when no run is named.
    Delete { blob: BlobId, runs: Vec<Run> },
    /// The fragments of these stripes are corrupt.
    Bad { blob: BlobId, runs: Vec<Run> },
    /// Epochs below the record's are refused from here on.
    Fence,
    /// Blobs are committed. Without any: only proves what is synced.
    Commit { marks: Vec<BlobId> },
    /// An earlier log of the shard is gone, and what it held is not known; a fence as well, because
    /// that log may have held one.
    Lost,
}

/// Why bytes are not a record here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Not a whole, valid record of this log at this offset.
    #[error("no valid record")]
    Invalid,
    /// Whole and valid, of a newer version of the format: never skipped (PROTOCOLS 10).
    #[error("a record of version {0}, known here: {VERSION}")]
    Version(u16),
}

/// What a header has room for, whatever its kind.
#[derive(Default)]
struct Parts<'a> {
    blob: BlobId,
    first_stripe: u32,
    fragments: &'a [FragmentHeader],
    runs: &'a [Run],
    marks: &'a [BlobId],
    owner: Option<&'a Owner>,
}

impl Body {
    const fn kind(&self) -> u8 {
        match self {
            Self::Append { .. } => 1,
            Self::Delete { .. } => 2,
            Self::Bad { .. } => 3,
            Self::Fence => 4,
            Self::Commit { .. } => 5,
            Self::Lost => 6,
        }
    }

    fn parts(&self) -> Parts<'_> {
        match self {
            Self::Append {
                blob,
                first_stripe,
                fragments,
                owner,
                marks,
            } => Parts {
                blob: *blob,
                first_stripe: *first_stripe,
                fragments,
                runs: &[],
                marks,
                owner: owner.as_ref(),
            },
            Self::Delete { blob, runs } | Self::Bad { blob, runs } => Parts {
                blob: *blob,
                runs,
                ..Parts::default()
            },
            Self::Fence | Self::Lost => Parts::default(),
            Self::Commit { marks } => Parts {
                marks,
                ..Parts::default()
            },
        }
    }

    /// Bytes of the fragments after the header.
    pub(crate) fn payload_len(&self) -> u64 {
        match self {
            Self::Append { fragments, .. } => fragments.iter().map(|f| u64::from(f.len)).sum(),
            _ => 0,
        }
    }
}

impl Record {
    /// Bytes of the record in its log, header and padding included.
    pub(crate) fn span(&self, header_len: usize) -> u64 {
        header_len as u64 + self.body.payload_len() + u64::from(self.padding)
    }

    /// Pads the record, and its header as [`Record::encode`] made it, so that it ends at a block.
    pub(crate) fn pad(&mut self, header: &mut [u8], incarnation: u64, offset: u64) {
        let end = offset + self.span(header.len());
        self.padding += size(end.next_multiple_of(BLOCK) - end);
        header[PADDING_AT..PADDING_AT + 4].copy_from_slice(&self.padding.to_le_bytes());
        let (covered, sum) = header.split_at_mut(header.len() - 4);
        sum.copy_from_slice(&header_crc(incarnation, offset, covered).to_le_bytes());
    }

    /// The header as it stands at an offset of a log.
    pub(crate) fn encode(&self, incarnation: u64, offset: u64) -> Vec<u8> {
        let Parts {
            blob,
            first_stripe,
            fragments,
            runs,
            marks,
            owner,
        } = self.body.parts();
        let owner = owner.map(encoding::encode).unwrap_or_default();
        let mut out = Vec::with_capacity(FIXED_LEN + 2048);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.body.kind(), self.member]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&size(self.body.payload_len()).to_le_bytes());
        for number in [
            incarnation,
            self.sequence,
            self.synced,
            self.volume.get(),
            self.epoch.get(),
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&blob.to_bytes());
        out.extend_from_slice(&first_stripe.to_le_bytes());
        for count in [fragments.len(), runs.len(), marks.len(), owner.len()] {
            out.extend_from_slice(&size(count as u64).to_le_bytes());
        }
        out.extend_from_slice(&self.padding.to_le_bytes());
        for fragment in fragments {
            out.extend_from_slice(&fragment.len.to_le_bytes());
            fragment
                .checksums
                .iter()
                .for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
        }
        for (first, last) in runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        marks
            .iter()
            .for_each(|mark| out.extend_from_slice(&mark.to_bytes()));
        out.extend_from_slice(&owner);
        out.resize((out.len() + 4).next_multiple_of(ALIGN as usize) - 4, 0);
        let len = size(out.len() as u64 + 4);
        out[8..12].copy_from_slice(&len.to_le_bytes());
        let crc = header_crc(incarnation, offset, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header. `bytes` are what a log of that incarnation holds from that offset on; more
    /// than the header is fine. Returns the record and the length of its header.
    pub(crate) fn decode(
        bytes: &[u8],
        incarnation: u64,
        offset: u64,
    ) -> Result<(Self, usize), RecordError> {
        let len = header_len(bytes).ok_or(RecordError::Invalid)?;
        let header = bytes.get(..len).ok_or(RecordError::Invalid)?;
        let (covered, crc) = header.split_at(len - 4);
        if crc != header_crc(incarnation, offset, covered).to_le_bytes() {
            return Err(RecordError::Invalid);
        }
        let mut reader = Reader(covered);
        let record = reader.record(incarnation)?;
        // Nothing that was synced before a record lies after it, and there is a next one.
        if record.synced > offset || record.sequence > u64::MAX >> 1 {
            return Err(RecordError::Invalid);
        }
        Ok((record, len))
    }
}

/// The length of the header that begins here, as it says itself; none when this is no beginning of
/// a record.
pub(crate) fn header_len(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.get(..FIXED_LEN)?;
    if !fixed.starts_with(&MAGIC) {
        return None;
    }
    let len = u32::from_le_bytes(fixed[8..12].try_into().ok()?) as usize;
    let fits = (FIXED_LEN + 8..=HEADER_LEN_MAX).contains(&len);
    (fits && len.is_multiple_of(ALIGN as usize)).then_some(len)
}

/// The incarnation that the header here claims.
pub(crate) fn claimed_incarnation(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?))
}

pub(super) fn header_crc(incarnation: u64, offset: u64, header: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&incarnation.to_le_bytes());
    digest.update(&offset.to_le_bytes());
    digest.update(header);
    u32::try_from(digest.finalize()).expect("a CRC of 32 bits")
}

fn size(len: u64) -> u32 {
    u32::try_from(len).expect("records are bounded by APPEND_BYTES_MAX and HEADER_LEN_MAX")
}

/// Takes a header apart; every length is checked, though the CRC says that we wrote it.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(RecordError::Invalid)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A count of things of which each takes at least `least` bytes of what is left.
    fn fits(&self, count: u32, least: usize) -> Result<usize, RecordError> {
        let count = count as usize;
        if count.saturating_mul(least) > self.0.len() {
            return Err(RecordError::Invalid);
        }
        Ok(count)
    }

    fn record(&mut self, expected: u64) -> Result<Record, RecordError> {
        let _magic: [u8; 4] = self.take()?;
        let version = self.take().map(u16::from_le_bytes)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let [kind, member] = self.take()?;
        let _header_len = self.u32()?;
        let payload_len = self.u32()?;
        if self.u64()? != expected {
            return Err(RecordError::Invalid);
        }
        let (sequence, synced) = (self.u64()?, self.u64()?);
        let volume = VolumeId::new(self.u64()?);
        let epoch = Epoch::new(self.u64()?);
        let (body, padding) = self.body(kind)?;
        if body.payload_len() != u64::from(payload_len) || u64::from(padding) >= BLOCK {
            return Err(RecordError::Invalid);
        }
        Ok(Record {
            sequence,
            synced,
            volume,
            member,
            epoch,
            padding,
            body,
        })
    }

    /// The body, and the padding, which stands among its counts.
    fn body(&mut self, kind: u8) -> Result<(Body, u32), RecordError> {
        let blob = BlobId::from_bytes(self.take()?);
        let first_stripe = self.u32()?;
        let counts = [self.u32()?, self.u32()?, self.u32()?, self.u32()?];
        let padding = self.u32()?;
        let mut fragments = Vec::with_capacity(self.fits(counts[0], 4)?);
        for _ in 0..counts[0] {
            fragments.push(self.fragment()?);
        }
        let mut runs = Vec::with_capacity(self.fits(counts[1], 8)?);
        for _ in 0..counts[1] {
            runs.push((self.u32()?, self.u32()?));
        }
        let mut marks = Vec::with_capacity(self.fits(counts[2], 16)?);
        for _ in 0..counts[2] {
            marks.push(BlobId::from_bytes(self.take()?));
        }
        let owner = self.owner(counts[3])?;
        let named = counts[0] > 0 && first_stripe.checked_add(counts[0]).is_some();
        if (kind == 1 && !named) || runs.iter().any(|(first, last)| first > last) {
            return Err(RecordError::Invalid);
        }
        let body = match kind {
            1 => Body::Append {
                blob,
                first_stripe,
                fragments,
                owner,
                marks,
            },
            2 => Body::Delete { blob, runs },
            3 => Body::Bad { blob, runs },
            4 => Body::Fence,
            5 => Body::Commit { marks },
            6 => Body::Lost,
            _ => return Err(RecordError::Invalid),
        };
        Ok((body, padding))
    }

    fn fragment(&mut self) -> Result<FragmentHeader, RecordError> {
        let len = self.u32()?;
        if len as usize > APPEND_BYTES_MAX {
            return Err(RecordError::Invalid);
        }
        let count = u32::try_from(checksum_count(len as usize)).unwrap_or(u32::MAX);
        let mut checksums = Vec::with_capacity(self.fits(count, 4)?);
        for _ in 0..count {
            checksums.push(self.u32()?);
        }
        Ok(FragmentHeader { len, checksums })
    }

    fn owner(&mut self, len: u32) -> Result<Option<Owner>, RecordError> {
        if len == 0 {
            return Ok(None);
        }
        let len = self.fits(len, 1)?;
        let (owner, rest) = self.0.split_at(len);
        self.0 = rest;
        match encoding::decode(owner) {
            Ok(owner) => Ok(Some(owner)),
            Err(encoding::EncodingError::Version { version, .. }) => {
                Err(RecordError::Version(u16::from(version)))
            }
            Err(_) => Err(RecordError::Invalid),
        }
    }
}

#[cfg(test)]
mod tests;
