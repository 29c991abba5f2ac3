//! Where the blocks are that a read asks for, by the index and the headers of the log.

use std::sync::atomic::Ordering;

use enfilade_placement::BlobId;

use super::Fault;
use super::fetch::{Fetch, Planned};
use crate::api::read::{FragmentFault, FragmentRange};
use crate::drive::DriveFile;
use crate::engine::Engine;
use crate::engine::index::IndexError;
use crate::engine::log::{read_record, record_by};
use crate::engine::record::{Body, Record, Run};
use crate::engine::rows::{LogId, Rows, RunRow};
use crate::erasure::checksum::{CHECKSUM_BLOCK_BYTES, FragmentSeed};

/// Stripes after the one that is asked for that the index is asked about as well.
const LOOK_AHEAD: u32 = 1023;

/// The record that was read last: consecutive stripes mostly share one.
struct Seen {
    first: u32,
    run: RunRow,
    record: Option<Record>,
}

/// Finds out what is to be read for ranges of the fragments of one blob.
pub(super) struct Reader<'a> {
    engine: &'a Engine,
    rows: Rows<'a>,
    /// Whether any fragment of the shard may be known to be corrupt.
    spoilt: bool,
    /// Whether it may wait for the device.
    waits: bool,
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

impl<'a> Reader<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        file: &'a dyn DriveFile,
        log: LogId,
        blob: BlobId,
    ) -> Self {
        Self {
            engine,
            rows: engine.rows(),
            spoilt: engine
                .shard(log.key, false)
                .is_none_or(|shard| shard.spoilt.load(Ordering::Acquire)),
            waits: true,
            file,
            log,
            blob,
            seen: None,
            known: None,
            last: 0,
        }
    }

    /// One that does not wait, with rows of the same kind.
    pub(super) fn held(self, rows: Rows<'a>) -> Self {
        Self {
            rows,
            waits: false,
            ..self
        }
    }

    pub(super) fn plan_all(mut self, ranges: &[FragmentRange]) -> Fetch {
        self.last = ranges.iter().map(|range| range.stripe).max().unwrap_or(0);
        Fetch::new(ranges.iter().map(|range| self.plan(range)))
    }

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
            record_bytes: record.body.payload_len(),
        })
    }

    /// Asks the index about a stripe, and those after it that are asked for too.
    fn look(&self, stripe: u32) -> Result<Known, IndexError> {
        let rows = &self.rows;
        let last = self.last.min(stripe.saturating_add(LOOK_AHEAD)).max(stripe);
        let stripes = (stripe, last);
        Ok(Known {
            stripes,
            bad: match self.spoilt {
                true => rows.bad(self.log, self.blob, stripes)?,
                false => Vec::new(),
            },
            runs: rows.runs(self.log, self.blob, stripes)?,
        })
    }

    /// Finds the run that holds a stripe, and its header.
    fn find(&mut self, stripe: u32) -> Result<(), Fault> {
        let within = |known: &Known| (known.stripes.0..=known.stripes.1).contains(&stripe);
        let known = match self.known.take().filter(within) {
            Some(known) => known,
            None => self.look(stripe).map_err(|error| {
                if !self.waits {
                    return Fault::Waits;
                }
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
    fn header(&self, offset: u64) -> Result<Option<Record>, Fault> {
        let incarnation = self.log.incarnation;
        let read = match self.waits {
            true => read_record(self.file, offset, incarnation)?,
            false => {
                let held = |len| self.file.read_held(offset, len).ok_or(Fault::Waits);
                record_by(held, offset, incarnation)?
            }
        };
        let here = |record: &Record| {
            record.volume == self.log.key.volume && record.member == self.log.key.member
        };
        Ok(read.ok().map(|(record, _)| record).filter(here))
    }
}
