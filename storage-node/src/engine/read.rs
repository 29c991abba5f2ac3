//! Reading fragments, each block compared with its checksum before it leaves (P5).

mod fetch;

use std::sync::Arc;

use bytes::Bytes;
use enfilade_placement::BlobId;

use self::fetch::{Planned, fetch};
use super::commit::Work;
use super::log::read_record;
use super::record::{Body, Record, Run};
use super::rows::{LogId, RunRow, ShardKey};
use super::{Engine, EngineError};
use crate::api::read::{FragmentFault, FragmentRange};
use crate::drive::{DriveError, DriveFile};
use crate::erasure::checksum::{CHECKSUM_BLOCK_BYTES, FragmentSeed};
use crate::sync;

/// The blocks of a fragment that hold a range, verified, with what it takes to verify them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Number of the first block within the fragment.
    pub first: u32,
    /// The bytes of the blocks.
    pub bytes: Bytes,
    /// One CRC32C a block.
    pub checksums: Vec<u32>,
}

impl Blocks {
    /// The bytes of the range that was asked for.
    pub fn cut(self, range: &FragmentRange) -> Option<Bytes> {
        let skipped = u64::from(self.first) * CHECKSUM_BLOCK_BYTES as u64;
        let start = usize::try_from(u64::from(range.offset).checked_sub(skipped)?).ok()?;
        let end = start.checked_add(range.len as usize)?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

/// A fault of one range, and where the bytes were that it was found in.
enum Fault {
    Plain(FragmentFault),
    /// Found now, and not in the log yet.
    Rot {
        stripe: u32,
        payload: u64,
    },
}

/// The log that was read, if there is one, and what came of each range.
type Read = (Option<LogId>, Vec<Result<Blocks, Fault>>);

impl From<FragmentFault> for Fault {
    fn from(fault: FragmentFault) -> Self {
        Self::Plain(fault)
    }
}

impl From<DriveError> for Fault {
    fn from(error: DriveError) -> Self {
        Self::Plain(FragmentFault::Drive(error.to_string()))
    }
}

/// Stripes after the one that is asked for that the index is asked about as well.
const LOOK_AHEAD: u32 = 1023;

/// The record that was read last: consecutive stripes mostly share one.
struct Seen {
    first: u32,
    run: RunRow,
    record: Option<Record>,
}

impl Engine {
    /// Reads ranges of fragments of a blob; one answer each.
    ///
    /// What is found corrupt is entered in the log, durably, before it is told (PROTOCOLS 22).
    pub async fn read(
        self: &Arc<Self>,
        key: ShardKey,
        blob: BlobId,
        ranges: Vec<FragmentRange>,
    ) -> Vec<Result<Blocks, FragmentFault>> {
        let ranges: Arc<[FragmentRange]> = ranges.into();
        loop {
            let (log, answers) = match self.attempt(key, blob, &ranges).await {
                Ok(read) => read,
                Err(fault) => return ranges.iter().map(|_| Err(fault.clone())).collect(),
            };
            let unread = |answer: &&Result<Blocks, Fault>| {
                matches!(answer, Err(Fault::Plain(FragmentFault::Drive(_))))
            };
            if answers.iter().any(|answer| unread(&answer)) {
                self.pulse.read_failed();
            }
            let rotten: Vec<(u32, u64)> = answers.iter().filter_map(rot).collect();
            let entered = match log {
                Some(log) if !rotten.is_empty() => self.enter_rot(log, blob, rotten).await,
                _ => Ok(0),
            };
            // What a log lacks that was compacted away meanwhile is in the one after it.
            if answers.iter().any(Result::is_err) && self.log_id(key) != log {
                continue;
            }
            return self.told_readers(answers, &entered);
        }
    }

    /// Reads once, from the log that the shard has then.
    async fn attempt(
        self: &Arc<Self>,
        key: ShardKey,
        blob: BlobId,
        ranges: &Arc<[FragmentRange]>,
    ) -> Result<Read, FragmentFault> {
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let (engine, ranges) = (Arc::clone(self), Arc::clone(ranges));
        let read = sync::blocking(move || {
            let _permit = permit;
            let clock = &engine.host.env.clock;
            let began = clock.now();
            let answers = engine.read_now(key, blob, &ranges);
            engine.pulse.note(clock.now().saturating_sub(began));
            answers
        });
        let stopped = || FragmentFault::Drive("the reader stopped".to_owned());
        read.await.ok_or_else(stopped)
    }

    fn told_readers(
        &self,
        answers: Vec<Result<Blocks, Fault>>,
        entered: &Result<usize, EngineError>,
    ) -> Vec<Result<Blocks, FragmentFault>> {
        let tell = |fault| match (fault, entered) {
            (Fault::Plain(fault), _) => fault,
            (Fault::Rot { .. }, Ok(0)) => FragmentFault::Missing,
            (Fault::Rot { .. }, Ok(_)) => FragmentFault::Corrupt,
            (Fault::Rot { .. }, Err(error)) => FragmentFault::Drive(error.to_string()),
        };
        let metrics = &self.host.metrics;
        for blocks in answers.iter().filter_map(|answer| answer.as_ref().ok()) {
            metrics.read.inc();
            metrics.read_bytes.inc_by(blocks.bytes.len() as u64);
        }
        answers
            .into_iter()
            .map(|answer| answer.map_err(tell))
            .collect()
    }

    /// Enters fragments of a log as corrupt; how many of them are still there.
    pub(super) async fn enter_rot(
        self: &Arc<Self>,
        log: LogId,
        blob: BlobId,
        mut found: Vec<(u32, u64)>,
    ) -> Result<usize, EngineError> {
        found.sort_unstable();
        found.dedup();
        let (key, fragments) = (log.key, found.len());
        tracing::warn!(drive = %self.id, ?key, %blob, fragments, "corrupt fragments");
        let work = Work::Bad {
            incarnation: log.incarnation,
            blob,
            found,
        };
        let done = self.order(key, work).await?;
        self.host.metrics.corrupt.inc_by(done.entered as u64);
        Ok(done.entered)
    }

    /// Where the first byte of a fragment is stored: the file, and the offset in it.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn locate(&self, key: ShardKey, blob: BlobId, stripe: u32) -> Option<(String, u64)> {
        let runs = self
            .rows()
            .runs(self.log_id(key)?, blob, (stripe, stripe))
            .ok()?;
        let (first, run) = runs.first()?;
        let (offset, _) = run.fragment(stripe - first)?;
        Some((key.file(), offset))
    }

    fn read_now(&self, key: ShardKey, blob: BlobId, ranges: &[FragmentRange]) -> Read {
        let Some(log) = self.log_id(key) else {
            let missing = |_| Err(FragmentFault::Missing.into());
            return (None, ranges.iter().map(missing).collect());
        };
        let file = match self.log_file(log) {
            Ok(file) => file,
            Err(error) => {
                let failed = |_| Err(error.clone().into());
                return (Some(log), ranges.iter().map(failed).collect());
            }
        };
        let mut reader = Reader {
            engine: self,
            file: file.as_ref(),
            log,
            blob,
            seen: None,
            known: None,
            last: ranges.iter().map(|range| range.stripe).max().unwrap_or(0),
        };
        let planned = ranges.iter().map(|range| reader.plan(range)).collect();
        (Some(log), fetch(file.as_ref(), planned))
    }
}

fn rot(answer: &Result<Blocks, Fault>) -> Option<(u32, u64)> {
    match answer {
        Err(Fault::Rot { stripe, payload }) => Some((*stripe, *payload)),
        _ => None,
    }
}

struct Reader<'a> {
    engine: &'a Engine,
    file: &'a dyn DriveFile,
    log: LogId,
    blob: BlobId,
    seen: Option<Seen>,
    known: Option<Known>,
    /// The last stripe that is asked for.
    last: u32,
}

