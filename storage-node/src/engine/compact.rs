//! Compaction: writing a shard's log anew, without what is dead in it (PROTOCOLS 24).
//!
//! A successor is written beside the log, with an incarnation and rows of its own: first what the
//! index says is live below some point, each fragment compared with its checksums; then what came
//! into the log from that point on, in order. Appends, reads and deletes go on meanwhile. When
//! little is left, the committer's thread takes that over, syncs, and renames the successor over
//! the log. Before the rename the successor is nothing, after it the log is nothing, and which rows
//! count follows from the file that is there: no crash leaves a mixture. Readers of the old file
//! read on; what they miss then they look up again.
//!
//! What goes: dead fragments, and the records that killed them, because no older copy stays. What
//! stays: fence and epoch, who owns a blob, whether it is committed and when it came
//! (PROTOCOLS 19), and what is known to be corrupt.

mod choose;
mod copy;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use enfilade_placement::BlobId;

use self::copy::Successor;
use super::commit::{Alone, Work};
use super::log::{Log, LogError, Scan, Stretch};
use super::pace::Throttle;
use super::record::{BLOCK, Body};
use super::rows::{LogId, ShardKey};
use super::{Engine, EngineError, SHARDS, Shard, lock};
use crate::api::Cause;
use crate::drive::{DriveError, DriveFile};

/// Bytes that one step copies, about.
const STEP_BYTES: u64 = 1024 * 1024;
/// The successor is synced after so many bytes, so that the last sync is short.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of the log that may be left for the committer's thread, and how often it is tried to get
/// there before a log that grows as fast as it is copied is taken over all the same.
const SWITCH_BYTES: u64 = 1024 * 1024;
const SWITCH_TRIES: u32 = 16;
/// Runs of the index that are looked at together.
const PAGE: usize = 8;

/// Why a log was not compacted. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// The drive failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The log cannot be read now: to be tried again later.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// Synced records cannot be read, so that what the log holds is not known: the shard is
    /// repaired as a whole.
    #[error("the log is damaged")]
    Damaged,
    /// There is less room than what is live takes.
    #[error("not enough room for {0} bytes")]
    NoRoom(u64),
    /// The shard was dropped meanwhile, or there is none.
    #[error("the shard is gone")]
    Gone,
    /// Somebody else compacts it now.
    #[error("the log is being compacted")]
    Busy,
}

/// The right to write the successor of a log, of which there is one, while this lives.
struct Turn {
    engine: Arc<Engine>,
    key: ShardKey,
}

impl Turn {
    fn take(engine: &Arc<Engine>, key: ShardKey) -> Result<Self, CompactError> {
        match lock(&engine.compacting).insert(key) {
            true => Ok(Self {
                engine: Arc::clone(engine),
                key,
            }),
            false => Err(CompactError::Busy),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.engine.compacting).remove(&self.key);
    }
}

/// What compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Bytes that the log took before, and takes now.
    pub before: u64,
    /// As above.
    pub after: u64,
}

/// Corrupt fragments that were come across: where they were read.
type Rot = Vec<(BlobId, Vec<(u32, u64)>)>;

/// What came of a step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Bytes that were copied.
    pub(crate) bytes: u64,
    /// To be entered in the log before the switch.
    pub(crate) rot: Rot,
    /// Whether all that was live at first is copied.
    pub(crate) copied: bool,
    /// Whether little enough is left for the switch.
    pub(crate) ready: bool,
}

/// A compaction under way. Dropped before the switch, it leaves a file that the next one, or the
/// next opening, removes.
pub(crate) struct Compaction {
    engine: Arc<Engine>,
    shard: Arc<Shard>,
    old: LogId,
    source: Arc<dyn DriveFile>,
    next: Successor,
    /// Where in the index the copying is; none when it is done.
    cursor: Option<(BlobId, u32)>,
    /// Runs of records from here on are not taken from the index, but from the log.
    start: u64,
    /// The log is copied below this.
    caught_up: u64,
    synced: u64,
    _turn: Turn,
}

