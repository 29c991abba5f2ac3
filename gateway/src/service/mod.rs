//! The gateway as a server: S3 over HTTP/1.1 and HTTP/2.

mod arriving;
mod chunked;
mod host;
mod layer;
mod metrics;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::env::Env;
use enfilade_storage_node::api::Nodes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::auth::{Guard, RootUser};
use crate::path::DataPath;
use crate::s3::{Front, S3Settings};
use crate::settings::{PathSettings, ViewSettings};
use crate::view::View;
use host::Hosts;
use layer::Layer;
use metrics::Metrics;

/// The longest XML body. 1,000 keys of 1,024 bytes, each byte escaped in five, are 6 MB.
const XML_LEN_MAX: usize = 8 << 20;

/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// How often a silent HTTP/2 connection is asked whether it lives, and how long it has to answer.
const PING: Duration = Duration::from_secs(30);

/// The pause after a connection could not be accepted: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that an operator may set.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The S3 front.
    pub s3: S3Settings,
    /// The data path.
    pub path: PathSettings,
    /// The view of the cluster.
    pub view: ViewSettings,
}

impl GatewaySettings {
    /// The defaults, for a root user.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self {
            s3: S3Settings::new(access_key, secret_key),
            path: PathSettings::default(),
            view: ViewSettings::default(),
        }
    }
}

/// Why a gateway could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Its metrics could not be entered: two gateways share a registry.
    #[error("metrics of the gateway")]
    Metrics(#[from] prometheus::Error),
    /// A secret or access key is too short to protect anything.
    #[error("the access key needs at least 3 characters and the secret key at least 8")]
    Credentials,
}

/// The S3 front of a cluster. Holds no state of its own: any number may serve the same cluster.
#[derive(Clone)]
pub struct Gateway {
    layer: Layer,
    front: Front,
    metrics: Metrics,
}

impl Gateway {
    /// Puts a gateway together over a metadata service and nodes, and begins to follow the root
    /// state. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the credentials are no credentials, or the registry holds a gateway's metrics already.
    pub fn new(
        settings: GatewaySettings,
        env: Env,
        metadata: Arc<dyn MetadataClient>,
        nodes: Arc<dyn Nodes>,
        registry: &prometheus::Registry,
    ) -> Result<Self, GatewayError> {
        let s3 = settings.s3;
        if s3.access_key.len() < 3 || s3.secret_key.len() < 8 {
            return Err(GatewayError::Credentials);
        }
        let metrics = Metrics::new(registry)?;
        let view = View::start(settings.view, env.clone(), Arc::clone(&metadata));
        let path = DataPath::new(
            settings.path,
            env.clone(),
            Arc::clone(&metadata),
            nodes,
            Arc::clone(&view),
        );
        path.metrics().register(registry)?;
        let front = Front {
            settings: Arc::new(s3),
            env,
            metadata,
            view,
            path: Arc::new(path),
        };
        let mut builder = S3ServiceBuilder::new(front.clone());
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_LEN_MAX;
        // Forms are refused before s3s sees them; this is the second lock on its buffer.
        config.post_object_max_file_size = 0;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(RootUser::new(
            &front.settings.access_key,
            &front.settings.secret_key,
        ));
        builder.set_access(Guard::new(front.env.clone()));
        if !front.settings.domains.is_empty() {
            builder.set_host(Hosts::new(&front.settings.domains));
        }
        let idle = front.settings.body.idle;
        let layer = Layer::new(builder.build(), front.env.clone(), metrics.clone(), idle);
        Ok(Self {
            layer,
            front,
            metrics,
        })
    }

    /// The view of the cluster that requests act on.
    pub fn view(&self) -> &Arc<View> {
        &self.front.view
    }

    /// The data path.
    pub fn path(&self) -> &Arc<DataPath> {
        &self.front.path
    }

    /// Serves until `shutdown` is done; then takes no more connections, gives requests under way
    /// their time, and closes.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let settings = &self.front.settings;
        let connections = Arc::new(Semaphore::new(settings.connections_max));
        let graceful = GracefulShutdown::new();
        let http = self.protocol();
        let mut tasks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let (stream, permit) = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = self.accept(&listener, &connections) => accepted,
            };
            let layer = self.layer.clone();
            let service = service_fn(move |request| {
                let layer = layer.clone();
                async move { layer.call(request).await }
            });
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection.into_owned());
            let open = self.metrics.connection();
            tasks.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error, "a connection broke off");
                }
                drop((open, permit));
            });
        }
        drop(listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = self.front.env.clock.sleep(settings.drain_time) => {}
        }
        tasks.shutdown().await;
    }

    fn protocol(&self) -> auto::Builder<TokioExecutor> {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.front.settings.head_time)
            // A client that has sent less than it announced still hears why.
            .half_close(true);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        http
    }

    /// The next connection, when there is room for one.
    async fn accept(
        &self,
        listener: &TcpListener,
        connections: &Arc<Semaphore>,
    ) -> (TcpStream, OwnedSemaphorePermit) {
        loop {
            let permit = Arc::clone(connections).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, peer)) => {
                    settle(&stream, peer);
                    return (stream, permit);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.front.env.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn settle(stream: &TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "no TCP_NODELAY");
    }
}
