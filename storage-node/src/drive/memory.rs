//! A drive in memory that fails on demand, for tests of this and other crates.
//!
//! It keeps, for each file, what is durable and the writes since the last sync.
//! [`MemoryDrive::crash`] loses any part of the latter, in pieces of a sector and in any order, as
//! a power cut does.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Drive, DriveError, DriveFile, FileSystemId, Open, Result, Space};

/// What a device writes as a whole or not at all.
const SECTOR: usize = 512;

/// Something that a drive does, and can fail to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Opening or creating a file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing a file.
    Sync,
    /// Syncing a folder.
    SyncFolder,
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

struct State {
    /// Handles of an older life are dead.
    life: u64,
    next_file: u64,
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since the last sync of their folder, oldest first.
    pending_names: Vec<NameChange>,
    capacity: u64,
    failures: BTreeMap<Action, Failure>,
    /// Whether it is a file system of its own.
    alone: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(String, u64),
    Rename(String, String),
    Remove(String),
}

struct Failure {
    after: u32,
    times: u32,
    error: DriveError,
}

#[derive(Default)]
struct FileState {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    freed: u64,
}

enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Default for MemoryDrive {
    fn default() -> Self {
        Self::new(FileSystemId(0))
    }
}

impl MemoryDrive {
    /// An empty drive of 1 TiB.
    pub fn new(file_system: FileSystemId) -> Self {
        let state = State {
            life: 0,
            next_file: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            capacity: 1 << 40,
            failures: BTreeMap::new(),
            alone: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
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

    fn alive(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(dead())
        }
    }

    /// Lets the file system hold so many bytes from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Lets an action fail: after it has succeeded `after` more times, so many times.
    pub fn fail(&self, action: Action, after: u32, times: u32, error: DriveError) {
        self.state().failures.insert(
            action,
            Failure {
                after,
                times,
                error,
            },
        );
    }

    /// Lets everything succeed again.
    pub fn mend(&self) {
        self.state().failures.clear();
    }

    /// Cuts the power: what was not synced stays or goes, in pieces, as the seed decides. To its
    /// users the drive is dead from now on; see [`MemoryDrive::replug`].
    pub fn crash(&self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = self.state();
        state.life += 1;
        state.failures.clear();
        let pending = std::mem::take(&mut state.pending_names);
        // File systems log changes of names in order: a prefix of them is there afterwards.
        let kept = random.random_range(0..=pending.len());
        for change in &pending[..kept] {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        for file in state.files.values_mut() {
            file.crash(&mut random);
        }
        let named: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|id, _| named.contains(id));
    }

    /// Flips bits of one byte of a file, in what is durable as well. Whether there is such a byte.
    pub fn rot(&self, name: &str, offset: u64) -> bool {
        let mut state = self.state();
        let Some(id) = state.names.get(name).copied() else {
            return false;
        };
        let Some(file) = state.files.get_mut(&id) else {
            return false;
        };
        let Ok(at) = usize::try_from(offset) else {
            return false;
        };
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 0x40;
        }
        match file.now.get_mut(at) {
            Some(byte) => {
                *byte ^= 0x40;
                true
            }
            None => false,
        }
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

impl State {
    fn check(&mut self, action: Action) -> Result<()> {
        let Some(failure) = self.failures.get_mut(&action) else {
            return Ok(());
        };
        if failure.after > 0 {
            failure.after -= 1;
            return Ok(());
        }
        if failure.times == 0 {
            return Ok(());
        }
        failure.times -= 1;
        Err(failure.error.clone())
    }

    fn used(&self) -> u64 {
        self.files.values().map(FileState::used).sum()
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }

    fn is_in(&self, folder: &str) -> bool {
        let (Self::Set(name, _) | Self::Rename(name, _) | Self::Remove(name)) = self;
        name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder
    }
}

impl FileState {
    fn used(&self) -> u64 {
        (self.now.len() as u64).saturating_sub(self.freed)
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self, random: &mut StdRng) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::SetLen(_) if random.random() => change.apply(&mut self.durable),
                Change::SetLen(_) => {}
                Change::Write(offset, bytes) => {
                    let all = random.random_ratio(1, 3);
                    let none = !all && random.random_ratio(1, 3);
                    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                        if all || (!none && random.random()) {
                            let at = offset + (index * SECTOR) as u64;
                            Change::Write(at, sector.to_vec()).apply(&mut self.durable);
                        }
                    }
                }
            }
        }
        self.now = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0),
            Self::Write(offset, new) => {
                let at = usize::try_from(*offset).unwrap_or(usize::MAX);
                if bytes.len() < at + new.len() {
                    bytes.resize(at + new.len(), 0);
                }
                bytes[at..at + new.len()].copy_from_slice(new);
            }
        }
    }
}

impl Drive for MemoryDrive {
    fn file_system(&self) -> FileSystemId {
        self.file_system
    }

