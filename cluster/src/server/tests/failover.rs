//! Leaders that stop, followers that lag, requests that are repeated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::PartitionId;

use super::harness::{Cluster, FIRST, bucket, get, put};
use crate::api::MetadataClient;
use crate::api::command::KeyReply;
use crate::api::error::MetadataError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_reads_go_on_when_leaders_stop_and_nothing_acked_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    let bucket = bucket(&*client, "bucket").await;
    let writer = {
        let client = Arc::clone(&client);
        tokio::spawn(async move {
            for number in 0..200u128 {
                let (key, bytes) = (format!("key-{number}"), Bytes::from(number.to_string()));
                let outcome = put(&*client, bucket, &key, number + 1, bytes)
                    .await
                    .unwrap();
                assert!(matches!(outcome, Ok(KeyReply::Put { .. })), "{outcome:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    for group in [FIRST, PartitionId::ROOT] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let leader = cluster.leader(group).await;
        cluster.kill(leader).await;
        cluster.leader(group).await;
        cluster.revive(leader).await;
    }
    writer.await.unwrap();
    let fresh = cluster.client();
    for number in 0..200u128 {
        let bytes = get(&*fresh, bucket, &format!("key-{number}")).await;
        assert_eq!(bytes, Some(Bytes::from(number.to_string())));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_behind_the_log_is_sent_the_rows() {
    let mut cluster = Cluster::start_tuned(3, |settings| {
        settings.raft.snapshot_entries = 50;
        settings.raft.keep_entries = 5;
    })
    .await;
    let client = cluster.client();
    let bucket = bucket(&*client, "bucket").await;
    let leader = cluster.leader(FIRST).await;
    let lagging = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(lagging).await;
    // Rows that fill more than one part.
    let bytes = Bytes::from(vec![7u8; 10_000]);
    for number in 0..400u128 {
        let key = format!("key-{number}");
        put(&*client, bucket, &key, number + 1, bytes.clone())
            .await
            .unwrap()
            .unwrap();
    }
    // Of both that are left: either may lead when the third comes back.
    let purged = |id| {
        let group = cluster.service(id).groups().get(FIRST).unwrap();
        group.metrics().purged.map_or(0, |purged| purged.index)
    };
    for id in (1..=3).filter(|id| *id != lagging) {
        while purged(id) < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    cluster.revive(lagging).await;
    let applied = |cluster: &Cluster, id| {
        let group = cluster.service(id).groups().get(FIRST);
        group.map_or(0, |group| *group.applied().borrow())
    };
    let leader = cluster.leader(FIRST).await;
    while applied(&cluster, lagging) < applied(&cluster, leader) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Metrics follow what was applied; without a snapshot this never ends.
    let group = cluster.service(lagging).groups().get(FIRST).unwrap();
    let sent = async {
        while group.metrics().snapshot.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(20), sent).await;
    assert!(sent.is_ok(), "the rows came as a snapshot");
    // It votes, and serves what it was sent when it leads.
    loop {
        let leader = cluster.leader(FIRST).await;
        if leader == lagging {
            break;
        }
        let group = cluster.service(leader).groups().get(FIRST).unwrap();
        let _ = group
            .raft
            .trigger()
            .transfer_leader(u64::from(lagging))
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(get(&*client, bucket, "key-0").await, Some(bytes.clone()));
    assert_eq!(get(&*client, bucket, "key-399").await, Some(bytes));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_writes_have_no_certain_outcome_and_reads_fail() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    let bucket = bucket(&*client, "bucket").await;
    put(&*client, bucket, "key", 1, Bytes::from_static(b"x"))
        .await
        .unwrap()
        .unwrap();
    let leader = cluster.leader(FIRST).await;
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.kill(id).await;
    }
    let hurried = cluster.hurried_client(Duration::from_secs(2));
    let error = put(&*hurried, bucket, "key", 2, Bytes::from_static(b"y"))
        .await
        .unwrap_err();
    let uncertain = |error: &MetadataError| {
        matches!(
            error,
            MetadataError::Unavailable(_) | MetadataError::UnknownOutcome(_)
        )
    };
    assert!(uncertain(&error), "{error:?}");
    let at = crate::api::key::ObjectKey::new(bucket, "key");
    let error = hurried.object(&at, None).await.unwrap_err();
    assert!(matches!(error, MetadataError::Unavailable(_)), "{error:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_credential_is_forbidden() {
    let cluster = Cluster::start(1).await;
    let error = cluster.stranger().groups().await.unwrap();
    assert!(error.is_empty());
    let error = cluster
        .stranger()
        .watch(0, Duration::ZERO)
        .await
        .unwrap_err();
    assert!(matches!(error, MetadataError::Forbidden(_)), "{error:?}");
    cluster.stop().await;
}
