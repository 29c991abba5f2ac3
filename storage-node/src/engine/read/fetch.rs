//! Reading what was planned: few reads, each block compared with its checksum.

use bytes::Bytes;

use super::{Blocks, Fault};
use crate::drive::{DriveError, DriveFile, Hold, Way};
use crate::erasure::checksum::{FragmentSeed, verify_blocks};

/// The most bytes that are read at once.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most bytes that are copied and verified where nobody may wait.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// As above, when nothing is copied.
const QUEUED_BYTES_MAX: usize = 1024 * 1024;
/// Fragments of records of so many bytes are read as directly as can be, as they were written: the
/// page cache would give up others for them.
const PAST_BYTES_MIN: u64 = 64 * 1024;

/// Blocks that are to be read and verified.
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) count: usize,
    pub(super) payload: u64,
    pub(super) first: u32,
    pub(super) seed: FragmentSeed,
    pub(super) checksums: Vec<u32>,
    /// Bytes of fragments in the same record.
    pub(super) record_bytes: u64,
}

impl Planned {
    /// The blocks, when their bytes are what they were.
    fn verify(self, bytes: Bytes) -> Result<Blocks, Fault> {
        let Self {
            count,
            payload,
            first,
            seed,
            checksums,
            ..
        } = self;
        let whole = bytes.len() == count;
        if !whole || verify_blocks(seed, first, &bytes, &checksums).is_err() {
            let stripe = seed.stripe;
            return Err(Fault::Rot { stripe, payload });
        }
        Ok(Blocks {
            first,
            bytes,
            checksums,
        })
    }
}

/// What is to be read of a log for some ranges.
pub(super) struct Fetch {
    /// One a range, with the span that it is part of.
    planned: Vec<Result<(usize, Planned), Fault>>,
    /// What lies end to end is read at once: offsets and lengths.
    spans: Vec<(u64, usize)>,
    way: Way,
}

impl Fetch {
    pub(super) fn new(planned: impl Iterator<Item = Result<Planned, Fault>>) -> Self {
        let mut spans: Vec<(u64, usize)> = Vec::new();
        let mut way = Way::Past;
        let mut enter = |planned: Planned| {
            if planned.record_bytes < PAST_BYTES_MIN {
                way = Way::Kept;
            }
            match spans.last_mut() {
                Some((at, len))
                    if *at + *len as u64 == planned.at
                        && *len + planned.count <= READ_BYTES_MAX =>
                {
                    *len += planned.count;
                }
                _ => spans.push((planned.at, planned.count)),
            }
            (spans.len() - 1, planned)
        };
        let planned = planned.map(|planned| planned.map(&mut enter)).collect();
        Self {
            planned,
            spans,
            way,
        }
    }

    /// Whether a plan was given up because it would have waited.
    pub(super) fn would_wait(&self) -> bool {
        self.planned
            .iter()
            .any(|planned| matches!(planned, Err(Fault::Waits)))
    }

    /// Reads and verifies.
    pub(super) fn read(self, file: &dyn DriveFile) -> Vec<Result<Blocks, Fault>> {
        let read = |(at, len): &(u64, usize)| file.read_bytes(*at, *len);
        let bytes = self.spans.iter().map(read).collect();
        // One place that cannot be read takes nothing of what is read with it.
        self.answer(bytes, |at, len| file.read_bytes(at, len))
    }

    /// As [`Fetch::read`], when all of it is in memory and not much.
    pub(super) fn read_held(
        self,
        file: &dyn DriveFile,
    ) -> Result<Vec<Result<Blocks, Fault>>, Self> {
        // To try would ask the page cache for it.
        if self.way == Way::Past || self.bytes() > HELD_BYTES_MAX {
            return Err(self);
        }
        let read = |(at, len): &(u64, usize)| file.read_held(*at, *len);
        let held: Option<Vec<_>> = self.spans.iter().map(read).collect();
        match held {
            Some(held) => {
                let bytes = held.into_iter().map(|bytes| Ok(Bytes::from(bytes)));
                Ok(self.answer(bytes.collect(), |_, _| Ok(Bytes::new())))
            }
            None => Err(self),
        }
    }

    /// As [`Fetch::read`], where nobody may wait; gives the plan back when that cannot be done, or
    /// did not work.
    pub(super) async fn read_queued(
        self,
        file: &dyn DriveFile,
        hold: &Hold,
    ) -> Result<Vec<Result<Blocks, Fault>>, Self> {
        if self.bytes() > QUEUED_BYTES_MAX {
            return Err(self);
        }
        let begin = |(at, len): &(u64, usize)| file.read_queued(*at, *len, self.way, hold);
        // All of them, before the first is awaited.
        let Some(begun) = self.spans.iter().map(begin).collect::<Option<Vec<_>>>() else {
            return Err(self);
        };
        let mut bytes = Vec::with_capacity(begun.len());
        for queued in begun {
            match queued.await {
                Some(read) => bytes.push(Ok(read)),
                None => return Err(self),
            }
        }
        Ok(self.answer(bytes, |_, _| Ok(Bytes::new())))
    }

    fn bytes(&self) -> usize {
        self.spans.iter().map(|(_, len)| len).sum()
    }

    /// Takes what was read apart; `alone` reads again what a span could not give.
    fn answer(
        self,
        mut bytes: Vec<Result<Bytes, DriveError>>,
        alone: impl Fn(u64, usize) -> Result<Bytes, DriveError>,
    ) -> Vec<Result<Blocks, Fault>> {
        let mut answer = |(span, planned): (usize, Planned)| match &mut bytes[span] {
            Ok(bytes) => {
                let part = bytes.split_to(planned.count.min(bytes.len()));
                planned.verify(part)
            }
            Err(_) => {
                let bytes = alone(planned.at, planned.count)?;
                planned.verify(bytes)
            }
        };
        let planned = self.planned.into_iter();
        planned
            .map(|planned| planned.and_then(&mut answer))
            .collect()
    }
}
