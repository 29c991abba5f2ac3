//! One RocksDB for all groups of a process: their logs, their rows, and how far they have come.
//!
//! Column families: `log` (group and index, big endian -> entry), `raft` (group and kind -> vote,
//! purge position, state position) and one for each [`Table`]. All share one write-ahead log, so
//! that what is durable is always a prefix of what was written: the rows that a purge of the log
//! relies on are durable before the purge is (PROTOCOLS 7). Flushing one column family syncs the
//! closed write-ahead logs first, which keeps that true for flushed data.

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use enfilade_placement::PartitionId;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::log_writer::LogWriter;
use super::rocks_forget::{Forgetter, forgets_removed};
use super::rocks_rows::RocksRows;
use super::store::{
    Done, ExportBegin, LogStore, LogWrite, RowRange, RowSink, RowSource, StateStore, WithRows,
};
use crate::rows::{RowWrite, Table};
use crate::settings::StorageSettings;

/// The column family of log entries.
pub(super) const LOG: &str = "log";
/// The column family of votes and positions.
pub(super) const RAFT: &str = "raft";

/// Rows of [`RAFT`].
#[derive(Clone, Copy)]
pub(super) enum Kept {
    /// The vote.
    Vote = 1,
    /// The position of the last purged entry.
    Purged = 2,
    /// The position of the rows.
    Position = 3,
    /// No value: the replica was made empty, and has not caught up since.
    Young = 4,
}

/// The database of a process.
pub struct Rocks {
    db: Arc<DB>,
    writer: LogWriter,
    forgetter: Forgetter,
}

impl Rocks {
    /// Opens the database in a folder, or makes it. RocksDB locks the folder against a second one.
    ///
    /// # Errors
    /// When it cannot be opened: another process has it, the device fails, or files are corrupt.
    pub fn open(dir: &Path, settings: &StorageSettings) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let cache = Cache::new_lru_cache(settings.block_cache);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            settings.write_buffers,
            false,
            cache.clone(),
        );
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(settings.open_files_max);
        options.set_write_buffer_manager(&buffers);
        options.set_max_background_jobs(2);
        options.set_max_total_wal_size(256 << 20);
        options.set_keep_log_file_num(4);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_track_and_verify_wals_in_manifest(true);
        let tables = Table::ALL.iter().map(|table| table.name());
        let families = [LOG, RAFT]
            .into_iter()
            .chain(tables)
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &cache, settings)));
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(io::Error::other)?;
        let db = Arc::new(db);
        Ok(Self {
            writer: LogWriter::start(Arc::clone(&db), settings.sync)?,
            forgetter: Forgetter::start(Arc::clone(&db))?,
            db,
        })
    }

    fn kept(&self, group: PartitionId, kept: Kept) -> io::Result<Option<Bytes>> {
        let value = self
            .db
            .get_cf(family(&self.db, RAFT), kept_key(group, kept));
        Ok(value.map_err(io::Error::other)?.map(Bytes::from))
    }

    /// Bytes that RocksDB holds in memory and on the drive, for metrics: memtables, block cache,
    /// live table files.
    pub fn sizes(&self) -> [u64; 3] {
        let sum = |property: &str| {
            let families = [LOG, RAFT]
                .into_iter()
                .chain(Table::ALL.iter().map(|t| t.name()));
            let of = |name| {
                self.db
                    .property_int_value_cf(family(&self.db, name), property)
            };
            families.filter_map(|name| of(name).ok().flatten()).sum()
        };
        let cache = self.db.property_int_value("rocksdb.block-cache-usage");
        [
            sum("rocksdb.cur-size-all-mem-tables"),
            cache.ok().flatten().unwrap_or(0),
            sum("rocksdb.live-sst-files-size"),
        ]
    }
}

fn family_options(name: &str, cache: &Cache, settings: &StorageSettings) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(5);
    let mut options = Options::default();
    if name == LOG || name == RAFT {
        options.set_compression_type(DBCompressionType::None);
    } else {
        options.set_compression_type(DBCompressionType::Lz4);
        blocks.set_bloom_filter(10.0, false);
    }
    if Table::ALL
        .iter()
        .any(|table| table.name() == name && table.is_listed())
    {
        forgets_removed(&mut options);
    }
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(settings.write_buffer);
    options
}

/// The handle of a column family.
pub(super) fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name)
        .expect("all column families are opened with the database")
}

