//! Rows: what state machines keep their state in, and the transaction that they act through.
//!
//! A state machine is a pure function over an ordered map of rows. [`Rows`] is that map: in memory
//! for tests and simulation, in RocksDB for real. [`Txn`] lays the writes of one or more commands
//! over it; the shell commits them in one batch with the log position that they bring the state to
//! (PROTOCOLS 7). Keys carry no group id except in [`Table::Side`] and [`Table::Root`], so that a
//! split of a partition moves no rows (PROTOCOLS 5).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// The tables. Each is a column family of its own.
///
/// `row` below stands for the bytes that all rows of an object key begin with
/// ([`crate::api::key`]); numbers are big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `row` -> the record of the latest version, when it is an object (not a delete marker).
    Latest,
    /// `row, !stamp (8)` -> records of older versions, and of delete markers, newest first.
    Versions,
    /// `row` -> the stamp of the `null` version, when it is among those in `Versions`.
    Nulls,
    /// `row, blob (16)` -> the bytes of an inline blob.
    Inline,
    /// `row, stamp (8), offset (8)` -> blobs of a record from that offset of the object on.
    Content,
    /// `row, blob (16)` -> where a striped blob is referenced: the record or part.
    Blobs,
    /// `row, upload (16)` -> the upload.
    Uploads,
    /// `row, upload (16), number (2)` -> the part.
    Parts,
    /// `group (4), kind (1), ...` -> what a partition keeps beside its keys: range, time, counters,
    /// results of requests, garbage, condemned blobs, bucket settings. Divided at a split.
    Side,
    /// `kind (1), ...` -> the state of the root group.
    Root,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 10] = [
        Self::Latest,
        Self::Versions,
        Self::Nulls,
        Self::Inline,
        Self::Content,
        Self::Blobs,
        Self::Uploads,
        Self::Parts,
        Self::Side,
        Self::Root,
    ];

    /// The tables whose rows begin with an object key.
    pub const KEYED: [Self; 8] = [
        Self::Latest,
        Self::Versions,
        Self::Nulls,
        Self::Inline,
        Self::Content,
        Self::Blobs,
        Self::Uploads,
        Self::Parts,
    ];

    /// The name of its column family.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Versions => "versions",
            Self::Nulls => "nulls",
            Self::Inline => "inline",
            Self::Content => "content",
            Self::Blobs => "blobs",
            Self::Uploads => "uploads",
            Self::Parts => "parts",
            Self::Side => "side",
            Self::Root => "root",
        }
    }

    /// Whether listings go through it. What was removed from it shows in [`Rows::survey`] until the
    /// storage has forgotten it: no value of such a table is empty.
    pub const fn is_listed(self) -> bool {
        matches!(self, Self::Latest | Self::Versions | Self::Uploads)
    }
}

/// Rows could not be read, or hold what cannot be decoded. The replica must stop: its state is not
/// known any more.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The storage failed.
    #[error("reading rows of table {table}")]
    Storage {
        /// The table.
        table: &'static str,
        /// What the storage says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row is not what its table holds.
    #[error("row {key} of table {table}")]
    Undecodable {
        /// The table.
        table: &'static str,
        /// The key, in hexadecimal.
        key: String,
        /// What the decoder says.
        source: crate::api::encoding::EncodingError,
    },
}

/// What a visitor of a scan is given: key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What a visitor of a survey is given: key, and value unless the row was removed.
pub type Survey<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> ControlFlow<()> + 'a;

/// An ordered map of rows, as it is at one moment.
pub trait Rows {
    /// The value of a row.
    ///
    /// # Errors
    /// When the storage fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    /// Visits the rows from `from` (inclusive) to `to` (exclusive; none: the table's end) in
    /// ascending order, until the visitor breaks.
    ///
    /// # Errors
    /// When the storage fails.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowsError>;

    /// As [`Rows::scan`], and shows where rows of a listed table were removed, as far as the
    /// storage still passes over them: whoever must answer in bounded time counts them too.
    ///
    /// # Errors
    /// When the storage fails.
    fn survey(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Survey<'_>,
    ) -> Result<(), RowsError> {
        self.scan(table, from, to, &mut |key, value| visit(key, Some(value)))
    }

    /// The last row from `from` (inclusive) to `to` (exclusive).
    ///
    /// # Errors
    /// When the storage fails.
    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, RowsError>;
}

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// A write of one row: its new value, or none to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWrite {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The value; none removes the row.
    pub value: Option<Vec<u8>>,
}

/// Rows in memory: the twin for tests and simulation. It never forgets what was removed from a
/// listed table.
#[derive(Debug, Clone, Default)]
pub struct MemoryRows {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl MemoryRows {
    /// Applies writes.
    pub fn commit(&mut self, writes: Vec<RowWrite>) {
        for write in writes {
            let table = self.tables.entry(write.table).or_default();
            match write.value {
                None if write.table.is_listed() => {
                    table.entry(write.key).and_modify(|row| *row = None);
                }
                None => drop(table.remove(&write.key)),
                value => drop(table.insert(write.key, value)),
            }
        }
    }

    /// How many rows a table has.
    pub fn len(&self, table: Table) -> usize {
        let live = |rows: &BTreeMap<_, Option<_>>| rows.values().flatten().count();
        self.tables.get(&table).map_or(0, live)
    }

    /// Whether a table has no rows.
    pub fn is_empty(&self, table: Table) -> bool {
        self.len(table) == 0
    }
}

/// The bounds of a range of a map.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of a map's range; `None` when it is empty.
fn bounds<'a>(from: &'a [u8], to: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    if to.is_some_and(|to| from >= to) {
        return None;
    }
    Some((
        Bound::Included(from),
        to.map_or(Bound::Unbounded, Bound::Excluded),
    ))
}