/// What the index says of some stripes.
struct Known {
    stripes: Run,
    bad: Vec<u32>,
    runs: Vec<(u32, RunRow)>,
}

impl Reader<'_> {
    fn plan(&mut self, range: &FragmentRange) -> Result<Planned, Fault> {
        let stripe = range.stripe;
        self.find(stripe)?;
        let Some(seen) = &self.seen else {
            return Err(FragmentFault::Missing.into());
        };
        let index = stripe - seen.first;
        let (payload, len) = seen.run.fragment(index).ok_or(FragmentFault::Missing)?;
        let end = range
            .offset
            .checked_add(range.len)
            .filter(|end| *end <= len);
        let end = end.ok_or(FragmentFault::Missing)?;
        let rot = || Fault::Rot { stripe, payload };
        // A header that does not prove itself says nothing about its fragments.
        let Some(record) = &seen.record else {
            return Err(rot());
        };
        let Body::Append {
            blob,
            first_stripe,
            fragments,
            ..
        } = &record.body
        else {
            return Err(rot());
        };
        let place = seen.run.skip as usize + index as usize;
        let fragment = fragments.get(place).filter(|fragment| fragment.len == len);
        let named = u64::from(*first_stripe) + place as u64 == u64::from(stripe);
        let Some(fragment) = fragment.filter(|_| *blob == self.blob && named) else {
            return Err(rot());
        };

        let block = u32::try_from(CHECKSUM_BLOCK_BYTES).expect("4096");
        let (first, last) = (range.offset / block, end.div_ceil(block));
        let from = u64::from(first) * u64::from(block);
        let to = (u64::from(last) * u64::from(block)).min(u64::from(len));
        let count = usize::try_from(to.saturating_sub(from)).expect("a fragment fits in memory");
        let sums = fragment
            .checksums
            .get(first as usize..last.max(first) as usize);
        let Some(sums) = sums else { return Err(rot()) };
        let seed = FragmentSeed {
            volume: self.log.key.volume.get(),
            blob: self.blob.get(),
            stripe,
            index: self.log.key.member,
        };
        Ok(Planned {
            at: payload + from,
            count,
            payload,
            first,
            seed,
            checksums: sums.to_vec(),
        })
    }

    /// Asks the index about a stripe, and those after it that are asked for too.
    fn look(&self, stripe: u32) -> Result<Known, super::IndexError> {
        let rows = self.engine.rows();
        let last = self.last.min(stripe.saturating_add(LOOK_AHEAD)).max(stripe);
        let stripes = (stripe, last);
        Ok(Known {
            stripes,
            bad: rows.bad(self.log, self.blob, stripes)?,
            runs: rows.runs(self.log, self.blob, stripes)?,
        })
    }

    /// Finds the run that holds a stripe, and its header.
    fn find(&mut self, stripe: u32) -> Result<(), Fault> {
        let within = |known: &Known| (known.stripes.0..=known.stripes.1).contains(&stripe);
        let known = match self.known.take().filter(within) {
            Some(known) => known,
            None => self.look(stripe).map_err(|error| {
                let error = self.engine.fail_with(error.to_string());
                Fault::Plain(FragmentFault::Drive(error.to_string()))
            })?,
        };
        let known = self.known.insert(known);
        if known.bad.contains(&stripe) {
            return Err(FragmentFault::Corrupt.into());
        }
        let holds = |first: u32, run: &RunRow| {
            let index = stripe.checked_sub(first);
            index.is_some_and(|index| index < run.count())
        };
        if (self.seen.as_ref()).is_some_and(|seen| holds(seen.first, &seen.run)) {
            return Ok(());
        }
        self.seen = None;
        let run = known.runs.iter().find(|(first, run)| holds(*first, run));
        let Some((first, run)) = run.cloned() else {
            return Ok(());
        };
        let record = self.header(run.record)?;
        self.seen = Some(Seen { first, run, record });
        Ok(())
    }

    /// The header at an offset, when it proves itself. It is read each time, mostly from the page
    /// cache: whoever held it in memory would not see it rot, and act on it as nobody else does.
    fn header(&self, offset: u64) -> Result<Option<Record>, DriveError> {
        let read = read_record(self.file, offset, self.log.incarnation)?;
        let here = |record: &Record| {
            record.volume == self.log.key.volume && record.member == self.log.key.member
        };
        Ok(read.ok().map(|(record, _)| record).filter(here))
    }
}
