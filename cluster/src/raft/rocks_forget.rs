//! Forgets the rows that were removed from listed tables (see [`super::rocks_rows`]).
//!
//! A compaction drops them. RocksDB compacts when it has to; where scans meet many of them, one
//! thread has the range compacted at once, so that what was deleted slows listings down for
//! seconds, not for ever.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::{io, thread};

use rocksdb::compaction_filter::Decision;
use rocksdb::{CompactOptions, DB, Options};

use super::rocks::family;
use super::rocks_rows::is_removed;
use crate::metrics::metrics;
use crate::rows::Table;

/// A scan that met so many removed rows asks for a compaction.
const MANY: usize = 1_000;
/// Of so many rows in a row at least half must be removed for the compaction to go on over them.
const WINDOW: usize = 4_096;
/// The most rows that one compaction is made to cover.
const RANGE_ROWS_MAX: usize = 4_000_000;
/// Requests that wait; more are dropped, as the next scan repeats them.
const QUEUE_MAX: usize = 16;

/// Where scans met many removed rows, and from where on.
struct Request {
    table: Table,
    from: Vec<u8>,
}

/// The handle of the thread; it ends when this is dropped.
pub(super) struct Forgetter {
    db: Arc<DB>,
    queue: Option<SyncSender<Request>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Has the compactions of a listed table drop removed rows. What turns into a tombstone on the way
/// down, because an older row may lie below, is compacted further soon.
pub(super) fn forgets_removed(options: &mut Options) {
    options.set_compaction_filter("removed-rows", |_, _, value| {
        if value.is_empty() {
            Decision::Remove
        } else {
            Decision::Keep
        }
    });
    options.add_compact_on_deletion_collector_factory(WINDOW, WINDOW / 4, 0.25);
}

impl Forgetter {
    pub(super) fn start(db: Arc<DB>) -> io::Result<Self> {
        let (queue, requests) = mpsc::sync_channel(QUEUE_MAX);
        let of_thread = Arc::clone(&db);
        let thread = thread::Builder::new()
            .name("meta-forget".to_owned())
            .spawn(move || run(&of_thread, &requests))?;
        Ok(Self {
            db,
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Is told that a scan from a row on met so many removed rows.
    pub(super) fn met(&self, table: Table, from: &[u8], removed: usize) {
        if removed < MANY {
            return;
        }
        if let Some(queue) = &self.queue {
            let from = from.to_vec();
            // When the queue is full, another scan will ask again.
            let _ = queue.try_send(Request { table, from });
        }
    }
}

impl Drop for Forgetter {
    fn drop(&mut self) {
        self.queue = None;
        // Nobody reads or writes any more; a compaction under way is begun anew another time.
        self.db.cancel_all_background_work(false);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(db: &DB, requests: &Receiver<Request>) {
    while let Ok(Request { table, from }) = requests.recv() {
        // Gone meanwhile: an earlier request covered it.
        let Some(to) = extent(db, table, &from) else {
            continue;
        };
        let timer = metrics().forget_seconds.start_timer();
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        let (from, to) = (Some(from.as_slice()), Some(to.as_slice()));
        db.compact_range_cf_opt(family(db, table.name()), from, to, &options);
        timer.observe_duration();
    }
}

/// The last row of a stretch of mostly removed rows; none when there are few.
fn extent(db: &DB, table: Table, from: &[u8]) -> Option<Vec<u8>> {
    let mut rows = db.raw_iterator_cf(family(db, table.name()));
    rows.seek(from);
    let (mut visited, mut removed, mut window, mut last) = (0, 0, 0, Vec::new());
    while let Some((key, value)) = rows.item() {
        visited += 1;
        if is_removed(table, value) {
            (removed, window) = (removed + 1, window + 1);
            last.clear();
            last.extend_from_slice(key);
        }
        if visited % WINDOW == 0 {
            if window < WINDOW / 2 {
                break;
            }
            window = 0;
        }
        if visited >= RANGE_ROWS_MAX {
            break;
        }
        rows.next();
    }
    (removed >= MANY).then_some(last)
}
