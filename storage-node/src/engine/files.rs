//! A bounded cache of open logs (PROTOCOLS 16).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::lock;
use super::rows::{LogId, ShardKey};
use crate::drive::{DriveFile, Result};

/// Open files, the least recently used of which is closed when there are too many.
///
/// A file is kept under the incarnation of its log: the name of a shard's log leads to another file
/// after compaction, and what was opened before must never be taken for it.
pub(super) struct Files {
    most: usize,
    open: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    uses: u64,
    files: BTreeMap<ShardKey, Held>,
}

struct Held {
    used: u64,
    incarnation: u64,
    file: Arc<dyn DriveFile>,
}

impl Files {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: most.max(1) as usize,
            open: Mutex::default(),
        }
    }

    /// The file of a log; opened when it is not, and kept when the log still is its shard's: a file
    /// that has no name any more takes room as long as it is open.
    pub(super) fn get(
        &self,
        log: LogId,
        open: impl FnOnce() -> Result<Arc<dyn DriveFile>>,
        is_current: impl FnOnce() -> bool,
    ) -> Result<Arc<dyn DriveFile>> {
        if let Some(held) = self.held(log) {
            return Ok(held);
        }
        let file = open()?;
        let mut cached = lock(&self.open);
        if is_current() {
            cached.put(log, &file, self.most);
        }
        Ok(file)
    }

    /// The file of a log, if it is open.
    pub(super) fn held(&self, log: LogId) -> Option<Arc<dyn DriveFile>> {
        let mut cached = lock(&self.open);
        cached.uses += 1;
        let uses = cached.uses;
        let held = cached.files.get_mut(&log.key)?;
        if held.incarnation != log.incarnation {
            return None;
        }
        held.used = uses;
        Some(Arc::clone(&held.file))
    }

    /// Keeps the file of a shard's log, instead of that of an earlier one.
    pub(super) fn put(&self, log: LogId, file: &Arc<dyn DriveFile>) {
        lock(&self.open).put(log, file, self.most);
    }

    /// Lets go of a shard's file. To be called when the log is no longer its shard's.
    pub(super) fn forget(&self, key: ShardKey) {
        lock(&self.open).files.remove(&key);
    }
}

impl Cached {
    fn put(&mut self, log: LogId, file: &Arc<dyn DriveFile>, most: usize) {
        self.uses += 1;
        let held = Held {
            used: self.uses,
            incarnation: log.incarnation,
            file: Arc::clone(file),
        };
        self.files.insert(log.key, held);
        if self.files.len() > most {
            let oldest = self.files.iter().min_by_key(|(_, held)| held.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.files.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::memory::MemoryDrive;
    use crate::drive::{Drive, Open};
    use enfilade_placement::VolumeId;

    #[test]
    fn the_least_recently_used_file_is_closed() {
        let drive = MemoryDrive::default();
        let files = Files::new(2);
        let key = |volume| ShardKey {
            volume: VolumeId::new(volume),
            member: 0,
        };
        let open = |volume| {
            files
                .get(
                    key(volume).log(1),
                    || drive.open(&key(volume).file(), Open::New),
                    || true,
                )
                .map(|_| ())
        };
        assert_eq!(
            [open(1), open(2), open(1), open(3)],
            [Ok(()), Ok(()), Ok(()), Ok(())]
        );
        // 2 was closed: it is opened again, and cannot be created again.
        assert!(open(1).is_ok());
        assert!(open(2).is_err());
    }

    #[test]
    fn the_file_of_an_earlier_log_is_never_taken_for_that_of_a_later_one() {
        let drive = MemoryDrive::default();
        let files = Files::new(2);
        let key = ShardKey {
            volume: VolumeId::new(1),
            member: 0,
        };
        let open = |name| drive.open(name, Open::New);
        let old = files.get(key.log(1), || open("old"), || true).unwrap();
        let new = files.get(key.log(2), || open("new"), || true).unwrap();
        assert!(!Arc::ptr_eq(&old, &new));
        // A reader of the old log that comes late gets its file, which is not kept.
        files.get(key.log(1), || Ok(old), || false).unwrap();
        let kept = files.get(key.log(2), || open("new"), || true).unwrap();
        assert!(Arc::ptr_eq(&kept, &new));
    }
}
