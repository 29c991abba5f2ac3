//! Opening an engine: index, logs, recovery.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use enfilade_placement::DriveId;
use tokio::sync::Semaphore;

use super::files::Files;
use super::index::format::{self, Format};
use super::index::rocks::RocksIndex;
use super::index::{Index, IndexError, MemoryIndex};
use super::log::{HEAD_LEN, Log, LogError, encode_head, find_head, write_record};
use super::lost::begin_anew;
use super::pulse::Pulse;
use super::recover::{RecoverError, Report, recover};
use super::rows::{Rows, ShardKey};
use super::{DAMAGED_INDEX, Engine, SHARDS, Shard};
use crate::drive::{Drive, DriveError, DriveFile, Open, read_up_to};
use crate::host::{Budget, Host};

/// Where logs go that hold nothing which proves itself.
const SET_ASIDE: &str = "set-aside";

/// Why a drive's engine could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineOpenError {
    /// The drive failed: it is failing.
    #[error("the drive failed: {0}")]
    Failed(String),
    /// Something on it was written by a newer program: use that one.
    #[error("{0}")]
    Newer(String),
}

impl From<RecoverError> for EngineOpenError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Log(LogError::Newer(what)) => Self::Newer(what),
            RecoverError::Log(LogError::Drive(error)) => error.into(),
            RecoverError::Index(error) => error.into(),
        }
    }
}