impl Compaction {
    /// Begins to compact a shard's log. Blocks, as all of this does.
    ///
    /// # Errors
    /// [`CompactError`].
    pub(crate) fn begin(engine: &Arc<Engine>, key: ShardKey) -> Result<Self, CompactError> {
        engine.check_alive()?;
        let shard = engine.shard(key, false).ok_or(CompactError::Gone)?;
        let log = shard.log();
        if !log.exists {
            return Err(CompactError::Gone);
        }
        if log.row.damaged > 0 {
            return Err(CompactError::Damaged);
        }
        let needed = log.tail.saturating_sub(log.row.dead + log.row.waste);
        let fill = engine.fill_now()?;
        if fill.capacity.saturating_sub(fill.used) < needed {
            return Err(CompactError::NoRoom(needed));
        }
        let turn = Turn::take(engine, key)?;
        let old = key.log(log.row.incarnation);
        let source = engine.log_file(old).map_err(unreadable)?;
        let mut next = Successor::create(engine, key)?;
        if log.row.fence > enfilade_placement::Epoch::default() {
            next.raise(log.row.fence);
            next.write(Body::Fence, &[], 0)?;
        }
        next.raise(log.epoch);
        Ok(Self {
            engine: Arc::clone(engine),
            shard,
            old,
            source,
            next,
            cursor: Some((BlobId::new(0), 0)),
            start: log.tail,
            caught_up: log.tail,
            synced: 0,
            _turn: turn,
        })
    }

    /// Copies about so many bytes.
    ///
    /// # Errors
    /// [`CompactError`].
    pub(crate) fn step(&mut self, bytes: u64) -> Result<Step, CompactError> {
        let (begun, mut rot) = (self.next.log.tail, Rot::new());
        while self.next.log.tail - begun < bytes && self.cursor.is_some() {
            self.copy_page(begun + bytes, &mut rot)?;
        }
        let end = self.current()?.tail;
        self.catch_up(end, begun + bytes, &mut rot)?;
        if self.next.log.tail - self.synced >= SYNC_BYTES {
            self.next.sync()?;
            self.synced = self.next.log.tail;
        }
        Ok(Step {
            bytes: self.next.log.tail - begun,
            rot,
            ready: self.cursor.is_none() && end - self.caught_up <= SWITCH_BYTES,
            copied: self.cursor.is_none(),
        })
    }

