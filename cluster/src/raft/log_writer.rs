//! Group commit: one thread writes the logs of all groups of a process.
//!
//! It takes all writes that wait, puts them into one batch, syncs once, and then tells all of them.
//! One syncing thread beats many by more than ten times (ext4 shares one journal).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use enfilade_placement::PartitionId;
use rocksdb::{DB, WriteBatch, WriteOptions};

use super::rocks::{Kept, LOG, RAFT, family, kept_key, log_key};
use super::store::{Done, LogWrite};
use crate::metrics::metrics;

/// A batch is closed when it holds so many bytes: about what a device takes in one go.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Writes that may wait: openraft hands over few large ones; whoever comes later waits here.
const QUEUE_MAX: usize = 4096;

struct Submission {
    group: PartitionId,
    write: LogWrite,
    done: Done,
}

/// The handle of the thread; it ends when the last handle is dropped and its queue is empty.
pub(super) struct LogWriter {
    queue: Option<SyncSender<Submission>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LogWriter {
    pub(super) fn start(db: Arc<DB>, sync: bool) -> io::Result<Self> {
        let (queue, submissions) = mpsc::sync_channel(QUEUE_MAX);
        let run = move || {
            Writer {
                db,
                sync,
                submissions,
                failed: None,
            }
            .run()
        };
        let thread = thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(run)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    pub(super) fn submit(&self, group: PartitionId, write: LogWrite, done: Done) {
        let queue = self
            .queue
            .as_ref()
            .expect("the queue lives as long as the handle");
        if let Err(refused) = queue.send(Submission { group, write, done }) {
            (refused.0.done)(Err(io::Error::other("the log writer has stopped")));
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue = None;
        // The callbacks that run there hold no handle of this, but the last of the database may
        // be dropped by one.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|t| t.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

struct Writer {
    db: Arc<DB>,
    sync: bool,
    submissions: Receiver<Submission>,
    /// Set by the first failure: nothing is written after it, as what it left is not known
    /// (PROTOCOLS 25).
    failed: Option<String>,
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.submissions.recv() {
            let mut batch = WriteBatch::default();
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(submission) = next.take() {
                self.add(&mut batch, submission.group, submission.write);
                waiting.push(submission.done);
                if batch.size_in_bytes() < BATCH_BYTES_MAX {
                    next = self.submissions.try_recv().ok();
                }
            }
            metrics().log_batch_writes.observe(waiting.len() as f64);
            let result = self.commit(batch);
            for done in waiting {
                done(
                    result
                        .as_ref()
                        .map_err(|error| io::Error::other(error.clone()))
                        .copied(),
                );
            }
        }
    }

    fn commit(&mut self, batch: WriteBatch) -> Result<(), String> {
        if let Some(failed) = &self.failed {
            return Err(format!("the log failed before: {failed}"));
        }
        let mut options = WriteOptions::default();
        options.set_sync(self.sync);
        let timer = metrics().log_sync_seconds.start_timer();
        let written = self
            .db
            .write_opt(batch, &options)
            .map_err(|error| error.to_string());
        timer.observe_duration();
        if let Err(error) = &written {
            tracing::error!(error, "writing the raft log failed");
            self.failed = Some(error.clone());
        }
        written
    }

    fn add(&self, batch: &mut WriteBatch, group: PartitionId, write: LogWrite) {
        let (log, raft) = (family(&self.db, LOG), family(&self.db, RAFT));
        match write {
            LogWrite::Append(entries) => {
                for (index, entry) in entries {
                    batch.put_cf(log, log_key(group, index), entry);
                }
            }
            LogWrite::Truncate(from) => {
                batch.delete_range_cf(log, log_key(group, from), log_key(group, u64::MAX));
            }
            LogWrite::Purge(before, purged) => {
                batch.delete_range_cf(log, log_key(group, 0), log_key(group, before));
                batch.put_cf(raft, kept_key(group, Kept::Purged), purged);
            }
            LogWrite::Vote(vote) => batch.put_cf(raft, kept_key(group, Kept::Vote), vote),
        }
    }
}
