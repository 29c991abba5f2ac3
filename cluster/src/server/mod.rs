//! The metadata service of one process: its groups, and the loops that their leaders run.
//!
//! [`MetadataService`] is what both clients speak to: the in-process one calls it, the gRPC adapter
//! ([`grpc`]) is thin. It answers for this replica only: whoever does not lead says who does.

pub(crate) mod beats;
mod birth;
pub mod grpc;
mod keeper;
mod leaders;
mod members;
mod mover;
mod planner;
pub mod read;
mod replicas;
mod start;
mod status;
mod view;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{EnclosureId, PartitionId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Result;
use crate::api::command::{PartitionCommand, PartitionEnvelope};
use crate::api::encoding::encode;
use crate::api::error::MetadataError;
use crate::api::heartbeat::{DriveReport, Heartbeat, HeartbeatReply};
use crate::api::root::{RootCommand, RootEnvelope, RootOutcome};
use crate::call::{Answer, Call};
use crate::env::Env;
use crate::metrics::metrics;
use crate::raft::groups::{Group, Groups};
use crate::raft::rocks::Rocks;
use crate::raft::types::Reply;
use crate::settings::Settings;
use crate::wire::Peers;

use beats::Beats;
use read::ReadSettings;
use view::Views;

pub use start::{Replica, StartError, Storage};

/// The metadata service of one process. Clones are handles of the same.
#[derive(Clone)]
pub struct MetadataService(Arc<Inner>);

pub(crate) struct Inner {
    replica: EnclosureId,
    /// Where the other replicas reach this one, `host:port`.
    address: String,
    settings: Settings,
    env: Env,
    peers: Arc<Peers>,
    groups: Arc<Groups>,
    beats: Beats,
    views: Views,
    /// RocksDB, for its metrics; none when the storage is in memory.
    rocks: Option<Arc<Rocks>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl MetadataService {
    /// The enclosure of this process.
    pub fn replica(&self) -> EnclosureId {
        self.0.replica
    }

    /// The other processes.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.0.peers
    }

    /// Time and randomness.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    pub(crate) fn groups(&self) -> &Arc<Groups> {
        &self.0.groups
    }

    /// Has other replicas lead, then stops the loops and the replicas. What was acked is durable
    /// already.
    pub async fn shutdown(&self) {
        self.resign().await;
        self.halt().await;
    }

    /// Stops the loops and the replicas, whatever they lead.
    pub(crate) async fn halt(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.groups.shutdown().await;
    }

