//! Counting what a shard holds.

use super::{LogId, Rows, RunRow, after_all};
use crate::engine::index::IndexError;

/// Rows that are in memory at once.
const PAGE: usize = 4096;

impl Rows<'_> {
    /// How many fragments a shard holds. Walks through all its runs.
    pub(crate) fn fragments(&self, log: LogId) -> Result<u64, IndexError> {
        let (mut from, to) = (log.row(b'r'), after_all(log.row(b'r')));
        let mut fragments = 0;
        loop {
            let page = self.0.scan(&from, &to, PAGE)?;
            for (_, value) in &page {
                fragments += u64::from(Self::decode::<RunRow>(value)?.count());
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
                _ => return Ok(fragments),
            }
        }
    }
}
