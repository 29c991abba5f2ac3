//! What a drive in memory holds: files, names, and what is to happen to them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::file::{BLOCK, Change, FileState};
use super::volatile::Mirror;
use super::{Action, dead};
use crate::drive::{DriveError, Open, Result};

/// Removed files whose bytes may turn up again, and how much of each.
const FORMER_FILES: usize = 4;
const FORMER_BYTES: usize = 1024 * 1024;

pub(super) struct State {
    /// Handles of an older life are dead.
    pub(super) life: u64,
    next_file: u64,
    pub(super) files: BTreeMap<u64, FileState>,
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since the last sync of their folder, oldest first.
    pending_names: Vec<NameChange>,
    pub(super) capacity: u64,
    pub(super) failures: BTreeMap<Action, Failure>,
    /// The power goes after so many more changes, with this seed.
    pub(super) cut: Option<(u32, u64)>,
    /// Whether it is a file system of its own.
    pub(super) alone: bool,
    /// Whether syncs only say that they did something.
    pub(super) lies: bool,
    /// What removed files held.
    former: Vec<Vec<u8>>,
    random: StdRng,
    pub(super) mirror: Option<Mirror>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Set(String, u64),
    Rename(String, String),
    Remove(String),
}

pub(super) struct Failure {
    pub(super) after: u32,
    pub(super) times: u32,
    pub(super) error: DriveError,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            life: 0,
            next_file: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            capacity: 1 << 40,
            failures: BTreeMap::new(),
            cut: None,
            alone: false,
            lies: false,
            former: Vec::new(),
            random: StdRng::seed_from_u64(0),
            mirror: None,
        }
    }

    /// A drive that was switched on: everything that it has is durable.
    pub(super) fn of(mirror: Mirror, names: BTreeMap<String, u64>) -> std::io::Result<Self> {
        let mut state = Self::new();
        for id in names.values().copied() {
            state.files.insert(id, FileState::of(mirror.read(id)?));
        }
        state.next_file = names.values().max().map_or(0, |last| last + 1);
        state.durable_names = names.clone();
        state.names = names;
        state.mirror = Some(mirror);
        Ok(state)
    }

    pub(super) fn index_folder(&self) -> Option<PathBuf> {
        self.mirror.as_ref().and_then(Mirror::index_folder)
    }

    /// Acts, unless that is to fail. When the power goes meanwhile, it may have been done.
    pub(super) fn act<T>(
        &mut self,
        life: u64,
        action: Option<Action>,
        act: impl FnOnce(&mut Self) -> T,
    ) -> Result<T> {
        if self.life != life {
            return Err(dead());
        }
        let Some(action) = action else {
            return Ok(act(self));
        };
        let changes = action != Action::Read;
        if let Some((after, seed)) = self.cut.filter(|_| changes) {
            if after == 0 {
                if seed & 1 == 1 {
                    act(self);
                }
                self.crash(seed);
                return Err(dead());
            }
            self.cut = Some((after - 1, seed));
        }
        self.check(action)?;
        Ok(act(self))
    }

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

    /// Cuts the power.
    pub(super) fn crash(&mut self, seed: u64) {
        self.random = StdRng::seed_from_u64(seed);
        self.life += 1;
        self.failures.clear();
        self.cut = None;
        let pending = std::mem::take(&mut self.pending_names);
        // File systems log changes of names in order: a prefix of them is there afterwards.
        let kept = self.random.random_range(0..=pending.len());
        for change in &pending[..kept] {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for (id, file) in &mut self.files {
            file.crash(&mut self.random, &self.former, |change| {
                Mirror::change(self.mirror.as_ref(), *id, change);
            });
        }
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        Mirror::names(self.mirror.as_ref(), &self.durable_names);
    }

    pub(super) fn file(&mut self, id: u64) -> Result<&mut FileState> {
        let lost = || DriveError::Io("the file was lost".to_owned());
        self.files.get_mut(&id).ok_or_else(lost)
    }

    /// Bytes that are free.
    pub(super) fn room(&self) -> u64 {
        let files = self.names.values().filter_map(|id| self.files.get(id));
        let used: u64 = files.map(FileState::used).sum();
        self.capacity.saturating_sub(used)
    }

    pub(super) fn open(&mut self, name: &str, how: Open) -> Result<u64> {
        match (self.names.get(name).copied(), how) {
            (Some(id), Open::Existing) => Ok(id),
            (None, Open::Existing) => Err(DriveError::NotFound(name.to_owned())),
            (Some(_), Open::New) => Err(DriveError::Exists(name.to_owned())),
            (None, Open::New) => {
                let id = self.next_file;
                self.next_file += 1;
                self.files.insert(id, FileState::default());
                self.change_name(NameChange::Set(name.to_owned(), id));
                Ok(id)
            }
        }
    }

    pub(super) fn rename(&mut self, name: &str, change: NameChange) -> Result<()> {
        if !self.names.contains_key(name) {
            return Err(DriveError::NotFound(name.to_owned()));
        }
        let gone = match &change {
            NameChange::Rename(_, to) => self.names.get(to),
            _ => self.names.get(name),
        };
        if let Some(file) = gone.and_then(|id| self.files.get(id)) {
            let kept = file.now.len().min(FORMER_BYTES);
            self.former.insert(0, file.now[..kept].to_vec());
            self.former.truncate(FORMER_FILES);
        }
        self.change_name(change);
        Ok(())
    }

    pub(super) fn take_away(&mut self, name: &str) -> bool {
        let was = self.names.remove(name).is_some();
        self.durable_names.remove(name);
        self.pending_names.retain(|change| !change.concerns(name));
        was
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    pub(super) fn sync_folder(&mut self, folder: &str) {
        if self.lies {
            return;
        }
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending_names)
            .into_iter()
            .partition(|change| change.is_in(folder));
        self.pending_names = rest;
        for change in &synced {
            change.apply(&mut self.durable_names);
        }
        if !synced.is_empty() {
            Mirror::names(self.mirror.as_ref(), &self.durable_names);
        }
    }

    pub(super) fn sync(&mut self, id: u64) -> Result<()> {
        if self.lies {
            return Ok(());
        }
        let mirror = self.mirror.take();
        let synced = self.file(id).map(|file| {
            file.sync(|change| Mirror::change(mirror.as_ref(), id, change));
        });
        self.mirror = mirror;
        synced
    }

    pub(super) fn sync_all(&mut self) {
        if self.lies {
            return;
        }
        for (id, file) in &mut self.files {
            file.sync(|change| Mirror::change(self.mirror.as_ref(), *id, change));
        }
        let pending = std::mem::take(&mut self.pending_names);
        for change in &pending {
            change.apply(&mut self.durable_names);
        }
        if !pending.is_empty() {
            Mirror::names(self.mirror.as_ref(), &self.durable_names);
        }
    }

    /// A sync failed: any part of what it was to make durable is lost, though it can still be read
    /// until the power goes.
    pub(super) fn fail_sync(&mut self, id: Option<u64>) {
        for (at, file) in &mut self.files {
            if id.is_none_or(|id| id == *at) {
                file.lose(&mut self.random, &self.former, |change| {
                    Mirror::change(self.mirror.as_ref(), *at, change);
                });
            }
        }
    }

    pub(super) fn change(&mut self, id: u64, change: Change) -> Result<()> {
        self.file(id)?.change(change);
        Ok(())
    }

    pub(super) fn write(&mut self, id: u64, offset: u64, mut bytes: Vec<u8>) -> Result<()> {
        let room = self.room();
        let file = self.file(id)?;
        let end = offset + bytes.len() as u64;
        let excess = end.saturating_sub(file.now.len() as u64 + room);
        let kept = (bytes.len() as u64).saturating_sub(excess);
        bytes.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        file.change(Change::Write(offset, bytes));
        match excess {
            0 => Ok(()),
            _ => Err(DriveError::NoSpace),
        }
    }

    /// A write failed: a part of it is there all the same.
    pub(super) fn tear(&mut self, life: u64, id: u64, offset: u64, mut bytes: Vec<u8>) {
        if self.life != life {
            return;
        }
        let kept = self.random.random_range(0..=bytes.len());
        bytes.truncate(kept);
        if let Some(file) = self.files.get_mut(&id) {
            file.change(Change::Write(offset, bytes));
        }
    }

    pub(super) fn punch(&mut self, id: u64, offset: u64, len: u64) -> Result<u64> {
        let file = self.file(id)?;
        let end = (offset + len).min(file.now.len() as u64);
        let (from, to) = (offset.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
        if to <= from {
            return Ok(0);
        }
        let before = file.used();
        file.change(Change::Punch(from, to - from));
        Ok(before - file.used())
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

    fn concerns(&self, file: &str) -> bool {
        let (Self::Set(name, _) | Self::Rename(_, name) | Self::Remove(name)) = self;
        name == file
    }

    fn is_in(&self, folder: &str) -> bool {
        let (Self::Set(name, _) | Self::Rename(name, _) | Self::Remove(name)) = self;
        name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder
    }
}
