//! One commit group: every log is written in one go, then every log synced, then the index told in
//! one batch a drive, then acked.

mod open_log;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use enfilade_cluster::env::Env;

use self::open_log::{Need, OpenLog, Staged};
use super::commit::{Done, Order, Work};
use super::index::Overlay;
use super::log::{HEAD_LEN, Log, encode_head, write_record};
use super::record::Body;
use super::rows::{ShardKey, ShardRow};
use super::{Engine, EngineError, SHARDS};
use crate::drive::{DriveError, DriveFile, Open};

/// Syncing the file system as a whole also writes what others left dirty on it. When that takes
/// long, logs are synced one by one for a while.
const TOGETHER_MAX: Duration = Duration::from_millis(300);
const APART: Duration = Duration::from_secs(10);

/// What a committer learns from its groups.
#[derive(Default)]
pub(super) struct Pace {
    /// Until then, by the clock, logs are synced one by one.
    apart_until: Duration,
}

/// A group in the making.
#[derive(Default)]
pub(super) struct Group {
    logs: Vec<OpenLog>,
    written: Vec<Written>,
}

/// A record of the group, and the order that it is for.
struct Written {
    log: usize,
    order: Order,
    staged: Staged,
}

impl Group {
    /// Commits the orders and answers each, but for those that it returns: they take no room to
    /// speak of, shared a log with appends for which there was none, and are to be tried without
    /// them (PROTOCOLS 15).
    pub(super) fn run(mut self, orders: Vec<Order>, env: &Env, pace: &mut Pace) -> Vec<Order> {
        let count = orders.len();
        for order in orders {
            self.stage(order);
        }
        for open in &mut self.logs {
            if open.engine.check_alive().is_ok() {
                open.write(&mut self.written);
            }
        }
        let began = env.clock.now();
        let together = self.sync(began >= pace.apart_until);
        let ended = env.clock.now();
        if together && ended.saturating_sub(began) > TOGETHER_MAX {
            pace.apart_until = ended + APART;
        }
        if let Some(engine) = self.logs.first().map(|open| Arc::clone(&open.engine)) {
            let took = ended.saturating_sub(began);
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
        self.finish()
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
        match log.need(order.shard, &mut order.work) {
            Err(error) => order.answer(Err(error)),
            Ok(Need::Nothing(done)) => order.answer(Ok(done)),
            Ok(Need::Record(body, epoch, fresh)) => {
                let staged = log.stage(order.shard, (body, epoch, fresh));
                log.records.push(self.written.len());
                self.written.push(Written {
                    log: open,
                    order,
                    staged,
                });
            }
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
            let id = key.log(log.row.incarnation);
            engine.log_file(id).map_err(|error| engine.fail(&error))?
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
            records: Vec::new(),
            appends: false,
            outcome: Ok(()),
            freed,
        });
        Ok(Some(self.logs.len() - 1))
    }

    /// Syncs every log of the group, and the folders of new ones; whether as a whole.
    fn sync(&self, may_together: bool) -> bool {
        let writes = |open: &&OpenLog| open.outcome.is_ok() && open.log.tail > open.start;
        let dirty = || self.logs.iter().filter(writes);
        for open in dirty() {
            open.file
                .start_write_back(open.start, open.log.tail - open.start);
        }
        if may_together && dirty().nth(1).is_some() && self.sync_together() {
            return true;
        }
        let mut folders: BTreeSet<usize> = BTreeSet::new();
        for open in dirty().filter(|open| open.engine.check_alive().is_ok()) {
            let clock = &open.engine.host().env.clock;
            let began = clock.now();
            let mut synced = open.file.sync();
            open.engine.pulse.note(clock.now().saturating_sub(began));
            let engine = Arc::as_ptr(&open.engine) as usize;
            // One sync of the folder serves all new logs of the drive, if it comes after theirs;
            // it makes names durable, and their content is synced by itself before the ack.
            if synced.is_ok() && !open.log.named && folders.insert(engine) {
                synced = open.engine.drive().sync_folder(SHARDS);
            }
            if let Err(error) = synced {
                open.engine.fail_at("sync of a log", &error);
            }
        }
        false
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
        let clock = &first.engine.host().env.clock;
        let began = clock.now();
        match first.engine.drive().sync_file_system() {
            Ok(done) => {
                let took = clock.now().saturating_sub(began);
                // The file system is that of all; if it could not, each log tells for itself.
                if done {
                    self.logs
                        .iter()
                        .for_each(|open| open.engine.pulse.note(took));
                }
                done
            }
            Err(error) => {
                // It is not told whose writes were lost.
                for open in &self.logs {
                    open.engine.fail_at("sync of the file system", &error);
                }
                true
            }
        }
    }

    /// Tells the index, publishes the logs, answers; returns what is to be tried again.
    fn finish(mut self) -> Vec<Order> {
        self.tell_indexes();
        for open in &mut self.logs {
            if open.outcome.is_ok() && open.engine.check_alive().is_ok() {
                open.log.named = true;
                open.shard.publish(open.log.clone());
            }
        }
        let mut again = Vec::new();
        for Written { log, order, staged } in self.written {
            let open = &self.logs[log];
            let outcome = open
                .engine
                .check_alive()
                .and_then(|()| open.outcome.clone());
            if outcome.is_ok() && matches!(staged.record.body, Body::Bad { .. }) {
                open.engine.faults_found.fetch_add(1, Ordering::AcqRel);
            }
            let append = matches!(order.work, Work::Append { .. });
            if !append && open.appends && outcome == Err(EngineError::Full) {
                again.push(order);
                continue;
            }
            let done = Done {
                epoch: open.log.epoch,
                log_bytes: open.log.tail,
                entered: entered(&order.work),
            };
            order.answer(outcome.map(|()| done));
        }
        for open in self.logs {
            let freed = open.freed;
            open.engine.reclaim(&open.shard, open.file.as_ref(), freed);
        }
        again
    }

    /// Takes what is durable into the indexes, one batch a drive; a drive whose index fails fails.
    fn tell_indexes(&mut self) {
        let mut engines: Vec<Arc<Engine>> = Vec::new();
        for open in &self.logs {
            if !engines.iter().any(|e| Arc::ptr_eq(e, &open.engine)) {
                engines.push(Arc::clone(&open.engine));
            }
        }
        for engine in engines {
            let overlay = Overlay::new(engine.index.as_ref());
            for Written { log, staged, .. } in &self.written {
                let open = &mut self.logs[*log];
                let ours = Arc::ptr_eq(&open.engine, &engine) && open.outcome.is_ok();
                if ours && engine.check_alive().is_ok() {
                    // A failure is the drive's, and seen there.
                    let _ = open.apply(staged, &overlay);
                }
            }
            if engine.check_alive().is_ok() {
                let _ = engine.told(overlay.commit());
            }
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
        error => engine.fail_at("making a log", &error),
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
    engine.keep_file(key.log(incarnation), &file);
    engine.told(engine.rows().put_new(key, engine.clock_ms()))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
