//! One commit group: everything is written, then every log synced, then the index told, then acked.

use std::collections::BTreeSet;
use std::sync::Arc;

use enfilade_cluster::env::Env;
use enfilade_placement::{BlobId, Epoch};

use super::commit::{Done, Order, Work};
use super::log::{HEAD_LEN, Log, encode_head, read_record, write_record};
use super::record::{Body, Record, Run};
use super::rows::{Freed, Placed, ShardKey, ShardRow};
use super::{Engine, EngineError, SHARDS, Shard};
use crate::api::append::FragmentHeader;
use crate::drive::{DriveError, DriveFile, Open};

/// A group in the making.
#[derive(Default)]
pub(super) struct Group {
    logs: Vec<OpenLog>,
    written: Vec<Written>,
}

/// A log that the group writes to.
struct OpenLog {
    engine: Arc<Engine>,
    shard: Arc<Shard>,
    file: Arc<dyn DriveFile>,
    /// The log as it will be when the group is durable.
    log: Log,
    /// Where the group's records begin.
    start: u64,
    outcome: Result<(), EngineError>,
    freed: Vec<Freed>,
}

/// A record that is written and not yet durable.
struct Written {
    log: usize,
    order: Order,
    record: Record,
    offset: u64,
    header_len: usize,
}

/// What an order needs.
enum Need {
    /// A record.
    Record(Body, Epoch),
    /// Nothing: it is done.
    Nothing(Done),
}

impl Group {
    /// Commits the orders and answers each.
    pub(super) fn run(mut self, orders: Vec<Order>, env: &Env) {
        let count = orders.len();
        for order in orders {
            self.stage(order);
        }
        let began = env.clock.now();
        self.sync();
        if let Some(engine) = self.logs.first().map(|open| Arc::clone(&open.engine)) {
            let took = env.clock.now().saturating_sub(began);
            engine
                .host()
                .metrics
                .sync_seconds
                .observe(took.as_secs_f64());
            #[expect(
                clippy::cast_precision_loss,
                reason = "a group has at most 1,024 orders"
            )]
            engine.host().metrics.group_records.observe(count as f64);
        }
        self.finish();
    }

    fn stage(&mut self, mut order: Order) {
        if let Err(error) = order.engine.check_alive() {
            return order.answer(Err(error));
        }
        let creates = matches!(order.work, Work::Append { .. } | Work::Fence(_));
        let open = match self.open(&order.engine, order.shard, creates) {
            Ok(Some(open)) => open,
            Ok(None) => return order.answer(Ok(Done::default())),
            Err(error) => return order.answer(Err(error)),
        };
        let log = &mut self.logs[open];
        if let Err(error) = &log.outcome {
            let error = error.clone();
            return order.answer(Err(error));
        }
        match log.need(order.shard, &mut order.work) {
            Err(error) => order.answer(Err(error)),
            Ok(Need::Nothing(done)) => order.answer(Ok(done)),
            Ok(Need::Record(body, epoch)) => match log.write(order.shard, body, epoch, &order.work)
            {
                Ok((record, offset, header_len)) => {
                    self.written.push(Written {
                        log: open,
                        order,
                        record,
                        offset,
                        header_len,
                    });
                }
                Err(error) => order.answer(Err(error)),
            },
        }
    }

    /// The log of a shard in this group; none when there is no log and none is to be created.
    fn open(
        &mut self,
        engine: &Arc<Engine>,
        key: ShardKey,
        creates: bool,
    ) -> Result<Option<usize>, EngineError> {
        let Some(shard) = engine.shard(key, creates) else {
            return Ok(None);
        };
        if let Some(index) = self
            .logs
            .iter()
            .position(|open| Arc::ptr_eq(&open.shard, &shard))
        {
            return Ok(Some(index));
        }
        let mut log = shard.log();
        let file = if log.exists {
            engine.log_file(key).map_err(|error| engine.fail(&error))?
        } else if creates {
            create(engine, key, &mut log)?
        } else {
            return Ok(None);
        };
        let start = log.tail;
        let engine = Arc::clone(engine);
        let freed = Vec::new();
        self.logs.push(OpenLog {
            engine,
            shard,
            file,
            log,
            start,
            outcome: Ok(()),
            freed,
        });
        Ok(Some(self.logs.len() - 1))
    }

    /// Syncs every log of the group, and the folders of new ones.
    fn sync(&self) {
        let writes = |open: &&OpenLog| open.outcome.is_ok() && open.log.tail > open.start;
        let dirty = || self.logs.iter().filter(writes);
        for open in dirty() {
            open.file
                .start_write_back(open.start, open.log.tail - open.start);
        }
        if dirty().nth(1).is_some() && self.sync_together() {
            return;
        }
        let mut folders: BTreeSet<usize> = BTreeSet::new();
        for open in dirty().filter(|open| open.engine.check_alive().is_ok()) {
            let mut synced = open.file.sync();
            let engine = Arc::as_ptr(&open.engine) as usize;
            // One sync of the folder serves all new logs of the drive, if it comes after theirs;
            // it makes names durable, and their content is synced by itself before the ack.
            if synced.is_ok() && !open.log.named && folders.insert(engine) {
                synced = open.engine.drive().sync_folder(SHARDS);
            }
            if let Err(error) = synced {
                open.engine.fail(&error);
            }
        }
    }

    /// Syncs the file system that all logs of a committer are on, where that can be done; whether
    /// it was, or failed. On ext4 six logs that grew take one flush of the device then instead of
    /// six: 4 to 12 ms instead of 27.
    fn sync_together(&self) -> bool {
        let mut alive = self
            .logs
            .iter()
            .filter(|open| open.engine.check_alive().is_ok());
        let Some(first) = alive.next() else {
            return true;
        };
        match first.engine.drive().sync_file_system() {
            Ok(done) => done,
            Err(error) => {
                // It is not told whose writes were lost.
                for open in &self.logs {
                    open.engine.fail(&error);
                }
                true
            }
        }
    }

    /// Tells the index, publishes the logs, answers.
    fn finish(mut self) {
        let mut answers = Vec::with_capacity(self.written.len());
        for written in self.written {
            let open = &mut self.logs[written.log];
            let outcome = match (&open.outcome, open.engine.check_alive()) {
                (Err(error), _) => Err(error.clone()),
                (Ok(()), Err(error)) => Err(error),
                (Ok(()), Ok(())) => open.apply(&written),
            };
            answers.push((written.log, written.order, outcome));
        }
        for open in &mut self.logs {
            if open.outcome.is_ok() && open.engine.check_alive().is_ok() {
                open.log.named = true;
                open.shard.publish(open.log.clone());
            }
        }
        for (log, order, outcome) in answers {
            let open = &self.logs[log];
            let done = |()| Done {
                epoch: open.log.epoch,
                log_bytes: open.log.tail,
                entered: entered(&order.work),
            };
            let outcome = outcome.map(done);
            order.answer(outcome);
        }
        for open in self.logs {
            let freed = open.freed;
            open.engine.reclaim(&open.shard, open.file.as_ref(), freed);
        }
    }
}