impl From<DriveError> for EngineOpenError {
    fn from(error: DriveError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<IndexError> for EngineOpenError {
    fn from(error: IndexError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Engine {
    /// Opens a drive's engine and recovers its logs. Blocks, for as long as it takes to read what
    /// was written since the last checkpoint.
    ///
    /// `capacity` bounds the bytes that it uses; none: all of the file system.
    ///
    /// # Errors
    /// [`EngineOpenError`].
    pub fn open(
        host: &Host,
        drive: Arc<dyn Drive>,
        id: DriveId,
        capacity: Option<u64>,
    ) -> Result<Arc<Self>, EngineOpenError> {
        let index = open_index(host, drive.as_ref(), id)?;
        Self::open_with(host, drive, id, capacity, index)
    }

    /// As [`Engine::open`], with an index of the caller's.
    ///
    /// # Errors
    /// [`EngineOpenError`].
    pub fn open_with(
        host: &Host,
        drive: Arc<dyn Drive>,
        id: DriveId,
        capacity: Option<u64>,
        index: Arc<dyn Index>,
    ) -> Result<Arc<Self>, EngineOpenError> {
        drive.create_folder(SHARDS)?;
        // A log that was created before a crash of the process may not have a durable name yet.
        drive.sync_folder(SHARDS)?;
        let rows = Rows(index.as_ref());
        let base = rows.clock()?;
        let (mut shards, mut recovered) = (BTreeMap::new(), Report::default());
        for name in drive.list(SHARDS)? {
            if ShardKey::is_successor(&name) {
                // Compaction was broken off: the log itself is whole.
                drive.remove(&format!("{SHARDS}/{name}"))?;
                continue;
            }
            let Some(key) = ShardKey::of_file(&name) else {
                tracing::warn!(drive = %id, name, "a file that is no shard log; left alone");
                continue;
            };
            let file = drive.open(&key.file(), Open::Existing)?;
            let opened = open_log(drive.as_ref(), &rows, file.as_ref(), (id, key), base)?;
            if let Some((log, report)) = opened {
                recovered.add(&report);
                let id = key.log(log.row.incarnation);
                let shard = Shard::new(log);
                let spoilt = !rows.all_bad(id, 1)?.is_empty();
                shard.spoilt.store(spoilt, Ordering::Release);
                shards.insert(key, shard);
            }
        }
        for log in rows.logs()? {
            let held = shards.get(&log.key).map(|shard: &Arc<Shard>| shard.log());
            if held
                .as_ref()
                .is_some_and(|held| held.row.incarnation == log.incarnation)
            {
                continue;
            }
            let known = rows.shard(log)?.unwrap_or_default();
            if held.is_none() && !known.successor {
                // Dropping one makes the index forget it first, durably.
                tracing::error!(drive = %id, ?log, "a log is gone; what it held is to be rebuilt");
                let epoch = known.epoch.max(known.fence);
                let new = log.key.log(host.env.random.next_u64());
                let (log, _) = begin_anew(drive.as_ref(), &rows, (id, new), epoch, base)?;
                shards.insert(new.key, Shard::new(log));
            }
            // Else a crash came while it was compacted, or its successor was dropped.
            tracing::info!(drive = %id, ?log, "forgetting a log that is not there");
            rows.clear_log(log)?;
        }
        let committer = host.committers.of(drive.file_system());
        let committer = committer.map_err(|error| EngineOpenError::Failed(error.to_string()))?;
        let settings = &host.settings;
        Ok(Arc::new(Self {
            id,
            drive,
            index,
            committer,
            appends: Budget::new(settings.drive_queue.get()),
            reads: Arc::new(Semaphore::new(settings.drive_reads as usize)),
            trying: AtomicBool::new(false),
            files: Files::new(settings.open_logs),
            shards: Mutex::new(shards),
            compacting: Mutex::default(),
            failure: OnceLock::new(),
            ended: tokio_util::sync::CancellationToken::new(),
            faults_found: AtomicU64::new(1),
            recovered,
            pulse: Pulse::default(),
            pacer: super::pacer::Pacer::default(),
            capacity,
            successors: AtomicU64::new(0),
            space: Mutex::default(),
            clock: (base, host.env.clock.now()),
            host: host.clone(),
        }))
    }
}

fn open_index(
    host: &Host,
    drive: &dyn Drive,
    id: DriveId,
) -> Result<Arc<dyn Index>, EngineOpenError> {
    let Some(folder) = drive.index_folder() else {
        return Ok(Arc::new(MemoryIndex::default()));
    };
    let marked = match drive.open(DAMAGED_INDEX, Open::Existing) {
        Ok(_) => true,
        Err(DriveError::NotFound(_)) => false,
        Err(error) => return Err(error.into()),
    };
    let format = refuse_newer(drive)?;
    if marked || format == Format::Rotten {
        tracing::warn!(drive = %id, "the index failed before; rebuilding it from the logs");
    }
    if marked || format != Format::Ours {
        RocksIndex::destroy(&folder)?;
    }
    let index = RocksIndex::open(&folder, &host.index_memory)?;
    if format != Format::Ours {
        format::write(drive)?;
    }
    if marked {
        drive.remove(DAMAGED_INDEX)?;
    }
    Ok(Arc::new(index))
}

/// The format of the index that is there, unless a newer program made it.
pub(super) fn refuse_newer(drive: &dyn Drive) -> Result<Format, EngineOpenError> {
    match format::read(drive)? {
        Format::Newer(version) => Err(EngineOpenError::Newer(format!(
            "written by a newer program: an index of version {version}"
        ))),
        format => Ok(format),
    }
}

/// Recovers one log; none when there is none after all.
fn open_log(
    drive: &dyn Drive,
    rows: &Rows<'_>,
    file: &dyn DriveFile,
    (id, key): (DriveId, ShardKey),
    now_ms: u64,
) -> Result<Option<(Log, Report)>, EngineOpenError> {
    let found = find_head(file, id, key).map_err(RecoverError::from)?;
    let synced = |incarnation| -> Result<bool, IndexError> {
        let row = rows.shard(key.log(incarnation))?;
        Ok(row.is_some_and(|row| row.position > HEAD_LEN))
    };
    // Without a head, a record alone says nothing: it may be of a log that was here before. The
    // index knows only logs that were synced, head and all, and were not dropped.
    let head = match found {
        Some(head) if head.named || synced(head.incarnation)? => head,
        _ => {
            let known = rows.logs()?.iter().any(|log| log.key == key);
            drop_unborn(drive, file, (id, key), known)?;
            return Ok(None);
        }
    };
    let incarnation = head.incarnation;
    if !head.whole {
        tracing::warn!(drive = %id, ?key, "restoring the head of a log");
        write_record(file, 0, &encode_head(incarnation, id, key), &[])?;
        file.sync()?;
    }
    let (log, report) = recover(rows, file, key.log(incarnation), now_ms)?;
    if report.damaged > 0 {
        tracing::error!(drive = %id, ?key, ?report, "a log is damaged below its synced end");
    } else if report.cut > 0 {
        tracing::info!(drive = %id, ?key, ?report, "cut what was never acked off a log");
    }
    Ok(Some((log, report)))
}

/// A file without a head: a crash came while it was created, and nothing in it was acked, because
/// the head is synced with the first record. If there is something where the head should be, or the
/// index knows a log (`known`), it is kept aside for people to see; what the shard should hold is
/// found out in any case.
fn drop_unborn(
    drive: &dyn Drive,
    file: &dyn DriveFile,
    (id, key): (DriveId, ShardKey),
    known: bool,
) -> Result<(), EngineOpenError> {
    let len = file.size()?;
    let head = read_up_to(file, 0, usize::try_from(HEAD_LEN).unwrap_or(4096))?;
    if len <= HEAD_LEN || (!known && head.iter().all(|byte| *byte == 0)) {
        drive.remove(&key.file())?;
        return Ok(drive.sync_folder(SHARDS)?);
    }
    tracing::error!(drive = %id, ?key, len, "a log holds nothing that proves itself; set aside");
    drive.create_folder(SET_ASIDE)?;
    let (_, name) = key
        .file()
        .rsplit_once('/')
        .map(|(f, n)| (f.to_owned(), n.to_owned()))
        .unwrap_or_default();
    drive.rename(&key.file(), &format!("{SET_ASIDE}/{name}"))?;
    drive.sync_folder(SET_ASIDE)?;
    Ok(drive.sync_folder(SHARDS)?)
}
