//! What a shard holds, by its log alone: every record from the first to the last, in order.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{self, ALIGN, Act, FIRST_RECORD, Fragment, Record, Run, Shard};

/// A shard as its log has it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    shard: Option<Shard>,
    bytes: Vec<u8>,
    /// What is there, by blob and stripe.
    held: BTreeMap<u128, BTreeMap<u32, Fragment>>,
    /// What the log itself calls corrupt.
    bad: BTreeMap<u128, BTreeSet<u32>>,
    /// Places below what later records prove to be synced, in which nothing is valid.
    pub(crate) damaged: usize,
    /// Whether an earlier log is said to be gone.
    pub(crate) lost: bool,
    pub(crate) records: usize,
}

/// How a fragment is on its drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Whole.
    Good,
    /// Not there.
    Missing,
    /// The log says that it is corrupt.
    MarkedBad,
    /// Its bytes are not those of its checksums.
    Rotten,
    /// Longer or shorter than its stripe is.
    WrongLength,
}

impl Log {
    /// Reads a log. What is not a valid record is passed over.
    pub(crate) fn of(bytes: Vec<u8>, drive: u128, shard: Shard) -> Log {
        let mut log = Log {
            shard: Some(shard),
            bytes,
            ..Log::default()
        };
        let incarnation = format::incarnation(&log.bytes, drive, shard);
        let (mut at, mut proven, mut gaps) = (FIRST_RECORD, 0, Vec::new());
        while at < log.bytes.len() {
            match format::record(&log.bytes, at, shard, incarnation) {
                Some(record) => {
                    at = record.end;
                    proven = proven.max(record.synced);
                    log.apply(record);
                }
                None => {
                    gaps.push(at);
                    at = log.next(at, shard, incarnation);
                }
            }
        }
        // Above what is proven, what is not valid was torn while it was written.
        let synced = |at: &&usize| u64::try_from(**at).is_ok_and(|at| at < proven);
        log.damaged = gaps.iter().filter(synced).count();
        // Neither copy of the head is whole.
        log.damaged += usize::from(incarnation.is_none() && !log.bytes.is_empty());
        log
    }

    /// Where the next valid record begins, or the end.
    fn next(&self, at: usize, shard: Shard, incarnation: Option<u64>) -> usize {
        let from = (at + 1).next_multiple_of(ALIGN);
        let mut places = (from..self.bytes.len()).step_by(ALIGN);
        let found = places.find(|at| {
            format::may_begin(&self.bytes, *at)
                && format::record(&self.bytes, *at, shard, incarnation).is_some()
        });
        found.unwrap_or(self.bytes.len())
    }

    pub(super) fn apply(&mut self, record: Record) {
        self.records += 1;
        match record.act {
            Act::Append {
                blob,
                first,
                fragments,
            } => {
                let held = self.held.entry(blob).or_default();
                for (stripe, fragment) in (first..).zip(fragments) {
                    held.insert(stripe, fragment);
                    // What is written again takes the place of what was corrupt.
                    if let Some(bad) = self.bad.get_mut(&blob) {
                        bad.remove(&stripe);
                    }
                }
            }
            Act::Delete { blob, runs } if runs.is_empty() => {
                self.held.remove(&blob);
                self.bad.remove(&blob);
            }
            Act::Delete { blob, runs } => {
                let outside = |stripe: u32| !runs.iter().any(|run| is_in(stripe, *run));
                if let Some(held) = self.held.get_mut(&blob) {
                    held.retain(|stripe, _| outside(*stripe));
                }
                if let Some(bad) = self.bad.get_mut(&blob) {
                    bad.retain(|stripe| outside(*stripe));
                }
            }
            Act::Bad { blob, runs } => {
                // Only what is there can be corrupt.
                let held = self.held.get(&blob).into_iter().flat_map(BTreeMap::keys);
                let named = held.filter(|stripe| runs.iter().any(|run| is_in(**stripe, *run)));
                self.bad.entry(blob).or_default().extend(named);
            }
            Act::Lost => self.lost = true,
            Act::Other => {}
        }
    }

    /// How a fragment is that should have so many bytes.
    pub(crate) fn state(&self, blob: u128, stripe: u32, len: usize) -> State {
        let held = self.held.get(&blob).and_then(|held| held.get(&stripe));
        let (Some(shard), Some(fragment)) = (self.shard, held) else {
            return State::Missing;
        };
        if self.bad.get(&blob).is_some_and(|bad| bad.contains(&stripe)) {
            return State::MarkedBad;
        }
        if !format::is_whole(&self.bytes, shard, blob, stripe, *fragment) {
            return State::Rotten;
        }
        if fragment.len != len {
            return State::WrongLength;
        }
        State::Good
    }

    /// The bytes of a fragment that is there.
    pub(crate) fn bytes(&self, blob: u128, stripe: u32) -> Option<&[u8]> {
        let fragment = self.held.get(&blob)?.get(&stripe)?;
        self.bytes.get(fragment.at..fragment.at + fragment.len)
    }

    /// All that is there: blob, stripe, bytes.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u128, u32, usize)> + '_ {
        self.held.iter().flat_map(|(blob, held)| {
            let each = held.iter();
            each.map(|(stripe, fragment)| (*blob, *stripe, fragment.len))
        })
    }

    /// Where the bytes of a fragment begin in the file.
    #[cfg(test)]
    pub(crate) fn place(&self, blob: u128, stripe: u32) -> Option<usize> {
        Some(self.held.get(&blob)?.get(&stripe)?.at)
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn is_in(stripe: u32, (first, last): Run) -> bool {
    (first..=last).contains(&stripe)
}
