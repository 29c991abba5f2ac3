//! The formats on drives, version 1, read by their description and by nothing of the program that
//! wrote them: superblocks, heads of logs, headers of records (PROTOCOLS 24, 26).

use crc_fast::{CrcAlgorithm, Digest};

/// Records begin at the multiples of this.
pub(crate) const ALIGN: usize = 8;

/// Where the first record of a log begins.
pub(crate) const FIRST_RECORD: usize = 4096;

/// The first bytes of a record.
const RECORD_MAGIC: &[u8; 4] = b"EFLR";

/// The part of a header that every record has.
const HEADER_LEN: usize = 96;

/// No header is longer.
const HEADER_LEN_MAX: usize = 1 << 20;

/// Bytes of a fragment that one checksum covers.
const BLOCK: usize = 4096;

const LOG_MAGIC: &[u8; 6] = b"ENFLOG";
const LOG_HEAD_LEN: usize = 45;
const LOG_HEADS: [usize; 2] = [0, 2048];

const SUPERBLOCK_MAGIC: &[u8; 8] = b"ENFSUPER";

/// A shard: a volume's part on one of its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard {
    pub(crate) volume: u64,
    pub(crate) member: u8,
}

/// CRC32C of these pieces, one after the other.
fn crc(pieces: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    u32::try_from(digest.finalize()).unwrap_or(0)
}

/// Integers of a slice, front to back; none when it ends too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An id of sixteen bytes, most significant first.
    fn id(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    /// An integer of postcard: seven bits a byte, least significant first.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// The drive that a superblock names, and how often that was written; none when it is not whole.
pub(crate) fn superblock(bytes: &[u8]) -> Option<(u64, u128)> {
    let mut reader = Reader(bytes);
    if reader.array()? != *SUPERBLOCK_MAGIC || reader.u32()? != 1 {
        return None;
    }
    let length = usize::try_from(reader.u32()?).ok()?;
    let mut body = Reader(reader.bytes(length)?);
    let covered = &bytes[..16 + length];
    if reader.u32()? != crc(&[covered]) {
        return None;
    }
    let version = body.u8()?;
    let revision = body.varint()?;
    let (_cluster, _incarnation) = (body.id()?, body.varint()?);
    (version == 1).then_some((revision, body.id()?))
}

/// The incarnation of a log, by either copy of its head.
pub(crate) fn incarnation(log: &[u8], drive: u128, shard: Shard) -> Option<u64> {
    LOG_HEADS.into_iter().find_map(|at| {
        let head = log.get(at..at + LOG_HEAD_LEN)?;
        let mut reader = Reader(head);
        if reader.array()? != *LOG_MAGIC || reader.u16()? != 1 {
            return None;
        }
        let incarnation = reader.u64()?;
        let of = (reader.id()?, reader.u64()?, reader.u8()?);
        let whole = reader.u32()? == crc(&[&head[..LOG_HEAD_LEN - 4]]);
        (whole && of == (drive, shard.volume, shard.member)).then_some(incarnation)
    })
}

/// A fragment within a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Where its bytes begin in the log.
    pub(crate) at: usize,
    /// How many they are.
    pub(crate) len: usize,
    /// Where its checksums stand in the log.
    sums: usize,
}

/// First and last stripe.
pub(crate) type Run = (u32, u32);

/// What a record does to its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Holds fragments of consecutive stripes.
    Append {
        blob: u128,
        first: u32,
        fragments: Vec<Fragment>,
    },
    /// Drops stripes; all of the blob when none are named.
    Delete { blob: u128, runs: Vec<Run> },
    /// Says that these fragments are corrupt.
    Bad { blob: u128, runs: Vec<Run> },
    /// An earlier log is gone, and what it held is not known.
    Lost,
    /// Fences and marks, which change no fragment.
    Other,
}

/// A record, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) act: Act,
    pub(crate) end: usize,
    /// Everything below this was synced when the record was written.
    pub(crate) synced: u64,
}

