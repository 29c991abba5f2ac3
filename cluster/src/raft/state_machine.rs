//! The rows of one group, as openraft uses them: entries in, rows and position in one batch out.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use enfilade_placement::PartitionId;
use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::log::command_len;
use super::snapshot::{self, SnapshotData};
use super::store::StateStore;
use super::types::{Command, Entry, LogId, Membership, Position, Reply, SnapshotMeta, TypeConfig};
use crate::api::encoding::{decode, encode};
use crate::metrics::metrics;
use crate::rows::{RowsError, Txn};
use crate::{partition, root};

/// Entries that one commit of rows takes at most.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes of commands that one commit of rows takes at most, about.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// The rows of one group. Clones share them.
#[derive(Clone)]
pub(crate) struct GroupState(Arc<Shared>);

struct Shared {
    group: PartitionId,
    store: Arc<dyn StateStore>,
    staging: PathBuf,
    position: Mutex<Position>,
    applied: watch::Sender<u64>,
    /// Whether the rows are the group's. Held by whoever reads or writes them, and alone by whoever
    /// replaces or removes all of them: who has found out that a read may be answered must not see
    /// them in between.
    own: RwLock<bool>,
}

fn gone() -> io::Error {
    io::Error::other("the replica has left its group")
}

/// A snapshot of openraft's, with our data.
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

impl GroupState {
    /// The rows of a group, as the store holds them; finishes what a crash interrupted.
    ///
    /// # Errors
    /// When the store fails, or holds what cannot be decoded.
    pub(super) fn open(
        group: PartitionId,
        store: Arc<dyn StateStore>,
        staging: PathBuf,
    ) -> io::Result<Self> {
        let position = match snapshot::finish(&staging, group, &*store)? {
            Some(position) => position,
            None => {
                let position = store
                    .position(group)?
                    .map(|p| decode::<Position>(&p))
                    .transpose();
                position.map_err(io::Error::other)?.unwrap_or_default()
            }
        };
        let applied = watch::Sender::new(index(&position));
        let position = Mutex::new(position);
        Ok(Self(Arc::new(Shared {
            group,
            store,
            staging,
            position,
            applied,
            own: RwLock::new(true),
        })))
    }

    /// Keeps the rows from being replaced or removed while it is held. Never waits: tasks call
    /// this.
    ///
    /// # Errors
    /// When they were removed, or are just being replaced or removed, which may take long.
    pub(super) fn hold(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let own = match self.0.own.try_read() {
            Ok(own) => own,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "the rows of the replica are being replaced",
                ));
            }
        };
        if *own { Ok(own) } else { Err(gone()) }
    }

    /// Removes all that the replica holds but its vote, which has stopped and whose log is idle.
    /// Blocks.
    pub(super) fn forget(&self) -> io::Result<()> {
        let mut own = self.0.own.write().unwrap_or_else(PoisonError::into_inner);
        *own = false;
        snapshot::forget(&self.0.staging, self.0.group, &*self.0.store)
    }

    /// Tells of every commit of rows: the index of the last applied entry.
    pub(super) fn applied(&self) -> watch::Receiver<u64> {
        self.0.applied.subscribe()
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.0
            .position
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, position: Position) {
        let index = index(&position);
        *self.position() = position;
        self.0.applied.send_replace(index);
    }

    /// Applies entries and commits what came of them, then answers.
    fn apply_batch(&self, batch: &mut Batch) -> io::Result<()> {
        let entries = std::mem::take(&mut batch.entries);
        batch.bytes = 0;
        if entries.is_empty() {
            return Ok(());
        }
        let mut position = self.position().clone();
        let (mut writes, mut replies) = (Vec::new(), Vec::with_capacity(entries.len()));
        let _own = self.hold()?;
        self.0.store.read(&mut |rows| {
            let mut txn = Txn::new(rows);
            for (entry, _) in &entries {
                let reply = self.apply_entry(&mut txn, entry, &mut position);
                replies.push(reply.map_err(|e| undecodable(self.0.group, entry, e))?);
            }
            writes = txn.into_writes();
            Ok(())
        })?;
        self.0
            .store
            .commit(self.0.group, writes, &encode(&position))?;
        metrics().apply_entries.observe(entries.len() as f64);
        self.publish(position);
        for ((_, responder), reply) in entries.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    fn apply_entry(
        &self,
        txn: &mut Txn<'_>,
        entry: &Entry,
        position: &mut Position,
    ) -> Result<Reply, ApplyError> {
        position.applied = Some(entry.log_id());
        match &entry.payload {
            EntryPayload::Blank => Ok(Reply::None),
            EntryPayload::Membership(membership) => {
                position.membership = Membership::new(Some(entry.log_id()), membership.clone());
                Ok(Reply::None)
            }
            EntryPayload::Normal(command) => apply_command(txn, self.0.group, command),
        }
    }
}

