//! What requests hold in memory, and that they let go of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use enfilade_storage_node::api::ShardClient;
use enfilade_storage_node::api::read::InventoryRequest;
use futures::{StreamExt, future, stream};

use super::{Cluster, content, noise, pieces, profile, until};
use crate::path::types::{ReadError, WriteError};

#[tokio::test]
async fn many_bodies_and_reads_at_once_never_pass_the_budgets() {
    let stripe = 6 * 4096;
    let change = |s: &mut crate::settings::PathSettings| {
        (s.write_budget, s.read_budget) = (8 * stripe, 4 * stripe);
    };
    let cluster = Cluster::start(profile("4+2"), 6, change).await;
    let bytes = noise(300_000, 1);
    let one = async {
        let written = cluster.write(&bytes, 10_000).await.unwrap();
        assert_eq!(
            cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
            bytes
        );
    };
    let writes = (0..40).map(|_| async {
        let written = cluster.write(&bytes, 10_000).await.unwrap();
        assert_eq!(
            cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
            bytes
        );
    });
    future::join(one, future::join_all(writes)).await;
    let inner = &cluster.path.inner;
    for (budget, total) in [
        (&inner.write_budget, 8 * stripe),
        (&inner.read_budget, 4 * stripe),
    ] {
        assert!(
            budget.peak() <= total && budget.peak() > total / 2,
            "{}",
            budget.peak()
        );
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn a_body_that_finds_no_budget_in_time_is_refused() {
    let change = |s: &mut crate::settings::PathSettings| {
        (s.write_budget, s.read_budget) = (6 * 4096, 6 * 4096);
        s.budget_wait = Duration::from_millis(20);
    };
    let cluster = Cluster::start(profile("4+2"), 6, change).await;
    let bytes = noise(100_000, 1);
    let written = cluster.write(&bytes, 10_000).await.unwrap();
    let silent = pieces(&bytes[..100], 100).chain(stream::pending()).boxed();
    let mut stalled = std::pin::pin!(cluster.path.write(cluster.body("key", silent)));
    assert!(futures::poll!(&mut stalled).is_pending());
    let error = cluster.write(&bytes, 10_000).await.unwrap_err();
    assert!(matches!(error, WriteError::Busy), "{error}");

    let held = cluster
        .path
        .read(cluster.key("key"), content(&written), 0..u64::MAX)
        .await;
    let held = held.unwrap();
    let other = cluster
        .path
        .read(cluster.key("key"), content(&written), 0..u64::MAX)
        .await;
    assert!(matches!(other.err(), Some(ReadError::Busy)));
    drop(held);
    assert_eq!(
        cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
        bytes
    );
}

#[tokio::test]
async fn what_came_of_a_slow_body_is_appended_unfinished() {
    let change = |s: &mut crate::settings::PathSettings| {
        s.run_fill_time = Duration::from_millis(20);
    };
    let cluster = Cluster::bare(profile("2+1"), 3, change).await;
    let volume = cluster.open(0, &[]).await;
    cluster.view.refresh().await.unwrap();
    let bytes = noise(100_000, 1);
    let (send, rest) = tokio::sync::mpsc::channel::<Bytes>(4);
    let rest = stream::unfold(rest, |mut rest| async {
        let piece = rest.recv().await?;
        Some((Ok(piece), rest))
    });
    // Two and a half stripes, then a pause until the two are on the drives.
    let first = pieces(&bytes[..20_000], 3_000);
    let mut body = cluster.body("key", first.chain(rest).boxed());
    body.len = Some(bytes.len() as u64);
    let goes_on = async {
        let at = cluster.nodes.address(&volume, 0);
        let node = cluster.nodes.at(cluster.enclosure(&volume, 0));
        loop {
            let request = InventoryRequest {
                at,
                after: None,
                limit: 10,
            };
            let page = node.inventory(request).await.unwrap();
            if page.blobs.iter().any(|blob| blob.stripes == [(0, 1)]) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        send.send(Bytes::copy_from_slice(&bytes[20_000..]))
            .await
            .unwrap();
        drop(send);
    };
    let (written, ()) = tokio::join!(cluster.path.write(body), goes_on);
    let read = cluster
        .read(&content(&written.unwrap()), 0..u64::MAX)
        .await
        .unwrap();
    assert_eq!(read, bytes);
    assert_eq!(cluster.path.inner.write_budget.used(), 0);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_no_lease_and_no_record() {
    let cluster = Cluster::start(profile("4+2"), 6, |_| {}).await;
    let bytes = noise(200_000, 1);
    let silent = pieces(&bytes, 10_000).chain(stream::pending()).boxed();
    {
        let mut write = std::pin::pin!(cluster.path.write(cluster.body("key", silent)));
        let late = tokio::time::sleep(Duration::from_millis(30));
        tokio::select! {
            _ = &mut write => panic!("the body has not ended"),
            () = late => {}
        }
    }
    until(|| cluster.path.inner.write_budget.used() == 0).await;
    assert_eq!(cluster.metadata.writes.load(Ordering::SeqCst), 0);
}