    fn open(&self, name: &str, how: Open) -> Result<Arc<dyn DriveFile>> {
        let mut state = self.alive()?;
        state.check(Action::Open)?;
        let id = match (state.names.get(name).copied(), how) {
            (Some(id), Open::Existing) => id,
            (None, Open::Existing) => return Err(DriveError::NotFound(name.to_owned())),
            (Some(_), Open::New) => return Err(DriveError::Exists(name.to_owned())),
            (None, Open::New) => {
                let id = state.next_file;
                state.next_file += 1;
                state.files.insert(id, FileState::default());
                state.change_name(NameChange::Set(name.to_owned(), id));
                id
            }
        };
        let life = state.life;
        Ok(Arc::new(MemoryFile {
            state: Arc::clone(&self.state),
            id,
            life,
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let state = self.alive()?;
        let inside = |name: &String| match name.rsplit_once('/') {
            Some((parent, name)) => (parent == folder).then(|| name.to_owned()),
            None => folder.is_empty().then(|| name.clone()),
        };
        Ok(state.names.keys().filter_map(inside).collect())
    }

    fn create_folder(&self, _folder: &str) -> Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut state = self.alive()?;
        if !state.names.contains_key(from) {
            return Err(DriveError::NotFound(from.to_owned()));
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.alive()?;
        if !state.names.contains_key(name) {
            return Err(DriveError::NotFound(name.to_owned()));
        }
        state.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> Result<()> {
        let mut state = self.alive()?;
        state.check(Action::SyncFolder)?;
        let (synced, rest) = std::mem::take(&mut state.pending_names)
            .into_iter()
            .partition(|c| c.is_in(folder));
        state.pending_names = rest;
        let synced: Vec<NameChange> = synced;
        for change in &synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn sync_file_system(&self) -> Result<bool> {
        let mut state = self.alive()?;
        if !state.alone {
            return Ok(false);
        }
        if let Err(error) = state.check(Action::Sync) {
            state
                .files
                .values_mut()
                .for_each(|file| file.pending.clear());
            return Err(error);
        }
        state.files.values_mut().for_each(FileState::sync);
        for change in std::mem::take(&mut state.pending_names) {
            change.apply(&mut state.durable_names);
        }
        Ok(true)
    }

    fn space(&self) -> Result<Space> {
        let state = self.alive()?;
        let available = state.capacity.saturating_sub(state.used());
        Ok(Space {
            total: state.capacity,
            available,
        })
    }

    fn index_folder(&self) -> Option<PathBuf> {
        None
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    id: u64,
    life: u64,
}

impl MemoryFile {
    fn with<T>(
        &self,
        action: Option<Action>,
        act: impl FnOnce(&mut FileState, u64) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.life != self.life {
            return Err(dead());
        }
        let outcome = action.map_or(Ok(()), |action| state.check(action));
        let room = state.capacity.saturating_sub(state.used());
        let Some(file) = state.files.get_mut(&self.id) else {
            return Err(DriveError::Io("the file was lost".to_owned()));
        };
        if let Err(error) = outcome {
            // What a failed sync was to make durable is lost, even if a later one succeeds.
            if action == Some(Action::Sync) {
                file.pending.clear();
            }
            return Err(error);
        }
        act(file, room)
    }
}

impl DriveFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.with(Some(Action::Read), |file, _| {
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(file.now.len());
            let count = buffer.len().min(file.now.len() - start);
            buffer[..count].copy_from_slice(&file.now[start..start + count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()> {
        self.with(Some(Action::Write), |file, room| {
            let mut bytes = slices
                .iter()
                .flat_map(|slice| slice.iter())
                .copied()
                .collect::<Vec<u8>>();
            let end = offset + bytes.len() as u64;
            let excess = end.saturating_sub(file.now.len() as u64 + room);
            bytes.truncate(
                bytes
                    .len()
                    .saturating_sub(usize::try_from(excess).unwrap_or(usize::MAX)),
            );
            let change = Change::Write(offset, bytes);
            change.apply(&mut file.now);
            file.pending.push(change);
            if excess > 0 {
                Err(DriveError::NoSpace)
            } else {
                Ok(())
            }
        })
    }

    fn size(&self) -> Result<u64> {
        self.with(None, |file, _| Ok(file.now.len() as u64))
    }

    fn start_write_back(&self, _offset: u64, _len: u64) {}

    fn sync(&self) -> Result<()> {
        self.with(Some(Action::Sync), |file, _| {
            file.sync();
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.with(None, |file, _| {
            let change = Change::SetLen(len);
            change.apply(&mut file.now);
            file.pending.push(change);
            Ok(())
        })
    }

    fn punch(&self, offset: u64, len: u64) -> Result<u64> {
        self.with(Some(Action::Punch), |file, _| {
            let end = (offset + len).min(file.now.len() as u64);
            let len = end.saturating_sub(offset);
            let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
            let change = Change::Write(offset, zeros);
            change.apply(&mut file.now);
            file.pending.push(change);
            file.freed += len;
            Ok(len)
        })
    }
}
