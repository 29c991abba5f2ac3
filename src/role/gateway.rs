//! The role `gateway`: S3.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::env::Env;
use enfilade_gateway::{Gateway, GatewaySettings};
use enfilade_storage_node::api::Nodes;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::credentials::RootCredentials;

/// A metadata service that has no leader by then will not get one by itself: replicas are missing.
const VIEW_TIME: Duration = Duration::from_secs(60);

/// Puts the gateway together. It knows nothing of the cluster yet.
///
/// # Errors
/// When the credentials are none.
pub(crate) fn build(
    credentials: &RootCredentials,
    domain: Option<&String>,
    env: Env,
    metadata: Arc<dyn MetadataClient>,
    nodes: Arc<dyn Nodes>,
    registry: &Registry,
) -> Result<Gateway> {
    let mut settings = GatewaySettings::new(&credentials.user, &credentials.password);
    settings.s3.domains.extend(domain.cloned());
    Gateway::new(settings, env, metadata, nodes, registry).context("the gateway")
}

/// Waits until a gateway can act: it has heard of the cluster, and of a volume to write to.
///
/// # Errors
/// When that takes too long.
pub(crate) async fn wait_ready(gateway: &Gateway) -> Result<()> {
    let mut changes = gateway.view().changes();
    let heard = changes.wait_for(|root| !root.volumes.is_empty());
    let heard = timeout(VIEW_TIME, heard).await;
    let why = "no volume was opened in time: too few drives or metadata replicas are there";
    let heard = heard.context(why)?;
    heard.context("the view of the cluster ended")?;
    Ok(())
}

/// A gateway that serves.
pub(crate) struct S3Server {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl S3Server {
    /// Begins to serve.
    pub(crate) fn start(gateway: Gateway, listener: TcpListener) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            gateway
                .serve(listener, async move { stopped.cancelled().await })
                .await;
        });
        Self { stop, task }
    }

    /// Takes no more requests, gives those under way their time, and returns.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the gateway broke off");
        }
    }
}
