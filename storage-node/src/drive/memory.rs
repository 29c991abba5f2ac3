//! A drive in memory that fails on demand, for tests of this and other crates.
//!
//! It keeps, for each file, what is durable and the changes since the last sync. A power cut loses
//! any part of the latter, in sectors and in any order; space that was allocated and not written
//! may then hold what a removed file left there. It may mirror what is durable to a folder
//! (`volatile`), so that a process can be killed over it.

mod file;
mod state;
pub mod volatile;

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::file::Change;
use self::state::{Failure, NameChange, State};
use super::{Drive, DriveError, DriveFile, FileSystemId, Hold, Open, Queued, Result, Space, Way};
use crate::sync::point;

/// Something that a drive does, and can fail to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Opening or creating a file.
    Open,
    /// Reading.
    Read,
    /// Writing. When it fails, some of it may be written.
    Write,
    /// Cutting or extending a file.
    SetLen,
    /// Syncing a file or the file system. When it fails, what it was to make durable may be lost,
    /// even if the next one succeeds.
    Sync,
    /// Syncing a folder.
    SyncFolder,
    /// Renaming or removing a file.
    Rename,
    /// Freeing a range.
    Punch,
}

/// A drive in memory. Clones are the same drive, plugged in at the same time.
#[derive(Clone)]
pub struct MemoryDrive {
    state: Arc<Mutex<State>>,
    file_system: FileSystemId,
    /// The life in which it was plugged in: whoever used it before a crash is gone with it.
    life: u64,
}

impl Default for MemoryDrive {
    fn default() -> Self {
        Self::new(FileSystemId(0))
    }
}

impl MemoryDrive {
    /// An empty drive of 1 TiB.
    pub fn new(file_system: FileSystemId) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new())),
            file_system,
            life: 0,
        }
    }

    /// Whether no other drive has its file system: it may be synced as a whole then.
    pub fn set_alone(&self, alone: bool) {
        self.state().alone = alone;
    }

    /// The same drive, plugged in after the last crash.
    #[must_use]
    pub fn replug(&self) -> Self {
        let life = self.state().life;
        Self {
            life,
            ..self.clone()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the drive, unless it is to fail, or the power goes meanwhile.
    fn act<T>(&self, action: Option<Action>, act: impl FnOnce(&mut State) -> T) -> Result<T> {
        point();
        self.state().act(self.life, action, act)
    }

    /// Lets the file system hold so many bytes from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Lets an action fail: after it has succeeded `after` more times, so many times.
    pub fn fail(&self, action: Action, after: u32, times: u32, error: DriveError) {
        let failure = Failure {
            after,
            times,
            error,
        };
        self.state().failures.insert(action, failure);
    }

    /// Lets everything succeed again.
    pub fn mend(&self) {
        let mut state = self.state();
        state.failures.clear();
        state.cut = None;
    }

    /// Cuts the power: what was not synced stays or goes, in pieces, as the seed decides. To its
    /// users the drive is dead from now on; see [`MemoryDrive::replug`].
    pub fn crash(&self, seed: u64) {
        self.state().crash(seed);
    }

    /// Cuts the power amid a later change: `after` of them are made before it.
    pub fn crash_after(&self, after: u32, seed: u64) {
        self.state().cut = Some((after, seed));
    }

    /// Flips bits of one byte of a file, in what is durable as well. Whether there is such a byte.
    pub fn rot(&self, name: &str, offset: u64) -> bool {
        let mut state = self.state();
        let id = state.names.get(name).copied();
        let file = id.and_then(|id| state.files.get_mut(&id));
        file.is_some_and(|file| file.rot(offset))
    }

    /// Makes the block of a file that holds a byte unreadable, until it is written again. Whether
    /// there is such a byte.
    pub fn spoil(&self, name: &str, offset: u64) -> bool {
        let mut state = self.state();
        let id = state.names.get(name).copied();
        let file = id.and_then(|id| state.files.get_mut(&id));
        file.is_some_and(|file| file.spoil(offset))
    }

    /// Takes a file away, for good, as a file system check may do; whether there was one. Who has
    /// it open does not notice.
    pub fn take_away(&self, name: &str) -> bool {
        self.state().take_away(name)
    }

    /// The bytes of a file, synced or not.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(name)?;
        state.files.get(id).map(|file| file.now.clone())
    }
}

fn dead() -> DriveError {
    DriveError::Io("the power was cut".to_owned())
}

impl Drive for MemoryDrive {
    fn file_system(&self) -> FileSystemId {
        self.file_system
    }

