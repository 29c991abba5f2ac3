//! The seams to storage: where log entries and rows are kept.
//!
//! Each has two implementations, RocksDB and memory; the second is for tests and simulation, and a
//! conformance suite holds both to the same behaviour.

use std::io;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use enfilade_placement::PartitionId;

use crate::rows::{Row, RowWrite, Rows, Table};

/// What a write to the log is followed by, once it is durable or has failed.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A write to the log of one group.
#[derive(Debug, Clone)]
pub enum LogWrite {
    /// Appends encoded entries.
    Append(Vec<(u64, Bytes)>),
    /// Removes all entries from this index on.
    Truncate(u64),
    /// Removes all entries before this index, and keeps the encoded position of the last one.
    Purge(u64, Bytes),
    /// Keeps an encoded vote.
    Vote(Bytes),
}

/// The logs of all groups of a process.
///
/// Writes of one group take effect in the order in which they were submitted; a write is durable,
/// and so are all before it, when its [`Done`] is called without an error. Reads see what was done.
pub trait LogStore: Send + Sync + 'static {
    /// Queues a write. `done` is called from any thread.
    fn submit(&self, group: PartitionId, write: LogWrite, done: Done);

    /// The encoded entries of a range of indices that are there, in order, until `bytes_max` bytes
    /// are read (at least one).
    ///
    /// # Errors
    /// When the storage fails.
    fn entries(
        &self,
        group: PartitionId,
        range: Range<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<(u64, Bytes)>>;

    /// The encoded last entry.
    ///
    /// # Errors
    /// When the storage fails.
    fn last(&self, group: PartitionId) -> io::Result<Option<Bytes>>;

    /// The encoded position of the last purged entry.
    ///
    /// # Errors
    /// When the storage fails.
    fn purged(&self, group: PartitionId) -> io::Result<Option<Bytes>>;

    /// The encoded vote.
    ///
    /// # Errors
    /// When the storage fails.
    fn vote(&self, group: PartitionId) -> io::Result<Option<Bytes>>;
}

/// A range of rows of one table: from (inclusive) to (exclusive; none: the table's end).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RowRange {
    /// Index into [`Table::ALL`].
    pub table: u8,
    /// The first row.
    pub from: Vec<u8>,
    /// The row after the last.
    pub to: Option<Vec<u8>>,
}

impl RowRange {
    /// A range of a table.
    pub fn new(table: Table, from: Vec<u8>, to: Option<Vec<u8>>) -> Self {
        let table = Table::ALL
            .iter()
            .position(|t| *t == table)
            .expect("every table is listed");
        Self {
            table: u8::try_from(table).expect("few tables"),
            from,
            to,
        }
    }

    /// The table; none when a newer version wrote this.
    pub fn table(&self) -> Option<Table> {
        Table::ALL.get(usize::from(self.table)).copied()
    }
}

/// What is done with the rows of one moment.
pub type WithRows<'a> = dyn FnMut(&dyn Rows) -> io::Result<()> + 'a;
/// Is told the rows and the encoded position of one moment, and answers which ranges to export.
pub type ExportBegin<'a> = dyn FnMut(&dyn Rows, Option<Bytes>) -> io::Result<Vec<RowRange>> + 'a;
/// Where exported rows go, in chunks of one range (by index) each.
pub type RowSink<'a> = dyn FnMut(usize, Vec<Row>) -> ControlFlow<()> + 'a;
/// Where imported rows come from; none at the end.
pub type RowSource<'a> = dyn FnMut() -> io::Result<Option<Vec<RowWrite>>> + 'a;

/// The rows of all groups of a process, and how far each group has come.
pub trait StateStore: Send + Sync + 'static {
    /// Runs `act` over the rows as they are now.
    ///
    /// # Errors
    /// Those of `act`.
    fn read(&self, act: &mut WithRows<'_>) -> io::Result<()>;

    /// The encoded position of a group; none when it was never here.
    ///
    /// # Errors
    /// When the storage fails.
    fn position(&self, group: PartitionId) -> io::Result<Option<Bytes>>;

    /// The groups that have a position.
    ///
    /// # Errors
    /// When the storage fails.
    fn groups(&self) -> io::Result<Vec<PartitionId>>;

    /// Whether the replica of a group was made empty and has not caught up since.
    ///
    /// # Errors
    /// When the storage fails.
    fn is_young(&self, group: PartitionId) -> io::Result<bool>;

    /// Notes whether the replica of a group was made empty and has not caught up since. Durable
    /// before whatever is committed later.
    ///
    /// # Errors
    /// When the storage fails: nothing is changed then.
    fn set_young(&self, group: PartitionId, young: bool) -> io::Result<()>;

    /// Commits writes and the position that they bring the group to, in one batch. Durable with
    /// the next durable write to the log, in the order of both (PROTOCOLS 7).
    ///
    /// # Errors
    /// When the storage fails: nothing is changed then.
    fn commit(&self, group: PartitionId, writes: Vec<RowWrite>, position: &[u8]) -> io::Result<()>;

    /// Calls `begin` with the rows and the position of a group at one moment; it answers which
    /// ranges to export. Then gives those rows to `sink`, in chunks of about `chunk` bytes.
    ///
    /// # Errors
    /// When the storage fails, and those of `begin`.
    fn export(
        &self,
        group: PartitionId,
        chunk: usize,
        begin: &mut ExportBegin<'_>,
        sink: &mut RowSink<'_>,
    ) -> io::Result<()>;

    /// Clears ranges, then commits what `source` gives and the position, durably.
    ///
    /// Not atomic: the caller keeps what it needs to do it again after a crash.
    ///
    /// # Errors
    /// When the storage fails, and those of `source`.
    fn import(
        &self,
        group: PartitionId,
        ranges: &[RowRange],
        source: &mut RowSource<'_>,
        position: &[u8],
    ) -> io::Result<()>;

    /// Removes rows, position and log of a group in one batch, durably, but keeps its vote: a
    /// replica that comes back votes in no term twice. All writes to its log must be done.
    ///
    /// # Errors
    /// When the storage fails: nothing is changed then.
    fn forget(&self, group: PartitionId, ranges: &[RowRange]) -> io::Result<()>;
}
