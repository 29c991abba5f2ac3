//! A log that a commit group writes to: what orders need in it, and the writing.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use enfilade_placement::{BlobId, Epoch};

use super::Written;
use crate::api::append::FragmentHeader;
use crate::drive::{DriveError, DriveFile};
use crate::engine::commit::{Done, Work};
use crate::engine::index::Overlay;
use crate::engine::log::{Log, read_record};
use crate::engine::record::{BLOCK, Body, Record, Run};
use crate::engine::rows::{Freed, LogId, Placed, Rows, ShardKey};
use crate::engine::{Engine, EngineError, Shard};

/// A log that the group writes to.
pub(super) struct OpenLog {
    pub(super) engine: Arc<Engine>,
    pub(super) shard: Arc<Shard>,
    pub(super) file: Arc<dyn DriveFile>,
    /// The log as it will be when the group is durable.
    pub(super) log: Log,
    /// Where the group's records begin.
    pub(super) start: u64,
    /// Which of the group's records are its, in order.
    pub(super) records: Vec<usize>,
    /// Whether any of them is an append.
    pub(super) appends: bool,
    pub(super) outcome: Result<(), EngineError>,
    pub(super) freed: Vec<Freed>,
}

/// What a group is padded with.
const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// A record with its place in the log.
pub(super) struct Staged {
    pub(super) record: Record,
    pub(super) offset: u64,
    pub(super) header: Vec<u8>,
    /// Whether the index has none of its stripes, apart from what the group changes.
    fresh: bool,
}

/// What there is already of the fragments of an append.
#[derive(PartialEq)]
enum Held {
    Nothing,
    /// Some, or rotten ones.
    Parts,
    /// All of them, whole: it is a repeat.
    Whole,
}

/// What an order needs.
pub(super) enum Need {
    /// A record; whether the index has none of its stripes.
    Record(Body, Epoch, bool),
    /// Nothing: it is done.
    Nothing(Done),
}

impl OpenLog {
    /// What an order needs in this log, or why it is refused.
    pub(super) fn need(&self, key: ShardKey, work: &mut Work) -> Result<Need, EngineError> {
        let log = &self.log;
        let (rows, id) = (self.engine.rows(), self.id(key));
        match work {
            Work::Append {
                epoch,
                blob,
                first_stripe,
                fragments,
                owner,
                marks,
                ..
            } => {
                if *epoch < log.epoch {
                    return Err(EngineError::Stale(log.epoch));
                }
                let held = self.held(key, (*blob, *first_stripe), fragments)?;
                if held == Held::Whole {
                    return Ok(Need::Nothing(self.done()));
                }
                let body = Body::Append {
                    blob: *blob,
                    first_stripe: *first_stripe,
                    fragments: std::mem::take(fragments),
                    owner: owner.take(),
                    marks: std::mem::take(marks),
                };
                Ok(Need::Record(body, *epoch, held == Held::Nothing))
            }
            Work::Delete { blob, runs } => {
                let there = self.engine.told(rows.blob(id, *blob))?.is_some();
                match there {
                    true => Ok(Need::Record(
                        Body::Delete {
                            blob: *blob,
                            runs: runs.clone(),
                        },
                        log.epoch,
                        false,
                    )),
                    false => Ok(Need::Nothing(self.done())),
                }
            }
            Work::Bad {
                incarnation,
                blob,
                found,
            } => {
                match *incarnation == id.incarnation {
                    true => self.retain_present(id, *blob, found)?,
                    false => found.clear(),
                }
                if found.is_empty() {
                    return Ok(Need::Nothing(self.done()));
                }
                let runs: Vec<Run> = found.iter().map(|(stripe, _)| (*stripe, *stripe)).collect();
                let body = Body::Bad { blob: *blob, runs };
                Ok(Need::Record(body, log.epoch, false))
            }
            // As it is durable: a fence of this very group may still be lost.
            Work::Fence(epoch) if *epoch <= self.shard.log().row.fence => {
                Ok(Need::Nothing(self.done()))
            }
            Work::Fence(epoch) => Ok(Need::Record(Body::Fence, (*epoch).max(log.epoch), false)),
            Work::Commit { marks } => {
                let marks = marks.clone();
                Ok(Need::Record(Body::Commit { marks }, log.epoch, false))
            }
            Work::Drop | Work::Alone(_) | Work::Barrier => Ok(Need::Nothing(self.done())),
        }
    }

    /// Keeps those of the fragments that are still where they were read.
    fn retain_present(
        &self,
        id: LogId,
        blob: BlobId,
        found: &mut Vec<(u32, u64)>,
    ) -> Result<(), EngineError> {
        let mut there = Vec::new();
        for (stripe, payload) in found.drain(..) {
            let runs = self.engine.rows().runs(id, blob, (stripe, stripe));
            let runs = self.engine.told(runs)?;
            let at = runs
                .first()
                .and_then(|(first, run)| run.fragment(stripe - first));
            if at.is_some_and(|(at, _)| at == payload) {
                there.push((stripe, payload));
            }
        }
        *found = there;
        Ok(())
    }

    fn id(&self, key: ShardKey) -> LogId {
        key.log(self.log.row.incarnation)
    }

