//! The engine of one drive: shard logs, their index, group commit.
//!
//! The logs are the truth (`record`, `log`); the index (`rows`) says where things are in them and
//! is rebuilt from them (`recover`). Writes go through a committer (`commit`, `group`); reads go
//! straight to the files (`read`).

pub(crate) mod commit;
mod compact;
mod coverage;
mod files;
mod group;
pub(crate) mod index;
mod log;
mod lost;
pub(crate) mod metrics;
mod open;
mod pace;
pub(crate) mod pacer;
mod probe;
mod pulse;
mod read;
mod rebuild;
mod record;
mod recover;
mod rows;
mod scrub;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use enfilade_placement::{BlobId, DriveId, Epoch};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::commit::{Committer, Done};
use self::files::Files;
use self::index::IndexError;
use self::log::Log;
use self::pulse::Pulse;
use self::recover::Report;
use self::rows::{Freed, LogId, Rows};
use crate::drive::{Drive, DriveError, DriveFile, Open, Space};
use crate::host::{Budget, Host};
use crate::sync::lock;

pub use self::compact::{CompactError, Compacted};
pub use self::index::{Index, MemoryIndex};
pub use self::lost::Gone;
pub use self::open::EngineOpenError;
pub(crate) use self::pace::{Paced, Throttle};
pub(crate) use self::probe::Probe;
pub use self::read::Blocks;
pub use self::rebuild::Rebuilt;
pub use self::rows::ShardKey;
pub use self::scrub::{ScrubError, ScrubState, Scrubbed};
pub use self::work::{Admission, Append, Orphan};

/// The folder of the logs.
const SHARDS: &str = "shards";

/// Says that the index of the drive failed, and is to be built anew.
const DAMAGED_INDEX: &str = "index-damaged";

/// Room is freed in blocks of the file system.
const PUNCH_BYTES: u64 = 4096;

/// For how long what is known of the room on a drive is good enough.
const SPACE_AGE: Duration = Duration::from_millis(500);

/// Why an engine did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The shard insists on a newer epoch.
    #[error("the shard is at epoch {0}")]
    Stale(Epoch),
    /// The request contradicts itself or what is stored.
    #[error("{0}")]
    Invalid(String),
    /// No room.
    #[error("the drive is full")]
    Full,
    /// The queue is full: nothing was begun.
    #[error("the drive's queue is full")]
    Busy,
    /// The drive failed: it takes nothing until it is opened again (PROTOCOLS 25).
    #[error("{0}")]
    Failed(String),
}

/// Room on a drive, as its users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fill {
    /// Bytes that the drive can hold.
    pub capacity: u64,
    /// Bytes in use, by us or by others.
    pub used: u64,
    /// Bytes of shard logs.
    pub logs: u64,
    /// Bytes of dropped fragments that still take room.
    pub dead: u64,
}

/// A shard in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardStats {
    /// Which.
    pub key: ShardKey,
    /// The epoch below which it refuses.
    pub epoch: Epoch,
    /// The highest epoch that it was fenced for, durably; 0: never.
    pub fence: Epoch,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Bytes of the fragments that it holds.
    pub live: u64,
    /// Bytes of fragments that it dropped, and has not given back.
    pub dead: u64,
    /// Of the log's bytes, those that were given back.
    pub punched: u64,
    /// Bytes that compaction would give back, about: dead fragments, and headers of no use.
    pub waste: u64,
    /// Places where synced records cannot be read.
    pub damaged: u32,
}

impl ShardStats {
    /// Bytes that the log takes on the drive.
    pub const fn allocated(&self) -> u64 {
        self.log_bytes.saturating_sub(self.punched)
    }
}

/// Something in a shard that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The shard.
    pub key: ShardKey,
    /// Blob and stripe of the fragment; none: it is not known what was there.
    pub fragment: Option<(BlobId, u32)>,
}