    /// Answers a call, if this replica leads the group that it is for.
    ///
    /// # Errors
    /// Who leads instead, or why there is no answer.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        let timer = metrics()
            .call_seconds
            .with_label_values(&[call.name()])
            .start_timer();
        let answer = self.answer(call).await;
        timer.observe_duration();
        if let Err(error) = &answer {
            metrics()
                .call_errors
                .with_label_values(&[call.name(), kind(error)])
                .inc();
        }
        answer
    }

    async fn answer(&self, call: &Call) -> Result<Answer> {
        match call {
            Call::Propose {
                partition,
                envelope,
            } => self.propose(*partition, envelope).await,
            Call::Root(envelope) => {
                if matches!(
                    envelope.command,
                    RootCommand::Tick { .. } | RootCommand::Init(_)
                ) {
                    return Err(MetadataError::Invalid(
                        "not a command of clients".to_owned(),
                    ));
                }
                self.propose_root(envelope).await.map(Answer::Root)
            }
            Call::Watch { since, wait } => self.watch(*since, *wait).await.map(Answer::View),
            Call::Heartbeat(beat) => self.heartbeat(beat).map(Answer::Heartbeat),
            Call::DriveReports => self.drive_reports().map(Answer::DriveReports),
            Call::Groups => Ok(Answer::Groups(self.statuses())),
            call => self.question(call).await,
        }
    }

    /// The replica of a group.
    pub(crate) fn group(&self, group: PartitionId) -> Result<Arc<Group>> {
        self.0
            .groups
            .get(group)
            .ok_or(MetadataError::NotLeader { leader: None })
    }

    async fn propose(
        &self,
        partition: PartitionId,
        envelope: &PartitionEnvelope,
    ) -> Result<Answer> {
        if is_of_leaders(&envelope.command) {
            return Err(MetadataError::Invalid(
                "not a command of clients".to_owned(),
            ));
        }
        if partition == PartitionId::ROOT {
            return Err(MetadataError::Invalid(
                "the root group is no partition".to_owned(),
            ));
        }
        match self
            .group(partition)?
            .propose(Bytes::from(encode(envelope)))
            .await?
        {
            Reply::Partition(outcome) => Ok(Answer::Outcome(outcome)),
            reply => Err(unexpected(&reply)),
        }
    }

    pub(crate) async fn propose_root(&self, envelope: &RootEnvelope) -> Result<RootOutcome> {
        let group = self.group(PartitionId::ROOT)?;
        match group.propose(Bytes::from(encode(envelope))).await? {
            Reply::Root(outcome) => Ok(outcome),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Answers from rows. Pages are read on threads that may block.
    async fn question(&self, call: &Call) -> Result<Answer> {
        let group = self.group(call.group().unwrap_or(PartitionId::ROOT))?;
        group.linearize().await?;
        let grace = self.0.settings.keeper.garbage_grace.as_millis();
        let settings = ReadSettings {
            garbage_grace_ms: u64::try_from(grace).unwrap_or(u64::MAX),
        };
        let ask = move |call: &Call| {
            let answer = group.with_rows(|rows| read::answer(rows, settings, call))?;
            answer.ok_or_else(|| MetadataError::Invalid(format!("{} is no question", call.name())))
        };
        if !pages(call) {
            return ask(call);
        }
        let call = call.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&call)).await;
        asked.map_err(|error| MetadataError::Unavailable(error.to_string()))?
    }

    fn heartbeat(&self, beat: &Heartbeat) -> Result<HeartbeatReply> {
        let identity = self.0.peers.identity();
        if beat.cluster != identity.cluster || beat.incarnation != identity.incarnation {
            let text = format!(
                "enclosure {} is of another cluster or incarnation",
                beat.enclosure
            );
            return Err(MetadataError::Forbidden(text));
        }
        self.check_root_leader()?;
        self.0.beats.hear(beat.clone(), self.0.env.clock.now());
        Ok(HeartbeatReply {
            revision: self.local_view()?.revision,
        })
    }

    fn drive_reports(&self) -> Result<Vec<DriveReport>> {
        self.check_root_leader()?;
        Ok(self.0.beats.drives(self.0.env.clock.now()))
    }

    /// Only the leader hears heartbeats.
    fn check_root_leader(&self) -> Result<()> {
        let group = self.group(PartitionId::ROOT)?;
        if group.leads() {
            return Ok(());
        }
        let leader = group.metrics().current_leader;
        let leader = leader.filter(|id| *id != u64::from(self.0.replica.get()));
        Err(MetadataError::NotLeader { leader })
    }

    /// Waits until the loops are to stop, or a time has passed; whether to go on.
    pub(crate) async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.0.stop.cancelled() => false,
            () = self.0.env.clock.sleep(time) => true,
        }
    }
}

/// Whether only the leader of a partition proposes a command.
const fn is_of_leaders(command: &PartitionCommand) -> bool {
    match command {
        PartitionCommand::Tick { .. }
        | PartitionCommand::Replicas { .. }
        | PartitionCommand::Divide { .. }
        | PartitionCommand::CopyForChild { .. }
        | PartitionCommand::Split { .. } => true,
        PartitionCommand::Key { .. }
        | PartitionCommand::Bucket { .. }
        | PartitionCommand::AckGarbage(_) => false,
    }
}

/// Whether answering may read many rows.
const fn pages(call: &Call) -> bool {
    matches!(
        call,
        Call::List { .. }
            | Call::Versions { .. }
            | Call::Uploads { .. }
            | Call::Parts { .. }
            | Call::IsEmpty { .. }
            | Call::Garbage(_)
            | Call::AllVolumes { .. }
            | Call::Ledger { .. }
            | Call::LedgerOf(_)
    )
}

fn unexpected(reply: &Reply) -> MetadataError {
    MetadataError::Undecodable(format!("the state machine answered {reply:?}"))
}

/// The label of an error in metrics.
const fn kind(error: &MetadataError) -> &'static str {
    match error {
        MetadataError::Unavailable(_) => "unavailable",
        MetadataError::UnknownOutcome(_) => "unknown_outcome",
        MetadataError::NotLeader { .. } => "not_leader",
        MetadataError::StaleRoute(_) => "stale_route",
        MetadataError::Forbidden(_) => "forbidden",
        MetadataError::Full(_) => "full",
        MetadataError::Invalid(_) => "invalid",
        MetadataError::Undecodable(_) => "undecodable",
    }
}

#[cfg(test)]
mod tests;