    /// The log as it is now; none when the shard was dropped.
    fn current(&self) -> Result<Log, CompactError> {
        self.engine.check_alive()?;
        let now = self.engine.shard(self.old.key, false);
        let log = self.shard.log();
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &self.shard));
        match same && log.row.incarnation == self.old.incarnation {
            true => Ok(log),
            false => Err(CompactError::Gone),
        }
    }

    /// Copies some runs that the index names, until the successor is so long.
    fn copy_page(&mut self, until: u64, rot: &mut Rot) -> Result<(), CompactError> {
        let Some((blob, stripe)) = self.cursor else {
            return Ok(());
        };
        let page = self.engine.rows().runs_from(self.old, blob, stripe, PAGE);
        let page = self.engine.told(page)?;
        if page.is_empty() {
            self.cursor = None;
        }
        for (blob, first, run) in page {
            // Whatever becomes of this run meanwhile: these stripes are done.
            let end = first.checked_add(run.count());
            self.cursor = match end {
                Some(end) => Some((blob, end)),
                None => Some((BlobId::new(blob.get().wrapping_add(1)), 0)),
            };
            if run.record < self.start {
                self.copy_run(blob, first, &run, rot)?;
            }
            if self.next.log.tail >= until {
                break;
            }
        }
        Ok(())
    }

    /// Takes over what came into the log, up to an offset, or until the successor is so long.
    fn catch_up(&mut self, to: u64, until: u64, rot: &mut Rot) -> Result<(), CompactError> {
        if self.cursor.is_some() {
            return Ok(());
        }
        let (engine, source) = (Arc::clone(&self.engine), Arc::clone(&self.source));
        let source = engine.lenient(self.old.key, source.as_ref());
        let scan = Scan {
            file: &source,
            len: to,
            key: self.old.key,
            incarnation: Some(self.old.incarnation),
        };
        while self.caught_up < to && self.next.log.tail < until {
            match scan.next(self.caught_up).map_err(not_read)? {
                Some(Stretch::Record(found)) => {
                    self.take_over(&found, rot)?;
                    self.caught_up = found.end();
                }
                _ => return Err(CompactError::Unreadable("a record just written".to_owned())),
            }
        }
        Ok(())
    }

    /// Makes the successor durable but for what the switch adds, with a record that proves it.
    ///
    /// # Errors
    /// [`CompactError`].
    pub(crate) fn prepare(&mut self) -> Result<(), CompactError> {
        self.next.sync()?;
        self.synced = self.next.log.tail;
        // Without it recovery would look at all payload, and take what is corrupt for a torn tail.
        self.next.prove()
    }

    /// Puts the successor in the log's place; on the committer's thread, between groups.
    pub(crate) fn switch(&mut self) -> Result<Compacted, CompactError> {
        let log = self.current()?;
        let (begun, mut rot) = (self.next.log.tail, Rot::new());
        self.catch_up(log.tail, u64::MAX, &mut rot)?;
        self.engine.count_compacted(self.next.log.tail - begun);
        if !rot.is_empty() {
            return Err(CompactError::Unreadable(
                "a fragment just written".to_owned(),
            ));
        }
        if !self.next.log.tail.is_multiple_of(BLOCK) {
            self.next.prove()?;
        }
        let (engine, key) = (&self.engine, self.old.key);
        self.next.sync()?;
        let renamed = engine
            .drive()
            .rename(&key.successor(), &key.file())
            .and_then(|()| engine.drive().sync_folder(SHARDS));
        renamed.map_err(|error| engine.fail(&error))?;
        let (next, freed) = self.next.done()?;
        let after = next.tail;
        let bad = engine.told(engine.rows().all_bad(self.next.id, 1))?;
        self.shard
            .spoilt
            .fetch_or(!bad.is_empty(), Ordering::AcqRel);
        self.shard.publish(next);
        *lock(&self.shard.unpunched) = freed;
        engine.keep_file(self.next.id, &self.next.file);
        *lock(&engine.space) = None;
        engine.told(engine.rows().clear_log(self.old))?;
        engine.reclaim(&self.shard, self.next.file.as_ref(), Vec::new());
        let before = log.tail.saturating_sub(log.row.punched);
        Ok(Compacted { before, after })
    }

    /// Gives up: the log stays as it is.
    fn abandon(self) {
        let Self {
            engine, old, next, ..
        } = self;
        if engine.check_alive().is_err() {
            return;
        }
        match engine.drive().remove(&old.key.successor()) {
            Ok(()) | Err(DriveError::NotFound(_)) => {}
            Err(error) => tracing::warn!(drive = %engine.id, %error, "a half log is left"),
        }
        if let Err(error) = engine.told(engine.rows().clear_log(next.id)) {
            tracing::warn!(drive = %engine.id, %error, "rows of a half log are left");
        }
    }
}

impl Engine {
    /// The shard to compact next; none when it does not pay, or those that pay are to be left out.
    ///
    /// # Errors
    /// When the drive fails to tell its room.
    pub(crate) fn wasteful(
        &self,
        leave: impl Fn(ShardKey) -> bool,
    ) -> Result<Option<ShardKey>, EngineError> {
        let shards = self.shards().into_iter();
        let shards = shards.filter(|shard| !leave(shard.key));
        let settings = &self.host.settings;
        let limits = (settings.compact_waste_percent, settings.full_percent);
        Ok(choose::choose(shards, &self.fill_now()?, limits))
    }

