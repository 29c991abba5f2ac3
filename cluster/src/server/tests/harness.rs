//! A cluster in one process that can lose and regain its replicas.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{
    BlobId, BucketId, ChainId, ClusterId, EnclosureId, Incarnation, PartitionId, Profile, RequestId,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::api::command::{Conditions, KeyOp, NewObject, Outcome, WriteRequest};
use crate::api::key::ObjectKey;
use crate::api::record::{Attributes, Blob, Place};
use crate::api::root::{Addresses, Birth, RootCommand, RootReply};
use crate::api::{MetadataClient, Result};
use crate::client::{ClientSettings, Remote, remote};
use crate::env::Env;
use crate::server::{MetadataService, Replica, read};
use crate::settings::Settings;
use crate::wire::{Identity, Peers, dial_tcp};

pub(super) const FIRST: PartitionId = PartitionId::new(1);

pub(super) struct Cluster {
    dir: TempDir,
    identity: Identity,
    addresses: BTreeMap<EnclosureId, String>,
    /// What processes know when they start.
    known: BTreeMap<EnclosureId, String>,
    running: BTreeMap<u32, Running>,
    pub(super) tune: fn(&mut Settings),
}

struct Running {
    service: MetadataService,
    serving: JoinHandle<()>,
}

/// Elections in tenths of seconds, so that tests need not wait.
fn settings(dir: PathBuf, tune: fn(&mut Settings)) -> Settings {
    let mut settings = Settings {
        dir,
        ..Settings::default()
    };
    settings.raft.election_min = Duration::from_millis(300);
    settings.raft.election_max = Duration::from_millis(600);
    settings.raft.heartbeat = Duration::from_millis(60);
    settings.raft.rpc = Duration::from_millis(500);
    settings.keeper.period = Duration::from_millis(50);
    settings.keeper.garbage_grace = Duration::ZERO;
    tune(&mut settings);
    settings
}

impl Cluster {
    /// A cluster that has just been born, with so many replicas.
    pub(super) async fn start(replicas: u32) -> Self {
        Self::start_tuned(replicas, |_| ()).await
    }

