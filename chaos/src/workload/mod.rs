//! Load: writers that each do one operation after the other, and an auditor that reads everything
//! while they rest.

pub(crate) mod audit;
pub(crate) mod body;
pub(crate) mod bulk;
pub(crate) mod keys;
pub(crate) mod ops;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;

use crate::client::{Condition, Failure, Store};
use crate::history::{Action, Begun, History, Outcome};
use body::Body;
use ops::{Plan, Step, Steps};

/// How long a writer waits after a failure, so that a cluster that refuses at once is not flooded.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Writers at work. Dropping it ends them in the middle of what they do.
pub(crate) struct Load {
    history: Arc<History>,
    gate: Arc<RwLock<()>>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<()>,
    windows: Windows,
}

/// Spans of the history (microseconds) in which the writers were free to work.
type Windows = Arc<Mutex<Vec<(u64, u64)>>>;

/// While this lives, no writer has an operation under way.
pub(crate) struct Rest {
    history: Arc<History>,
    windows: Windows,
    /// Dropped last: it lets the writers go on.
    _gate: OwnedRwLockWriteGuard<()>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        open_window(&self.windows, self.history.now());
    }
}

impl Load {
    pub(crate) fn start(store: &Arc<dyn Store>, history: &Arc<History>, plan: Plan) -> Load {
        let gate = Arc::new(RwLock::new(()));
        let stop = Arc::new(AtomicBool::new(false));
        let windows = Windows::default();
        open_window(&windows, history.now());
        let mut writers = JoinSet::new();
        for number in 0..plan.writers {
            let writer = Writer {
                number,
                seed: plan.seed,
                pause: plan.pause,
                store: store.clone(),
                history: history.clone(),
            };
            let (gate, stop) = (gate.clone(), stop.clone());
            writers.spawn(writer.work(Steps::new(plan, number), gate, stop));
        }
        Load {
            history: history.clone(),
            gate,
            stop,
            writers,
            windows,
        }
    }

    /// Waits until every writer has ended its operation, and holds them there.
    pub(crate) async fn rest(&self) -> Rest {
        close_window(&self.windows, self.history.now());
        let gate = self.gate.clone().write_owned().await;
        Rest {
            history: self.history.clone(),
            windows: self.windows.clone(),
            _gate: gate,
        }
    }

    /// Ends the load after the operations that are under way; the spans in which it worked.
    pub(crate) async fn stop(mut self) -> Vec<(u64, u64)> {
        close_window(&self.windows, self.history.now());
        self.stop.store(true, Ordering::Release);
        while self.writers.join_next().await.is_some() {}
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.clone()
    }
}

/// Writes objects that no load will touch again, one after the other.
///
/// # Errors
/// When one is not acked: without a fault, that must not be.
pub(crate) async fn keep(
    store: &Arc<dyn Store>,
    history: &Arc<History>,
    plan: Plan,
    count: usize,
) -> anyhow::Result<()> {
    // A number that no writer of the load has.
    let number = plan.writers;
    let writer = Writer {
        number,
        seed: plan.seed,
        pause: Duration::ZERO,
        store: store.clone(),
        history: history.clone(),
    };
    let mut steps = Steps::new(plan, number);
    for index in 0..count {
        let outcome = writer.step(steps.keep(index)).await;
        anyhow::ensure!(
            outcome == Outcome::Acked,
            "a write without a fault: {outcome:?}"
        );
    }
    Ok(())
}

fn open_window(windows: &Windows, now: u64) {
    let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    windows.push((now, u64::MAX));
}

fn close_window(windows: &Windows, now: u64) {
    let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, end)) = windows.last_mut() {
        *end = now.min(*end);
    }
}

struct Writer {
    number: u32,
    seed: u64,
    /// After each operation.
    pause: Duration,
    store: Arc<dyn Store>,
    history: Arc<History>,
}

impl Writer {
    async fn work(self, mut steps: Steps, gate: Arc<RwLock<()>>, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Acquire) {
            let free = gate.read().await;
            let outcome = self.step(steps.next()).await;
            drop(free);
            if !matches!(outcome, Outcome::Acked | Outcome::Conflict) {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
        }
    }

    async fn step(&self, step: Step) -> Outcome {
        match step {
            Step::Put { key, length } => self.put(key, &[length], Condition::None).await,
            Step::Multipart { key, lengths } => self.put(key, &lengths, Condition::None).await,
            Step::Create { key, length } => self.put(key, &[length], Condition::Absent).await,
            Step::Delete { key } => {
                let begun = self.history.begin();
                let outcome = outcome(self.store.delete(&key).await);
                self.finish(begun, Action::Delete { key }, outcome)
            }
            Step::Get { key } => {
                let begun = self.history.begin();
                let answer = self.store.get(&key).await;
                let value = answer.as_ref().ok().cloned().flatten();
                self.finish(begun, Action::Get { key, value }, outcome(answer))
            }
            Step::List { prefix } => {
                let begun = self.history.begin();
                let answer = self.store.list(&prefix).await;
                let listed = answer.clone().unwrap_or_default();
                self.finish(begun, Action::List { prefix, listed }, outcome(answer))
            }
        }
    }

    async fn put(&self, key: String, lengths: &[usize], condition: Condition) -> Outcome {
        let begun = self.history.begin();
        let body: Body = match lengths {
            [length] => body::whole(self.seed, begun.number, *length),
            _ => body::parts(self.seed, begun.number, lengths),
        };
        let value = body::value(&body);
        let answer = self.store.put(&key, body, condition).await;
        let mut outcome = outcome(answer.as_ref().map(|_| ()).map_err(Failure::clone));
        if let Ok(etag) = answer
            && etag != value.etag
        {
            // The write happened, but what was acked is not what was sent.
            let why = format!("acked with etag '{etag}' instead of '{}'", value.etag);
            self.history
                .fault(&format!("{} {key}: {why}", crate::check::WRONG_ETAG));
            outcome = Outcome::Unknown { why };
        }
        let action = match condition {
            Condition::None => Action::Put { key, value },
            Condition::Absent => Action::Create { key, value },
        };
        self.finish(begun, action, outcome)
    }

    fn finish(&self, begun: Begun, action: Action, outcome: Outcome) -> Outcome {
        self.history
            .finish(begun, self.number, action, outcome.clone());
        outcome
    }
}

fn outcome<T>(answer: Result<T, Failure>) -> Outcome {
    answer.map_or_else(Outcome::from, |_| Outcome::Acked)
}

#[cfg(test)]
mod tests;