    fn open(&self, name: &str, how: Open) -> Result<Arc<dyn DriveFile>> {
        let opened = self.act(Some(Action::Open), |state| state.open(name, how))?;
        Ok(Arc::new(MemoryFile {
            drive: self.clone(),
            id: opened?,
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let inside = |name: &String| match name.rsplit_once('/') {
            Some((parent, name)) => (parent == folder).then(|| name.to_owned()),
            None => folder.is_empty().then(|| name.clone()),
        };
        self.act(None, |state| {
            state.names.keys().filter_map(inside).collect()
        })
    }

    fn create_folder(&self, _folder: &str) -> Result<()> {
        self.act(None, |_| ())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        self.act(Some(Action::Rename), |state| state.rename(from, change))?
    }

    fn remove(&self, name: &str) -> Result<()> {
        let change = NameChange::Remove(name.to_owned());
        self.act(Some(Action::Rename), |state| state.rename(name, change))?
    }

    fn sync_folder(&self, folder: &str) -> Result<()> {
        self.act(Some(Action::SyncFolder), |state| state.sync_folder(folder))
    }

    fn sync_file_system(&self) -> Result<bool> {
        if !self.act(None, |state| state.alone)? {
            return Ok(false);
        }
        let synced = self.act(Some(Action::Sync), State::sync_all);
        if synced.is_err() {
            self.state().fail_sync(None);
        }
        synced.map(|()| true)
    }

    fn space(&self) -> Result<Space> {
        self.act(None, |state| Space {
            total: state.capacity,
            available: state.room(),
        })
    }

    fn index_folder(&self) -> Option<PathBuf> {
        self.state().index_folder()
    }
}

struct MemoryFile {
    drive: MemoryDrive,
    id: u64,
}

impl MemoryFile {
    fn change(&self, action: Action, change: Change) -> Result<()> {
        self.drive
            .act(Some(action), |state| state.change(self.id, change))?
    }
}

impl DriveFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.drive.act(Some(Action::Read), |state| {
            let file = state.file(self.id)?;
            match file.is_spoilt(offset, buffer.len()) {
                true => Err(DriveError::Unreadable("a bad sector".to_owned())),
                false => Ok(file.read(offset, buffer)),
            }
        })?
    }

    fn read_held(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        point();
        let mut state = self.drive.state();
        // Some of it is, as long as reading does not fail.
        let held = !(offset / 512 + len as u64).is_multiple_of(3);
        if !held || state.life != self.drive.life || state.failures.contains_key(&Action::Read) {
            return None;
        }
        let mut bytes = vec![0; len];
        let file = state.file(self.id).ok()?;
        let count = file.read(offset, &mut bytes);
        (count == len && !file.is_spoilt(offset, len)).then_some(bytes)
    }

    fn read_queued(&self, offset: u64, len: usize, _: Way, hold: &Hold) -> Option<Queued> {
        // Some of it can be, at another time than it was asked for.
        if (offset / 512 + len as u64).is_multiple_of(2) {
            return None;
        }
        let (hold, drive, id) = (Arc::clone(hold), self.drive.clone(), self.id);
        Some(Box::pin(async move {
            tokio::task::yield_now().await;
            point();
            let read = MemoryFile { drive, id }.read_bytes(offset, len);
            drop(hold);
            read.ok().filter(|bytes| bytes.len() == len)
        }))
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()> {
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices
            .iter()
            .for_each(|slice| bytes.extend_from_slice(slice));
        let mut bytes = Some(bytes);
        let written = self.drive.act(Some(Action::Write), |state| {
            state.write(self.id, offset, bytes.take().unwrap_or_default())
        });
        if let Some(bytes) = bytes.filter(|_| written.is_err()) {
            self.drive
                .state()
                .tear(self.drive.life, self.id, offset, bytes);
        }
        written?
    }

    fn size(&self) -> Result<u64> {
        self.drive
            .act(None, |state| Ok(state.file(self.id)?.now.len() as u64))?
    }

    fn start_write_back(&self, _offset: u64, _len: u64) {}

    fn sync(&self) -> Result<()> {
        let synced = self
            .drive
            .act(Some(Action::Sync), |state| state.sync(self.id));
        if synced.is_err() {
            self.drive.state().fail_sync(Some(self.id));
        }
        synced?
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.change(Action::SetLen, Change::SetLen(len))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<u64> {
        self.drive.act(Some(Action::Punch), |state| {
            state.punch(self.id, offset, len)
        })?
    }
}

#[cfg(test)]
mod tests;
