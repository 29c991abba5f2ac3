//! A leader that was cut off, and does not know yet that another one leads.

use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{BucketId, EnclosureId};
use tokio::time::Instant;

use super::harness::{Cluster, FIRST, bucket, put};
use crate::api::key::ObjectKey;
use crate::call::{Answer, Call};
use crate::server::MetadataService;

/// Nobody answers there.
const NOWHERE: &str = "127.0.0.1:1";

/// What a replica itself says of a key: none when it does not answer.
async fn read(service: &MetadataService, bucket: BucketId) -> Option<Bytes> {
    let call = Call::Object {
        partition: FIRST,
        at: ObjectKey::new(bucket, "key"),
        version: None,
    };
    let answer = tokio::time::timeout(Duration::from_millis(500), service.call(&call)).await;
    match answer {
        Ok(Ok(Answer::Object(Some(found)))) => Some(found.inline),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_cut_off_answers_nothing_that_is_old() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client();
    let bucket = bucket(&*client, "bucket").await;
    let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
    let first = put(&*client, bucket, "key", 1, old.clone()).await;
    assert!(first.unwrap().is_ok());
    let leader = cluster.leader(FIRST).await;
    let deposed = cluster.service(leader).clone();
    assert_eq!(read(&deposed, bucket).await, Some(old.clone()));
    // The others go on without it.
    let others = cluster.client_without(leader);
    for (id, service) in cluster.services() {
        for other in 1..=3 {
            if (id == leader) != (other == leader) {
                service.peers().learn(EnclosureId::new(other), NOWHERE);
            }
        }
    }
    let writer = tokio::spawn(async move {
        let second = put(&*others, bucket, "key", 2, new).await;
        assert!(second.unwrap().is_ok());
        Instant::now()
    });
    // It is asked all the time, from before it is cut off until long after it was.
    let mut reads = Vec::new();
    let mut acked = None;
    let mut writer = Some(writer);
    while acked.is_none_or(|acked: Instant| acked.elapsed() < Duration::from_secs(2)) {
        if let Some(writing) = writer.take_if(|writing| writing.is_finished()) {
            acked = Some(writing.await.unwrap());
        }
        let began = Instant::now();
        if let Some(bytes) = read(&deposed, bucket).await {
            reads.push((began, bytes));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let acked = acked.unwrap();
    assert!(
        reads.iter().any(|(_, bytes)| *bytes == old),
        "it led for a while"
    );
    let stale = reads
        .iter()
        .find(|(began, bytes)| *began > acked && *bytes == old);
    assert!(
        stale.is_none(),
        "it answered {:?} after the ack",
        stale.map(|s| s.0 - acked)
    );
    drop(deposed);
    cluster.stop().await;
}