fn entered(work: &Work) -> usize {
    match work {
        Work::Bad { found, .. } => found.len(),
        _ => 0,
    }
}

/// Makes the file of a new log, with its head; not yet durable.
fn create(
    engine: &Engine,
    key: ShardKey,
    log: &mut Log,
) -> Result<Arc<dyn DriveFile>, EngineError> {
    let incarnation = engine.host().env.random.next_u64();
    let make = || {
        let name = key.file();
        // Left by a creation that failed in this process, and held nothing.
        match engine.drive().remove(&name) {
            Ok(()) | Err(DriveError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let file = engine.drive().open(&name, Open::New)?;
        write_record(
            file.as_ref(),
            0,
            &encode_head(incarnation, engine.id(), key),
            &[],
        )?;
        Ok(file)
    };
    let file = make().map_err(|error| match error {
        DriveError::NoSpace => EngineError::Full,
        error => engine.fail(&error),
    })?;
    *log = Log {
        row: ShardRow {
            incarnation,
            position: HEAD_LEN,
            ..ShardRow::default()
        },
        tail: HEAD_LEN,
        exists: true,
        ..Log::default()
    };
    engine.keep_file(key, &file);
    Ok(file)
}

impl OpenLog {
    /// What an order needs in this log, or why it is refused.
    fn need(&self, key: ShardKey, work: &mut Work) -> Result<Need, EngineError> {
        let log = &self.log;
        let rows = self.engine.rows();
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
                if self.holds(key, (*blob, *first_stripe), fragments)? {
                    return Ok(Need::Nothing(self.done()));
                }
                let body = Body::Append {
                    blob: *blob,
                    first_stripe: *first_stripe,
                    fragments: std::mem::take(fragments),
                    owner: owner.take(),
                    marks: std::mem::take(marks),
                };
                Ok(Need::Record(body, *epoch))
            }
            Work::Delete { blob, runs } => {
                let there = self.engine.told(rows.blob(key, *blob))?.is_some();
                match there {
                    true => Ok(Need::Record(
                        Body::Delete {
                            blob: *blob,
                            runs: runs.clone(),
                        },
                        log.epoch,
                    )),
                    false => Ok(Need::Nothing(self.done())),
                }
            }
            Work::Bad { blob, found } => {
                let mut there = Vec::new();
                for (stripe, payload) in found.iter() {
                    let runs = self
                        .engine
                        .told(rows.runs(key, *blob, (*stripe, *stripe)))?;
                    let at = runs
                        .first()
                        .and_then(|(first, run)| run.fragment(stripe - first));
                    if at.is_some_and(|(at, _)| at == *payload) {
                        there.push((*stripe, *payload));
                    }
                }
                *found = there;
                if found.is_empty() {
                    return Ok(Need::Nothing(self.done()));
                }
                let runs: Vec<Run> = found.iter().map(|(stripe, _)| (*stripe, *stripe)).collect();
                Ok(Need::Record(Body::Bad { blob: *blob, runs }, log.epoch))
            }
            Work::Fence(epoch) if *epoch <= log.row.fence => Ok(Need::Nothing(self.done())),
            Work::Fence(epoch) => Ok(Need::Record(Body::Fence, (*epoch).max(log.epoch))),
            Work::Commit { marks } => Ok(Need::Record(
                Body::Commit {
                    marks: std::mem::take(marks),
                },
                log.epoch,
            )),
            Work::Drop | Work::Barrier => Ok(Need::Nothing(self.done())),
        }
    }

    fn done(&self) -> Done {
        Done {
            epoch: self.log.epoch,
            log_bytes: self.log.tail,
            entered: 0,
        }
    }

    /// Whether the same fragments are here and whole already: a repeat. Other bytes under the same
    /// name are refused.
    fn holds(
        &self,
        key: ShardKey,
        (blob, first_stripe): (BlobId, u32),
        fragments: &[FragmentHeader],
    ) -> Result<bool, EngineError> {
        let rows = self.engine.rows();
        let count = u32::try_from(fragments.len()).unwrap_or(u32::MAX);
        let last = first_stripe.saturating_add(count.saturating_sub(1));
        let runs = self
            .engine
            .told(rows.runs(key, blob, (first_stripe, last)))?;
        if runs.is_empty() {
            return Ok(false);
        }
        let bad = self
            .engine
            .told(rows.bad(key, blob, (first_stripe, last)))?;
        let mut same = 0;
        for (start, run) in runs {
            let read = read_record(self.file.as_ref(), run.record, self.log.row.incarnation);
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
                let new = &fragments[(stripe - first_stripe) as usize];
                if old.get((run.skip + index) as usize) != Some(new) {
                    return Err(EngineError::Invalid(format!(
                        "stripe {stripe} of blob {blob} is here with other bytes"
                    )));
                }
                same += usize::from(!bad.contains(&stripe));
            }
        }
        Ok(same == fragments.len())
    }

    fn write(
        &mut self,
        key: ShardKey,
        body: Body,
        epoch: Epoch,
        work: &Work,
    ) -> Result<(Record, u64, usize), EngineError> {
        let record = Record {
            sequence: self.log.sequence,
            synced: self.start,
            volume: key.volume,
            member: key.member,
            epoch,
            body,
        };
        let offset = self.log.tail;
        let header = record.encode(self.log.row.incarnation, offset);
        let payload = match work {
            Work::Append { payload, .. } => payload.as_slice(),
            _ => &[],
        };
        match write_record(self.file.as_ref(), offset, &header, payload) {
            Ok(()) => {}
            Err(DriveError::NoSpace) => return Err(self.undo()),
            Err(error) => return Err(self.engine.fail(&error)),
        }
        self.log.tail = offset + header.len() as u64 + record.body.payload_len();
        self.log.sequence += 1;
        self.log.epoch = self.log.epoch.max(epoch);
        if matches!(record.body, Body::Fence) {
            self.log.row.fence = self.log.row.fence.max(epoch);
        }
        Ok((record, offset, header.len()))
    }

    /// There was no room: takes back what the group wrote to this log, none of which is acked.
    fn undo(&mut self) -> EngineError {
        // Synced, so that it does not come back after a crash.
        let cut = self
            .file
            .set_len(self.start)
            .and_then(|()| self.file.sync());
        let error = match cut {
            Ok(()) => EngineError::Full,
            Err(error) => self.engine.fail(&error),
        };
        self.outcome = Err(error.clone());
        error
    }

    /// Takes a durable record into the index.
    fn apply(&mut self, written: &Written) -> Result<(), EngineError> {
        let placed = Placed {
            record: &written.record,
            offset: written.offset,
            header_len: written.header_len,
        };
        let rows = self.engine.rows();
        let applied = rows.apply(&mut self.log.row, &placed, self.engine.clock_ms());
        self.freed.extend(self.engine.told(applied)?);
        self.log.proven = self.log.proven.max(written.record.synced);
        Ok(())
    }
}
