//! The index on RocksDB: one database a drive, one budget of memory a process.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, Direction, ErrorKind, IteratorMode, LogLevel, Options,
    ReadOptions, ReadTier, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::{Batch, Change, Index, IndexError, Row};

/// Memory that the indexes of all drives of a process share (PROTOCOLS 16).
#[derive(Clone)]
pub(crate) struct IndexMemory {
    cache: Cache,
    buffers: WriteBufferManager,
    open_files: i32,
}

impl IndexMemory {
    /// Bounds, in bytes: of the block cache and of all write buffers; and how many files each
    /// drive's index keeps open.
    pub(crate) fn new(cache: usize, buffers: usize, open_files: u16) -> Self {
        let cache = Cache::new_lru_cache(cache);
        let buffers = WriteBufferManager::new_write_buffer_manager(buffers, false);
        Self {
            cache,
            buffers,
            open_files: i32::from(open_files),
        }
    }
}

/// An index in a folder of the drive.
pub(crate) struct RocksIndex {
    db: DB,
    unlogged: WriteOptions,
}

impl RocksIndex {
    /// Opens the index; creates an empty one when there is none, or when what is there is damaged.
    ///
    /// # Errors
    /// When the device fails or has no room, or the index is in use.
    pub(crate) fn open(folder: &Path, memory: &IndexMemory) -> Result<Self, IndexError> {
        let opened = Self::try_open(folder, memory).or_else(|error| {
            if !is_damage(&error) {
                return Err(error);
            }
            tracing::warn!(?folder, %error, "the index is damaged; it is built from the logs");
            DB::destroy(&Options::default(), folder)?;
            Self::try_open(folder, memory)
        });
        opened.map_err(failed)
    }

    fn try_open(folder: &Path, memory: &IndexMemory) -> Result<Self, rocksdb::Error> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&memory.cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_block_size(8 * 1024);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_manager(&memory.buffers);
        options.set_write_buffer_size(16 * 1024 * 1024);
        options.set_max_open_files(memory.open_files);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1024 * 1024);
        options.set_log_level(LogLevel::Warn);
        options.set_stats_dump_period_sec(0);
        options.set_max_file_opening_threads(1);
        let db = DB::open(&options, folder)?;
        let mut unlogged = WriteOptions::default();
        // The shard logs are the log; a crash costs a scan from the last flush.
        unlogged.disable_wal(true);
        Ok(Self { db, unlogged })
    }

    /// Removes what [`RocksIndex::open`] made.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn destroy(folder: &Path) -> Result<(), IndexError> {
        DB::destroy(&Options::default(), folder).map_err(failed)
    }
}

/// Whether an error says that the files are not what was written, rather than that they cannot be
/// reached now.
fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotSupported | ErrorKind::InvalidArgument => true,
        ErrorKind::IOError => error.to_string().contains("No such file"),
        _ => false,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: rocksdb::Error) -> IndexError {
    IndexError(error.to_string())
}

/// Reads rows: all of them, or only those in memory.
struct Reading<'a> {
    index: &'a RocksIndex,
    tier: ReadTier,
}

impl Reading<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_read_tier(self.tier);
        options
    }
}

impl RocksIndex {
    const fn reading(&self, tier: ReadTier) -> Reading<'_> {
        Reading { index: self, tier }
    }
}

impl Index for Reading<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.index.db.get_opt(key, &self.options()).map_err(failed)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
        let mut options = self.options();
        options.set_iterate_lower_bound(from);
        let mut iterator = self.index.db.raw_iterator_opt(options);
        iterator.seek_for_prev(to);
        let row = iterator
            .item()
            .map(|(key, value)| (key.to_vec(), value.to_vec()));
        iterator.status().map_err(failed)?;
        Ok(row)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut options = self.options();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let mode = IteratorMode::From(from, Direction::Forward);
        let rows = self.index.db.iterator_opt(mode, options).take(limit);
        rows.map(|row| {
            row.map(|(key, value)| (key.into(), value.into()))
                .map_err(failed)
        })
        .collect()
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        self.index.write(batch)
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.index.flush()
    }
}

impl Index for RocksIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.reading(ReadTier::All).get(key)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
        self.reading(ReadTier::All).last(from, to)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        self.reading(ReadTier::All).scan(from, to, limit)
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut writes = WriteBatch::default();
        for change in &batch.changes {
            match change {
                Change::Put(key, value) => writes.put(key, value),
                Change::Delete(key) => writes.delete(key),
                Change::DeleteRange(from, to) => writes.delete_range(from, to),
            }
        }
        self.db.write_opt(writes, &self.unlogged).map_err(failed)
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.db.flush().map_err(failed)
    }

    fn held(&self) -> Option<Box<dyn Index + '_>> {
        Some(Box::new(self.reading(ReadTier::BlockCache)))
    }
}