    /// Compacts a shard's log, as fast as it goes.
    ///
    /// # Errors
    /// [`CompactError`]; the log is as it was, unless the drive failed: then it may be either.
    pub async fn compact(self: &Arc<Self>, key: ShardKey) -> Result<Compacted, CompactError> {
        self.compact_at(key, &Throttle::default()).await
    }

    /// Compacts a shard's log at some rate.
    ///
    /// # Errors
    /// As [`Engine::compact`].
    pub(crate) async fn compact_at(
        self: &Arc<Self>,
        key: ShardKey,
        throttle: &Throttle,
    ) -> Result<Compacted, CompactError> {
        let engine = Arc::clone(self);
        let begun = self.aside(move || Compaction::begin(&engine, key)).await?;
        let held = Arc::new(Mutex::new(Some(begun)));
        let outcome = self.drive_compaction(&held, key, throttle).await;
        let left = lock(&held).take();
        let metrics = &self.host.metrics.upkeep;
        match &outcome {
            Ok(done) => {
                metrics.compactions.inc();
                let gained = done.before.saturating_sub(done.after);
                metrics.reclaimed.inc_by(gained);
            }
            Err(_) => {
                if let Some(left) = left {
                    self.aside(move || {
                        left.abandon();
                        Ok(())
                    })
                    .await?;
                }
            }
        }
        outcome
    }

    async fn drive_compaction(
        self: &Arc<Self>,
        held: &Arc<Mutex<Option<Compaction>>>,
        key: ShardKey,
        throttle: &Throttle,
    ) -> Result<Compacted, CompactError> {
        let mut tries = 0;
        loop {
            let step = self
                .with(held, |compaction| compaction.step(STEP_BYTES))
                .await?;
            self.count_compacted(step.bytes);
            for (blob, found) in step.rot {
                let old = self.with(held, |compaction| Ok(compaction.old)).await?;
                self.enter_rot(old, blob, found).await?;
            }
            throttle.spend(self, step.bytes).await;
            tries += u32::from(step.copied);
            if step.ready || tries > SWITCH_TRIES {
                break;
            }
        }
        self.with(held, Compaction::prepare).await?;
        let outcome = Arc::new(Mutex::new(Err(CompactError::Gone)));
        let (told, held) = (Arc::clone(&outcome), Arc::clone(held));
        let switch = move || {
            let mut held = lock(&held);
            if let Some(compaction) = held.as_mut() {
                *lock(&told) = compaction.switch();
            }
        };
        self.order(key, Work::Alone(Alone::new(switch))).await?;
        lock(&outcome).clone()
    }

    /// Counts bytes that were copied: what is read is what is written.
    fn count_compacted(&self, bytes: u64) {
        let metrics = &self.host.metrics;
        metrics.upkeep.compacted.inc_by(bytes);
        metrics.count_read(Cause::Compaction, bytes);
        metrics.count_write(Cause::Compaction, bytes);
    }

    /// Does something with a compaction, on a thread that may block.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        held: &Arc<Mutex<Option<Compaction>>>,
        act: impl FnOnce(&mut Compaction) -> Result<T, CompactError> + Send + 'static,
    ) -> Result<T, CompactError> {
        let held = Arc::clone(held);
        self.aside(move || match lock(&held).as_mut() {
            Some(compaction) => act(compaction),
            None => Err(CompactError::Gone),
        })
        .await
    }

    async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce() -> Result<T, CompactError> + Send + 'static,
    ) -> Result<T, CompactError> {
        self.blocking(move |_| Ok(act())).await?
    }
}

fn unreadable(error: DriveError) -> CompactError {
    CompactError::Unreadable(error.to_string())
}

fn not_read(error: LogError) -> CompactError {
    match error {
        LogError::Drive(error) => unreadable(error),
        LogError::Newer(what) => CompactError::Unreadable(what),
    }
}
