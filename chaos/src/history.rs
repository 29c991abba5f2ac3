//! What the clients did and saw: one line an operation, with the times between which it took
//! effect.
//!
//! The file is the evidence of a run. The checks work on the same operations in memory, so that
//! whatever a verdict names can be found in the file by its number.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The client number of the auditor, which reads everything while the load rests.
pub(crate) const AUDITOR: u32 = u32::MAX;

/// The client number of the scenario, whose operations are faults.
pub(crate) const SCENARIO: u32 = u32::MAX - 1;

/// What tells the bytes of one write from those of every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Value {
    /// Bytes.
    pub(crate) length: u64,
    /// The first half of SHA-256, in hex.
    pub(crate) digest: String,
    /// The ETag without quotes: what S3 demands for a write, what was answered for a read.
    pub(crate) etag: String,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Bytes.
    pub(crate) length: u64,
    pub(crate) etag: String,
}

/// What a client asked for, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub(crate) enum Action {
    /// An unconditional write, in one request or by multipart.
    Put {
        key: String,
        value: Value,
    },
    /// A write under `If-None-Match: *`.
    Create {
        key: String,
        value: Value,
    },
    Delete {
        key: String,
    },
    /// A read of a whole object. `value` is what came, absent when there was no such key.
    Get {
        key: String,
        value: Option<Value>,
    },
    /// A listing of all pages under a prefix.
    List {
        prefix: String,
        listed: Vec<Entry>,
    },
    /// Something that the scenario did to the cluster.
    Fault {
        what: String,
    },
}

impl Action {
    /// The key that a write, delete or read is about.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Action::Put { key, .. }
            | Action::Create { key, .. }
            | Action::Delete { key }
            | Action::Get { key, .. } => Some(key),
            Action::List { .. } | Action::Fault { .. } => None,
        }
    }
}

/// How an operation ended, as far as its client can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Success was answered: all promises hold from here.
    Acked,
    /// The condition of a write did not hold; nothing was written.
    Conflict,
    /// Refused for good; nothing was written.
    Refused { why: String },
    /// No answer, or one that leaves the outcome open: a write may take effect, now or later.
    Unknown { why: String },
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// Unique in the history; writes are recognised by it.
    pub(crate) number: u64,
    pub(crate) client: u32,
    /// Microseconds since the history began, before the request was sent.
    pub(crate) start: u64,
    /// Microseconds since the history began, after the answer was complete.
    pub(crate) end: u64,
    #[serde(flatten)]
    pub(crate) action: Action,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

impl Operation {
    pub(crate) fn is_acked(&self) -> bool {
        self.outcome == Outcome::Acked
    }
}

/// An operation that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    start: u64,
}

/// All operations of a run, in memory and in a file.
#[derive(Debug)]
pub(crate) struct History {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    /// The first error of the file; the run ends with it.
    failed: Option<std::io::Error>,
    next: u64,
    operations: Vec<Operation>,
}

impl History {
    pub(crate) fn create(path: &Path) -> anyhow::Result<History> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(History {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                file: BufWriter::new(file),
                failed: None,
                next: 1,
                operations: Vec::new(),
            }),
        })
    }

    /// Microseconds since the history began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Numbers an operation; called before its request is sent.
    pub(crate) fn begin(&self) -> Begun {
        let start = self.now();
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        Begun { number, start }
    }

    /// Records how an operation ended; called when its answer is complete.
    pub(crate) fn finish(&self, begun: Begun, client: u32, action: Action, outcome: Outcome) {
        let operation = Operation {
            number: begun.number,
            client,
            start: begun.start,
            end: self.now(),
            action,
            outcome,
        };
        let mut inner = self.lock();
        let mut line = serde_json::to_vec(&operation).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = inner.file.write_all(&line) {
            inner.failed.get_or_insert(error);
        }
        inner.operations.push(operation);
    }

    /// Records what the scenario does at this moment.
    pub(crate) fn fault(&self, what: &str) {
        let action = Action::Fault {
            what: what.to_owned(),
        };
        self.finish(self.begin(), SCENARIO, action, Outcome::Acked);
    }

    /// All operations that have ended, in the order of their numbers.
    ///
    /// # Errors
    /// When the file could not be written: then the evidence is incomplete.
    pub(crate) fn operations(&self) -> anyhow::Result<Vec<Operation>> {
        let mut inner = self.lock();
        inner.file.flush().context("writing the history")?;
        if let Some(error) = inner.failed.take() {
            return Err(error).context("writing the history");
        }
        let mut operations = inner.operations.clone();
        operations.sort_by_key(|operation| operation.number);
        Ok(operations)
    }

    /// How many operations have ended.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().operations.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the file of an earlier run.
///
/// # Errors
/// When it cannot be read, or a line is no operation (the last line of a run that was killed may be
/// cut).
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Operation>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the history {}", path.display()))?;
    let mut operations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let operation: Operation = serde_json::from_str(line)
            .with_context(|| format!("{}: line {}", path.display(), index + 1))?;
        operations.push(operation);
    }
    operations.sort_by_key(|operation| operation.number);
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(digest: &str) -> Value {
        Value {
            length: 1,
            digest: digest.to_owned(),
            etag: "e".to_owned(),
        }
    }

    #[test]
    fn a_history_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        let (first, second) = (history.begin(), history.begin());
        let key = "a \u{fc}/\n".to_owned();
        let get = Action::Get {
            key: key.clone(),
            value: None,
        };
        history.finish(second, AUDITOR, get, Outcome::Acked);
        let put = Action::Put {
            key,
            value: value("d"),
        };
        let why = "timed out".to_owned();
        history.finish(first, 3, put, Outcome::Unknown { why });
        history.fault("kill 2");
        let written = history.operations().unwrap();
        assert_eq!(written.len(), 3);
        assert_eq!(written[0].number, first.number);
        assert!(written[0].end >= written[0].start);
        assert_eq!(read(&path).unwrap(), written);
    }

    #[test]
    fn a_line_that_is_no_operation_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        std::fs::write(&path, "{\"number\":1}\n").unwrap();
        assert!(read(&path).is_err());
    }
}
