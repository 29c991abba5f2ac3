//! A bounded cache of open logs (PROTOCOLS 16).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::lock;
use super::rows::ShardKey;
use crate::drive::{DriveFile, Result};

/// Open files, the least recently used of which is closed when there are too many.
pub(super) struct Files {
    most: usize,
    open: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    uses: u64,
    files: BTreeMap<ShardKey, (u64, Arc<dyn DriveFile>)>,
}

impl Files {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: most.max(1) as usize,
            open: Mutex::default(),
        }
    }

    /// The file of a shard; opened when it is not.
    pub(super) fn get(
        &self,
        key: ShardKey,
        open: impl FnOnce() -> Result<Arc<dyn DriveFile>>,
    ) -> Result<Arc<dyn DriveFile>> {
        {
            let mut cached = lock(&self.open);
            cached.uses += 1;
            let uses = cached.uses;
            if let Some((used, file)) = cached.files.get_mut(&key) {
                *used = uses;
                return Ok(Arc::clone(file));
            }
        }
        let file = open()?;
        self.put(key, &file);
        Ok(file)
    }

    pub(super) fn put(&self, key: ShardKey, file: &Arc<dyn DriveFile>) {
        let mut cached = lock(&self.open);
        cached.uses += 1;
        let uses = cached.uses;
        cached.files.insert(key, (uses, Arc::clone(file)));
        if cached.files.len() > self.most {
            let oldest = cached
                .files
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| *key);
            if let Some(key) = oldest {
                cached.files.remove(&key);
            }
        }
    }

    pub(super) fn forget(&self, key: ShardKey) {
        lock(&self.open).files.remove(&key);
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
                .get(key(volume), || drive.open(&key(volume).file(), Open::New))
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
}
