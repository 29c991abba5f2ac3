//! A gateway on port 0 over the in-memory twins.

use std::sync::Arc;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::memory::MemoryMetadata;
use enfilade_cluster::api::root::{Addresses, Birth, RootCommand};
use enfilade_cluster::env::Env;
use enfilade_gateway::{Gateway, GatewaySettings};
use enfilade_placement::{
    ChainId, ClusterId, EnclosureId, Generation, Incarnation, Profile, RequestId,
};
use enfilade_storage_node::client::memory::MemoryNodes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::{ACCESS_KEY, Client, SECRET_KEY, call};
use super::scripted::Scripted;

const ENCLOSURES: u32 = 6;

/// A running gateway, and what it runs on.
pub(crate) struct Cluster {
    pub(crate) metadata: Arc<Scripted>,
    pub(crate) nodes: Arc<MemoryNodes>,
    pub(crate) registry: prometheus::Registry,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Six enclosures at 4+2.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn with(change: impl FnOnce(&mut GatewaySettings)) -> Self {
        let env = Env::real();
        let cluster = ClusterId::new(1);
        let profile: Profile = "4+2".parse().unwrap();
        let birth = Birth {
            cluster,
            profile,
            volume_target: 1 << 40,
            open_volumes: 2,
            replicas: vec![EnclosureId::new(1)],
        };
        let metadata = MemoryMetadata::born(birth, env.clone());
        let metadata = Arc::new(Scripted::new(metadata));
        let nodes = Arc::new(MemoryNodes::new(
            cluster,
            Incarnation::new(1),
            ENCLOSURES,
            1,
        ));
        furnish(&metadata.inner, &nodes, profile, &env).await;
        let mut settings = GatewaySettings::new(ACCESS_KEY, SECRET_KEY);
        change(&mut settings);
        let registry = prometheus::Registry::new();
        let (own, theirs) = (metadata.clone(), nodes.clone());
        let gateway = Gateway::new(settings, env, own, theirs, &registry).unwrap();
        gateway.view().refresh().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            gateway.serve(listener, async { drop(stopped.await) }).await;
        });
        Self {
            metadata,
            nodes,
            registry,
            client,
            stop: Some(stop),
            server: Some(server),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client, and a bucket made.
    pub(crate) async fn bucket(&self, name: &str) -> Client {
        let client = self.client();
        client
            .send(call("PUT", &format!("/{name}")))
            .await
            .expect(200);
        client
    }

    /// Stops the server; done when it has ended.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.server.take().unwrap().await.unwrap();
    }
}

/// Enters enclosures and drives, and opens volumes over them.
async fn furnish(metadata: &MemoryMetadata, nodes: &MemoryNodes, profile: Profile, env: &Env) {
    let root = async |command| {
        let request = RequestId::new(env.random.next_u128());
        metadata.root(request, command).await.unwrap().unwrap()
    };
    for drive in nodes.topology().drives.values() {
        root(RootCommand::JoinEnclosure {
            id: Some(drive.enclosure),
            chain: ChainId::new(1),
            addresses: Addresses::default(),
        })
        .await;
        root(RootCommand::AttachDrive {
            drive: drive.id,
            enclosure: drive.enclosure,
            slot: drive.slot,
            capacity: drive.capacity,
            generation: Generation::new(0),
        })
        .await;
    }
    for _ in 0..2 {
        let members = nodes.topology().drives.keys().copied().map(Some).collect();
        root(RootCommand::OpenVolume {
            profile,
            members,
            violation: false,
        })
        .await;
    }
}
