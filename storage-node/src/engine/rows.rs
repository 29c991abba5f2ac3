//! The rows of the index, and how records change them.
//!
//! | key | value |
//! |---|---|
//! | `s` log | [`ShardRow`]: how far the log is covered, and its sums |
//! | `r` log, blob, first stripe | [`RunRow`]: fragments in one record; runs are disjoint |
//! | `m` log, blob | [`BlobRow`] |
//! | `b` log, blob, stripe | nothing: the fragment is corrupt |
//! | `v` shard | when it was scrubbed last, by the drive's clock, in milliseconds |
//! | `p` | [`ScrubPlace`]: where scrub was left |
//! | `c` | milliseconds of the drive's clock: the time it was served |
//!
//! A log ([`LogId`]) is the volume (u64), the member (u8) and the log's incarnation (u64): a log
//! that is being compacted has rows of its own beside those of its successor, and which of them
//! count follows from the file. All integers are big-endian, so that rows sort.

mod edit;
mod scrubs;
mod tally;

use enfilade_cluster::api::encoding;
use enfilade_placement::{BlobId, Epoch, VolumeId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::edit::Edit;
pub(crate) use self::scrubs::ScrubPlace;
use super::index::{Batch, Index, IndexError, Row};
use super::record::{Body, Record, Run};
use crate::api::Owner;

/// Which shard of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// The volume.
    pub volume: VolumeId,
    /// The member index.
    pub member: u8,
}

/// One life of a shard's log: compaction begins a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogId {
    pub(crate) key: ShardKey,
    pub(crate) incarnation: u64,
}

/// What is known of a shard's log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ShardRow {
    pub(crate) incarnation: u64,
    /// The rows follow from the log below this, all of it synced.
    pub(crate) position: u64,
    /// The next record's sequence number.
    pub(crate) sequence: u64,
    pub(crate) epoch: Epoch,
    /// The highest epoch of a fence record.
    pub(crate) fence: Epoch,
    /// Bytes of fragments that are held, and that were held.
    pub(crate) live: u64,
    pub(crate) dead: u64,
    /// Of the dead bytes, those given back to the file system.
    pub(crate) punched: u64,
    /// Bytes of headers that a compacted log would do without.
    pub(crate) waste: u64,
    /// Places where synced records could not be read, and earlier logs that are gone: what is
    /// missing is not known.
    pub(crate) damaged: u32,
    /// Whether it is only to become the shard's log, by compaction: that it is gone means nothing.
    pub(crate) successor: bool,
}

/// Fragments of consecutive stripes whose bytes lie one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    /// Where the record begins.
    pub(crate) record: u64,
    /// Bytes of its header that are of no use when this run is gone.
    pub(crate) header_len: u32,
    /// Where the bytes of the first fragment begin.
    pub(crate) payload: u64,
    /// How many fragments of the record come before.
    pub(crate) skip: u32,
    /// Lengths: (how many fragments, of how many bytes).
    pub(crate) lens: Vec<(u32, u32)>,
}

/// What is known of a blob in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    pub(crate) owner: Option<Owner>,
    pub(crate) committed: bool,
    /// When its first record came, by the drive's clock, in milliseconds.
    pub(crate) seen_ms: u64,
}

/// A range of bytes of a log that is no longer needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl ShardKey {
    /// The name of the shard's log.
    pub(crate) fn file(self) -> String {
        format!("shards/{}-{}.log", self.volume, self.member)
    }

    /// The name of the file that is to become the shard's log.
    pub(crate) fn successor(self) -> String {
        format!("{}{SUCCESSOR}", self.file())
    }

    /// Whether a name, without its folder, is that of such a file.
    pub(crate) fn is_successor(name: &str) -> bool {
        let log = name.strip_suffix(SUCCESSOR);
        log.and_then(Self::of_file).is_some()
    }

    /// The shard of a log's name, without its folder.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let (volume, member) = name.strip_suffix(".log")?.split_once('-')?;
        let key = Self {
            volume: volume.parse().ok()?,
            member: member.parse().ok()?,
        };
        key.file().ends_with(&format!("/{name}")).then_some(key)
    }

    /// The log of this shard with that incarnation.
    pub(crate) const fn log(self, incarnation: u64) -> LogId {
        LogId {
            key: self,
            incarnation,
        }
    }

    /// What the rows of all logs of the shard begin with.
    fn rows(self, tag: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(40);
        key.push(tag);
        key.extend_from_slice(&self.volume.get().to_be_bytes());
        key.push(self.member);
        key
    }
}

impl LogId {
    fn row(self, tag: u8) -> Vec<u8> {
        let mut key = self.key.rows(tag);
        key.extend_from_slice(&self.incarnation.to_be_bytes());
        key
    }

