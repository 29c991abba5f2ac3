//! Rows of several tables in one order of keys, a few at a time.

use std::collections::VecDeque;

use crate::rows::{Rows, RowsError, Table};
use crate::typed::{self, Span};

/// How many rows of a table are read at first, and after rows were passed over.
const CHUNK_MIN: usize = 8;
/// How many rows of a table are read at most at a time.
const CHUNK_MAX: usize = 256;

/// A row that is there, or its key where it was removed.
pub(super) struct Met {
    /// The table.
    pub(super) table: Table,
    /// The key.
    pub(super) key: Vec<u8>,
    /// The value, unless the row was removed.
    pub(super) value: Option<Vec<u8>>,
}

/// Reads the rows of tables in one order.
pub(super) struct Merge<'r> {
    rows: &'r dyn Rows,
    end: Option<Vec<u8>>,
    heads: Vec<Head>,
}

/// Where the reading of one table stands.
struct Head {
    table: Table,
    read: VecDeque<(Vec<u8>, Option<Vec<u8>>)>,
    /// Where the next chunk begins; none at the end.
    from: Option<Vec<u8>>,
    chunk: usize,
}

impl<'r> Merge<'r> {
    /// Begins at the first row of the span. Of equal keys that in the first table comes first.
    pub(super) fn new(rows: &'r dyn Rows, tables: &[Table], (from, end): Span) -> Self {
        let head = |table: &Table| Head {
            table: *table,
            read: VecDeque::new(),
            from: Some(from.clone()),
            chunk: CHUNK_MIN,
        };
        let heads = tables.iter().map(head).collect();
        Self { rows, end, heads }
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<Met>, RowsError> {
        for head in &mut self.heads {
            head.fill(self.rows, self.end.as_ref())?;
        }
        let first = self
            .heads
            .iter_mut()
            .filter(|head| !head.read.is_empty())
            .min_by(|a, b| a.read[0].0.cmp(&b.read[0].0));
        let met = first.and_then(|head| {
            let (key, value) = head.read.pop_front()?;
            let table = head.table;
            Some(Met { table, key, value })
        });
        Ok(met)
    }

    /// Passes over all rows before `to`.
    pub(super) fn skip_to(&mut self, to: &[u8]) {
        for head in &mut self.heads {
            while head
                .read
                .pop_front_if(|(key, _)| key.as_slice() < to)
                .is_some()
            {}
            if head.read.is_empty()
                && let Some(from) = &mut head.from
                && from.as_slice() < to
            {
                *from = to.to_vec();
                head.chunk = CHUNK_MIN;
            }
        }
    }
}

impl Head {
    fn fill(&mut self, rows: &dyn Rows, end: Option<&Vec<u8>>) -> Result<(), RowsError> {
        if !self.read.is_empty() {
            return Ok(());
        }
        let Some(from) = self.from.take() else {
            return Ok(());
        };
        let (read, chunk) = (&mut self.read, self.chunk);
        typed::survey(
            rows,
            self.table,
            &(from, end.cloned()),
            &mut |key, value| {
                read.push_back((key.to_vec(), value.map(<[u8]>::to_vec)));
                Ok(typed::go_on_while(read.len() < chunk))
            },
        )?;
        if read.len() == chunk {
            self.from = read.back().map(|(key, _)| [key.as_slice(), &[0]].concat());
        }
        self.chunk = CHUNK_MAX.min(chunk * 2);
        Ok(())
    }
}
