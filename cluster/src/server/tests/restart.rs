//! Replicas that stop and come back to what they had.

use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{ChainId, EnclosureState, RequestId};

use super::harness::{Cluster, FIRST, bucket, get, put};
use crate::api::MetadataClient;
use crate::api::root::{Addresses, RootCommand, RootReply};
use crate::client::in_process;
use crate::partition;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_replica_resumes_at_once_with_all_that_it_had() {
    let mut cluster = Cluster::start(1).await;
    let client = in_process::client(cluster.service(1));
    let bucket = bucket(&client, "bucket").await;
    for number in 0..50u128 {
        let (key, bytes) = (number.to_string(), Bytes::from(number.to_string()));
        put(&client, bucket, &key, number + 1, bytes)
            .await
            .unwrap()
            .unwrap();
    }
    drop(client);
    for _ in 0..2 {
        cluster.kill(1).await;
        cluster.revive(1).await;
        let client = in_process::client(cluster.service(1));
        for number in 0..50u128 {
            let bytes = get(&client, bucket, &number.to_string()).await;
            assert_eq!(bytes, Some(Bytes::from(number.to_string())));
        }
        // A repeat from before is still known.
        put(&client, bucket, "7", 8, Bytes::from_static(b"7"))
            .await
            .unwrap()
            .unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_stops_as_a_whole_comes_back_with_all_that_it_acked() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    let bucket = bucket(&*client, "bucket").await;
    for number in 0..30u128 {
        let (key, bytes) = (number.to_string(), Bytes::from(number.to_string()));
        put(&*client, bucket, &key, number + 1, bytes)
            .await
            .unwrap()
            .unwrap();
    }
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.revive(id).await;
    }
    for number in 0..30u128 {
        let bytes = get(&*client, bucket, &number.to_string()).await;
        assert_eq!(bytes, Some(Bytes::from(number.to_string())));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_enclosure_is_found_down_and_up_again_when_it_is_heard() {
    let cluster = Cluster::start_tuned(1, |settings| {
        settings.liveness.suspect = Duration::from_millis(200);
        settings.liveness.down = Duration::from_millis(400);
        settings.keeper.tick = Duration::from_millis(100);
    })
    .await;
    let client = in_process::client(cluster.service(1));
    let (chain, addresses) = (ChainId::new(1), Addresses::default());
    let join = RootCommand::JoinEnclosure {
        id: None,
        chain,
        addresses,
    };
    let Ok(RootReply::Enclosure(id)) = client.root(RequestId::new(5), join).await.unwrap() else {
        panic!("entered");
    };
    let mut view = client.watch(0, Duration::ZERO).await.unwrap();
    while view.topology.enclosures[&id].state != EnclosureState::Down {
        view = client
            .watch(view.revision, Duration::from_secs(10))
            .await
            .unwrap();
    }
    let beat = crate::api::heartbeat::Heartbeat {
        cluster: view.cluster,
        incarnation: view.incarnation,
        enclosure: id,
        drives: Vec::new(),
        shards: Vec::new(),
    };
    client.heartbeat(beat).await.unwrap();
    while view.topology.enclosures[&id].state != EnclosureState::Up {
        view = client
            .watch(view.revision, Duration::from_secs(10))
            .await
            .unwrap();
    }
    // Time goes on, and only forward.
    let time = || {
        let group = cluster.service(1).groups().get(FIRST).unwrap();
        let info = group.with_rows(|rows| Ok(partition::read::info(rows, FIRST).unwrap()));
        info.unwrap().unwrap().time
    };
    let before = time();
    let bucket = bucket(&client, "bucket").await;
    for number in 1u128.. {
        put(&client, bucket, "key", number, Bytes::new())
            .await
            .unwrap()
            .unwrap();
        if time() > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_votes_for_nobody_until_the_leases_it_gave_have_run_out() {
    let mut cluster = Cluster::start_tuned(3, |settings| {
        settings.raft.election_max = Duration::from_secs(2);
    })
    .await;
    let leader = cluster.leader(FIRST).await;
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(follower).await;
    cluster.revive(follower).await;
    let may_vote = || {
        let groups = cluster.service(follower).groups();
        groups.may_vote(&groups.get(FIRST).unwrap())
    };
    assert!(!may_vote());
    while !may_vote() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cluster.leader(FIRST).await, leader);
    cluster.stop().await;
}
