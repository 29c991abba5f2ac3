//! The client of a node in another process: HTTP/1.1 over pooled connections.
//!
//! What comes over the wire is compared with its checksums again (PROTOCOLS 18).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_cluster::api::root::RootView;
use enfilade_placement::EnclosureId;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::api::append::{AppendAck, AppendRequest};
use crate::api::error::ShardError;
use crate::api::read::{
    FragmentFault, FragmentRange, FragmentRead, InventoryPage, InventoryRequest, ReadRequest,
};
use crate::api::{Nodes, ShardClient};
use crate::engine::Blocks;
use crate::erasure::checksum::{FragmentSeed, verify_blocks};
use crate::settings::Settings;
use crate::wire::{
    APPEND, BodyError, BodyReader, Chunks, HEAD_MAX, INVENTORY, READ, RangeHead, head,
};

/// Idle connections that are kept to one node, and for how long.
const IDLE_MAX: usize = 64;
const IDLE_TIME: Duration = Duration::from_secs(60);

type Reply = BodyReader<Incoming>;

/// The credential cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster credential must be printable ASCII")]
pub struct CredentialError;

/// What clients of all nodes share: connections and credential. Clones are the same.
#[derive(Clone)]
pub struct Transport {
    http: Client<HttpConnector, Chunks>,
    credential: HeaderValue,
    append_deadline: Duration,
    read_deadline: Duration,
}

impl Transport {
    /// A transport with the cluster's credential.
    ///
    /// # Errors
    /// When the credential cannot be a header.
    pub fn new(credential: &str, settings: &Settings) -> Result<Self, CredentialError> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.connect_timeout));
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIME)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let mut value: HeaderValue = format!("Bearer {credential}")
            .parse()
            .map_err(|_| CredentialError)?;
        value.set_sensitive(true);
        Ok(Self {
            http,
            credential: value,
            append_deadline: settings.append_deadline,
            read_deadline: settings.read_deadline,
        })
    }

    /// A client of the node that listens at `host:port`.
    pub fn node(&self, address: &str) -> RemoteNode {
        RemoteNode {
            transport: self.clone(),
            address: address.to_owned(),
        }
    }
}

/// A client of a node in another process.
pub struct RemoteNode {
    transport: Transport,
    address: String,
}

impl RemoteNode {
    fn unreachable(&self, what: &dyn std::fmt::Display) -> ShardError {
        ShardError::Unreachable(format!("{}: {what}", self.address))
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, ShardError>>,
    ) -> Result<T, ShardError> {
        let late = |_| self.unreachable(&format_args!("no answer within {deadline:?}"));
        tokio::time::timeout(deadline, call).await.map_err(late)?
    }

