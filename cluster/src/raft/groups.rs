//! The groups that this process holds replicas of.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{EnclosureId, Epoch, IntentId, PartitionId};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, InitializeError, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, ReadPolicy};
use openraft::{BasicNode, Config, Instant as _, Raft, RaftMetrics, SnapshotPolicy};
use tokio::sync::watch;

use super::heartbeats::Heartbeats;
use super::log::GroupLog;
use super::network::Network;
use super::snapshot;
use super::state_machine::GroupState;
use super::store::{LogStore, StateStore};
use super::types::{Command, LogId, Position, Reply, TypeConfig};
use super::young::{Heard, Young};
use crate::api::Result;
use crate::api::encoding::encode;
use crate::api::error::MetadataError;
use crate::api::key::RowPrefix;
use crate::api::root::Partition;
use crate::env::Env;
use crate::partition;
use crate::rows::{Rows, Txn};
use crate::settings::RaftSettings;
use crate::wire::Peers;

/// The partition that a cluster is born with: it covers the whole key space.
pub const FIRST_PARTITION: PartitionId = PartitionId::new(1);

/// The part of the time between two heartbeats that one waits for those of other groups.
const HEARTBEAT_PARTS: u32 = 8;

/// How many times longer the log may get while a replica is brought up to date.
const KEPT_FOR_OTHERS: u64 = 8;

/// What groups are made of.
pub struct Parts {
    /// The enclosure of this process: the Raft id of its replicas.
    pub replica: EnclosureId,
    /// The logs.
    pub logs: Arc<dyn LogStore>,
    /// The rows.
    pub rows: Arc<dyn StateStore>,
    /// The folder where snapshots are staged; exists.
    pub staging: PathBuf,
    /// The other replicas.
    pub peers: Arc<Peers>,
    /// Settings of Raft.
    pub settings: RaftSettings,
    /// Time and randomness.
    pub env: Env,
}

/// The groups that this process holds replicas of.
pub struct Groups {
    pub(crate) parts: Parts,
    config: Arc<Config>,
    heartbeats: Arc<Heartbeats>,
    groups: RwLock<BTreeMap<PartitionId, Arc<Group>>>,
    /// Serialises opening, so that no group is opened twice.
    opening: tokio::sync::Mutex<()>,
}

/// A replica of one group.
pub struct Group {
    /// The group.
    pub id: PartitionId,
    pub(crate) raft: Raft<TypeConfig, GroupState>,
    log: GroupLog,
    state: GroupState,
    rows: Arc<dyn StateStore>,
    /// Before this moment the replica votes for nobody.
    votes_from: Duration,
    /// Whether it was made empty and has not caught up since.
    young: Young,
    env: Env,
    heartbeat: Duration,
}

fn config(settings: &RaftSettings) -> io::Result<Arc<Config>> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "enfilade".to_owned(),
        election_timeout_min: ms(settings.election_min),
        election_timeout_max: ms(settings.election_max),
        heartbeat_interval: ms(settings.heartbeat),
        install_snapshot_timeout: ms(settings.rpc).saturating_mul(4),
        // Entries of 16 KiB and more: a message is also cut by bytes.
        max_payload_entries: 300,
        // Taken by `Group::bound_log`.
        snapshot_policy: SnapshotPolicy::Never,
        replication_lag_threshold: settings.snapshot_entries.saturating_mul(2),
        max_in_snapshot_log_to_keep: settings.keep_entries,
        // Each purge leaves a range tombstone in RocksDB.
        purge_batch_size: 1024.min(settings.snapshot_entries),
        enable_pre_vote: Some(true),
        // A restarted leader may be behind what it had applied: it is elected again first.
        enable_leader_restore: Some(false),
        // A replica that has lost its log is given it again; it does not vote before (`young`).
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(io::Error::other)
}

impl Groups {
    /// Opens the groups that the storage holds.
    ///
    /// # Errors
    /// When the storage fails, or holds what cannot be decoded.
    pub async fn open(parts: Parts) -> io::Result<Arc<Self>> {
        snapshot::sweep(&parts.staging)?;
        let held = parts.rows.groups()?;
        let config = config(&parts.settings)?;
        let (groups, opening) = (RwLock::default(), tokio::sync::Mutex::new(()));
        let window = parts.settings.heartbeat / HEARTBEAT_PARTS;
        let heartbeats = Heartbeats::new(Arc::clone(&parts.peers), window, parts.env.clone());
        let groups = Arc::new(Self {
            parts,
            config,
            heartbeats,
            groups,
            opening,
        });
        for group in held {
            groups.hold(group).await?;
        }
        Ok(groups)
    }

