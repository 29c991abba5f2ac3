//! What the cluster says of its moves while a step goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::cluster::Ask;

/// Between two questions.
const PERIOD: Duration = Duration::from_millis(700);

/// `enfilade rebalance status --json`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Moves {
    pub(crate) plan_bytes: u64,
    pub(crate) bound_bytes: u64,
    pub(crate) backlog_bytes: u64,
    pub(crate) rebuilt_bytes_total: u64,
    pub(crate) moved_bytes_total: u64,
    #[serde(default)]
    pub(crate) unplaced: u64,
    #[serde(default)]
    pub(crate) unreadable: u64,
    #[serde(default)]
    pub(crate) under_way: Vec<Move>,
    #[serde(default)]
    pub(crate) drains: Vec<Drain>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Move {
    pub(crate) stage: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Drain {
    pub(crate) shards: u64,
}

impl Moves {
    pub(crate) async fn ask(ask: &Ask) -> anyhow::Result<Moves> {
        ask.json(&["rebalance", "status", "--json"]).await
    }

    /// Whether no byte is left to move. A shard whose dead blobs are looked through once more has
    /// moved.
    pub(crate) fn are_done(&self) -> bool {
        let makes = self.under_way.iter().any(|one| one.stage == "make");
        let drained = self.drains.iter().all(|drain| drain.shards == 0);
        self.backlog_bytes == 0 && !makes && drained
    }
}

/// Moves over the time of a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) first: Option<Moves>,
    pub(crate) last: Moves,
    /// The largest plan, and its bound.
    pub(crate) plan_bytes: u64,
    pub(crate) bound_bytes: u64,
    /// When bytes were rebuilt first and last, and how many drives there were.
    rebuilt: Option<(Instant, Instant)>,
}

impl Seen {
    fn note(&mut self, moves: Moves) {
        if moves.plan_bytes > self.plan_bytes {
            (self.plan_bytes, self.bound_bytes) = (moves.plan_bytes, moves.bound_bytes);
        }
        if self.first.is_some() && moves.rebuilt_bytes_total > self.last.rebuilt_bytes_total {
            let now = Instant::now();
            let began = self.rebuilt.map_or(now - PERIOD, |(began, _)| began);
            self.rebuilt = Some((began, now));
        }
        self.first.get_or_insert_with(|| moves.clone());
        self.last = moves;
    }

    /// Bytes that were moved, and rebuilt, since the watch began.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let first = self.first.clone().unwrap_or_default();
        let moved =
            self.last.moved_bytes_total - first.moved_bytes_total.min(self.last.moved_bytes_total);
        let rebuilt = self.last.rebuilt_bytes_total
            - first.rebuilt_bytes_total.min(self.last.rebuilt_bytes_total);
        (moved, rebuilt)
    }

    /// Seconds from the first rebuilt bytes to the last.
    pub(crate) fn rebuilding(&self) -> f64 {
        self.rebuilt.map_or(0.0, |(began, ended)| {
            ended.duration_since(began).as_secs_f64()
        })
    }
}

/// Asks again and again. Dropping it ends that.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins with an answer.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn start(ask: Ask) -> anyhow::Result<Watch> {
        let mut first = Seen::default();
        first.note(Moves::ask(&ask).await?);
        let seen = Arc::new(Mutex::new(first));
        let told = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                // While leaders change there is no answer.
                if let Ok(moves) = Moves::ask(&ask).await {
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .note(moves);
                }
            }
        });
        Ok(Watch { seen, task })
    }

    pub(crate) fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