/// The valid record that begins here in a log, if there is one. Without an incarnation: of
/// whichever it claims.
pub(crate) fn record(
    log: &[u8],
    at: usize,
    shard: Shard,
    incarnation: Option<u64>,
) -> Option<Record> {
    let from = log.get(at..)?;
    let mut reader = Reader(from);
    if reader.array()? != *RECORD_MAGIC {
        return None;
    }
    let version = reader.u16()?;
    let (kind, member) = (reader.u8()?, reader.u8()?);
    let header_len = usize::try_from(reader.u32()?).ok()?;
    let payload_len = usize::try_from(reader.u32()?).ok()?;
    let claimed = reader.u64()?;
    let _sequence = reader.u64()?;
    let synced = reader.u64()?;
    let volume = reader.u64()?;
    let _epoch = reader.u64()?;
    let sound = (HEADER_LEN + 8..=HEADER_LEN_MAX).contains(&header_len)
        && header_len.is_multiple_of(ALIGN)
        && incarnation.is_none_or(|wanted| wanted == claimed);
    let header = from.get(..header_len).filter(|_| sound)?;
    let (covered, sum) = header.split_at(header_len - 4);
    let offset = u64::try_from(at).ok()?;
    let expected = crc(&[&claimed.to_le_bytes(), &offset.to_le_bytes(), covered]);
    let here = (volume, member) == (shard.volume, shard.member);
    if sum != expected.to_le_bytes() || version != 1 || !here || synced > offset {
        return None;
    }
    let blob = reader.id()?;
    let first = reader.u32()?;
    let (fragments, runs) = (reader.u32()?, reader.u32()?);
    let (_marks, _owner, padding) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let mut body = Body {
        reader: Reader(covered.get(HEADER_LEN..)?),
        sums: at + HEADER_LEN,
        payload: at + header_len,
    };
    let fragments = (0..fragments).map(|_| body.fragment());
    let fragments = fragments.collect::<Option<Vec<_>>>()?;
    let runs = (0..runs).map(|_| Some((body.reader.u32()?, body.reader.u32()?)));
    let runs = runs.collect::<Option<Vec<_>>>()?;
    if body.payload != at + header_len + payload_len {
        return None;
    }
    let act = match kind {
        1 => Act::Append {
            blob,
            first,
            fragments,
        },
        2 => Act::Delete { blob, runs },
        3 => Act::Bad { blob, runs },
        6 => Act::Lost,
        _ => Act::Other,
    };
    let end = body.payload + usize::try_from(padding).ok()?;
    Some(Record { act, end, synced })
}

/// What follows the fixed part of a header.
struct Body<'a> {
    reader: Reader<'a>,
    /// Where the next fragment's entry stands in the log.
    sums: usize,
    /// Where the next fragment's bytes begin in the log.
    payload: usize,
}

impl Body<'_> {
    fn fragment(&mut self) -> Option<Fragment> {
        let len = usize::try_from(self.reader.u32()?).ok()?;
        let count = len.div_ceil(BLOCK);
        self.reader.bytes(count.checked_mul(4)?)?;
        let fragment = Fragment {
            at: self.payload,
            len,
            sums: self.sums + 4,
        };
        self.sums += 4 + 4 * count;
        self.payload += len;
        Some(fragment)
    }
}

/// Whether a fragment's bytes have the checksums of their address (PROTOCOLS 18).
pub(crate) fn is_whole(
    log: &[u8],
    shard: Shard,
    blob: u128,
    stripe: u32,
    fragment: Fragment,
) -> bool {
    let end = fragment.at + fragment.len;
    let sums = fragment.sums..fragment.sums + 4 * fragment.len.div_ceil(BLOCK);
    let (Some(bytes), Some(sums)) = (log.get(fragment.at..end), log.get(sums)) else {
        return false;
    };
    let seed = seed(shard, blob, stripe);
    let blocks = bytes.chunks(BLOCK).zip(sums.chunks(4)).zip(0u32..);
    let mut right = blocks.map(|((block, sum), number)| {
        sum == crc(&[&seed, &number.to_le_bytes(), block]).to_le_bytes()
    });
    right.all(|right| right)
}

/// The address of a fragment, which its checksums cover.
fn seed(shard: Shard, blob: u128, stripe: u32) -> [u8; 29] {
    let mut seed = [0; 29];
    seed[..8].copy_from_slice(&shard.volume.to_le_bytes());
    seed[8..24].copy_from_slice(&blob.to_le_bytes());
    seed[24..28].copy_from_slice(&stripe.to_le_bytes());
    seed[28] = shard.member;
    seed
}

/// Whether something at this place looks like the beginning of a record.
pub(crate) fn may_begin(log: &[u8], at: usize) -> bool {
    log.get(at..at + 4) == Some(RECORD_MAGIC)
}

/// Makes the checksum of a fragment's first block anew.
#[cfg(test)]
pub(crate) fn seal_block(
    log: &mut [u8],
    shard: Shard,
    blob: u128,
    stripe: u32,
    fragment: Fragment,
) {
    let end = fragment.at + fragment.len.min(BLOCK);
    let seed = seed(shard, blob, stripe);
    let sum = crc(&[&seed, &[0; 4], &log[fragment.at..end]]);
    log[fragment.sums..fragment.sums + 4].copy_from_slice(&sum.to_le_bytes());
}

/// Makes the checksum of the header that begins here anew.
#[cfg(test)]
pub(crate) fn seal_header(log: &mut [u8], at: usize, incarnation: u64) {
    let len: [u8; 4] = log[at + 8..at + 12].try_into().unwrap();
    let end = at + u32::from_le_bytes(len) as usize - 4;
    let offset = at as u64;
    let sum = crc(&[
        &incarnation.to_le_bytes(),
        &offset.to_le_bytes(),
        &log[at..end],
    ]);
    log[end..end + 4].copy_from_slice(&sum.to_le_bytes());
}
