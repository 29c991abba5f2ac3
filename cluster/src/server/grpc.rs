//! The service over gRPC: checks who calls, and passes on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::PartitionId;
use futures::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

use super::MetadataService;
use crate::call::Call;
use crate::raft::groups::Group;
use crate::raft::heartbeats::{BeatAnswers, Beats};
use crate::raft::snapshot::{Part, SnapshotData, Staging};
use crate::raft::types::{SnapshotMeta, TypeConfig, Vote};
use crate::wire::{Envelope, GrpcServer, GrpcService, MESSAGE_BYTES_MAX, open};

/// Calls that one connection may have open: those beyond wait.
const CALLS_MAX: usize = 1024;

/// How often a connection that is silent is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl MetadataService {
    /// Serves on a TCP listener until the service is shut down.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.serve_on(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
    }

    /// Serves on connections of any kind until the service is shut down.
    ///
    /// # Errors
    /// When no more can be accepted.
    pub async fn serve_on<I, C, E>(&self, connections: I) -> io::Result<()>
    where
        I: Stream<Item = Result<C, E>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        C::ConnectInfo: Clone + Send + Sync + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = GrpcServer::new(Door {
            service: self.clone(),
        })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let stop = self.0.stop.clone();
        Server::builder()
            .concurrency_limit_per_connection(CALLS_MAX)
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(4 << 20)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .add_service(server)
            .serve_with_incoming_shutdown(connections, async move { stop.cancelled().await })
            .await
            .map_err(io::Error::other)
    }

    /// The replica that a message of a leader is for; made when root placed it here and it is not
    /// here yet.
    async fn replica_for(&self, group: PartitionId) -> Result<Arc<Group>, Status> {
        if let Some(held) = self.groups().get(group) {
            return Ok(held);
        }
        if !self.is_placed_here(group) {
            return Err(Status::unavailable(format!(
                "group {group} is not placed here"
            )));
        }
        self.groups()
            .hold(group)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    /// The replica that a candidate asks for its vote, or that is to stand. One that waits out the
    /// lease that it may have granted before a restart answers nobody, and neither does one that
    /// was made empty and has not caught up: it may have lost what it acked.
    pub(super) fn voter(&self, group: PartitionId) -> Result<Arc<Group>, Status> {
        let held = self.groups().get(group);
        let held = held.ok_or_else(|| Status::unavailable(format!("group {group} is not here")))?;
        if self.groups().may_vote(&held) {
            Ok(held)
        } else {
            Err(Status::unavailable(format!(
                "the replica of group {group} waits out a lease, or has to catch up"
            )))
        }
    }
}

/// The gRPC service.
struct Door {
    service: MetadataService,
}

impl Door {
    /// Checks a message and tells its group.
    fn admit(&self, request: &Request<Envelope>) -> Result<PartitionId, Status> {
        let identity = self.service.peers().identity();
        identity.admit(request.metadata())?;
        identity.check(request.get_ref())?;
        Ok(PartitionId::new(request.get_ref().group))
    }

    fn seal<T: Serialize>(&self, group: PartitionId, value: &T) -> Response<Envelope> {
        Response::new(self.service.peers().identity().seal(group, value))
    }
}

fn stopped(error: impl std::error::Error) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl GrpcService for Door {
    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let group = self.admit(&request)?;
        let call: Call = open(request.get_ref())?;
        let answer = self.service.call(&call).await;
        Ok(self.seal(group, &answer))
    }

    async fn append(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let group = self.admit(&request)?;
        let entries: AppendEntriesRequest<TypeConfig> = open(request.get_ref())?;
        let replica = self.service.replica_for(group).await?;
        let answer = replica.append(entries).await.map_err(stopped)?;
        Ok(self.seal(group, &answer))
    }

    async fn beats(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let group = self.admit(&request)?;
        let beats: Beats = open(request.get_ref())?;
        // One group that is stuck holds up no other.
        let limit = self.service.0.settings.raft.heartbeat;
        let answers = beats.into_iter().map(async |(group, beat)| {
            let answer = async {
                let replica = self.service.replica_for(group).await.ok()?;
                replica.beat(beat).await.ok()
            };
            tokio::time::timeout(limit, answer).await.ok().flatten()
        });
        let answers: BeatAnswers = futures::future::join_all(answers).await;
        Ok(self.seal(group, &answers))
    }

    async fn vote(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let group = self.admit(&request)?;
        let ask: VoteRequest<TypeConfig> = open(request.get_ref())?;
        let answer = self
            .service
            .voter(group)?
            .raft
            .vote(ask)
            .await
            .map_err(stopped)?;
        Ok(self.seal(group, &answer))
    }

    async fn pre_vote(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let group = self.admit(&request)?;
        let ask: VoteRequest<TypeConfig> = open(request.get_ref())?;
        let answer = self
            .service
            .voter(group)?
            .raft
            .pre_vote(ask)
            .await
            .map_err(stopped)?;
        Ok(self.seal(group, &answer))
    }

    async fn transfer_leader(
        &self,
        request: Request<Envelope>,
    ) -> Result<Response<Envelope>, Status> {
        let group = self.admit(&request)?;
        let ask: TransferLeaderRequest<TypeConfig> = open(request.get_ref())?;
        let replica = self.service.voter(group)?;
        let answer = replica
            .raft
            .handle_transfer_leader(ask)
            .await
            .map_err(stopped)?;
        Ok(self.seal(group, &answer))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Envelope>, Status> {
        let identity = self.service.peers().identity();
        identity.admit(request.metadata())?;
        let mut parts = request.into_inner();
        let first = parts
            .message()
            .await?
            .ok_or_else(|| Status::aborted("an empty snapshot"))?;
        identity.check(&first)?;
        let group = PartitionId::new(first.group);
        let replica = self.service.replica_for(group).await?;
        let (vote, meta, staged) = self.stage(group, first, parts).await?;
        let snapshot = SnapshotOf::<TypeConfig, SnapshotData> {
            meta,
            snapshot: staged,
        };
        let answer = replica
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok(self.seal(group, &answer))
    }
}

impl Door {
    /// Receives the parts of a snapshot into a file.
    async fn stage(
        &self,
        group: PartitionId,
        first: Envelope,
        mut parts: Streaming<Envelope>,
    ) -> Result<(Vote, SnapshotMeta, SnapshotData), Status> {
        let failed = |error: io::Error| Status::unavailable(error.to_string());
        let Part::Begin { vote, position, .. } = open(&first)? else {
            return Err(Status::invalid_argument(
                "a snapshot does not begin with its position",
            ));
        };
        let groups = &self.service.groups().parts;
        let nonce = groups.env.random.next_u64();
        let mut staging = Staging::begin(&groups.staging, group, nonce).map_err(failed)?;
        staging.add(&first.body).map_err(failed)?;
        while let Some(part) = parts.next().await {
            let part = part?;
            staging.add(&part.body).map_err(failed)?;
            if let Part::End { parts } = open(&part)? {
                let staged = tokio::task::spawn_blocking(move || staging.end(parts)).await;
                let staged = staged.map_err(stopped)?.map_err(failed)?;
                let (last_log_id, last_membership) = (position.applied, position.membership);
                let meta = SnapshotMeta {
                    last_log_id,
                    last_membership,
                };
                return Ok((vote, meta, SnapshotData::Staged(staged)));
            }
        }
        Err(Status::aborted("the snapshot ends before its end"))
    }
}