/// The engine of one drive.
pub struct Engine {
    id: DriveId,
    // Fields are dropped in order: the index lets go of its files before the drive is unlocked.
    index: Arc<dyn Index>,
    files: Files,
    drive: Arc<dyn Drive>,
    host: Host,
    committer: Arc<Committer>,
    appends: Budget,
    reads: Arc<Semaphore>,
    /// Whether somebody reads where nobody may wait.
    trying: AtomicBool,
    shards: Mutex<BTreeMap<ShardKey, Arc<Shard>>>,
    /// Shards whose logs are being compacted.
    compacting: Mutex<BTreeSet<ShardKey>>,
    failure: OnceLock<String>,
    /// Cancelled when it failed, or is to be let go.
    ended: CancellationToken,
    /// Counts the records of corrupt fragments since it was opened.
    faults_found: AtomicU64,
    /// What was found in the logs when it was opened.
    recovered: Report,
    pulse: Pulse,
    pacer: pacer::Pacer,
    /// Bytes that it may use; none: all of the file system.
    capacity: Option<u64>,
    /// Bytes of logs in the making, by compaction.
    successors: AtomicU64,
    space: Mutex<Option<(Duration, Fill)>>,
    /// The drive's clock when it was opened, and the machine's.
    clock: (u64, Duration),
}

/// A shard as the engine holds it in memory.
pub(crate) struct Shard {
    log: Mutex<Log>,
    /// Ranges to be given back once a later record proves that the ones before are synced.
    unpunched: Mutex<Vec<Freed>>,
    /// Whether any of its fragments was known to be corrupt since the drive was opened: set before
    /// the index says so, so that readers need not ask the index when it is not.
    spoilt: AtomicBool,
}

impl Shard {
    fn new(log: Log) -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::new(log),
            unpunched: Mutex::default(),
            spoilt: AtomicBool::new(false),
        })
    }

    /// The log, as far as it is durable.
    fn log(&self) -> Log {
        lock(&self.log).clone()
    }

    fn publish(&self, log: Log) {
        *lock(&self.log) = log;
    }
}

impl Engine {
    /// The drive.
    pub fn id(&self) -> DriveId {
        self.id
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    fn drive(&self) -> &dyn Drive {
        self.drive.as_ref()
    }

    fn rows(&self) -> Rows<'_> {
        Rows(self.index.as_ref())
    }

