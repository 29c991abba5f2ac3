//! Reading everything while the load rests: each object that was ever written, whole, some bytes
//! from its middle again, and the listing of the bucket.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use super::body;
use crate::check::{Finding, Kind};
use crate::client::{Failure, Store};
use crate::history::{AUDITOR, Action, History, Outcome, Value};

/// Bytes that are read again from the middle of an object.
const RANGE_BYTES: u64 = 100_000;

/// Between two attempts to read one object.
const PAUSE: Duration = Duration::from_millis(200);

/// What an audit reads, and how.
#[derive(Debug)]
pub(crate) struct Audit {
    /// The seed of the load whose bytes are read.
    pub(crate) seed: u64,
    /// Only keys that begin with this.
    pub(crate) prefix: &'static str,
    /// Objects that are read at a time.
    pub(crate) readers: usize,
    /// How long one object may stay unreadable.
    pub(crate) patience: Duration,
    /// Set when that was too long once: further objects are tried once.
    pub(crate) gave_up: AtomicBool,
}

/// What an audit read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audited {
    /// Objects that were there.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// Keys without an object, as the history may demand.
    pub(crate) absent: u64,
    /// What only the audit can see; the reads themselves are judged with the history.
    pub(crate) findings: Vec<Finding>,
}

impl Audit {
    /// Reads all that the history knows. The load must rest.
    ///
    /// # Errors
    /// When the history could not be written.
    pub(crate) async fn run(
        &self,
        store: &Arc<dyn Store>,
        history: &History,
    ) -> anyhow::Result<Audited> {
        let mut keys: HashMap<String, ()> = HashMap::new();
        let mut writes: HashMap<String, u64> = HashMap::new();
        for operation in history.operations()? {
            let written = match operation.action {
                Action::Put { key, value } | Action::Create { key, value } => (key, value),
                Action::Delete { .. }
                | Action::Get { .. }
                | Action::List { .. }
                | Action::Fault { .. } => continue,
            };
            if written.0.starts_with(self.prefix) {
                keys.insert(written.0, ());
            }
            writes.insert(written.1.digest, operation.number);
        }
        let mut keys: Vec<String> = keys.into_keys().collect();
        keys.sort();
        let writes = &writes;
        let mut results = stream::iter(keys)
            .map(|key| async move { self.object(store, history, writes, &key).await })
            .buffer_unordered(self.readers.max(1));
        let mut audited = Audited::default();
        while let Some(result) = results.next().await {
            match result {
                Ok(Some(value)) => {
                    audited.objects += 1;
                    audited.bytes += value.length;
                }
                Ok(None) => audited.absent += 1,
                Err(finding) => audited.findings.push(finding),
            }
        }
        audited.findings.extend(self.listing(store, history).await);
        Ok(audited)
    }

    async fn object(
        &self,
        store: &Arc<dyn Store>,
        history: &History,
        writes: &HashMap<String, u64>,
        key: &str,
    ) -> Result<Option<Value>, Finding> {
        let began = Instant::now();
        let value = loop {
            let begun = history.begin();
            let answer = store.get(key).await;
            let value = answer.as_ref().ok().cloned().flatten();
            let key_owned = key.to_owned();
            let action = Action::Get {
                key: key_owned,
                value,
            };
            let outcome = answer
                .clone()
                .map_or_else(Outcome::from, |_| Outcome::Acked);
            history.finish(begun, AUDITOR, action, outcome);
            match answer {
                Ok(value) => break value,
                Err(failure) if self.gives_up(began, &failure) => {
                    return Err(unreadable(key, &failure));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        if let Some(value) = &value
            && let Some(number) = writes.get(&value.digest)
        {
            self.middle(store, key, value, *number).await?;
        }
        Ok(value)
    }

    /// Reads a range that begins within the object, and compares it with the bytes that were sent.
    async fn middle(
        &self,
        store: &Arc<dyn Store>,
        key: &str,
        value: &Value,
        number: u64,
    ) -> Result<(), Finding> {
        let start = value.length / 3;
        let end = value.length.min(start + RANGE_BYTES);
        let length = usize::try_from(end - start).unwrap_or(0);
        let expected = body::bytes(self.seed, number, start, length);
        let began = Instant::now();
        loop {
            let seen = store.get_range(key, start..end).await;
            match seen {
                Ok(Some(bytes)) if bytes == expected => return Ok(()),
                Ok(seen) => {
                    // No object, or bytes that were not sent.
                    let seen = seen.map_or_else(
                        || "no object".to_owned(),
                        |bytes| format!("{} other bytes", bytes.len()),
                    );
                    let text = format!("{key:?}: range {start}..{end} of {number} gave {seen}");
                    return Err(Finding::new(Kind::WrongBytes, text));
                }
                Err(failure) if self.gives_up(began, &failure) => {
                    return Err(unreadable(key, &failure));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Whether there is no point in asking again.
    fn gives_up(&self, began: Instant, failure: &Failure) -> bool {
        let given_up = self.gave_up.load(Ordering::Relaxed);
        match failure {
            Failure::Conflict | Failure::Refused(_) => true,
            Failure::Unknown(_) if given_up || began.elapsed() > self.patience => {
                self.gave_up.store(true, Ordering::Relaxed);
                true
            }
            Failure::Unknown(_) => false,
        }
    }

    async fn listing(&self, store: &Arc<dyn Store>, history: &History) -> Option<Finding> {
        let began = Instant::now();
        loop {
            let begun = history.begin();
            let answer = store.list(self.prefix).await;
            let listed = answer.clone().unwrap_or_default();
            let prefix = self.prefix.to_owned();
            let outcome = answer
                .clone()
                .map_or_else(Outcome::from, |_| Outcome::Acked);
            history.finish(begun, AUDITOR, Action::List { prefix, listed }, outcome);
            match answer {
                Ok(_) => return None,
                Err(failure) if self.gives_up(began, &failure) => {
                    return Some(unreadable("the listing of the bucket", &failure));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn unreadable(what: &str, failure: &Failure) -> Finding {
    let why = match failure {
        Failure::Conflict => "refused by a condition that was not set",
        Failure::Refused(why) | Failure::Unknown(why) => why,
    };
    let text = format!("{what:?}: {why}");
    Finding::new(Kind::Unreadable, text)
}
