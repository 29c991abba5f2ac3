//! The index of a drive: where in the logs the fragments are. A cache of the logs, which are the
//! truth: it may point only at synced bytes, and can be rebuilt from them (DESIGN §7).
//!
//! [`Index`] is an ordered map of bytes, with twins in memory and on RocksDB; what the rows mean is
//! in `rows`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use crate::sync::lock;

mod behind;
pub(crate) mod format;
mod overlay;
pub(crate) mod rocks;

pub(crate) use self::behind::Behind;
pub(crate) use self::overlay::Overlay;

/// A row: key and value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// The index's store failed: the drive is failing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index: {0}")]
pub struct IndexError(pub(crate) String);

/// Changes that are made together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// All keys from the first on, below the second.
    DeleteRange(Vec<u8>, Vec<u8>),
}

impl Batch {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put(key, value));
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.changes.push(Change::Delete(key));
    }

    pub(crate) fn delete_range(&mut self, from: Vec<u8>, to: Vec<u8>) {
        self.changes.push(Change::DeleteRange(from, to));
    }
}

/// An ordered map of bytes.
///
/// Batches are atomic. What survives a crash is what was there after some batch, not before the
/// last [`Index::flush`]: a prefix of the writes.
pub trait Index: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// The last row with a key not below `from` and not above `to`.
    ///
    /// # Errors
    /// When the store fails.
    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError>;

    /// The first rows with keys not below `from` and below `to`, in order.
    ///
    /// # Errors
    /// When the store fails.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError>;

    /// Makes changes, visible at once, durable later.
    ///
    /// # Errors
    /// When the store fails.
    fn write(&self, batch: Batch) -> Result<(), IndexError>;

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// When the store fails.
    fn flush(&self) -> Result<(), IndexError>;

    /// The same rows, by a reader that fails where it would have to wait for the device; none when
    /// there is no such reader.
    fn held(&self) -> Option<Box<dyn Index + '_>> {
        None
    }
}

/// An index in memory; after [`MemoryIndex::crash`] it is as after some earlier write.
#[derive(Default)]
pub struct MemoryIndex(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    now: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    pending: Vec<Batch>,
    keep_pending: bool,
}

impl MemoryIndex {
    /// An empty index that can crash: it remembers what was written since the last flush.
    pub fn crashable() -> Self {
        Self(Mutex::new(Memory {
            keep_pending: true,
            ..Memory::default()
        }))
    }

    /// Loses all but the first `kept` writes since the last flush.
    pub fn crash(&self, kept: usize) {
        let mut memory = self.memory();
        let pending = std::mem::take(&mut memory.pending);
        for batch in pending.into_iter().take(kept) {
            apply(&mut memory.durable, batch);
        }
        memory.now = memory.durable.clone();
    }

    /// How many writes there were since the last flush.
    pub fn unflushed(&self) -> usize {
        self.memory().pending.len()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.0)
    }
}

fn apply(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: Batch) {
    for change in batch.changes {
        match change {
            Change::Put(key, value) => {
                rows.insert(key, value);
            }
            Change::Delete(key) => {
                rows.remove(&key);
            }
            Change::DeleteRange(from, to) => {
                let doomed: Vec<_> = range(rows, &from, &to)
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in doomed {
                    rows.remove(&key);
                }
            }
        }
    }
}

fn range<'a>(
    rows: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    from: &[u8],
    to: &[u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    // An empty range the wrong way round would panic.
    let to = to.max(from);
    rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
}

impl<T: Index> Index for &T {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        (**self).get(key)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
        (**self).last(from, to)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        (**self).scan(from, to, limit)
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        (**self).write(batch)
    }

    fn flush(&self) -> Result<(), IndexError> {
        (**self).flush()
    }
}

impl Index for MemoryIndex {
    fn held(&self) -> Option<Box<dyn Index + '_>> {
        Some(Box::new(self))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.memory().now.get(key).cloned())
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
        let memory = self.memory();
        let mut rows = memory
            .now
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(to)));
        let last = rows.next_back().filter(|(key, _)| key.as_slice() >= from);
        Ok(last.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        let memory = self.memory();
        let rows = range(&memory.now, from, to).take(limit);
        Ok(rows
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut memory = self.memory();
        if memory.keep_pending {
            memory.pending.push(batch.clone());
        }
        apply(&mut memory.now, batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        let mut memory = self.memory();
        if memory.keep_pending {
            memory.durable = memory.now.clone();
            memory.pending.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
