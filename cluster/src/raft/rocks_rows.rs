//! [`Rows`] over a RocksDB snapshot: what was committed when it was taken.
//!
//! RocksDB passes over tombstones without telling: a page behind a million of them would take as
//! long as it takes. So a removed row of a listed table is a row without value, which a survey
//! counts, until [`super::rocks_forget`] has it gone.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::{DB, ReadOptions, Snapshot};

use super::rocks::{Flow, RAFT, family};
use super::rocks_forget::Forgetter;
use super::store::RowRange;
use crate::rows::{Row, Rows, RowsError, Survey, Table, Visit};

/// The rows of one moment.
pub(super) struct RocksRows<'a> {
    db: &'a DB,
    forgetter: &'a Forgetter,
    snapshot: Snapshot<'a>,
}

/// Whether a value stands for a removed row.
pub(super) const fn is_removed(table: Table, value: &[u8]) -> bool {
    table.is_listed() && value.is_empty()
}

impl<'a> RocksRows<'a> {
    /// The rows as they are now.
    pub(super) fn now(db: &'a DB, forgetter: &'a Forgetter) -> Self {
        Self {
            db,
            forgetter,
            snapshot: db.snapshot(),
        }
    }

    /// A row of the column family of votes and positions.
    pub(super) fn kept(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        let value = self
            .snapshot
            .get_cf(family(self.db, RAFT), key)
            .map_err(io::Error::other)?;
        Ok(value.map(Bytes::from))
    }

    /// Gives the rows of a range in chunks of about `chunk` bytes.
    pub(super) fn chunks(
        &self,
        range: &RowRange,
        chunk: usize,
        sink: &mut dyn FnMut(Vec<Row>) -> Flow,
    ) -> io::Result<Flow> {
        let table = range
            .table()
            .ok_or_else(|| io::Error::other("a range of no known table"))?;
        let (mut rows, mut bytes, mut flow) = (Vec::new(), 0usize, ControlFlow::Continue(()));
        let scanned = self.scan(
            table,
            &range.from,
            range.to.as_deref(),
            &mut |key, value| {
                bytes += key.len() + value.len();
                rows.push((key.to_vec(), value.to_vec()));
                if bytes >= chunk {
                    bytes = 0;
                    flow = sink(std::mem::take(&mut rows));
                }
                flow
            },
        );
        scanned.map_err(io::Error::other)?;
        if flow.is_continue() && !rows.is_empty() {
            flow = sink(rows);
        }
        Ok(flow)
    }
}

fn failed(table: Table, error: rocksdb::Error) -> RowsError {
    RowsError::Storage {
        table: table.name(),
        source: Box::new(error),
    }
}

impl Rows for RocksRows<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        let value = self.snapshot.get_cf(family(self.db, table.name()), key);
        let value = value.map_err(|error| failed(table, error))?;
        Ok(value.filter(|value| !is_removed(table, value)))
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
        if to.is_some_and(|to| from >= to) {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let family = family(self.db, table.name());
        let mut rows = self.snapshot.raw_iterator_cf_opt(family, options);
        rows.seek(from);
        let mut removed = 0usize;
        while let Some((key, value)) = rows.item() {
            let gone = is_removed(table, value);
            removed += usize::from(gone);
            if visit(key, (!gone).then_some(value)).is_break() {
                break;
            }
            rows.next();
        }
        rows.status().map_err(|error| failed(table, error))?;
        self.forgetter.met(table, from, removed);
        Ok(())
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, RowsError> {
        if from >= to {
            return Ok(None);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let family = family(self.db, table.name());
        let mut rows = self.snapshot.raw_iterator_cf_opt(family, options);
        rows.seek_to_last();
        while rows.value().is_some_and(|value| is_removed(table, value)) {
            rows.prev();
        }
        rows.status().map_err(|error| failed(table, error))?;
        Ok(rows
            .item()
            .map(|(key, value)| (key.to_vec(), value.to_vec())))
    }
}