    pub(super) async fn start_tuned(replicas: u32, tune: fn(&mut Settings)) -> Self {
        let cluster = ClusterId::new(7);
        let identity = Identity::new(cluster, Incarnation::new(1), "credential").unwrap();
        let mut listeners = BTreeMap::new();
        for id in 1..=replicas {
            listeners.insert(id, TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = listeners
            .iter()
            .map(|(id, l)| (EnclosureId::new(*id), address(l)))
            .collect();
        let (dir, running) = (TempDir::new().unwrap(), BTreeMap::new());
        let mut started = Self {
            dir,
            identity,
            addresses,
            known: BTreeMap::new(),
            running,
            tune,
        };
        for (id, listener) in listeners {
            started.run(id, listener).await;
        }
        let birth = Birth {
            cluster,
            profile: Profile::new(4, 2).unwrap(),
            volume_target: 1 << 30,
            open_volumes: 2,
            replicas: started.addresses.keys().copied().collect(),
        };
        started
            .service(1)
            .bootstrap(birth, &started.addresses)
            .await
            .unwrap();
        started
    }

    async fn run(&mut self, id: u32, listener: TcpListener) {
        let address = listener.local_addr().unwrap().to_string();
        let service = loop {
            let settings = settings(self.dir.path().join(id.to_string()), self.tune);
            let peers = Peers::new(self.identity.clone(), self.known.clone(), dial_tcp());
            let replica = Replica {
                id: EnclosureId::new(id),
                address: address.clone(),
            };
            let env = Env::seeded(u64::from(id));
            match MetadataService::start(settings, replica, peers, env).await {
                Ok(service) => break service,
                // Tasks of the one before it still let go of the folder.
                Err(error) if read::report(&error).contains("lock hold by current process") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{}", read::report(&error)),
            }
        };
        let served = service.clone();
        let serving = tokio::spawn(async move { served.serve(listener).await.unwrap() });
        self.running.insert(id, Running { service, serving });
    }

    /// Starts a process without replicas, and enters its enclosure.
    pub(super) async fn add(&mut self, id: u32) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.known = self.addresses.clone();
        self.addresses.insert(EnclosureId::new(id), address);
        self.run(id, listener).await;
        self.enter(id).await;
    }

    /// Enters an enclosure, on the first chain.
    pub(super) async fn enter(&self, id: u32) {
        let id = EnclosureId::new(id);
        let addresses = Addresses {
            meta: self.addresses[&id].clone(),
            ..Addresses::default()
        };
        let join = RootCommand::JoinEnclosure {
            id: Some(id),
            chain: ChainId::new(1),
            addresses,
        };
        self.root(join).await;
    }

    /// Has the root group do something.
    pub(super) async fn root(&self, command: RootCommand) {
        let request = RequestId::new(Env::real().random.next_u128());
        let outcome = self.client().root(request, command).await.unwrap();
        outcome.unwrap();
    }

    /// Stops a replica at once.
    pub(super) async fn kill(&mut self, id: u32) {
        let Running { service, serving } = self.running.remove(&id).unwrap();
        serving.abort();
        let _ = serving.await;
        service.halt().await;
    }

    /// Stops a replica as an operator does.
    pub(super) async fn shut_down(&mut self, id: u32) {
        let Running { service, serving } = self.running.remove(&id).unwrap();
        service.shutdown().await;
        serving.abort();
        let _ = serving.await;
    }

    /// Removes all that a replica had, as if its device was lost.
    pub(super) fn wipe(&self, id: u32) {
        // Aside: tasks of the one that stopped may still have files of it open.
        let lost = self.dir.path().join(format!("lost-{id}"));
        std::fs::rename(self.dir.path().join(id.to_string()), lost).unwrap();
    }

    /// Starts a replica again, at its address.
    pub(super) async fn revive(&mut self, id: u32) {
        let address = &self.addresses[&EnclosureId::new(id)];
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.run(id, listener).await;
    }

    pub(super) fn service(&self, id: u32) -> &MetadataService {
        &self.running[&id].service
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (u32, &MetadataService)> {
        self.running
            .iter()
            .map(|(id, running)| (*id, &running.service))
    }

    /// A client that knows nothing but the addresses.
    pub(super) fn client(&self) -> Arc<Remote> {
        let peers = Peers::new(self.identity.clone(), self.addresses.clone(), dial_tcp());
        let settings = ClientSettings {
            attempt: Duration::from_secs(1),
            ..ClientSettings::default()
        };
        Arc::new(remote::client(peers, Env::real(), settings))
    }

    /// A client that does not know of one replica.
    pub(super) fn client_without(&self, id: u32) -> Arc<Remote> {
        let mut addresses = self.addresses.clone();
        addresses.remove(&EnclosureId::new(id));
        let peers = Peers::new(self.identity.clone(), addresses, dial_tcp());
        let settings = ClientSettings {
            attempt: Duration::from_secs(1),
            ..ClientSettings::default()
        };
        Arc::new(remote::client(peers, Env::real(), settings))
    }

    /// A client that gives up early.
    pub(super) fn hurried_client(&self, total: Duration) -> Arc<Remote> {
        let peers = Peers::new(self.identity.clone(), self.addresses.clone(), dial_tcp());
        let attempt = total / 4;
        let settings = ClientSettings {
            total,
            attempt,
            ..ClientSettings::default()
        };
        Arc::new(remote::client(peers, Env::real(), settings))
    }

    /// A client with another credential.
    pub(super) fn stranger(&self) -> Arc<Remote> {
        let identity = &self.identity;
        let other = Identity::new(identity.cluster, identity.incarnation, "other").unwrap();
        let peers = Peers::new(other, self.addresses.clone(), dial_tcp());
        Arc::new(remote::client(
            peers,
            Env::real(),
            ClientSettings::default(),
        ))
    }

    /// Waits until a group has a leader among the replicas that run.
    pub(super) async fn leader(&self, group: PartitionId) -> u32 {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let held = self.services().map(|(id, service)| {
                let group = service.groups().get(group);
                (id, group.map(|group| group.metrics().to_string()))
            });
            if tokio::time::Instant::now() >= end {
                panic!(
                    "group {group} has no leader: {:#?}",
                    held.collect::<Vec<_>>()
                );
            }
            let leads = |service: &MetadataService| {
                service
                    .groups()
                    .get(group)
                    .is_some_and(|group| group.leads())
            };
            if let Some((id, _)) = self.services().find(|(_, service)| leads(service)) {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn stop(mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(id).await;
        }
    }
}

pub(super) async fn bucket(client: &dyn MetadataClient, name: &str) -> BucketId {
    let request = RequestId::new(Env::real().random.next_u128());
    let (name, owner) = (name.to_owned(), "owner".to_owned());
    let command = RootCommand::CreateBucket {
        name,
        owner,
        created_ms: 1,
    };
    match client.root(request, command).await.unwrap() {
        Ok(RootReply::Bucket(bucket)) => bucket.id,
        other => panic!("{other:?}"),
    }
}

/// Puts an inline object whose blob and request id is `id`.
pub(super) async fn put(
    client: &dyn MetadataClient,
    bucket: BucketId,
    key: &str,
    id: u128,
    bytes: Bytes,
) -> Result<Outcome> {
    let blob = Blob {
        id: BlobId::new(id),
        len: bytes.len() as u64,
        crc64: 0,
        place: Place::Inline,
    };
    let request = blob.id.into();
    let object = NewObject {
        etag: "etag".to_owned(),
        modified_ms: 1,
        attributes: Attributes::default(),
        checksum: None,
        blob,
        inline: bytes,
    };
    let op = KeyOp::Put {
        object,
        conditions: Conditions::default(),
    };
    let (revision, key) = (1, key.to_owned());
    client
        .write(WriteRequest {
            request,
            bucket,
            revision,
            key,
            op,
        })
        .await
}

pub(super) async fn get(client: &dyn MetadataClient, bucket: BucketId, key: &str) -> Option<Bytes> {
    let found = client
        .object(&ObjectKey::new(bucket, key), None)
        .await
        .unwrap();
    found.map(|found| found.inline)
}