impl Rows for MemoryRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self
            .tables
            .get(&table)
            .and_then(|rows| rows.get(key))
            .and_then(Clone::clone))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowsError> {
        self.survey(table, from, to, &mut |key, value| match value {
            Some(value) => visit(key, value),
            None => ControlFlow::Continue(()),
        })
    }

    fn survey(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Survey<'_>,
    ) -> Result<(), RowsError> {
        let (Some(rows), Some(bounds)) = (self.tables.get(&table), bounds(from, to)) else {
            return Ok(());
        };
        for (key, value) in rows.range::<[u8], _>(bounds) {
            if visit(key, value.as_deref()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, RowsError> {
        let (Some(rows), Some(bounds)) = (self.tables.get(&table), bounds(from, Some(to))) else {
            return Ok(None);
        };
        let mut live = rows
            .range::<[u8], _>(bounds)
            .filter_map(|(key, value)| Some((key, value.as_ref()?)));
        Ok(live
            .next_back()
            .map(|(key, value)| (key.clone(), value.clone())))
    }
}

/// Writes laid over rows: commands read their own writes, and nothing is changed below until the
/// shell commits [`Txn::into_writes`].
pub struct Txn<'a> {
    below: &'a dyn Rows,
    writes: BTreeMap<Table, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl<'a> Txn<'a> {
    /// A transaction without writes.
    pub const fn new(below: &'a dyn Rows) -> Self {
        Self {
            below,
            writes: BTreeMap::new(),
        }
    }

    /// Writes a row.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes
            .entry(table)
            .or_default()
            .insert(key, Some(value));
    }

    /// Removes a row.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.writes.entry(table).or_default().insert(key, None);
    }

    /// The writes, in order of table and key.
    pub fn into_writes(self) -> Vec<RowWrite> {
        let rows = |(table, rows): (Table, BTreeMap<_, _>)| {
            rows.into_iter()
                .map(move |(key, value)| RowWrite { table, key, value })
        };
        self.writes.into_iter().flat_map(rows).collect()
    }
}

impl Rows for Txn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        match self.writes.get(&table).and_then(|rows| rows.get(key)) {
            Some(written) => Ok(written.clone()),
            None => self.below.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowsError> {
        let Some(bounds) = bounds(from, to) else {
            return Ok(());
        };
        let empty = BTreeMap::new();
        let over = self.writes.get(&table).unwrap_or(&empty);
        let mut over = over.range::<[u8], _>(bounds).peekable();
        let mut broken = false;
        self.below.scan(table, from, to, &mut |key, value| {
            while let Some((above, written)) = over.next_if(|(above, _)| above.as_slice() < key) {
                if let Some(written) = written
                    && visit(above, written).is_break()
                {
                    broken = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match over.next_if(|(above, _)| above.as_slice() == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((_, Some(written))) => visit(key, written),
                None => visit(key, value),
            };
            broken = flow.is_break();
            flow
        })?;
        while let (false, Some((key, written))) = (broken, over.next()) {
            if let Some(written) = written {
                broken = visit(key, written).is_break();
            }
        }
        Ok(())
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, RowsError> {
        let mut end = to.to_vec();
        loop {
            let below = self.below.last(table, from, &end)?;
            let over = self.writes.get(&table).zip(bounds(from, Some(&end)));
            let above = over.and_then(|(rows, bounds)| rows.range::<[u8], _>(bounds).next_back());
            match (below, above) {
                (below, None) => return Ok(below),
                (Some(below), Some((key, _))) if below.0 > *key => return Ok(Some(below)),
                (_, Some((key, Some(value)))) => return Ok(Some((key.clone(), value.clone()))),
                (_, Some((key, None))) => end.clone_from(key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn all(rows: &dyn Rows, from: &[u8], to: Option<&[u8]>) -> Vec<Row> {
        let mut seen = Vec::new();
        rows.scan(Table::Latest, from, to, &mut |key, value| {
            seen.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        seen
    }

    proptest! {
        #[test]
        fn a_transaction_reads_as_its_commit_will(
            below in vec((0u8..20, any::<u8>()), 0..20),
            over in vec((0u8..20, any::<Option<u8>>()), 0..20),
            from in 0u8..20,
            to in 0u8..20,
        ) {
            let write = |key: u8, value: Option<u8>| RowWrite {
                table: Table::Latest,
                key: vec![key],
                value: value.map(|v| vec![v]),
            };
            let mut rows = MemoryRows::default();
            rows.commit(below.iter().map(|(k, v)| write(*k, Some(*v))).collect());
            let mut txn = Txn::new(&rows);
            for (key, value) in over {
                match value {
                    Some(value) => txn.put(Table::Latest, vec![key], vec![value]),
                    None => txn.delete(Table::Latest, vec![key]),
                }
            }
            let seen = all(&txn, &[from], Some(&[to]));
            let open = all(&txn, &[from], None);
            let last = txn.last(Table::Latest, &[from], &[to]).unwrap();
            let got = txn.get(Table::Latest, &[from]).unwrap();
            let writes = txn.into_writes();
            let mut committed = rows.clone();
            committed.commit(writes);
            prop_assert_eq!(&seen, &all(&committed, &[from], Some(&[to])));
            prop_assert_eq!(open, all(&committed, &[from], None));
            prop_assert_eq!(last, seen.last().cloned());
            prop_assert_eq!(got, committed.get(Table::Latest, &[from]).unwrap());
        }
    }
}
