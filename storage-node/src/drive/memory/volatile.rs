//! A drive whose unsynced changes are in the memory of the process, and whose durable ones are in
//! a folder: a process that is killed takes with it what it has not synced, as a power cut does.
//!
//! In the folder, `data/N` are the files by number and `names` says what they are called; it is
//! replaced in one step. `index` is free for an index, which is not volatile.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::file::Change;
use super::state::State;
use super::{FileSystemId, MemoryDrive};

/// The folder that durable changes go to.
pub(super) struct Mirror {
    folder: PathBuf,
    index: bool,
}

impl MemoryDrive {
    /// A drive over a folder, with what is durable in it; it is made when it is not there.
    ///
    /// `index`: whether it offers a folder for an index.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn over(folder: &Path, index: bool) -> io::Result<Self> {
        fs::create_dir_all(folder.join("data"))?;
        let mirror = Mirror {
            folder: folder.to_owned(),
            index,
        };
        let state = State::of(mirror, read_names(folder)?)?;
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            file_system: FileSystemId(0),
            life: 0,
        })
    }

    /// Lets syncs say that they did what they did not do: shows that a test would notice.
    pub fn set_lying(&self, lies: bool) {
        self.state().lies = lies;
    }
}

fn read_names(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    let text = match fs::read_to_string(folder.join("names")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let line = |line: &str| {
        let (id, name) = line.split_once(' ')?;
        Some((name.to_owned(), id.parse().ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

impl Mirror {
    pub(super) fn index_folder(&self) -> Option<PathBuf> {
        self.index.then(|| self.folder.join("index"))
    }

    fn data(&self, id: u64) -> PathBuf {
        self.folder.join("data").join(id.to_string())
    }

    pub(super) fn read(&self, id: u64) -> io::Result<Vec<u8>> {
        match fs::read(self.data(id)) {
            // Named, and nothing in it was synced.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// Makes a change of a file, where there is a mirror. A mirror that fails is of no use to any
    /// test.
    pub(super) fn change(mirror: Option<&Self>, id: u64, change: &Change) {
        if let Some(mirror) = mirror {
            mirror
                .make(id, change)
                .expect("the folder of a volatile drive takes what is written to it");
        }
    }

    fn make(&self, id: u64, change: &Change) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.data(id))?;
        match change {
            Change::Write(offset, bytes) => file.write_all_at(bytes, *offset),
            Change::SetLen(len) => file.set_len(*len),
            Change::Punch(offset, len) => punch(&file, *offset, *len),
        }
    }

    /// Replaces the names of all files.
    pub(super) fn names(mirror: Option<&Self>, names: &BTreeMap<String, u64>) {
        if let Some(mirror) = mirror {
            let lines = names.iter().map(|(name, id)| format!("{id} {name}\n"));
            let new = mirror.folder.join("names.new");
            fs::write(&new, lines.collect::<String>())
                .and_then(|()| fs::rename(&new, mirror.folder.join("names")))
                .expect("the folder of a volatile drive takes what is written to it");
        }
    }
}

fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let end = (offset + len).min(file.metadata()?.len());
    let zeros = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
    file.write_all_at(&zeros, offset)
}
