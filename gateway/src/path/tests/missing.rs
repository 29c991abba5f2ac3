//! Fragments that members should hold and do not.

use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::{LedgerRange, LedgerRow};

use super::{Cluster, content, noise, profile};

async fn ledger(cluster: &Cluster) -> Vec<LedgerRow> {
    cluster.metadata.ledger(100).await.unwrap()
}

#[tokio::test]
async fn fragments_that_are_missing_are_entered_once_their_blob_is_referenced() {
    let cluster = Cluster::start(profile("2+1"), 3, |_| {}).await;
    let bytes = noise(60_000, 2);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    let volume = cluster.volume_of(&written.blob).await;
    let node = cluster.nodes.at(cluster.enclosure(&volume, 1));
    let drive = volume.members[1].unwrap();
    node.lose(drive, (volume.id, 1), written.blob.id, (2, 3))
        .await;
    // No record names the blob yet: nothing is lost by it.
    let read = cluster.read(&content(&written), 0..u64::MAX).await;
    assert_eq!(read.unwrap(), bytes);
    cluster.commit("key", &written).await;
    let look = async {
        while ledger(&cluster).await.is_empty() {
            let read = cluster.read(&content(&written), 0..u64::MAX).await;
            assert_eq!(read.unwrap(), bytes);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look)
        .await
        .unwrap();
    let row = LedgerRow {
        volume: volume.id,
        member: 1,
        what: LedgerRange::stripes(written.blob.id, 2..=3),
    };
    let entered = async {
        while ledger(&cluster).await != [row.clone()] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), entered)
        .await
        .unwrap();
}
