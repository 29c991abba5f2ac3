//! The shard service over HTTP/1.1: a thin adapter over [`StorageNode`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::env::Clock;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StorageNode;
use crate::api::append::{APPEND_BYTES_MAX, AppendHeader};
use crate::api::error::ShardError;
use crate::api::read::{FragmentFault, InventoryRequest, ReadRequest};
use crate::engine::Blocks;
use crate::wire::{
    APPEND, BlocksHead, BodyError, BodyReader, Chunks, INVENTORY, READ, REQUEST_HEAD_MAX,
    RangeHead, SendingGuard, head, status,
};

/// How long a client may take to send a request: its own deadline is shorter.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may be idle: longer than clients keep one.
const IDLE_DEADLINE: Duration = Duration::from_secs(90);
/// How long a client may take to receive an answer, whose bytes are in memory until then. One whose
/// machine lost power would else hold them until TCP gives up, after many minutes.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// How long a request that runs at shutdown may take to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// Connections at once; more wait to be accepted. Well under the descriptors of a process.
const CONNECTIONS_MAX: usize = 1024;

/// A running server.
pub struct HttpServer {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Serves a node on a listener, to whoever has the cluster's credential.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        node: Arc<StorageNode>,
        credential: &str,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let service = Service {
            node,
            expected: format!("Bearer {credential}").into(),
        };
        let task = tokio::spawn(accept(listener, service, stop.clone()));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, lets running requests end, and stops.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // A panic in the task was reported where it happened.
        let _ = self.task.await;
    }
}

#[derive(Clone)]
struct Service {
    node: Arc<StorageNode>,
    expected: Arc<str>,
}

async fn accept(listener: TcpListener, service: Service, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned();
        let accepted = async { (slot.await, listener.accept().await) };
        let (slot, stream) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let stream: TcpStream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                service
                    .node
                    .host()
                    .env
                    .clock
                    .sleep(Duration::from_millis(50))
                    .await;
                continue;
            }
        };
        // Without it, small answers wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let (service, sending) = (service.clone(), Sending::default());
        let (clock, watched) = (Arc::clone(&service.node.host().env.clock), sending.clone());
        let handler = service_fn(move |request| {
            let (service, sending) = (service.clone(), sending.clone());
            async move {
                let answer = service.answer(request).await;
                let now = service.node.host().env.clock.now();
                Ok::<_, Infallible>(answer.map(|chunks| chunks.watched(sending.begin(now))))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_DEADLINE)
            .serve_connection(TokioIo::new(stream), handler);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                },
                () = watched.stalled(clock.as_ref()) => {
                    tracing::warn!("a client does not take its answer; the connection is cut");
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!("requests were still running at shutdown");
    }
}

/// Since when an answer is being sent on a connection, in milliseconds of the clock, plus 1; 0:
/// none is.
#[derive(Clone, Default)]
struct Sending(Arc<AtomicU64>);

impl Sending {
    fn begin(&self, now: Duration) -> SendingGuard {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1);
        self.0.store(now + 1, Ordering::Relaxed);
        SendingGuard(Arc::clone(&self.0))
    }

    /// Returns when an answer has been on its way for too long.
    async fn stalled(&self, clock: &dyn Clock) {
        loop {
            clock.sleep(ANSWER_DEADLINE / 6).await;
            if let Some(begun) = self.0.load(Ordering::Relaxed).checked_sub(1)
                && clock.now().saturating_sub(Duration::from_millis(begun)) > ANSWER_DEADLINE
            {
                return;
            }
        }
    }
}

/// Compares in a time that does not tell where the difference is.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let differs = given
        .iter()
        .zip(expected)
        .fold(0u8, |all, (a, b)| all | (a ^ b));
    given.len() == expected.len() && std::hint::black_box(differs) == 0
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Chunks> {
        let given = request
            .headers()
            .get(AUTHORIZATION)
            .map(http::HeaderValue::as_bytes);
        if !given.is_some_and(|given| same(given, self.expected.as_bytes())) {
            return refusal(&ShardError::Forbidden(
                "wrong cluster credential".to_owned(),
            ));
        }
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let path = request.uri().path().to_owned();
        let mut body = BodyReader::new(request.into_body());
        let call = async {
            match path.as_str() {
                APPEND => self.append(&mut body).await,
                READ => self.read(&mut body).await,
                INVENTORY => self.inventory(&mut body).await,
                _ => Ok(plain(StatusCode::NOT_FOUND)),
            }
        };
        match tokio::time::timeout(REQUEST_DEADLINE, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let discard = body.discard(2 * APPEND_BYTES_MAX);
                let _ = tokio::time::timeout(REQUEST_DEADLINE, discard).await;
                refusal(&error)
            }
            Err(_) => refusal(&ShardError::Unreachable(
                "the request took too long".to_owned(),
            )),
        }
    }

    async fn append(
        &self,
        body: &mut BodyReader<Incoming>,
    ) -> Result<Response<Chunks>, ShardError> {
        let header: AppendHeader = body.head(REQUEST_HEAD_MAX).await.map_err(malformed)?;
        // Refused here, or room for the bytes is leased, before any of them is read.
        let admitted = self.node.admit(header).await?;
        let lens = admitted
            .header()
            .fragments
            .iter()
            .map(|fragment| fragment.len as usize);
        let lens: Vec<usize> = lens.collect();
        let mut fragments = Vec::with_capacity(lens.len());
        for len in lens {
            fragments.push(body.take(len).await.map_err(malformed)?);
        }
        Ok(whole(&admitted.commit(fragments).await?))
    }

    async fn read(&self, body: &mut BodyReader<Incoming>) -> Result<Response<Chunks>, ShardError> {
        let request: ReadRequest = body.head(REQUEST_HEAD_MAX).await.map_err(malformed)?;
        let (answers, lease) = self.node.read_blocks(&request).await?;
        let mut heads: Vec<RangeHead> = Vec::with_capacity(answers.len());
        let mut chunks = vec![Bytes::new()];
        for answer in answers {
            heads.push(answer.and_then(|blocks| {
                let Blocks {
                    first,
                    bytes,
                    checksums,
                } = blocks;
                let len = u32::try_from(bytes.len()).map_err(|_| FragmentFault::Missing)?;
                chunks.push(bytes);
                Ok(BlocksHead {
                    first,
                    len,
                    checksums,
                })
            }));
        }
        chunks[0] = head(&heads);
        Ok(Response::new(Chunks::new(chunks).with(lease)))
    }

    async fn inventory(
        &self,
        body: &mut BodyReader<Incoming>,
    ) -> Result<Response<Chunks>, ShardError> {
        let request: InventoryRequest = body.head(REQUEST_HEAD_MAX).await.map_err(malformed)?;
        Ok(whole(&self.node.inventory(request).await?))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: BodyError) -> ShardError {
    ShardError::Invalid(error.to_string())
}

fn whole<T: Serialize>(value: &T) -> Response<Chunks> {
    Response::new(Chunks::new([head(value)]))
}

fn plain(status: StatusCode) -> Response<Chunks> {
    let mut response = Response::new(Chunks::new([]));
    *response.status_mut() = status;
    response
}

fn refusal(error: &ShardError) -> Response<Chunks> {
    let mut response = whole(error);
    *response.status_mut() = status(error);
    response
}
