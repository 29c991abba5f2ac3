//! [`Rows`] over a RocksDB snapshot: what was committed when it was taken.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::{DB, ReadOptions, Snapshot};

use super::rocks::{Flow, RAFT, family};
use super::store::RowRange;
use crate::rows::{Row, Rows, RowsError, Table, Visit};

/// The rows of one moment.
pub(super) struct RocksRows<'a> {
    db: &'a DB,
    snapshot: Snapshot<'a>,
}

impl<'a> RocksRows<'a> {
    /// The rows as they are now.
    pub(super) fn now(db: &'a DB) -> Self {
        Self {
            db,
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
        value.map_err(|error| failed(table, error))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
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
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| failed(table, error))
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
        rows.status().map_err(|error| failed(table, error))?;
        Ok(rows
            .item()
            .map(|(key, value)| (key.to_vec(), value.to_vec())))
    }
}