/// The key of a log entry.
pub(super) fn log_key(group: PartitionId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.get().to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The key of a row of [`RAFT`].
pub(super) fn kept_key(group: PartitionId, kept: Kept) -> [u8; 5] {
    let mut key = [kept as u8; 5];
    key[..4].copy_from_slice(&group.get().to_be_bytes());
    key
}

impl LogStore for Rocks {
    fn submit(&self, group: PartitionId, write: LogWrite, done: Done) {
        self.writer.submit(group, write, done);
    }

    fn entries(
        &self,
        group: PartitionId,
        range: Range<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(log_key(group, range.end));
        let mut rows = self.db.raw_iterator_cf_opt(family(&self.db, LOG), options);
        rows.seek(log_key(group, range.start));
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        while let (Some((key, value)), true) = (rows.item(), bytes < bytes_max) {
            bytes = bytes.saturating_add(value.len());
            entries.push((log_index(key)?, Bytes::copy_from_slice(value)));
            rows.next();
        }
        rows.status().map_err(io::Error::other)?;
        Ok(entries)
    }

    fn last(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(log_key(group, 0));
        let mut rows = self.db.raw_iterator_cf_opt(family(&self.db, LOG), options);
        rows.seek_for_prev(log_key(group, u64::MAX));
        rows.status().map_err(io::Error::other)?;
        Ok(rows.value().map(Bytes::copy_from_slice))
    }

    fn purged(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        self.kept(group, Kept::Purged)
    }

    fn vote(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        self.kept(group, Kept::Vote)
    }
}

fn log_index(key: &[u8]) -> io::Result<u64> {
    let index = key
        .get(4..12)
        .and_then(|index| index.try_into().ok())
        .map(u64::from_be_bytes);
    index.ok_or_else(|| io::Error::other("a key of the log is not 12 bytes long"))
}

impl StateStore for Rocks {
    fn read(&self, act: &mut WithRows<'_>) -> io::Result<()> {
        act(&RocksRows::now(&self.db, &self.forgetter))
    }

    fn position(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        self.kept(group, Kept::Position)
    }

    fn groups(&self) -> io::Result<Vec<PartitionId>> {
        let mut rows = self.db.raw_iterator_cf(family(&self.db, RAFT));
        let mut groups = Vec::new();
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let position = key.split_first_chunk::<4>();
            let position = position.filter(|(_, kind)| **kind == [Kept::Position as u8]);
            groups.extend(position.map(|(g, _)| PartitionId::new(u32::from_be_bytes(*g))));
            rows.next();
        }
        rows.status().map_err(io::Error::other)?;
        Ok(groups)
    }

    fn is_young(&self, group: PartitionId) -> io::Result<bool> {
        Ok(self.kept(group, Kept::Young)?.is_some())
    }

    fn set_young(&self, group: PartitionId, young: bool) -> io::Result<()> {
        let (raft, key) = (family(&self.db, RAFT), kept_key(group, Kept::Young));
        let written = match young {
            true => self.db.put_cf(raft, key, []),
            false => self.db.delete_cf(raft, key),
        };
        written.map_err(io::Error::other)
    }

    fn commit(&self, group: PartitionId, writes: Vec<RowWrite>, position: &[u8]) -> io::Result<()> {
        let mut batch = WriteBatch::default();
        fill(&self.db, &mut batch, writes);
        batch.put_cf(
            family(&self.db, RAFT),
            kept_key(group, Kept::Position),
            position,
        );
        self.db.write(batch).map_err(io::Error::other)
    }

    fn export(
        &self,
        group: PartitionId,
        chunk: usize,
        begin: &mut ExportBegin<'_>,
        sink: &mut RowSink<'_>,
    ) -> io::Result<()> {
        let rows = RocksRows::now(&self.db, &self.forgetter);
        let position = rows.kept(&kept_key(group, Kept::Position))?;
        let ranges = begin(&rows, position)?;
        for (index, range) in ranges.iter().enumerate() {
            if rows
                .chunks(range, chunk, &mut |rows| sink(index, rows))?
                .is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn import(
        &self,
        group: PartitionId,
        ranges: &[RowRange],
        source: &mut RowSource<'_>,
        position: &[u8],
    ) -> io::Result<()> {
        let mut clear = WriteBatch::default();
        for range in ranges {
            self.clear(&mut clear, range)?;
        }
        self.db.write(clear).map_err(io::Error::other)?;
        while let Some(writes) = source()? {
            let mut batch = WriteBatch::default();
            fill(&self.db, &mut batch, writes);
            self.db.write(batch).map_err(io::Error::other)?;
        }
        let mut end = WriteBatch::default();
        end.put_cf(
            family(&self.db, RAFT),
            kept_key(group, Kept::Position),
            position,
        );
        self.write_synced(end)
    }

    fn forget(&self, group: PartitionId, ranges: &[RowRange]) -> io::Result<()> {
        let mut batch = WriteBatch::default();
        for range in ranges {
            self.clear(&mut batch, range)?;
        }
        let (log, raft) = (family(&self.db, LOG), family(&self.db, RAFT));
        batch.delete_range_cf(log, log_key(group, 0), log_key(group, u64::MAX));
        batch.delete_cf(raft, kept_key(group, Kept::Purged));
        batch.delete_cf(raft, kept_key(group, Kept::Position));
        self.write_synced(batch)
    }
}

impl Rocks {
    fn write_synced(&self, batch: WriteBatch) -> io::Result<()> {
        let mut sync = WriteOptions::default();
        sync.set_sync(true);
        self.db.write_opt(batch, &sync).map_err(io::Error::other)
    }

    /// Removes all rows of a range.
    fn clear(&self, batch: &mut WriteBatch, range: &RowRange) -> io::Result<()> {
        let table = range
            .table()
            .ok_or_else(|| io::Error::other("a range of no known table"))?;
        let family = family(&self.db, table.name());
        if let Some(to) = &range.to {
            if range.from < *to {
                batch.delete_range_cf(family, &range.from, to);
            }
            return Ok(());
        }
        let mut rows = self.db.raw_iterator_cf(family);
        rows.seek_to_last();
        rows.status().map_err(io::Error::other)?;
        if let Some(last) = rows.key().filter(|last| *last >= range.from.as_slice()) {
            batch.delete_range_cf(family, range.from.as_slice(), last);
            batch.delete_cf(family, last);
        }
        Ok(())
    }
}

fn fill(db: &DB, batch: &mut WriteBatch, writes: Vec<RowWrite>) {
    for write in writes {
        let family = family(db, write.table.name());
        match write.value {
            Some(value) => batch.put_cf(family, write.key, value),
            None if write.table.is_listed() => batch.put_cf(family, write.key, []),
            None => batch.delete_cf(family, write.key),
        }
    }
}

/// What a visitor of chunks answers.
pub(super) type Flow = ControlFlow<()>;
