//! An index whose writes are made by a thread of their own, in order, while the caller goes on.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use super::{Batch, Index, IndexError, Row};
use crate::sync::lock;

/// Batches that may wait for the thread.
const BATCHES_MAX: usize = 2;
/// Smaller batches are not worth a thread.
const CHANGES_MIN: usize = 1024;

/// Writes behind. Whoever reads through it waits until all is written.
pub(crate) struct Behind<'scope, 'env> {
    base: &'env dyn Index,
    scope: &'scope Scope<'scope, 'env>,
    writer: Mutex<Option<Writer>>,
}

struct Writer {
    batches: SyncSender<Batch>,
    /// What came of each, in order.
    outcomes: Receiver<Result<(), IndexError>>,
    /// Batches whose outcome was not looked at.
    open: usize,
}

impl Writer {
    /// Takes outcomes until so many batches are left.
    fn settle(&mut self, left: usize) -> Result<(), IndexError> {
        while self.open > left {
            let stopped = || IndexError("the writer stopped".to_owned());
            let outcome = self.outcomes.recv().map_err(|_| stopped())?;
            self.open -= 1;
            outcome?;
        }
        Ok(())
    }
}

impl<'scope, 'env> Behind<'scope, 'env> {
    pub(crate) fn new(base: &'env dyn Index, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self {
            base,
            scope,
            writer: Mutex::default(),
        }
    }

    /// Waits until all is written.
    pub(crate) fn settle(&self) -> Result<(), IndexError> {
        match lock(&self.writer).as_mut() {
            Some(writer) => writer.settle(0),
            None => Ok(()),
        }
    }

    /// Starts the thread; none when the system has no more of them.
    fn start(&self) -> Option<Writer> {
        let base = self.base;
        let (batches, queue) = sync_channel::<Batch>(BATCHES_MAX);
        // Room for all that can be open, so that the thread never waits to tell.
        let (tell, outcomes) = sync_channel(BATCHES_MAX + 2);
        let write = move || {
            for batch in queue {
                let outcome = base.write(batch);
                let failed = outcome.is_err();
                // After a failure nothing is written any more: what is there stays a prefix.
                if tell.send(outcome).is_err() || failed {
                    break;
                }
            }
        };
        let started = Builder::new()
            .name("index-writer".to_owned())
            .spawn_scoped(self.scope, write);
        started.ok().map(|_| Writer {
            batches,
            outcomes,
            open: 0,
        })
    }
}

impl Index for Behind<'_, '_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.settle()?;
        self.base.get(key)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
        self.settle()?;
        self.base.last(from, to)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        self.settle()?;
        self.base.scan(from, to, limit)
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut writer = lock(&self.writer);
        if writer.is_none() && batch.changes.len() >= CHANGES_MIN {
            *writer = self.start();
        }
        let Some(writer) = writer.as_mut() else {
            return self.base.write(batch);
        };
        writer.settle(BATCHES_MAX)?;
        writer.open += 1;
        let stopped = || IndexError("the writer stopped".to_owned());
        writer.batches.send(batch).map_err(|_| stopped())
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.settle()?;
        self.base.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::thread::scope;

    use super::*;
    use crate::engine::index::MemoryIndex;

    fn batch(round: u32) -> Batch {
        let mut batch = Batch::default();
        for key in 0..2000u32 {
            batch.put(key.to_be_bytes().to_vec(), round.to_be_bytes().to_vec());
        }
        batch
    }

    #[test]
    fn readers_see_all_that_was_written_before_and_nothing_is_lost_at_the_end() {
        let base = MemoryIndex::crashable();
        scope(|scope| {
            let behind = Behind::new(&base, scope);
            for round in 0..20u32 {
                behind.write(batch(round)).unwrap();
                if round.is_multiple_of(7) {
                    let seen = behind.get(&5u32.to_be_bytes()).unwrap();
                    assert_eq!(seen, Some(round.to_be_bytes().to_vec()));
                }
            }
            behind.settle().unwrap();
        });
        assert_eq!(base.unflushed(), 20);
        let last = base.get(&1999u32.to_be_bytes()).unwrap();
        assert_eq!(last, Some(19u32.to_be_bytes().to_vec()));
    }

    /// Takes a few batches, and then no more.
    struct Failing(MemoryIndex, Mutex<u32>);

    impl Index for Failing {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
            self.0.get(key)
        }

        fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, IndexError> {
            self.0.last(from, to)
        }

        fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
            self.0.scan(from, to, limit)
        }

        fn write(&self, batch: Batch) -> Result<(), IndexError> {
            let mut left = lock(&self.1);
            *left = left
                .checked_sub(1)
                .ok_or_else(|| IndexError("no more".to_owned()))?;
            self.0.write(batch)
        }

        fn flush(&self) -> Result<(), IndexError> {
            self.0.flush()
        }
    }

    #[test]
    fn a_failure_is_told_and_nothing_is_written_after_it() {
        let base = Failing(MemoryIndex::crashable(), Mutex::new(3));
        let told = scope(|scope| {
            let behind = Behind::new(&base, scope);
            (0..20)
                .try_for_each(|round| behind.write(batch(round)))
                .and_then(|()| behind.settle())
        });
        assert!(told.is_err());
        assert_eq!(base.0.unflushed(), 3);
    }
}