    fn blob_row(self, tag: u8, blob: BlobId) -> Vec<u8> {
        let mut key = self.row(tag);
        key.extend_from_slice(&blob.to_bytes());
        key
    }

    fn stripe_row(self, tag: u8, blob: BlobId, stripe: u32) -> Vec<u8> {
        let mut key = self.blob_row(tag, blob);
        key.extend_from_slice(&stripe.to_be_bytes());
        key
    }
}

impl RunRow {
    /// How many fragments.
    pub(crate) fn count(&self) -> u32 {
        self.lens.iter().map(|(count, _)| count).sum()
    }

    /// Whether it ends after a stripe, or with it, when it begins at another one.
    fn reaches(&self, start: u32, stripe: u32) -> bool {
        u64::from(start) + u64::from(self.count()) > u64::from(stripe)
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.lens
            .iter()
            .map(|(count, len)| u64::from(*count) * u64::from(*len))
            .sum()
    }

    /// Where a fragment's bytes are, and how many; `index` counts from the first of this run.
    pub(crate) fn fragment(&self, index: u32) -> Option<(u64, u32)> {
        let (mut at, mut left) = (self.payload, index);
        for (count, len) in &self.lens {
            if left < *count {
                return Some((at + u64::from(left) * u64::from(*len), *len));
            }
            at += u64::from(*count) * u64::from(*len);
            left -= count;
        }
        None
    }

    /// The part of it from one fragment on, so many; none when that is nothing.
    fn part(&self, from: u32, count: u32) -> Option<Self> {
        let (payload, _) = self.fragment(from)?;
        let mut lens = Vec::new();
        let (mut pass, mut want) = (from, count);
        for (n, len) in &self.lens {
            let passed = pass.min(*n);
            pass -= passed;
            let taken = (n - passed).min(want);
            want -= taken;
            if taken > 0 {
                lens.push((taken, *len));
            }
        }
        (!lens.is_empty()).then(|| Self {
            payload,
            skip: self.skip + from,
            lens,
            ..self.clone()
        })
    }
}

/// Runs of equal lengths.
pub(crate) fn lens_of(lens: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for len in lens {
        match runs.last_mut() {
            Some((count, last)) if *last == len => *count += 1,
            _ => runs.push((1, len)),
        }
    }
    runs
}

/// What the name of a log's successor ends in.
const SUCCESSOR: &str = ".new";

/// Where the blob and the stripe stand in the key of a row.
const BLOB: std::ops::Range<usize> = 18..34;
const STRIPE: std::ops::Range<usize> = 34..38;

/// The rows of one drive.
pub(crate) struct Rows<'a>(pub(crate) &'a dyn Index);

