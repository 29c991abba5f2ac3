//! The role `meta`: metadata replicas, served to the other processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::Birth;
use enfilade_cluster::client::{ClientSettings, in_process, remote};
use enfilade_cluster::env::Env;
use enfilade_cluster::server::{MetadataService, Replica};
use enfilade_cluster::settings::Settings;
use enfilade_cluster::wire::{Identity, Peers, dial_tcp};
use enfilade_placement::{ClusterId, EnclosureId, Incarnation, Profile};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::admin::{model, routes};
use crate::credentials::Token;

/// How many volumes are kept open, unless said otherwise: two for each of two busy gateways.
pub(crate) const OPEN_VOLUMES: u32 = 4;

/// The first life of a cluster.
pub(crate) const INCARNATION: Incarnation = Incarnation::new(1);

/// Metadata replicas that run.
pub(crate) struct Meta {
    service: MetadataService,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

/// What the processes of a cluster know each other by, with where replicas are reached.
///
/// # Errors
/// When the credential cannot be sent.
pub(crate) fn peers(
    token: &Token,
    addresses: impl IntoIterator<Item = (EnclosureId, String)>,
) -> Result<Arc<Peers>> {
    let identity = Identity::new(token.cluster, INCARNATION, &token.credential);
    let identity = identity.context("the token's credential")?;
    Ok(Peers::new(
        identity,
        addresses.into_iter().collect(),
        dial_tcp(),
    ))
}

/// A client for a process without replicas.
pub(crate) fn remote_client(peers: Arc<Peers>, env: Env) -> Arc<dyn MetadataClient> {
    Arc::new(remote::client(peers, env, ClientSettings::default()))
}

impl Meta {
    /// Resumes the replicas of a folder; creates no cluster. Serves them when there is a listener.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) async fn start(
        folder: &Path,
        replica: Replica,
        peers: Arc<Peers>,
        env: Env,
        listener: Option<TcpListener>,
    ) -> Result<Self> {
        let settings = Settings {
            dir: folder.to_owned(),
            ..Settings::default()
        };
        let service = MetadataService::start(settings, replica, peers, env).await?;
        let server = listener.map(|listener| {
            let service = service.clone();
            tokio::spawn(async move { service.serve(listener).await })
        });
        Ok(Self { service, server })
    }

    /// The service itself.
    pub(crate) fn service(&self) -> &MetadataService {
        &self.service
    }

    /// A client that calls these replicas without a wire.
    pub(crate) fn client(&self) -> Arc<dyn MetadataClient> {
        Arc::new(in_process::client(&self.service))
    }

    /// Stops the replicas and their server.
    pub(crate) async fn stop(self) {
        self.service.shutdown().await;
        let Some(server) = self.server else { return };
        match server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the metadata server failed"),
            Err(error) => tracing::error!(%error, "the metadata server broke off"),
        }
    }
}

/// Begins a cluster at this process's replicas, when the process that was told to create one says
/// so (PROTOCOLS 10).
pub(crate) struct Begin {
    service: MetadataService,
    cluster: ClusterId,
}

impl Begin {
    /// For the replicas of a process.
    pub(crate) fn new(service: &MetadataService, cluster: ClusterId) -> Self {
        Self {
            service: service.clone(),
            cluster,
        }
    }
}

#[async_trait]
impl routes::Birth for Begin {
    async fn begin(&self, birth: model::Birth) -> Result<()> {
        let profile: Profile = birth.profile.parse()?;
        let members: BTreeMap<EnclosureId, String> = birth
            .replicas
            .iter()
            .map(|founder| (EnclosureId::new(founder.id), founder.meta.clone()))
            .collect();
        ensure!(
            members.len() == birth.replicas.len(),
            "a replica is named twice"
        );
        let birth = Birth {
            cluster: self.cluster,
            profile,
            volume_target: birth.volume_target,
            open_volumes: birth.open_volumes,
            replicas: birth
                .replicas
                .iter()
                .map(|f| EnclosureId::new(f.id))
                .collect(),
        };
        self.service
            .bootstrap(birth, &members)
            .await
            .context("the cluster could not be created")
    }
}
