//! Building the index of a drive anew, whole, from its logs: offline.

use std::sync::Arc;

use enfilade_placement::DriveId;

use super::index::rocks::RocksIndex;
use super::index::{Index, MemoryIndex, format};
use super::open::{EngineOpenError, refuse_newer};
use super::rows::Rows;
use super::{DAMAGED_INDEX, Engine};
use crate::drive::{Drive, DriveError};
use crate::host::Host;

/// What was found in the logs while the index was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Shards that have a log.
    pub shards: u64,
    /// Valid records.
    pub records: u64,
    /// Fragments that the shards hold.
    pub fragments: u64,
    /// Bytes of those fragments.
    pub bytes: u64,
    /// Fragments among them that are known to be corrupt.
    pub corrupt: u64,
    /// Places where synced records cannot be read, so that what is missing is not known.
    pub damaged: u64,
    /// Bytes that were never acked, and were cut off the ends of logs.
    pub cut: u64,
}

impl Engine {
    /// Throws the index of a drive away and builds a new one from all of its logs; durable when
    /// this returns. A crash on the way leaves a part of it, which the next opening completes. The
    /// age of blobs begins anew, so that none is taken for an orphan too early. Blocks.
    ///
    /// # Errors
    /// [`EngineOpenError`]; an index of a newer program is left as it is.
    pub fn rebuild_index(
        host: &Host,
        drive: Arc<dyn Drive>,
        id: DriveId,
    ) -> Result<Rebuilt, EngineOpenError> {
        refuse_newer(drive.as_ref())?;
        // Let go of last: the index finds its folder through the drive.
        let _held = Arc::clone(&drive);
        let index: Arc<dyn Index> = match drive.index_folder() {
            None => Arc::new(MemoryIndex::default()),
            Some(folder) => {
                // The drive's clock goes on where it was, if that can still be read.
                let clock = RocksIndex::open(&folder, &host.index_memory)
                    .and_then(|index| Rows(&index).clock())
                    .unwrap_or(0);
                RocksIndex::destroy(&folder)?;
                let index = RocksIndex::open(&folder, &host.index_memory)?;
                Rows(&index).put_clock(clock)?;
                format::write(drive.as_ref())?;
                Arc::new(index)
            }
        };
        match drive.remove(DAMAGED_INDEX) {
            Ok(()) | Err(DriveError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let engine = Self::open_with(host, drive, id, None, Arc::clone(&index))?;
        index.flush()?;
        engine.sums()
    }

    fn sums(&self) -> Result<Rebuilt, EngineOpenError> {
        let recovered = self.recovered();
        let mut sums = Rebuilt {
            records: recovered.records,
            cut: recovered.cut,
            ..Rebuilt::default()
        };
        for shard in self.shards() {
            sums.shards += 1;
            sums.bytes += shard.live;
            sums.damaged += u64::from(shard.damaged);
            if let Some(log) = self.log_id(shard.key) {
                sums.fragments += self.rows().fragments(log)?;
                sums.corrupt += self.rows().all_bad(log, usize::MAX)?.len() as u64;
            }
        }
        Ok(sums)
    }
}
