//! Changes on top of an index, seen by whoever reads through them, and written as one batch.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::{Batch, Change, Index, IndexError, Row};
use crate::sync::lock;

/// An index as it will be: what is written stays in memory until [`Overlay::commit`].
pub(crate) struct Overlay<'a> {
    base: &'a dyn Index,
    /// New values by key; none: deleted.
    changes: Mutex<Changes>,
    /// Whether the base has no rows of those that are asked for, so that it need not be asked.
    alone: AtomicBool,
    /// Of the changes, those that were not written yet, in order, while they are kept.
    unwritten: Mutex<Vec<Change>>,
    /// Whether the base has nothing for whoever asks for the last row of some.
    fresh: AtomicBool,
}

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl<'a> Overlay<'a> {
    pub(crate) fn new(base: &'a dyn Index) -> Self {
        Self {
            base,
            changes: Mutex::default(),
            alone: AtomicBool::new(false),
            unwritten: Mutex::default(),
            fresh: AtomicBool::new(false),
        }
    }

    /// Takes the caller's word that the base has none of the rows that will be asked for; until the
    /// first commit.
    pub(crate) fn set_alone(&self) {
        self.alone.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Takes the caller's word that the base has none of the runs that the next records change: to
    /// ask it takes longer than all the rest.
    pub(crate) fn set_fresh(&self, fresh: bool) {
        self.fresh.store(fresh, Ordering::Relaxed);
    }

    /// How many changes [`Overlay::write_kept`] would write.
    pub(crate) fn unwritten(&self) -> usize {
        lock(&self.unwritten).len()
    }

    /// Writes the changes so far, in one batch, and keeps them all the same: as long as the base
    /// need not be asked.
    pub(crate) fn write_kept(&self) -> Result<(), IndexError> {
        let changes = std::mem::take(&mut *lock(&self.unwritten));
        self.base.write(Batch { changes })
    }

    /// How many rows differ.
    pub(crate) fn len(&self) -> usize {
        self.changes().len()
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        lock(&self.changes)
    }

    /// Writes the changes, in one batch.
    pub(crate) fn commit(&self) -> Result<(), IndexError> {
        let kept = self.alone.swap(false, Ordering::Relaxed);
        let changes = std::mem::take(&mut *self.changes());
        if kept {
            return match self.unwritten() {
                0 => Ok(()),
                _ => self.write_kept(),
            };
        }
        if changes.is_empty() {
            return Ok(());
        }
        let change = |(key, value)| match value {
            Some(value) => Change::Put(key, value),
            None => Change::Delete(key),
        };
        self.base.write(Batch {
            changes: changes.into_iter().map(change).collect(),
        })
    }
}

fn within<'c>(
    changes: &'c Changes,
    from: &[u8],
    to: Bound<&[u8]>,
) -> impl DoubleEndedIterator<Item = (&'c Vec<u8>, &'c Option<Vec<u8>>)> {
    // An empty range the wrong way round would panic.
    let to = match to {
        Bound::Included(to) if to < from => Bound::Excluded(from),
        Bound::Excluded(to) => Bound::Excluded(to.max(from)),
        to => to,
    };
    changes.range::<[u8], _>((Bound::Included(from), to))
}

impl Index for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let changed = self.changes().get(key).cloned();
        match changed {
            Some(value) => Ok(value),
            None if self.is_alone() => Ok(None),
            None => self.base.get(key),
        }
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
        let changes = self.changes();
        let ours = within(&changes, from, Bound::Included(to))
            .rev()
            .find_map(|(key, value)| Some((key.clone(), value.clone()?)));
        if self.is_alone() || self.fresh.load(Ordering::Relaxed) {
            return Ok(ours);
        }
        let deleted = |row: &Row| changes.get(&row.0).is_some_and(Option::is_none);
        let mut theirs = self.base.last(from, to)?;
        if let Some(row) = theirs.take_if(|row| deleted(row)) {
            // The one before, which there is no quicker way to find.
            let rows = self.base.scan(from, &row.0, usize::MAX)?;
            theirs = rows.into_iter().rev().find(|row| !deleted(row));
        }
        // Of equal keys ours is the new one.
        Ok(match (ours, theirs) {
            (Some(ours), Some(theirs)) if theirs.0 > ours.0 => Some(theirs),
            (ours, theirs) => ours.or(theirs),
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        let changes = self.changes();
        let ours: Changes = within(&changes, from, Bound::Excluded(to))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        drop(changes);
        let there = |(key, value): (Vec<u8>, Option<Vec<u8>>)| Some((key, value?));
        if self.is_alone() {
            return Ok(ours.into_iter().filter_map(there).take(limit).collect());
        }
        let mut rows: Changes = BTreeMap::new();
        for (key, value) in self.base.scan(from, to, limit.saturating_add(ours.len()))? {
            rows.insert(key, Some(value));
        }
        rows.extend(ours);
        Ok(rows.into_iter().filter_map(there).take(limit).collect())
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        if self.is_alone() {
            lock(&self.unwritten).extend(batch.changes.iter().cloned());
        }
        for change in batch.changes {
            match change {
                Change::Put(key, value) => {
                    self.changes().insert(key, Some(value));
                }
                Change::Delete(key) => {
                    self.changes().insert(key, None);
                }
                Change::DeleteRange(from, to) => {
                    for (key, _) in self.scan(&from, &to, usize::MAX)? {
                        self.changes().insert(key, None);
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing here is durable before it is committed, and the base flushed.
    fn flush(&self) -> Result<(), IndexError> {
        self.commit()?;
        self.base.flush()
    }
}

#[cfg(test)]
mod tests;