impl Rows<'_> {
    fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, IndexError> {
        encoding::decode(value).map_err(|error| IndexError(error.to_string()))
    }

    fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, IndexError> {
        self.0
            .get(key)?
            .map(|value| Self::decode(&value))
            .transpose()
    }

    pub(crate) fn shard(&self, log: LogId) -> Result<Option<ShardRow>, IndexError> {
        self.read(&log.row(b's'))
    }

    /// All logs that have rows.
    pub(crate) fn logs(&self) -> Result<Vec<LogId>, IndexError> {
        let rows = self.0.scan(b"s", b"t", usize::MAX)?;
        let key = |key: &[u8]| {
            let (volume, rest) = key.get(1..)?.split_first_chunk::<8>()?;
            let (member, incarnation) = rest.split_first()?;
            let shard = ShardKey {
                volume: VolumeId::new(u64::from_be_bytes(*volume)),
                member: *member,
            };
            Some(shard.log(u64::from_be_bytes(incarnation.try_into().ok()?)))
        };
        let damaged = || IndexError("a shard row has a malformed key".to_owned());
        rows.iter()
            .map(|row| key(&row.0).ok_or_else(damaged))
            .collect()
    }

    pub(crate) fn blob(&self, log: LogId, blob: BlobId) -> Result<Option<BlobRow>, IndexError> {
        self.read(&log.blob_row(b'm', blob))
    }

    /// The blobs of a shard after one, in order.
    pub(crate) fn blobs(
        &self,
        log: LogId,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(BlobId, BlobRow)>, IndexError> {
        let from = match after {
            Some(blob) => [log.blob_row(b'm', blob).as_slice(), &[0]].concat(),
            None => log.row(b'm'),
        };
        let mut blobs = Vec::new();
        for (row, value) in self.0.scan(&from, &after_all(log.row(b'm')), limit)? {
            let id = row.get(BLOB).and_then(|id| id.try_into().ok());
            let id = id.ok_or_else(|| IndexError("a blob row has a malformed key".to_owned()))?;
            blobs.push((BlobId::from_bytes(id), Self::decode(&value)?));
        }
        Ok(blobs)
    }

    /// The runs of a blob that hold any of these stripes, with their first stripe, in order.
    pub(crate) fn runs(
        &self,
        log: LogId,
        blob: BlobId,
        (first, last): Run,
    ) -> Result<Vec<(u32, RunRow)>, IndexError> {
        let lowest = log.stripe_row(b'r', blob, 0);
        let highest = log.stripe_row(b'r', blob, last);
        // Runs are disjoint: where the last one that begins in time begins no later than the first
        // stripe, no other one holds any of them. Mostly there is none at all that holds any.
        let Some((row, value)) = self.0.last(&lowest, &highest)? else {
            return Ok(Vec::new());
        };
        let (start, run): (u32, RunRow) = (stripe_of(&row)?, Self::decode(&value)?);
        if start <= first || !run.reaches(start, first) {
            let holds = run.reaches(start, first);
            return Ok(holds.then_some((start, run)).into_iter().collect());
        }
        let from = log.stripe_row(b'r', blob, first);
        let to = [highest.as_slice(), &[0]].concat();
        let mut rows: Vec<Row> = Vec::new();
        if let Some(row) = self.0.last(&lowest, &from)?.filter(|row| row.0 < from) {
            rows.push(row);
        }
        rows.extend(self.0.scan(&from, &to, usize::MAX)?);
        let mut runs = Vec::with_capacity(rows.len());
        for (row, value) in rows {
            let start = stripe_of(&row)?;
            let run: RunRow = Self::decode(&value)?;
            if run.reaches(start, first) {
                runs.push((start, run));
            }
        }
        Ok(runs)
    }

    /// The runs of a log from a blob and stripe on, in order: those that begin there or later; at
    /// most so many.
    pub(crate) fn runs_from(
        &self,
        log: LogId,
        blob: BlobId,
        stripe: u32,
        limit: usize,
    ) -> Result<Vec<(BlobId, u32, RunRow)>, IndexError> {
        let from = log.stripe_row(b'r', blob, stripe);
        let rows = self.0.scan(&from, &after_all(log.row(b'r')), limit)?;
        let damaged = || IndexError("a row has a malformed key".to_owned());
        let named = |(row, value): &Row| {
            let blob = row.get(BLOB).and_then(|id| id.try_into().ok());
            let blob = BlobId::from_bytes(blob.ok_or_else(damaged)?);
            Ok((blob, stripe_of(row)?, Self::decode(value)?))
        };
        rows.iter().map(named).collect()
    }

    /// The stripes of a blob, among these, that are known to be corrupt.
    pub(crate) fn bad(
        &self,
        log: LogId,
        blob: BlobId,
        (first, last): Run,
    ) -> Result<Vec<u32>, IndexError> {
        let from = log.stripe_row(b'b', blob, first);
        let to = [log.stripe_row(b'b', blob, last).as_slice(), &[0]].concat();
        self.0
            .scan(&from, &to, usize::MAX)?
            .iter()
            .map(|row| stripe_of(&row.0))
            .collect()
    }

    /// All corrupt fragments of a shard, in order; at most so many.
    pub(crate) fn all_bad(
        &self,
        log: LogId,
        limit: usize,
    ) -> Result<Vec<(BlobId, u32)>, IndexError> {
        let from = log.row(b'b');
        let rows = self.0.scan(&from, &after_all(from.clone()), limit)?;
        let damaged = || IndexError("a row has a malformed key".to_owned());
        let blob = |row: &[u8]| row.get(BLOB).and_then(|id| id.try_into().ok());
        rows.iter()
            .map(|(row, _)| {
                let blob = BlobId::from_bytes(blob(row).ok_or_else(damaged)?);
                Ok((blob, stripe_of(row)?))
            })
            .collect()
    }

    /// The drive's clock when it was last kept, in milliseconds.
    pub(crate) fn clock(&self) -> Result<u64, IndexError> {
        Ok(self.read(b"c")?.unwrap_or(0))
    }

    pub(crate) fn put_clock(&self, ms: u64) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.put(b"c".to_vec(), encoding::encode(&ms));
        self.0.write(batch)
    }

    pub(crate) fn put_shard(&self, log: LogId, row: &ShardRow) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        batch.put(log.row(b's'), encoding::encode(row));
        self.0.write(batch)
    }

    /// Forgets one log of a shard.
    pub(crate) fn clear_log(&self, log: LogId) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        for tag in *b"srmb" {
            batch.delete_range(log.row(tag), after_all(log.row(tag)));
        }
        self.0.write(batch)
    }

    /// Forgets a shard, all logs of it.
    pub(crate) fn clear(&self, key: ShardKey) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        for tag in *b"srmbv" {
            batch.delete_range(key.rows(tag), after_all(key.rows(tag)));
        }
        self.0.write(batch)
    }

    /// Takes a synced record of a log into the rows, in one batch with the position after it.
    /// `shard` becomes what it then is. Returns the ranges of the log that are no longer needed.
    pub(crate) fn apply(
        &self,
        shard: &mut ShardRow,
        placed: &Placed<'_>,
        now_ms: u64,
    ) -> Result<Vec<Freed>, IndexError> {
        self.take_in(shard, placed, (now_ms, true))
    }

    /// As [`Rows::apply`], for one of many records that are written together: the caller puts the
    /// log's row when it is the last of them.
    pub(crate) fn apply_one(
        &self,
        shard: &mut ShardRow,
        placed: &Placed<'_>,
        now_ms: u64,
    ) -> Result<Vec<Freed>, IndexError> {
        self.take_in(shard, placed, (now_ms, false))
    }

    fn take_in(
        &self,
        shard: &mut ShardRow,
        placed: &Placed<'_>,
        (now_ms, last): (u64, bool),
    ) -> Result<Vec<Freed>, IndexError> {
        let record = placed.record;
        let key = ShardKey {
            volume: record.volume,
            member: record.member,
        };
        let log = key.log(shard.incarnation);
        let mut row = shard.clone();
        row.position = placed.end();
        row.sequence = record.sequence.saturating_add(1);
        row.epoch = row.epoch.max(record.epoch);
        let mut edit = Edit::new(self, log);
        match &record.body {
            Body::Append {
                blob,
                first_stripe,
                fragments,
                owner,
                marks,
            } => {
                let run = RunRow {
                    record: placed.offset,
                    header_len: u32::try_from(placed.header_len).unwrap_or(u32::MAX),
                    payload: placed.offset + placed.header_len as u64,
                    skip: 0,
                    lens: lens_of(fragments.iter().map(|fragment| fragment.len)),
                };
                row.live += run.bytes();
                edit.insert(*blob, *first_stripe, &run)?;
                edit.note(*blob, owner.as_ref(), now_ms, marks)?;
                edit.mark(marks.iter().filter(|mark| *mark != blob))?;
            }
            Body::Delete { blob, runs } if runs.is_empty() => {
                edit.remove(*blob, &[(0, u32::MAX)])?;
                edit.batch.delete(log.blob_row(b'm', *blob));
            }
            Body::Delete { blob, runs } => edit.remove(*blob, runs)?,
            Body::Bad { blob, runs } => {
                for run in runs {
                    edit.spoil(*blob, *run)?;
                }
            }
            Body::Fence => row.fence = row.fence.max(record.epoch),
            Body::Lost => {
                row.fence = row.fence.max(record.epoch);
                row.damaged += 1;
            }
            Body::Commit { marks } => edit.mark(marks.iter())?,
        }
        if !matches!(record.body, Body::Append { .. }) {
            row.waste += placed.header_len as u64;
        }
        row.waste += u64::from(record.padding);
        let Edit {
            mut batch,
            freed,
            waste,
            ..
        } = edit;
        row.waste += waste;
        let dead: u64 = freed.iter().map(|freed| freed.len).sum();
        row.live = row.live.saturating_sub(dead);
        row.dead += dead;
        if last {
            batch.put(log.row(b's'), encoding::encode(&row));
        }
        self.0.write(batch)?;
        *shard = row;
        Ok(freed)
    }
}

/// A record and where it stands in its log.
pub(crate) struct Placed<'a> {
    pub(crate) record: &'a Record,
    pub(crate) offset: u64,
    pub(crate) header_len: usize,
}

impl Placed<'_> {
    /// The first byte after the record.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.record.span(self.header_len)
    }
}

/// The first key after all that begin with this one.
fn after_all(mut prefix: Vec<u8>) -> Vec<u8> {
    // A tag is a letter, so the carry ends there at the latest.
    while prefix.last() == Some(&0xff) {
        prefix.pop();
    }
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}

fn stripe_of(row: &[u8]) -> Result<u32, IndexError> {
    let stripe = row.get(STRIPE).and_then(|bytes| bytes.try_into().ok());
    let stripe = stripe.ok_or_else(|| IndexError("a row has a malformed key".to_owned()))?;
    Ok(u32::from_be_bytes(stripe))
}

#[cfg(test)]
mod tests;