/// An entry that this replica cannot apply: it stops, and skips nothing (PROTOCOLS 10).
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("the command cannot be decoded")]
    Command(#[source] crate::api::encoding::EncodingError),
    #[error("the rows cannot be read")]
    Rows(#[source] RowsError),
}

fn apply_command(
    txn: &mut Txn<'_>,
    group: PartitionId,
    command: &Command,
) -> Result<Reply, ApplyError> {
    if group == PartitionId::ROOT {
        let envelope = decode(&command.bytes).map_err(ApplyError::Command)?;
        root::apply(txn, &envelope)
            .map(Reply::Root)
            .map_err(ApplyError::Rows)
    } else {
        let envelope = decode(&command.bytes).map_err(ApplyError::Command)?;
        let outcome = partition::apply(txn, group, &envelope);
        outcome.map(Reply::Partition).map_err(ApplyError::Rows)
    }
}

fn undecodable(group: PartitionId, entry: &Entry, error: ApplyError) -> io::Error {
    let index = entry.index();
    let error = crate::server::read::report(&error);
    tracing::error!(%group, index, error, "a committed entry cannot be applied: replica stops");
    io::Error::other(format!("entry {index} of group {group}: {error}"))
}

fn index(position: &Position) -> u64 {
    position.applied.map_or(0, |applied| applied.index)
}

/// Entries that are applied together.
#[derive(Default)]
struct Batch {
    entries: Vec<(Entry, Option<ApplyResponder<TypeConfig>>)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        self.bytes += command_len(&entry);
        self.entries.push((entry, responder));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl RaftStateMachine<TypeConfig> for GroupState {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        let position = self.position();
        Ok((position.applied, position.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(entry) = entries.try_next().await? {
            batch.push(entry);
            if batch.is_full() {
                self.apply_batch(&mut batch)?;
            }
        }
        self.apply_batch(&mut batch)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let (dir, group) = (&self.0.staging, self.0.group);
        let staged = match snapshot {
            SnapshotData::Staged(staged) => staged,
            SnapshotData::Export(export) => snapshot::stage(dir, group, meta, export).await?,
            SnapshotData::Position => {
                return Err(io::Error::other(
                    "a snapshot without rows cannot be installed",
                ));
            }
        };
        let shared = Arc::clone(&self.0);
        let install = move || {
            let own = shared.own.write().unwrap_or_else(PoisonError::into_inner);
            if !*own {
                return Err(gone());
            }
            snapshot::install(&shared.staging, shared.group, &*shared.store, &staged)
        };
        let position = tokio::task::spawn_blocking(install)
            .await
            .map_err(io::Error::other)??;
        if position.applied != meta.last_log_id {
            return Err(io::Error::other(
                "a snapshot's rows are not at its position",
            ));
        }
        self.publish(position);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let export = snapshot::export(self.0.group, Arc::clone(&self.0.store)).await?;
        Ok(export.map(|(meta, export)| Snapshot {
            meta,
            snapshot: SnapshotData::Export(export),
        }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for GroupState {
    type SnapshotData = SnapshotData;

    /// Only takes the position: the rows are on the drive already.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let position = self.position().clone();
        let meta = SnapshotMeta {
            last_log_id: position.applied,
            last_membership: position.membership,
        };
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::memory::MemoryStore;

    #[test]
    fn rows_that_are_being_replaced_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (group, store) = (PartitionId::ROOT, Arc::new(MemoryStore::default()));
        let state = GroupState::open(group, store, dir.path().to_owned()).unwrap();
        assert!(state.hold().is_ok());
        let replacing = state.0.own.write().unwrap();
        let (sender, held) = std::sync::mpsc::sync_channel(1);
        let asked = state.clone();
        std::thread::spawn(move || sender.send(asked.hold().is_ok()));
        let held = held.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(held, Ok(false), "a task waited");
        drop(replacing);
        assert!(state.hold().is_ok());
    }
}