    /// The replica of a group, if there is one here.
    pub fn get(&self, group: PartitionId) -> Option<Arc<Group>> {
        self.groups
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&group)
            .cloned()
    }

    /// All replicas.
    pub fn all(&self) -> Vec<Arc<Group>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().cloned().collect()
    }

    /// The replica of a group; makes an empty one when there is none.
    ///
    /// # Errors
    /// When the storage fails, or holds what cannot be decoded.
    pub async fn hold(&self, group: PartitionId) -> io::Result<Arc<Group>> {
        let _opening = self.opening.lock().await;
        if let Some(held) = self.get(group) {
            return Ok(held);
        }
        let held = Arc::new(self.start(group).await?);
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.insert(group, Arc::clone(&held));
        Ok(held)
    }

    async fn start(&self, group: PartitionId) -> io::Result<Group> {
        let parts = &self.parts;
        let rows = Arc::clone(&parts.rows);
        if rows.position(group)?.is_none() {
            rows.set_young(group, true)?;
            create(&*rows, group)?;
        }
        let young = rows.is_young(group)?;
        let (log, state) = self.storage_of(group)?;
        let replica = u64::from(parts.replica.get());
        let (peers, rpc) = (Arc::clone(&parts.peers), parts.settings.rpc);
        let network = Network {
            group,
            replica,
            peers,
            rpc,
            heartbeats: Arc::clone(&self.heartbeats),
        };
        let (config, voted) = (Arc::clone(&self.config), log.has_voted());
        let raft = Raft::new(replica, config, network, log.clone(), state.clone());
        let raft = raft.await.map_err(io::Error::other)?;
        let alone = raft.voter_ids().eq([replica]);
        let mut votes_from = Duration::ZERO;
        if young {
            // A log that is not complete may say that it is alone.
            raft.runtime_config().elect(false);
        } else if alone {
            raft.trigger()
                .elect(false)
                .await
                .map_err(io::Error::other)?;
        } else if voted {
            // It may have granted a leader a lease before it restarted: until that has run out it
            // neither votes for another nor stands itself, or that leader could serve old reads.
            let lease = parts.settings.election_max;
            votes_from = parts.env.clock.now().saturating_add(lease);
            raft.runtime_config().elect(false);
            let (raft, clock) = (raft.clone(), Arc::clone(&parts.env.clock));
            tokio::spawn(async move {
                clock.sleep(lease).await;
                raft.runtime_config().elect(true);
            });
        }
        Ok(Group {
            id: group,
            raft,
            log,
            state,
            rows,
            votes_from,
            young: Young::new(young),
            env: parts.env.clone(),
            heartbeat: parts.settings.heartbeat,
        })
    }

    /// Whether the replica may vote: it has waited out leases of before its restart, and has caught
    /// up since it was made.
    pub(crate) fn may_vote(&self, group: &Group) -> bool {
        self.parts.env.clock.now() >= group.votes_from && !group.is_young()
    }

    /// Stops the replica of a group that has left it, and removes all that it held but its vote.
    /// Does the same again after a crash. `has_left` is asked when no replica can be made or come
    /// back meanwhile; when it says no, nothing is done. Answers what it said.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn leave(
        &self,
        group: PartitionId,
        has_left: impl Fn() -> bool + Send,
    ) -> io::Result<bool> {
        let _opening = self.opening.lock().await;
        if !has_left() {
            return Ok(false);
        }
        let (held, state, log) = match self.get(group) {
            Some(held) => (
                Some(Arc::clone(&held)),
                held.state.clone(),
                held.log.clone(),
            ),
            None => {
                let (log, state) = self.storage_of(group)?;
                (None, state, log)
            }
        };
        if let Some(held) = held {
            held.raft.shutdown().await.map_err(io::Error::other)?;
        }
        // Behind all that was submitted before.
        log.clear().await?;
        let forgotten = tokio::task::spawn_blocking(move || state.forget()).await;
        forgotten.map_err(io::Error::other)??;
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.remove(&group);
        Ok(true)
    }

    fn storage_of(&self, group: PartitionId) -> io::Result<(GroupLog, GroupState)> {
        let parts = &self.parts;
        let staging = parts.staging.clone();
        let state = GroupState::open(group, Arc::clone(&parts.rows), staging)?;
        let log = GroupLog::open(group, Arc::clone(&parts.logs), parts.settings.cache_bytes)?;
        Ok((log, state))
    }

    /// Stops all replicas; what was acked is durable already.
    pub async fn shutdown(&self) {
        for group in self.all() {
            if let Err(error) = group.raft.shutdown().await {
                tracing::warn!(group = %group.id, %error, "a replica did not stop cleanly");
            }
        }
        self.groups
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Writes the rows that a group begins with, the same on every replica.
fn create(rows: &dyn StateStore, group: PartitionId) -> io::Result<()> {
    let mut writes = Vec::new();
    if group == FIRST_PARTITION {
        let partition = Partition {
            id: group,
            epoch: Epoch::FIRST,
            start: RowPrefix::default(),
            end: None,
            replicas: Vec::new(),
            change: IntentId::new(0),
        };
        rows.read(&mut |rows| {
            let mut txn = Txn::new(rows);
            partition::create(&mut txn, &partition).map_err(io::Error::other)?;
            writes = txn.into_writes();
            Ok(())
        })?;
    }
    rows.commit(group, writes, &encode(&Position::default()))
}

impl Group {
    /// Begins the group's log with one voter, this replica, which leads at once. Does nothing when
    /// it has begun.
    ///
    /// # Errors
    /// When the replica has stopped.
    pub(crate) async fn begin(&self, address: &str) -> Result<()> {
        if self.log.reached().last.is_none() && !self.log.has_voted() {
            // What it begins it has not forgotten.
            let grown = self.grow();
            grown.map_err(|error| MetadataError::Unavailable(error.to_string()))?;
        }
        let members = BTreeMap::from([(*self.raft.node_id(), BasicNode::new(address))]);
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(MetadataError::Unavailable(error.to_string())),
        }
    }

    /// Whether the replica was made empty and has not caught up since: it does not vote.
    pub(crate) fn is_young(&self) -> bool {
        self.young.is()
    }

    /// From now on it votes and stands.
    fn grow(&self) -> io::Result<()> {
        self.rows.set_young(self.id, false)?;
        self.young.grow();
        self.raft.runtime_config().elect(true);
        Ok(())
    }

    /// As [`Group::append`], of a heartbeat: it names the last entry that this replica has acked to
    /// its leader.
    ///
    /// # Errors
    /// When the replica has stopped.
    pub(crate) async fn beat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> std::result::Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>> {
        let grown = !self.is_young();
        let answer = self.append(request).await?;
        if grown && matches!(answer, AppendEntriesResponse::Conflict) {
            self.lose();
        }
        Ok(answer)
    }

    /// A leader's heartbeat names what this replica has acked: that is gone. It is as one that was
    /// made empty from now on.
    fn lose(&self) {
        tracing::error!(group = %self.id, "a replica lacks entries that it has acked: its device \
            lost them; it does not vote before it was given them again");
        self.young.lose();
        self.raft.runtime_config().elect(false);
        if let Err(error) = self.rows.set_young(self.id, true) {
            tracing::error!(group = %self.id, %error, "that cannot be written down");
        }
    }

    /// Takes entries, or the heartbeat, of a leader.
    ///
    /// # Errors
    /// When the replica has stopped.
    pub(crate) async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> std::result::Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>> {
        let heard = self.is_young().then(|| Heard::of(&request));
        let answer = self.raft.append_entries(request).await?;
        let refused = matches!(answer, AppendEntriesResponse::HigherVote(_));
        if let Some(heard) = heard.filter(|_| !refused) {
            let (now, reached) = (self.env.clock.now(), self.log.reached());
            if self.young.hear(heard, reached, now, self.heartbeat) {
                match self.grow() {
                    Ok(()) => tracing::info!(group = %self.id, "a new replica has caught up"),
                    Err(error) => {
                        tracing::warn!(group = %self.id, %error, "a replica is to catch up again");
                    }
                }
            }
        }
        Ok(answer)
    }

    /// Proposes an encoded command and waits until it is committed and applied here.
    ///
    /// # Errors
    /// That this replica does not lead, or that the outcome is unknown.
    pub async fn propose(&self, bytes: Bytes) -> Result<Reply> {
        match self.raft.client_write(Command { bytes }).await {
            Ok(written) => Ok(written.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(self.not_leader(&forward))
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(
                MetadataError::UnknownOutcome("the leader changed".to_owned()),
            ),
            Err(RaftError::APIError(error)) => Err(MetadataError::Unavailable(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(MetadataError::UnknownOutcome(error.to_string())),
        }
    }

    fn not_leader(&self, forward: &ForwardToLeader<TypeConfig>) -> MetadataError {
        let leader = forward
            .leader_id
            .filter(|leader| leader != self.raft.node_id());
        MetadataError::NotLeader { leader }
    }

    /// Waits until reads of this replica's rows see all that was acked before: by the leader's
    /// lease, or else by asking a majority.
    ///
    /// # Errors
    /// That this replica does not lead, or cannot reach a majority.
    pub async fn linearize(&self) -> Result<()> {
        let linearizer = match self.raft.get_read_linearizer(ReadPolicy::LeaseRead).await {
            Ok(linearizer) => linearizer,
            Err(_) => {
                let asked = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
                asked.map_err(|error| match error.forward_to_leader() {
                    Some(forward) => self.not_leader(forward),
                    None => MetadataError::Unavailable(error.to_string()),
                })?
            }
        };
        let ready = linearizer.await_ready(&self.raft).await;
        ready
            .map(|_| ())
            .map_err(|error| MetadataError::Unavailable(error.to_string()))
    }

    /// Runs `act` over the rows as they are now.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn with_rows<R>(&self, act: impl FnOnce(&dyn Rows) -> Result<R>) -> Result<R> {
        let (mut act, mut result) = (Some(act), None);
        let own = self.state.hold();
        let _own = own.map_err(|error| MetadataError::Unavailable(error.to_string()))?;
        let read = self.rows.read(&mut |rows| {
            result = act.take().map(|act| act(rows));
            Ok(())
        });
        read.map_err(|error| MetadataError::Unavailable(error.to_string()))?;
        result.unwrap_or_else(|| Err(MetadataError::Unavailable("rows were not read".to_owned())))
    }

    /// Tells of every commit of rows.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.state.applied()
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.raft.is_leader()
    }

    /// Terms, indices, members.
    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Takes a position, up to which the log may be purged, when the log has grown far enough.
    /// While a replica is being brought up to date the log is kept longer, or what comes after the
    /// rows that it is sent would be purged before it has them, and they would be sent again.
    pub(crate) async fn bound_log(&self, settings: &RaftSettings) {
        let state = self.metrics();
        let index = |position: Option<LogId>| position.map_or(0, |position| position.index);
        let entries = index(state.last_applied).saturating_sub(index(state.snapshot));
        let longer = match is_catching_up(&state, settings) {
            true => KEPT_FOR_OTHERS,
            false => 1,
        };
        if entries < settings.snapshot_entries.saturating_mul(longer)
            && self.log.grown(false) < settings.snapshot_bytes.saturating_mul(longer)
        {
            return;
        }
        self.log.grown(true);
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::warn!(group = %self.id, %error, "the log cannot be purged");
        }
    }
}

/// Whether a learner, or a voter that answers, lacks more than stays in the log.
fn is_catching_up(state: &RaftMetrics<TypeConfig>, settings: &RaftSettings) -> bool {
    let (Some(replication), Some(heard)) = (&state.replication, &state.heartbeat) else {
        return false;
    };
    let last = state.last_log_index.unwrap_or(0);
    let members = state.membership_config.membership();
    replication.iter().any(|(id, matched)| {
        let matched = matched.map_or(0, |matched| matched.index);
        let lacks = last.saturating_sub(matched) >= settings.keep_entries.max(1);
        let heard = heard.get(id).copied().flatten();
        let answers = heard.is_some_and(|heard| heard.elapsed() < settings.election_max);
        *id != state.id && lacks && (answers || members.learner_ids().any(|learner| learner == *id))
    })
}