    /// Milliseconds that this drive has been served, over restarts; monotonic.
    fn clock_ms(&self) -> u64 {
        let (base, opened) = self.clock;
        let elapsed = self.host.env.clock.now().saturating_sub(opened);
        base.saturating_add(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether the drive has failed since it was opened, and how.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Whoever walks over its shards is to let go of it: see [`Engine::ended`].
    pub(crate) fn leave(&self) {
        self.ended.cancel();
    }

    /// Waits until it failed, or is to be let go: its drive is opened again only when nobody holds
    /// it any more.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn check_alive(&self) -> Result<(), EngineError> {
        match self.failure() {
            Some(reason) => Err(EngineError::Failed(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// The drive failed: nothing is written to it until it is opened and verified again
    /// (PROTOCOLS 25).
    fn fail(&self, error: &DriveError) -> EngineError {
        self.fail_with(error.to_string())
    }

    /// As [`Engine::fail`]; tells what was being done.
    fn fail_at(&self, what: &str, error: &DriveError) -> EngineError {
        self.fail_with(format!("{what}: {error}"))
    }

    fn fail_with(&self, reason: String) -> EngineError {
        let reason = self.failure.get_or_init(|| {
            tracing::error!(drive = %self.id, reason, "the drive failed");
            reason
        });
        self.ended.cancel();
        EngineError::Failed(reason.clone())
    }

    /// What the index says; when it fails, the drive does, and the next opening builds a new one.
    fn told<T>(&self, outcome: Result<T, IndexError>) -> Result<T, EngineError> {
        outcome.map_err(|error| {
            // When this fails too, the next opening may find the same index, and fail again.
            match self.drive.open(DAMAGED_INDEX, Open::New) {
                Ok(_) | Err(DriveError::Exists(_)) => {}
                Err(error) => tracing::warn!(drive = %self.id, %error, "no mark on the index"),
            }
            self.fail_with(error.to_string())
        })
    }

    /// What was found in the logs when it was opened.
    const fn recovered(&self) -> &Report {
        &self.recovered
    }

    /// For how long the committer has been at its present group: a drive that hangs does not fail.
    pub fn stuck_for(&self) -> Duration {
        self.committer.busy_for(self.host.env.clock.now())
    }

    /// The committer's thread is gone, which only a defect can do.
    fn stopped(&self) -> EngineError {
        self.fail_with("the committer stopped".to_owned())
    }

    fn shard(&self, key: ShardKey, creates: bool) -> Option<Arc<Shard>> {
        let mut shards = lock(&self.shards);
        if !creates {
            return shards.get(&key).cloned();
        }
        Some(Arc::clone(
            shards
                .entry(key)
                .or_insert_with(|| Shard::new(Log::default())),
        ))
    }

    /// All shards that have a log.
    pub fn shards(&self) -> Vec<ShardStats> {
        let shards: Vec<_> = lock(&self.shards)
            .iter()
            .map(|(k, s)| (*k, Arc::clone(s)))
            .collect();
        shards
            .into_iter()
            .filter_map(|(key, shard)| stats(key, &shard.log()))
            .collect()
    }

    /// One shard, when it has a log.
    pub fn shard_stats(&self, key: ShardKey) -> Option<ShardStats> {
        stats(key, &self.shard(key, false)?.log())
    }

    /// The log that a shard has now.
    fn log_id(&self, key: ShardKey) -> Option<LogId> {
        let log = self.shard(key, false)?.log();
        log.exists.then(|| key.log(log.row.incarnation))
    }

    /// Asks the index about a shard's log; again when the log was compacted meanwhile, because the
    /// rows of the old one go. None when there is no log.
    fn while_compacted<T>(&self, key: ShardKey, ask: impl Fn(LogId) -> T) -> Option<T> {
        let mut log = self.log_id(key)?;
        loop {
            let answer = ask(log);
            let now = self.log_id(key)?;
            if now == log {
                return Some(answer);
            }
            log = now;
        }
    }

    fn log_file(&self, log: LogId) -> Result<Arc<dyn DriveFile>, DriveError> {
        let open = || self.drive.open(&log.key.file(), Open::Existing);
        self.files
            .get(log, open, || self.log_id(log.key) == Some(log))
    }

    fn keep_file(&self, log: LogId, file: &Arc<dyn DriveFile>) {
        self.files.put(log, file);
    }

    /// The room on the drive; at most half a second old.
    ///
    /// # Errors
    /// When the drive fails to tell; it is failing then.
    pub fn fill(&self) -> Result<Fill, EngineError> {
        let now = self.host.env.clock.now();
        let mut space = lock(&self.space);
        if let Some((when, fill)) = *space
            && now.saturating_sub(when) < SPACE_AGE
        {
            return Ok(fill);
        }
        let fill = self.fill_now()?;
        *space = Some((now, fill));
        Ok(fill)
    }

    /// The room on the drive at this moment.
    fn fill_now(&self) -> Result<Fill, EngineError> {
        let device = self.drive.space().map_err(|error| self.fail(&error))?;
        Ok(self.measure(device))
    }

    fn measure(&self, device: Space) -> Fill {
        let (mut ours, mut dead) = (self.successors.load(Ordering::Relaxed), 0u64);
        for shard in lock(&self.shards).values() {
            let log = lock(&shard.log);
            ours += log.tail.saturating_sub(log.row.punched);
            dead += log.row.dead.saturating_sub(log.row.punched);
        }
        let capacity = self.capacity.unwrap_or(device.total);
        let free = match self.capacity {
            Some(capacity) => capacity.saturating_sub(ours).min(device.available),
            None => device.available.min(capacity),
        };
        Fill {
            capacity,
            used: capacity - free,
            logs: ours,
            dead,
        }
    }

    /// Gives room of dropped fragments back, where it is safe: a punched payload above the last
    /// proven position would look like a torn tail after a crash, and take acked records with it.
    fn reclaim(&self, shard: &Shard, file: &dyn DriveFile, freed: Vec<Freed>) {
        let mut waiting = lock(&shard.unpunched);
        waiting.extend(freed);
        if waiting.is_empty() || self.check_alive().is_err() {
            return;
        }
        let proven = lock(&shard.log).proven;
        let (now, later) = waiting
            .iter()
            .partition(|freed| freed.offset + freed.len <= proven);
        let now: Vec<Freed> = now;
        *waiting = later;
        drop(waiting);
        let mut punched = 0;
        for Freed { offset, len } in now {
            let from = offset.next_multiple_of(PUNCH_BYTES);
            let to = (offset + len) / PUNCH_BYTES * PUNCH_BYTES;
            if to > from {
                match file.punch(from, to - from) {
                    Ok(bytes) => punched += bytes,
                    Err(error) => {
                        self.fail(&error);
                        return;
                    }
                }
            }
        }
        lock(&shard.log).row.punched += punched;
    }

    /// Removes a shard's log and rows, durably; on the committer's thread.
    fn remove_log(&self, key: ShardKey) -> Result<Done, EngineError> {
        self.check_alive()?;
        // Durably, and first: rows without a log say that it was lost, and a log without rows is
        // taken in again, to be dropped later.
        self.told(self.rows().clear(key).and_then(|()| self.index.flush()))?;
        lock(&self.shards).remove(&key);
        self.files.forget(key);
        // Cut first: whoever still reads the file would hold its room. An empty log is none.
        let cut = |name: &str| {
            self.drive.open(name, Open::Existing)?.set_len(0)?;
            self.drive.remove(name)
        };
        for name in [key.successor(), key.file()] {
            match cut(&name) {
                Ok(()) | Err(DriveError::NotFound(_)) => {}
                Err(error) => return Err(self.fail(&error)),
            }
        }
        *lock(&self.space) = None;
        self.drive
            .sync_folder(SHARDS)
            .map_err(|error| self.fail(&error))?;
        Ok(Done::default())
    }

    /// Forgets the damage of a shard's log; on the committer's thread.
    fn account(&self, key: ShardKey) -> Result<(), EngineError> {
        self.check_alive()?;
        let Some(shard) = self.shard(key, false) else {
            return Ok(());
        };
        let mut log = lock(&shard.log);
        log.row.damaged = 0;
        let id = key.log(log.row.incarnation);
        self.told(self.rows().put_shard(id, &log.row))?;
        Ok(())
    }

    /// Changes whenever [`Engine::faults`] has something new to tell.
    pub fn faults_found(&self) -> u64 {
        self.faults_found.load(Ordering::Acquire)
    }

    /// What the ledger has to know (PROTOCOLS 22): the corrupt fragments that are known, at most so
    /// many a shard, and the shards with damage that cannot be named.
    ///
    /// # Errors
    /// When the index fails.
    pub fn faults(&self, limit: usize) -> Result<Vec<Fault>, EngineError> {
        let mut faults = Vec::new();
        for shard in self.shards() {
            let key = shard.key;
            if shard.damaged > 0 {
                faults.push(Fault {
                    key,
                    fragment: None,
                });
            }
            let all_bad = |log| self.told(self.rows().all_bad(log, limit));
            let bad = self
                .while_compacted(key, all_bad)
                .unwrap_or_else(|| Ok(Vec::new()))?;
            faults.extend(bad.into_iter().map(|at| Fault {
                key,
                fragment: Some(at),
            }));
        }
        Ok(faults)
    }

    /// Makes the index durable, so that the next opening is quick.
    ///
    /// # Errors
    /// When the index fails.
    pub fn checkpoint(&self) -> Result<(), EngineError> {
        self.check_alive()?;
        self.told(self.rows().put_clock(self.clock_ms()))?;
        self.told(self.index.flush())
    }
}

fn stats(key: ShardKey, log: &Log) -> Option<ShardStats> {
    log.exists.then_some(ShardStats {
        key,
        epoch: log.epoch,
        fence: log.row.fence,
        log_bytes: log.tail,
        live: log.row.live,
        dead: log.row.dead.saturating_sub(log.row.punched),
        punched: log.row.punched,
        waste: log.row.dead.saturating_sub(log.row.punched) + log.row.waste,
        damaged: log.row.damaged,
    })
}

#[cfg(test)]
mod tests;
