//! Heartbeats of all groups to one process, in one message.
//!
//! An idle group costs its leader a message to each follower every heartbeat; a hundred groups, a
//! hundred. Those that are due within a small part of that time travel together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use enfilade_placement::{EnclosureId, PartitionId};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::types::TypeConfig;
use crate::env::Env;
use crate::wire::{Lane, Peers, open};

/// The heartbeats of one message, each for a group.
pub(crate) type Beats = Vec<(PartitionId, AppendEntriesRequest<TypeConfig>)>;
/// Their answers, in the same order; none where the group does not answer.
pub(crate) type BeatAnswers = Vec<Option<AppendEntriesResponse<TypeConfig>>>;

/// Heartbeats that wait for one process; more would mean that none are sent.
const QUEUE_MAX: usize = 4096;

/// What becomes of one heartbeat.
pub(crate) type Answer = Result<AppendEntriesResponse<TypeConfig>, Status>;

struct Beat {
    group: PartitionId,
    request: AppendEntriesRequest<TypeConfig>,
    answer: oneshot::Sender<Answer>,
}

/// Gathers heartbeats. Its tasks end when it is dropped.
pub(crate) struct Heartbeats {
    peers: Arc<Peers>,
    /// How long a heartbeat waits for others: a small part of the time between two.
    window: Duration,
    env: Env,
    queues: Mutex<BTreeMap<EnclosureId, mpsc::Sender<Beat>>>,
}

impl Heartbeats {
    pub(crate) fn new(peers: Arc<Peers>, window: Duration, env: Env) -> Arc<Self> {
        Arc::new(Self {
            peers,
            window,
            env,
            queues: Mutex::default(),
        })
    }

    /// Sends a heartbeat with others, and waits for its answer.
    pub(crate) async fn send(
        &self,
        target: EnclosureId,
        group: PartitionId,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        let beat = Beat {
            group,
            request,
            answer,
        };
        let sent = self.queue(target).send(beat).await;
        sent.map_err(|_| Status::unavailable("heartbeats have stopped"))?;
        let lost = |_| Err(Status::unavailable("a heartbeat was lost"));
        answered.await.unwrap_or_else(lost)
    }

    fn queue(&self, target: EnclosureId) -> mpsc::Sender<Beat> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let open = queues.get(&target).filter(|queue| !queue.is_closed());
        if let Some(queue) = open {
            return queue.clone();
        }
        let (queue, beats) = mpsc::channel(QUEUE_MAX);
        queues.insert(target, queue.clone());
        let (peers, window, env) = (Arc::clone(&self.peers), self.window, self.env.clone());
        tokio::spawn(gather(peers, target, window, env, beats));
        queue
    }
}

/// Gathers heartbeats to one process until there can be no more.
async fn gather(
    peers: Arc<Peers>,
    target: EnclosureId,
    window: Duration,
    env: Env,
    mut beats: mpsc::Receiver<Beat>,
) {
    while let Some(first) = beats.recv().await {
        env.clock.sleep(window).await;
        let mut batch = vec![first];
        while let Ok(beat) = beats.try_recv() {
            batch.push(beat);
        }
        // The next ones do not wait for the answer to these.
        tokio::spawn(exchange(Arc::clone(&peers), target, batch));
    }
}

async fn exchange(peers: Arc<Peers>, target: EnclosureId, batch: Vec<Beat>) {
    let (mut beats, mut waiting) = (Beats::new(), Vec::new());
    for beat in batch {
        beats.push((beat.group, beat.request));
        waiting.push(beat.answer);
    }
    let told = ask(&peers, target, &beats).await;
    match told {
        Ok(answers) => {
            for (waiting, answer) in waiting.into_iter().zip(answers) {
                let silent = || Status::unavailable("the group does not answer");
                let _ = waiting.send(answer.ok_or_else(silent));
            }
        }
        Err(status) => {
            for waiting in waiting {
                let _ = waiting.send(Err(status.clone()));
            }
        }
    }
}

async fn ask(peers: &Peers, target: EnclosureId, beats: &Beats) -> Result<BeatAnswers, Status> {
    let client = peers.client(target, Lane::Heartbeats);
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    // Whoever waits stops waiting by its own time.
    let envelope = peers.identity().seal(PartitionId::ROOT, beats);
    let answer = client.beats(peers.identity().request(envelope)).await?;
    open(answer.get_ref())
}