    fn done(&self) -> Done {
        Done {
            epoch: self.log.epoch,
            log_bytes: self.log.tail,
            entered: 0,
        }
    }

    /// What is here of fragments already. Other bytes under the same name are refused.
    fn held(
        &self,
        key: ShardKey,
        (blob, first_stripe): (BlobId, u32),
        fragments: &[FragmentHeader],
    ) -> Result<Held, EngineError> {
        let (rows, id) = (self.engine.rows(), self.id(key));
        let count = u32::try_from(fragments.len()).unwrap_or(u32::MAX);
        let last = first_stripe.saturating_add(count.saturating_sub(1));
        let runs = self
            .engine
            .told(rows.runs(id, blob, (first_stripe, last)))?;
        if runs.is_empty() {
            return Ok(Held::Nothing);
        }
        let bad = self.engine.told(rows.bad(id, blob, (first_stripe, last)))?;
        let mut same = 0;
        let file = self.engine.lenient(key, self.file.as_ref());
        for (start, run) in runs {
            let read = read_record(&file, run.record, self.log.row.incarnation);
            // A header that rotted is no reason to refuse: the repeat takes its place.
            let Ok((record, _)) = read.map_err(|error| self.engine.fail(&error))? else {
                continue;
            };
            let Body::Append { fragments: old, .. } = &record.body else {
                continue;
            };
            for index in 0..run.count() {
                let stripe = start + index;
                if !(first_stripe..=last).contains(&stripe) {
                    continue;
                }
                if bad.contains(&stripe) {
                    // Its header may be lost, and nothing be known of what it was.
                    continue;
                }
                let new = &fragments[(stripe - first_stripe) as usize];
                if old.get((run.skip + index) as usize) != Some(new) {
                    return Err(EngineError::Invalid(format!(
                        "stripe {stripe} of blob {blob} is here with other bytes"
                    )));
                }
                same += 1;
            }
        }
        Ok(match same == fragments.len() {
            true => Held::Whole,
            false => Held::Parts,
        })
    }

    /// Gives a record its place in the log.
    pub(super) fn stage(
        &mut self,
        key: ShardKey,
        (body, epoch, fresh): (Body, Epoch, bool),
    ) -> Staged {
        let record = Record {
            sequence: self.log.sequence,
            synced: self.start,
            volume: key.volume,
            member: key.member,
            epoch,
            padding: 0,
            body,
        };
        self.appends |= matches!(record.body, Body::Append { .. });
        let offset = self.log.tail;
        let header = record.encode(self.log.row.incarnation, offset);
        self.log.tail = offset + record.span(header.len());
        self.log.sequence += 1;
        self.log.epoch = self.log.epoch.max(epoch);
        if matches!(record.body, Body::Fence) {
            self.log.row.fence = self.log.row.fence.max(epoch);
        }
        Staged {
            record,
            offset,
            header,
            fresh,
        }
    }

    /// Writes the group's records of this log, the last one padded to a block, in one go: all of
    /// them fail together.
    pub(super) fn write(&mut self, written: &mut [Written]) {
        let Some(last) = self.records.last().and_then(|last| written.get_mut(*last)) else {
            return;
        };
        let Staged {
            record,
            offset,
            header,
            ..
        } = &mut last.staged;
        record.pad(header, self.log.row.incarnation, *offset);
        let padding = record.padding as usize;
        self.log.tail = *offset + record.span(header.len());
        let mut slices = Vec::new();
        for record in self.records.iter().filter_map(|at| written.get(*at)) {
            slices.push(IoSlice::new(&record.staged.header));
            if let Work::Append { payload, .. } = &record.order.work {
                slices.extend(payload.iter().map(|bytes| IoSlice::new(bytes)));
            }
        }
        slices.push(IoSlice::new(&ZEROS[..padding]));
        self.outcome = match self.file.write_at(self.start, &slices) {
            Ok(()) => Ok(()),
            Err(DriveError::NoSpace) => Err(self.undo()),
            Err(error) => Err(self.engine.fail_at("write to a log", &error)),
        };
    }

    /// There was no room: takes back what the group wrote to this log, none of which is acked.
    fn undo(&mut self) -> EngineError {
        // Synced, so that it does not come back after a crash.
        let cut = self
            .file
            .set_len(self.start)
            .and_then(|()| self.file.sync());
        match cut {
            Ok(()) => EngineError::Full,
            Err(error) => self.engine.fail(&error),
        }
    }

    /// Takes a durable record into the index.
    pub(super) fn apply(
        &mut self,
        staged: &Staged,
        index: &Overlay<'_>,
    ) -> Result<(), EngineError> {
        if matches!(staged.record.body, Body::Bad { .. }) {
            self.shard.spoilt.store(true, Ordering::Release);
        }
        index.set_fresh(staged.fresh);
        let placed = Placed {
            record: &staged.record,
            offset: staged.offset,
            header_len: staged.header.len(),
        };
        let rows = Rows(index);
        let applied = rows.apply(&mut self.log.row, &placed, self.engine.clock_ms());
        self.freed.extend(self.engine.told(applied)?);
        self.log.proven = self.log.proven.max(staged.record.synced);
        Ok(())
    }
}
