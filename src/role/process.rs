//! The process of one enclosure: `enfilade node`. Runs the roles that its configuration names, in
//! order, and stops them in the other order. Never creates a cluster (PROTOCOLS 10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::Addresses;
use enfilade_cluster::env::Env;
use enfilade_cluster::server::Replica;
use enfilade_cluster::wire::Peers;
use enfilade_placement::EnclosureId;
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::admin::NoEnclosures;
use crate::admin::routes::Admin;
use crate::admin::server::{AdminServer, bind};
use crate::cli::NodeArgs;
use crate::credentials::{RootCredentials, Token};
use crate::files;
use crate::os;
use crate::role::drives::{self, DistantNodes, Node};
use crate::role::gateway::{self, S3Server};
use crate::role::identity::Identity;
use crate::role::meta::{self, Begin, Meta};
use crate::settings::NodeConfig;
use crate::signals::StopSignals;
use crate::telemetry;
use crate::up::births::join;
use crate::up::lock::FolderLock;

/// A port that another process is just leaving is tried again so long.
const PORT_TIME: Duration = Duration::from_secs(5);

/// Pause between attempts of what is tried until it works.
const PAUSE: Duration = Duration::from_millis(200);

/// How long one question about the cluster waits, while there may be none yet.
const ASK: Duration = Duration::from_secs(1);

/// Runs a process until it is told to stop.
///
/// # Errors
/// When it cannot start, in words.
pub(crate) async fn run(args: NodeArgs) -> Result<()> {
    let mut signals = StopSignals::listen(args.supervised)?;
    let config = NodeConfig::load(&args.config)?;
    os::raise_file_limit()?;
    let mut process = tokio::select! {
        started = Process::start(config, args.supervised) => started?,
        _ = signals.stop() => return Ok(()),
    };
    let joined = tokio::select! {
        joined = process.join() => joined,
        why = signals.stop() => {
            tracing::info!(why, "stopping before the cluster was joined");
            Ok(())
        }
    };
    if joined.is_ok() && process.is_ready() {
        let why = signals.stop().await;
        tracing::info!(why, "stopping");
    }
    signals.lose_patience();
    process.stop().await;
    joined
}

/// The parts of a process, as far as they run.
struct Process {
    config: NodeConfig,
    /// Whoever started it enters the enclosure, so that places in chains follow ids.
    supervised: bool,
    env: Env,
    token: Token,
    credentials: RootCredentials,
    identity: Identity,
    admin: Arc<Admin>,
    metadata: Arc<dyn MetadataClient>,
    meta: Option<Meta>,
    /// For a metadata service that cannot start before the enclosure has an id.
    meta_socket: Option<TcpListener>,
    peers: Arc<Peers>,
    node: Option<Node>,
    shard_socket: Option<TcpListener>,
    s3_socket: Option<TcpListener>,
    s3: Option<S3Server>,
    admin_server: Option<AdminServer>,
    _lock: FolderLock,
}

impl Process {
    /// Takes folder and ports, and starts what needs no cluster.
    async fn start(config: NodeConfig, supervised: bool) -> Result<Self> {
        let env = Env::real();
        let token = config.read_token()?;
        let file = config.credentials_file.clone().unwrap_or_default();
        let credentials = RootCredentials::find(&file)?;
        files::make_folder(&config.folder)?;
        let lock = FolderLock::acquire(&config.folder.join("lock"))?;
        let identity = Identity::read(&config, &token)?;
        let admin_socket = take("the admin API", Some(config.admin.listen)).await?;
        let meta_socket = take("metadata", config.meta.as_ref().map(|m| m.listen)).await?;
        let shard_socket = take("fragments", config.node.as_ref().map(|n| n.listen)).await?;
        let s3_socket = take("S3", config.gateway.as_ref().map(|g| g.listen)).await?;

        let registry = Registry::new();
        telemetry::register(&registry)?;
        let admin = Admin::new(credentials.clone(), token.clone(), registry);
        // Set once each; a second time is impossible here.
        let _ = admin.enclosures.set(Arc::new(NoEnclosures));
        let replicas = config
            .metadata
            .iter()
            .map(|r| (r.enclosure, r.address.clone()));
        let peers = meta::peers(&token, replicas)?;
        let mut meta_socket = meta_socket;
        let meta = start_meta(&config, &identity, &peers, &env, &mut meta_socket).await?;
        let metadata = match &meta {
            Some(meta) => meta.client(),
            None => meta::remote_client(Arc::clone(&peers), env.clone()),
        };
        let _ = admin.metadata.set(Arc::clone(&metadata));
        if let Some(meta) = &meta {
            let _ = admin
                .birth
                .set(Arc::new(Begin::new(meta.service(), token.cluster)));
        }
        let admin_server =
            admin_socket.map(|socket| AdminServer::start(socket, Arc::clone(&admin)));
        Ok(Self {
            config,
            supervised,
            env,
            token,
            credentials,
            identity,
            admin,
            metadata,
            meta,
            meta_socket,
            peers,
            node: None,
            shard_socket,
            s3_socket,
            s3: None,
            admin_server,
            _lock: lock,
        })
    }