    /// Sends a request; the answer is ready to be read.
    async fn send(&self, path: &'static str, body: Chunks) -> Result<Reply, ShardError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.address.as_str());
        let uri = uri
            .path_and_query(path)
            .build()
            .map_err(|error| self.unreachable(&error))?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request
            .headers_mut()
            .insert(AUTHORIZATION, self.transport.credential.clone());
        let sent = self.transport.http.request(request).await;
        let response = sent.map_err(|error| self.unreachable(&describe(&error)))?;
        let status = response.status();
        let mut reply = BodyReader::new(response.into_body());
        if status == StatusCode::OK {
            return Ok(reply);
        }
        match reply.head::<ShardError>(HEAD_MAX).await {
            Ok(error) => Err(error),
            Err(_) => Err(self.unreachable(&format_args!("status {status}"))),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: Chunks,
    ) -> Result<T, ShardError> {
        let mut reply = self.send(path, body).await?;
        reply
            .head(HEAD_MAX)
            .await
            .map_err(|error| self.unreachable(&error))
    }

    async fn read_once(&self, request: &ReadRequest) -> Result<Vec<Arrived>, ShardError> {
        let mut reply = self.send(READ, Chunks::new([head(request)])).await?;
        let broken = |error: BodyError| self.unreachable(&error);
        let heads: Vec<RangeHead> = reply.head(HEAD_MAX).await.map_err(broken)?;
        if heads.len() != request.ranges.len() {
            return Err(self.unreachable(&"an answer for other ranges"));
        }
        let mut arrived = Vec::with_capacity(heads.len());
        for (head, range) in heads.into_iter().zip(&request.ranges) {
            arrived.push(match head {
                Err(fault) => Arrived::Fault(fault),
                Ok(head) => {
                    // The blocks that hold the range have less than two blocks more than it.
                    if u64::from(head.len) > u64::from(range.len) + 2 * 4096 {
                        return Err(self.unreachable(&"more bytes than were asked for"));
                    }
                    let bytes = reply.take(head.len as usize).await.map_err(broken)?;
                    let blocks = Blocks {
                        first: head.first,
                        bytes,
                        checksums: head.checksums,
                    };
                    match verified(request, range, blocks) {
                        Some(bytes) => Arrived::Bytes(bytes),
                        None => Arrived::Mismatch,
                    }
                }
            });
        }
        Ok(arrived)
    }

    async fn read_verified(&self, request: ReadRequest) -> Result<Vec<FragmentRead>, ShardError> {
        let mut arrived = self.read_once(&request).await?;
        let mismatched: Vec<usize> = (0..arrived.len())
            .filter(|i| matches!(arrived[*i], Arrived::Mismatch))
            .collect();
        if !mismatched.is_empty() {
            // Asks the node to verify again: it reads the drive anew (PROTOCOLS 22).
            tracing::warn!(node = %self.address, ranges = mismatched.len(), "mismatch on the wire");
            let ranges = mismatched.iter().map(|i| request.ranges[*i]).collect();
            let again = self.read_once(&ReadRequest { ranges, ..request }).await?;
            for (i, second) in mismatched.into_iter().zip(again) {
                arrived[i] = second;
            }
        }
        let tell = |arrived| match arrived {
            Arrived::Bytes(bytes) => Ok(bytes),
            Arrived::Fault(fault) => Err(fault),
            Arrived::Mismatch => Err(FragmentFault::Drive(
                "checksum mismatch after the wire".to_owned(),
            )),
        };
        Ok(arrived.into_iter().map(tell).collect())
    }
}

/// What came of a range, before it is told.
enum Arrived {
    Bytes(Bytes),
    Fault(FragmentFault),
    /// Not what the checksums say.
    Mismatch,
}

fn verified(request: &ReadRequest, range: &FragmentRange, blocks: Blocks) -> Option<Bytes> {
    let seed = FragmentSeed {
        volume: request.at.volume.get(),
        blob: request.blob.get(),
        stripe: range.stripe,
        index: request.at.member,
    };
    verify_blocks(seed, blocks.first, &blocks.bytes, &blocks.checksums).ok()?;
    blocks.cut(range)
}

/// An error with its causes, of which hyper shows only the first.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[async_trait]
impl ShardClient for RemoteNode {
    async fn append(&self, request: AppendRequest) -> Result<AppendAck, ShardError> {
        let chunks = std::iter::once(head(&request.header)).chain(request.fragments);
        self.within(
            self.transport.append_deadline,
            self.call(APPEND, Chunks::new(chunks)),
        )
        .await
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<FragmentRead>, ShardError> {
        self.within(self.transport.read_deadline, self.read_verified(request))
            .await
    }

    async fn inventory(&self, request: InventoryRequest) -> Result<InventoryPage, ShardError> {
        let body = Chunks::new([head(&request)]);
        self.within(self.transport.read_deadline, self.call(INVENTORY, body))
            .await
    }
}

/// The nodes of a cluster, by the addresses in the root group's view.
pub struct RemoteNodes {
    transport: Transport,
    view: watch::Receiver<Arc<RootView>>,
    clients: Mutex<BTreeMap<EnclosureId, (String, Arc<RemoteNode>)>>,
}

impl RemoteNodes {
    /// Follows a view.
    pub fn new(transport: Transport, view: watch::Receiver<Arc<RootView>>) -> Self {
        Self {
            transport,
            view,
            clients: Mutex::default(),
        }
    }
}

impl Nodes for RemoteNodes {
    fn node(&self, enclosure: EnclosureId) -> Option<Arc<dyn ShardClient>> {
        let address = {
            let view = self.view.borrow();
            view.topology
                .enclosures
                .get(&enclosure)?
                .shard_address
                .clone()
        };
        if address.is_empty() {
            return None;
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, client) = clients
            .entry(enclosure)
            .or_insert_with(|| (address.clone(), Arc::new(self.transport.node(&address))));
        if *known != address {
            *client = Arc::new(self.transport.node(&address));
            *known = address;
        }
        Some(Arc::clone(client) as Arc<dyn ShardClient>)
    }
}
