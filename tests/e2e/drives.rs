//! Drives that are moved, unplugged and replaced while the cluster runs.

use std::path::PathBuf;

use serde_json::Value;

use crate::cluster::{Cluster, until};
use crate::kept;

/// `enfilade drive list`: the drive in a slot of an enclosure.
pub(crate) async fn drive_in(cluster: &Cluster, enclosure: u64, slot: u64) -> Option<Value> {
    let drives = cluster.admin(&["drive", "list"]).await.unwrap();
    let mut drives = drives.as_array().unwrap().clone().into_iter();
    drives.find(|drive| {
        drive["enclosure"] == enclosure && drive["slot"] == slot && drive["state"] != "replaced"
    })
}

/// The folder of a drive.
pub(crate) fn folder(cluster: &Cluster, enclosure: u64, slot: u64) -> PathBuf {
    let drives = format!("enclosures/{enclosure}/drives/{slot}");
    cluster.data().join(drives)
}

/// Waits until the drive in a slot is that one, and in that state.
pub(crate) async fn await_state(cluster: &Cluster, place: (u64, u64), id: &Value, state: &str) {
    until(|| async {
        let drive = drive_in(cluster, place.0, place.1).await;
        drive.is_some_and(|drive| drive["id"] == *id && drive["state"] == state)
    })
    .await;
}

pub(crate) async fn are_moved_unplugged_and_replaced(flags: &[&str]) {
    let mut cluster = Cluster::start(flags).await;
    let client = cluster.client();
    let kept = kept::write(&client).await;
    cluster.await_health(true).await;

    // Moved to another enclosure, where it is served without a copy.
    let moved = drive_in(&cluster, 1, 0).await.unwrap();
    std::fs::rename(folder(&cluster, 1, 0), folder(&cluster, 2, 9)).unwrap();
    await_state(&cluster, (2, 9), &moved["id"], "healthy").await;
    let there = drive_in(&cluster, 2, 9).await.unwrap();
    let generation = |drive: &Value| drive["generation"].as_u64().unwrap();
    assert!(generation(&there) > generation(&moved), "{there}");
    assert!(drive_in(&cluster, 1, 0).await.is_none());
    kept.check(&client).await;
    cluster.await_health(true).await;

    // One in service is not given up.
    let spare = cluster.data().join("spare");
    let id = there["id"].as_str().unwrap();
    let refused = cluster
        .admin(&["drive", "replace", id, spare.to_str().unwrap()])
        .await
        .unwrap_err();
    assert!(refused.contains("in service"), "{refused}");
    assert!(!spare.exists());

    // Unplugged: gone, and never initialised; then given up.
    let lost = drive_in(&cluster, 3, 1).await.unwrap();
    let place = folder(&cluster, 3, 1);
    std::fs::rename(&place, cluster.data().join("lost")).unwrap();
    std::fs::create_dir(&place).unwrap();
    await_state(&cluster, (3, 1), &lost["id"], "gone").await;
    cluster.await_health(false).await;
    kept.check(&client).await;
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    let id = lost["id"].as_str().unwrap();
    let replaced = cluster
        .admin(&["drive", "replace", id, place.to_str().unwrap()])
        .await
        .unwrap();
    assert_eq!(
        (&replaced["enclosure"], &replaced["slot"]),
        (&3.into(), &1.into())
    );
    await_state(&cluster, (3, 1), &replaced["drive"], "healthy").await;
    kept.check(&client).await;
    // What was on it is rebuilt on others. What it had of dead blobs stays entered until they are
    // dropped everywhere.
    until(|| async { cluster.status().await["missing"]["shards"] == 0 }).await;
    let given_up = cluster.admin(&["drive", "list"]).await.unwrap();
    let mut given_up = given_up.as_array().unwrap().iter();
    let given_up = given_up.find(|drive| drive["id"] == lost["id"]).unwrap();
    assert_eq!(given_up["shards"], 0, "{given_up}");

    // All of it holds over a restart; the folder of the old one is wiped only when it is named.
    cluster.stop().await;
    cluster.up().await;
    await_state(&cluster, (2, 9), &moved["id"], "healthy").await;
    await_state(&cluster, (3, 1), &replaced["drive"], "healthy").await;
    kept.check(&cluster.client()).await;
    cluster.stop().await;
}
