//! Group commit: one thread a file system takes what all its drives have to write, writes it,
//! syncs each log once, and only then acks (PROTOCOLS 25).
//!
//! One thread with group commit beats many that sync by more than ten times on ext4, whose journal
//! serves one commit at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::env::Env;
use enfilade_placement::{BlobId, Epoch};
use tokio::sync::{mpsc, oneshot};

use super::group::{Group, Pace};
use super::record::Run;
use super::rows::ShardKey;
use super::{Engine, EngineError};
use crate::api::Owner;
use crate::api::append::FragmentHeader;
use crate::drive::FileSystemId;
use crate::host::Lease;
use crate::sync;

/// Orders that wait for a committer. Appends are bounded by their budgets before.
const QUEUE_ORDERS: usize = 4096;
/// Orders in one group, and bytes after which it is closed: keeps a sync under some 50 ms.
const GROUP_ORDERS_MAX: usize = 1024;
const GROUP_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Something to be written into the log of a shard.
#[derive(Debug)]
pub(crate) enum Work {
    Append {
        epoch: Epoch,
        blob: BlobId,
        first_stripe: u32,
        fragments: Vec<FragmentHeader>,
        owner: Option<Owner>,
        marks: Vec<BlobId>,
        payload: Vec<Bytes>,
    },
    Delete {
        blob: BlobId,
        runs: Vec<Run>,
    },
    /// Fragments found corrupt: stripe, and where its bytes were read, in the log with that
    /// incarnation.
    Bad {
        incarnation: u64,
        blob: BlobId,
        found: Vec<(u32, u64)>,
    },
    Fence(Epoch),
    Commit {
        marks: Vec<BlobId>,
    },
    /// Removes the log.
    Drop,
    /// Something else that no group may be amid.
    Alone(Alone),
    /// Nothing: is answered when all before it is done.
    Barrier,
}

/// Something to be done on the committer's thread.
pub(crate) struct Alone(Box<dyn FnOnce() + Send>);

impl Alone {
    pub(crate) fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(act))
    }
}

impl std::fmt::Debug for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alone")
    }
}

/// What came of an order, once it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Done {
    pub(crate) epoch: Epoch,
    /// Bytes of the shard's log.
    pub(crate) log_bytes: u64,
    /// For [`Work::Bad`]: how many fragments were still where they were read.
    pub(crate) entered: usize,
}

pub(crate) type Reply = oneshot::Sender<Result<Done, EngineError>>;

/// Work with all that belongs to it.
pub(crate) struct Order {
    pub(crate) engine: Arc<Engine>,
    pub(crate) shard: ShardKey,
    pub(crate) work: Work,
    pub(crate) reply: Reply,
    /// Held until the order is answered.
    pub(crate) _leases: Vec<Lease>,
}

impl Order {
    /// Whether it is not part of a group.
    fn is_alone(&self) -> bool {
        matches!(self.work, Work::Drop | Work::Alone(_) | Work::Barrier)
    }

    fn bytes(&self) -> u64 {
        match &self.work {
            Work::Append { payload, .. } => payload.iter().map(|bytes| bytes.len() as u64).sum(),
            _ => 0,
        }
    }

    pub(crate) fn answer(self, outcome: Result<Done, EngineError>) {
        // A caller that went away does not want to know.
        let _ = self.reply.send(outcome);
    }
}

/// The committers of a process, by file system.
pub(crate) struct Committers {
    env: Env,
    threads: Mutex<BTreeMap<FileSystemId, Weak<Committer>>>,
}

/// One thread that commits. It ends when all drives that use it are closed.
pub(crate) struct Committer {
    orders: mpsc::Sender<Order>,
    /// When the present group was begun, in milliseconds of the clock, plus 1; 0: there is none.
    busy: Arc<AtomicU64>,
}

impl Committers {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            env,
            threads: Mutex::default(),
        }
    }

    /// The committer of a file system; started when there is none.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn of(&self, file_system: FileSystemId) -> std::io::Result<Arc<Committer>> {
        let mut threads = sync::lock(&self.threads);
        let running = threads.get(&file_system).and_then(Weak::upgrade);
        if let Some(committer) = running.filter(|committer| !committer.orders.is_closed()) {
            return Ok(committer);
        }
        let (orders, queue) = mpsc::channel(QUEUE_ORDERS);
        let env = self.env.clone();
        let busy = Arc::new(AtomicU64::new(0));
        let begun = Arc::clone(&busy);

        sync::spawn(format!("commit-{}", file_system.0), move || {
            run(queue, &env, &begun);
        })?;
        let committer = Arc::new(Committer { orders, busy });
        threads.insert(file_system, Arc::downgrade(&committer));
        Ok(committer)
    }
}

impl Committer {
    /// For how long it has been at its present group.
    pub(crate) fn busy_for(&self, now: Duration) -> Duration {
        match self.busy.load(Ordering::Relaxed).checked_sub(1) {
            Some(begun) => now.saturating_sub(Duration::from_millis(begun)),
            None => Duration::ZERO,
        }
    }

    /// Hands in an order that may be refused.
    pub(crate) fn offer(&self, order: Order) -> Result<(), EngineError> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EngineError::Busy,
            mpsc::error::TrySendError::Closed(order) => order.engine.stopped(),
        })
    }

    /// Hands in an order that waits for its turn.
    pub(crate) async fn send(&self, order: Order) -> Result<(), EngineError> {
        self.orders
            .send(order)
            .await
            .map_err(|error| error.0.engine.stopped())
    }
}

fn run(mut queue: mpsc::Receiver<Order>, env: &Env, busy: &AtomicU64) {
    let (mut next, mut pace) = (None, Pace::default());
    while let Some(first) = next.take().or_else(|| sync::receive(&mut queue)) {
        let (mut orders, mut bytes) = (Vec::new(), first.bytes());
        let alone = first.is_alone();
        orders.push(first);
        while !alone && orders.len() < GROUP_ORDERS_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(order) = queue.try_recv() else { break };
            if order.is_alone() {
                next = Some(order);
                break;
            }
            bytes += order.bytes();
            orders.push(order);
        }
        let begun = u64::try_from(env.clock.now().as_millis()).unwrap_or(u64::MAX - 1);
        busy.store(begun + 1, Ordering::Relaxed);
        match alone {
            true => orders.into_iter().for_each(run_alone),
            false => commit(orders, env, &mut pace),
        }
        busy.store(0, Ordering::Relaxed);
    }
}

fn commit(orders: Vec<Order>, env: &Env, pace: &mut Pace) {
    let again = Group::default().run(orders, env, pace);
    if !again.is_empty() {
        for order in Group::default().run(again, env, pace) {
            order.answer(Err(EngineError::Full));
        }
    }
}

fn run_alone(mut order: Order) {
    let outcome = match std::mem::replace(&mut order.work, Work::Barrier) {
        Work::Drop => order.engine.remove_log(order.shard),
        Work::Alone(Alone(act)) => {
            act();
            Ok(Done::default())
        }
        _ => Ok(Done::default()),
    };
    order.answer(outcome);
}
