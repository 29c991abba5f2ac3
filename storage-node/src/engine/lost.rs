//! Logs that are gone: removed under the node, lost by a file system check, without a head that can
//! be read.
//!
//! That a log is gone is made durable by a new one, whose first record says so (`Body::Lost`):
//! it counts as damaged until the other members told what the shard should hold, and that was
//! rebuilt (PROTOCOLS 22). It is noticed by the index, which forgets a log before it is dropped, by
//! a look at the folder, and by the node, which knows from the root group what a drive should have.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use enfilade_placement::{DriveId, Epoch};

use super::commit::{Alone, Work};
use super::log::{HEAD_LEN, Log, encode_head, write_record};
use super::record::{Body, Record};
use super::recover::RecoverError;
use super::rows::{LogId, Placed, Rows, ShardKey, ShardRow};
use super::{Engine, EngineError, SHARDS, lock};
use crate::drive::{Drive, DriveError, DriveFile, Open};

/// Makes the log of a shard whose earlier one is gone; durable when this returns. Epochs below that
/// of the earlier one are refused.
pub(super) fn begin_anew(
    drive: &dyn Drive,
    rows: &Rows<'_>,
    (id, log): (DriveId, LogId),
    epoch: Epoch,
    now_ms: u64,
) -> Result<(Log, Arc<dyn DriveFile>), RecoverError> {
    let LogId { key, incarnation } = log;
    let file = drive.open(&key.file(), Open::New)?;
    let mut record = Record {
        sequence: 0,
        synced: HEAD_LEN,
        volume: key.volume,
        member: key.member,
        epoch,
        padding: 0,
        body: Body::Lost,
    };
    let mut header = record.encode(incarnation, HEAD_LEN);
    record.pad(&mut header, incarnation, HEAD_LEN);
    let placed = Placed {
        record: &record,
        offset: HEAD_LEN,
        header_len: header.len(),
    };
    let mut bytes = encode_head(incarnation, id, key);
    bytes.extend_from_slice(&header);
    bytes.resize(usize::try_from(placed.end()).unwrap_or(8192), 0);
    write_record(file.as_ref(), 0, &bytes, &[])?;
    file.sync()?;
    drive.sync_folder(SHARDS)?;
    let mut row = ShardRow {
        incarnation,
        position: HEAD_LEN,
        ..ShardRow::default()
    };
    rows.apply(&mut row, &placed, now_ms)?;
    let log = Log {
        tail: row.position,
        sequence: row.sequence,
        epoch,
        proven: HEAD_LEN,
        exists: true,
        named: true,
        row,
    };
    Ok((log, file))
}

/// A shard whose log is not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The shard.
    pub key: ShardKey,
    /// The log that the engine believes it has; none: it knows of none.
    log: Option<LogId>,
}

impl Gone {
    /// A shard of which the engine knows no log.
    pub const fn unknown(key: ShardKey) -> Self {
        Self { key, log: None }
    }
}

impl Engine {
    /// The shards whose logs are not in their folder any more.
    ///
    /// # Errors
    /// When the drive failed.
    pub async fn gone(self: &Arc<Self>) -> Result<Vec<Gone>, EngineError> {
        self.blocking(|engine| {
            engine.check_alive()?;
            let known: Vec<ShardKey> = engine.shards().iter().map(|shard| shard.key).collect();
            let names = engine.drive().list(SHARDS);
            let names: BTreeSet<String> = names
                .map_err(|error| engine.fail(&error))?
                .into_iter()
                .collect();
            let is_there = |key: &ShardKey| {
                let file = key.file();
                file.strip_prefix(SHARDS)
                    .and_then(|name| name.strip_prefix('/'))
                    .is_some_and(|name| names.contains(name))
            };
            let absent = known.into_iter().filter(|key| !is_there(key));
            Ok(absent
                .map(|key| Gone {
                    key,
                    log: engine.log_id(key),
                })
                .collect())
        })
        .await
    }

    /// Enters a shard's log as gone, durably, unless it is there after all; whether it was entered.
    /// Epochs below this one, and below that of the log, are refused from then on.
    ///
    /// # Errors
    /// When the drive failed, or has no room.
    pub async fn lose(self: &Arc<Self>, gone: Gone, epoch: Epoch) -> Result<bool, EngineError> {
        let outcome = Arc::new(Mutex::new(Ok(false)));
        let (told, engine) = (Arc::clone(&outcome), Arc::clone(self));
        let lose = move || *lock(&told) = engine.lose_now(gone, epoch);
        self.order(gone.key, Work::Alone(Alone::new(lose))).await?;
        lock(&outcome).clone()
    }

    /// On the committer's thread.
    fn lose_now(&self, Gone { key, log: old }: Gone, epoch: Epoch) -> Result<bool, EngineError> {
        self.check_alive()?;
        if self.log_id(key) != old {
            return Ok(false);
        }
        match self.drive.open(&key.file(), Open::Existing) {
            Ok(_) => return Ok(false),
            Err(DriveError::NotFound(_)) => {}
            Err(error) => return Err(self.fail(&error)),
        }
        let before = self
            .shard(key, false)
            .map_or_else(Log::default, |shard| shard.log());
        let new = key.log(self.host.env.random.next_u64());
        let epoch = epoch.max(before.epoch);
        let begun = begin_anew(
            self.drive(),
            &self.rows(),
            (self.id, new),
            epoch,
            self.clock_ms(),
        );
        if begun.is_err() {
            // What is half made would be taken for the log.
            let _ = self.drive().remove(&key.file());
        }
        let (log, file) = begun.map_err(|error| match error {
            RecoverError::Log(super::log::LogError::Drive(DriveError::NoSpace)) => {
                EngineError::Full
            }
            error => self.fail_with(error.to_string()),
        })?;
        tracing::error!(drive = %self.id, ?key, "a log is gone; what it held is to be rebuilt");
        if let Some(shard) = self.shard(key, true) {
            lock(&shard.unpunched).clear();
            shard.publish(log);
        }
        self.keep_file(new, &file);
        *lock(&self.space) = None;
        self.faults_found.fetch_add(1, Ordering::AcqRel);
        if let Some(old) = old {
            self.told(self.rows().clear_log(old))?;
        }
        Ok(true)
    }
}