    /// Waits for the cluster, enters the enclosure, and starts what needs it.
    async fn join(&mut self) -> Result<()> {
        self.await_cluster().await?;
        let [shard, meta, admin] = self.config.addresses()?;
        let addresses = Addresses { shard, meta, admin };
        if self.config.node.is_some() || self.config.meta.is_some() {
            let (known, chain) = (self.identity.enclosure, self.config.chain);
            let metadata = self.metadata.as_ref();
            let id = join(metadata, &self.env, known, chain, addresses).await?;
            if known != Some(id) {
                self.identity.enclosure = Some(id);
                self.identity.write(&self.config.folder)?;
            }
            if self.meta.is_none() {
                // It holds no replica yet, and can be given one.
                let (config, peers) = (&self.config, &self.peers);
                let (env, socket) = (&self.env, &mut self.meta_socket);
                self.meta = start_meta(config, &self.identity, peers, env, socket).await?;
            }
            self.start_node(id).await?;
        }
        self.start_gateway().await?;
        let _ = self.admin.ready.set(());
        tracing::info!(
            enclosure = self.identity.enclosure.map(EnclosureId::get),
            "running"
        );
        Ok(())
    }

    async fn start_node(&mut self, id: EnclosureId) -> Result<()> {
        let (Some(node), Some(socket)) = (&self.config.node, self.shard_socket.take()) else {
            return Ok(());
        };
        let host = drives::host(&self.env, &self.admin.registry)?;
        let identity = drives::identity(self.token.cluster, id);
        let bays = drives::bays(node);
        let remote = Some((socket, &self.token));
        let nodes = Arc::new(DistantNodes::default());
        let others = Arc::clone(&nodes) as _;
        let node = Node::start(&host, identity, &self.metadata, others, bays, remote).await?;
        nodes.follow(node.view(), &self.token)?;
        self.node = Some(node);
        Ok(())
    }

    async fn start_gateway(&mut self) -> Result<()> {
        let (Some(config), Some(socket)) = (&self.config.gateway, self.s3_socket.take()) else {
            return Ok(());
        };
        let nodes = Arc::new(DistantNodes::default());
        let gateway = gateway::build(
            &self.credentials,
            config.domain.as_ref(),
            self.env.clone(),
            Arc::clone(&self.metadata),
            Arc::clone(&nodes) as _,
            &self.admin.registry,
        )?;
        nodes.follow(gateway.view().changes(), &self.token)?;
        self.s3 = Some(S3Server::start(gateway, socket));
        Ok(())
    }

    /// Waits until the cluster answers; it may not be born yet.
    async fn await_cluster(&self) -> Result<()> {
        let mut told = false;
        loop {
            match self.metadata.watch(0, ASK).await {
                Ok(view) if view.cluster == self.token.cluster => {
                    let entered = |id| view.topology.enclosures.contains_key(&id);
                    if !self.supervised || self.identity.enclosure.is_some_and(entered) {
                        return Ok(());
                    }
                }
                Ok(view) if view.revision > 0 => {
                    bail!(
                        "the metadata service is of cluster {}, not of the token's",
                        view.cluster
                    )
                }
                Ok(_) => {}
                Err(enfilade_cluster::api::error::MetadataError::Forbidden(why)) => {
                    bail!("the metadata service refuses the token: {why}")
                }
                Err(error) => {
                    if !told {
                        tracing::info!(%error, "waiting for the metadata service");
                        told = true;
                    }
                }
            }
            self.env.clock.sleep(PAUSE).await;
        }
    }

    fn is_ready(&self) -> bool {
        self.admin.ready.get().is_some()
    }

    async fn stop(self) {
        if let Some(s3) = self.s3 {
            s3.stop().await;
        }
        if let Some(node) = self.node {
            node.stop().await;
        }
        if let Some(meta) = self.meta {
            meta.stop().await;
        }
        if let Some(admin) = self.admin_server {
            admin.stop().await;
        }
    }
}

async fn start_meta(
    config: &NodeConfig,
    identity: &Identity,
    peers: &Arc<Peers>,
    env: &Env,
    socket: &mut Option<TcpListener>,
) -> Result<Option<Meta>> {
    let (Some(meta), Some(id)) = (&config.meta, identity.enclosure) else {
        return Ok(None);
    };
    identity.check_meta(&meta.folder)?;
    files::make_folder(&meta.folder)?;
    let [_, address, _] = config.addresses()?;
    let replica = Replica { id, address };
    let (peers, socket) = (Arc::clone(peers), socket.take());
    let started = Meta::start(&meta.folder, replica, peers, env.clone(), socket).await?;
    if !identity.meta {
        Identity {
            meta: true,
            ..identity.clone()
        }
        .write(&config.folder)?;
    }
    Ok(Some(started))
}

/// Binds a socket; a port that is in use is tried again for a while.
async fn take(what: &str, address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let end = tokio::time::Instant::now() + PORT_TIME;
    loop {
        match bind(what, address).await {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) if tokio::time::Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_becomes_free_in_time_is_taken() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let second = tokio::spawn(take("a test", Some(address)));
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(
            second
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .local_addr()
                .unwrap(),
            address
        );
        assert!(take("a test", None).await.unwrap().is_none());
    }
}
