//! Clusters of several replicas in one process, over real sockets and RocksDB.

mod deposed;
mod failover;
mod harness;
mod replicas;
mod restart;
mod volumes;
mod votes;

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{ClusterId, EnclosureId, Profile};

use crate::api::conformance::{self, Subject};
use crate::api::memory::MemoryMetadata;
use crate::api::root::Birth;
use crate::client::in_process;
use crate::env::Env;
use harness::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_in_memory_does_what_every_client_must() {
    let env = Env::seeded(1);
    let birth = Birth {
        cluster: ClusterId::new(1),
        profile: Profile::new(4, 2).unwrap(),
        volume_target: 1 << 30,
        open_volumes: 0,
        replicas: vec![EnclosureId::new(1)],
    };
    let client = Arc::new(MemoryMetadata::born(birth, env.clone()));
    let twin = Arc::clone(&client);
    let grace = Duration::from_millis(crate::partition::GARBAGE_GRACE_MS);
    let pass_grace = Box::new(move || twin.advance(grace));
    conformance::check(&Subject {
        client,
        env,
        pass_grace,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_in_process_client_does_what_every_client_must() {
    let cluster = Cluster::start(1).await;
    let client = Arc::new(in_process::client(cluster.service(1)));
    let env = Env::seeded(2);
    conformance::check(&Subject {
        client,
        env,
        pass_grace: Box::new(|| ()),
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remote_client_does_what_every_client_must() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client();
    let env = Env::seeded(3);
    conformance::check(&Subject {
        client,
        env,
        pass_grace: Box::new(|| ()),
    })
    .await;
    cluster.stop().await;
}
