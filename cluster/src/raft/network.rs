//! Raft's messages to other replicas, over gRPC.

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{EnclosureId, PartitionId};
use futures::future::{Either, select};
use openraft::alias::SnapshotOf;
use openraft::entry::RaftEntry;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::heartbeats::Heartbeats;
use super::log::command_len;
use super::snapshot::{Export, Part, SnapshotData};
use super::types::{Position, TypeConfig, Vote};
use crate::wire::{APPEND_BYTES_MAX, Envelope, GrpcClient, Lane, Peers, open};

/// The longest that sending a snapshot may stand still.
const SNAPSHOT_STALL: Duration = Duration::from_secs(30);

/// Makes connections for one group.
pub(crate) struct Network {
    pub(crate) group: PartitionId,
    pub(crate) replica: u64,
    pub(crate) peers: Arc<Peers>,
    /// The longest wait for the answer to one message.
    pub(crate) rpc: Duration,
    /// Where heartbeats go.
    pub(crate) heartbeats: Arc<Heartbeats>,
}

/// The connection of one group to one replica.
pub(crate) struct Connection {
    group: PartitionId,
    replica: u64,
    target: u64,
    /// The address that Raft's membership holds; a newer one may be known.
    address: String,
    lane: Lane,
    peers: Arc<Peers>,
    rpc: Duration,
    heartbeats: Arc<Heartbeats>,
}

impl Network {
    fn connection(&self, target: u64, node: &BasicNode, lane: Lane) -> Connection {
        Connection {
            group: self.group,
            replica: self.replica,
            target,
            address: node.addr.clone(),
            lane,
            peers: Arc::clone(&self.peers),
            rpc: self.rpc,
            heartbeats: Arc::clone(&self.heartbeats),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Snapshots)
    }
}

fn unreachable(text: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(text)
}

impl Connection {
    /// The process, whose address is then known.
    fn reach(&self) -> Result<EnclosureId, Unreachable<TypeConfig>> {
        let target = u32::try_from(self.target)
            .map(EnclosureId::new)
            .map_err(unreachable)?;
        if self.peers.address(target).is_none() {
            self.peers.learn(target, &self.address);
        }
        Ok(target)
    }

    fn client(&self) -> Result<GrpcClient<Channel>, Unreachable<TypeConfig>> {
        let target = self.reach()?;
        self.peers.client(target, self.lane).map_err(unreachable)
    }

    /// A heartbeat goes with those of other groups.
    async fn beat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let limit = option.soft_ttl().min(self.rpc);
        let beat = self.heartbeats.send(self.reach()?, self.group, request);
        match tokio::time::timeout(limit, beat).await {
            Ok(answer) => answer.map_err(|status| rpc_error(&status)),
            Err(_) => Err(RPCError::Timeout(Timeout {
                action: RPCTypes::AppendEntries,
                id: self.replica,
                target: self.target,
                timeout: limit,
            })),
        }
    }

    /// Sends one message and waits for its answer, within the time that openraft allows.
    async fn send<Q, A, F>(
        &self,
        action: RPCTypes,
        message: &Q,
        option: &RPCOption,
        send: impl FnOnce(GrpcClient<Channel>, tonic::Request<Envelope>) -> F,
    ) -> Result<A, RPCError<TypeConfig>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        F: Future<Output = Result<Response<Envelope>, Status>>,
    {
        let limit = option.soft_ttl().min(self.rpc);
        let envelope = self.peers.identity().seal(self.group, message);
        let request = self.peers.identity().request(envelope);
        let Ok(answer) = tokio::time::timeout(limit, send(self.client()?, request)).await else {
            let (id, target) = (self.replica, self.target);
            return Err(RPCError::Timeout(Timeout {
                action,
                id,
                target,
                timeout: limit,
            }));
        };
        let answer = answer.map_err(|status| rpc_error(&status))?;
        open(answer.get_ref()).map_err(|status| rpc_error(&status))
    }
}

/// Whoever does not answer is given time; another kind of error is a fault of one message.
fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Internal | Code::InvalidArgument | Code::OutOfRange => {
            RPCError::Network(NetworkError::from_string(status))
        }
        _ => RPCError::Unreachable(unreachable(status)),
    }
}

/// Cuts a message to its first entries when they are too many bytes together.
fn cut(mut request: AppendEntriesRequest<TypeConfig>) -> (AppendEntriesRequest<TypeConfig>, bool) {
    let mut bytes = 0usize;
    let fits = request.entries.iter().take_while(|entry| {
        let fits = bytes < APPEND_BYTES_MAX;
        bytes += command_len(entry);
        fits
    });
    let fits = fits.count();
    let short = fits < request.entries.len();
    request.entries.truncate(fits);
    (request, short)
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        if self.lane == Lane::Heartbeats && request.entries.is_empty() {
            return self.beat(request, &option).await;
        }
        let (request, short) = cut(request);
        let action = RPCTypes::AppendEntries;
        let answer = self.send(
            action,
            &request,
            &option,
            |mut client, request| async move { client.append(request).await },
        );
        match answer.await? {
            AppendEntriesResponse::Success if short => {
                let last = request.entries.last().map(|entry| entry.log_id());
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            answer => Ok(answer),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let send =
            |mut client: GrpcClient<Channel>, request| async move { client.vote(request).await };
        self.send(RPCTypes::Vote, &request, &option, send).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let send = |mut client: GrpcClient<Channel>, request| async move {
            client.pre_vote(request).await
        };
        self.send(RPCTypes::Vote, &request, &option, send).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let send = |mut client: GrpcClient<Channel>, request| async move {
            client.transfer_leader(request).await
        };
        self.send(RPCTypes::TransferLeader, &request, &option, send)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Export(export) = snapshot.snapshot else {
            return Err(StreamingError::Network(NetworkError::from_string(
                "no rows to send",
            )));
        };
        let meta = snapshot.meta;
        let position = Position {
            applied: meta.last_log_id,
            membership: meta.last_membership,
        };
        let mut client = self.client()?;
        let (parts, sent) = mpsc::channel(2);
        let identity = self.peers.identity().clone();
        let feed = feed(parts, identity, self.group, vote, position, export);
        let request = self.peers.identity().request(ReceiverStream::new(sent));
        let send = async move {
            let (fed, answer) = tokio::join!(feed, client.snapshot(request));
            fed.map_err(NetworkError::from_string)?;
            let answer = answer.map_err(|status| StreamingError::from(rpc_error(&status)))?;
            open(answer.get_ref()).map_err(|status| StreamingError::from(rpc_error(&status)))
        };
        match select(std::pin::pin!(send), std::pin::pin!(cancel)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }
}

/// Feeds the parts of a snapshot into a stream.
async fn feed(
    parts: mpsc::Sender<Envelope>,
    identity: crate::wire::Identity,
    group: PartitionId,
    vote: Vote,
    position: Position,
    mut export: Export,
) -> Result<(), String> {
    let send = async |part: Part| {
        let sent = parts
            .send_timeout(identity.seal(group, &part), SNAPSHOT_STALL)
            .await;
        sent.map_err(|_| "the receiver of a snapshot stopped".to_owned())
    };
    let mut count = 2;
    send(Part::Begin {
        vote,
        position,
        ranges: std::mem::take(&mut export.ranges),
    })
    .await?;
    loop {
        let rows = export
            .rows
            .recv()
            .await
            .ok_or("the reader of a snapshot stopped")?;
        let Some((range, rows)) = rows.map_err(|error| error.to_string())? else {
            break;
        };
        count += 1;
        send(Part::Rows { range, rows }).await?;
    }
    send(Part::End { parts: count }).await
}
