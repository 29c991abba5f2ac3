//! A cluster that grows by an enclosure, gives one up, and loses drives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_sdk_s3::Client;
use serde_json::Value;

use crate::cluster::{Cluster, bytes, until};
use crate::objects::{get, put};

const BUCKET: &str = "growth";
const LEN: usize = 1 << 20;
/// Volumes that are to be sealed before the cluster grows, and the objects that surely seal them.
const SEALED: usize = 20;
const OBJECTS_MAX: u64 = 1000;

/// Small volumes, so that some are sealed soon.
const SMALL: [&str; 8] = [
    "--profile",
    "2+1",
    "--enclosures",
    "4",
    "--drives",
    "2",
    "--volume-target",
    "1MiB",
];

pub(crate) async fn and_shrinkage_and_repair(flags: &[&str]) {
    let mut cluster = Cluster::start(&[&SMALL[..], flags].concat()).await;
    let client = cluster.client();
    let objects = write(&cluster, &client).await;
    cluster.await_health(true).await;
    settle(&cluster).await;

    // A plan says what would be moved, and moves nothing.
    let total = |moves: &Value| moves["moved_bytes_total"].as_u64().unwrap();
    let before = total(&moves(&cluster).await);
    let plan = cluster
        .admin(&["plan", "add", "--drives", "4"])
        .await
        .unwrap();
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
    assert!(number(&plan, "bytes") > 0, "{plan}");
    assert!(
        number(&plan, "bound_bytes") <= number(&plan, "bytes"),
        "{plan}"
    );
    assert_eq!(total(&moves(&cluster).await), before);
    for side in ["before", "after"] {
        let nines = plan[side]["durability"]["nines"].as_f64().unwrap();
        assert!(nines > 2.0, "{plan}");
    }
    let status = cluster.status().await;
    assert!(
        status["durability"]["nines"].as_f64().unwrap() > 2.0,
        "{status}"
    );

    // Grows: the new enclosure gets its share, and then nothing moves any more.
    cluster
        .admin(&["enclosure", "add", "--drives", "4"])
        .await
        .unwrap();
    until(|| async { total(&moves(&cluster).await) > before }).await;
    settle(&cluster).await;
    assert!(shards_in(&cluster, 5).await > 0);
    check(&client, &objects).await;
    cluster.await_health(true).await;

    // Shrinks: an enclosure is emptied.
    let drained = cluster.admin(&["enclosure", "drain", "2"]).await.unwrap();
    assert_eq!(drained["plan"]["unplaced"], 0, "{drained}");
    until(|| async { shards_in(&cluster, 2).await == 0 }).await;
    settle(&cluster).await;
    check(&client, &objects).await;
    cluster.await_health(true).await;

    // A drive is unplugged for good: what it held is rebuilt.
    let drives = cluster.admin(&["drive", "list"]).await.unwrap();
    let mut drives = drives.as_array().unwrap().iter();
    let lost = drives.find(|drive| drive["enclosure"] == 3 && drive["slot"] == 1);
    let id = lost.unwrap()["id"].as_str().unwrap().to_owned();
    std::fs::rename(folder(&cluster, 3, 1), cluster.data().join("lost")).unwrap();
    cluster.await_health(false).await;
    check(&client, &objects).await;
    let drained = cluster.admin(&["drive", "drain", "--force", &id]).await;
    assert!(drained.is_ok(), "{drained:?}");
    until(|| async { cluster.status().await["missing"]["shards"] == 0 }).await;
    assert!(number(&moves(&cluster).await, "rebuilt_bytes_total") > 0);
    check(&client, &objects).await;

    // Another drive takes its slot, and all is well.
    let place = folder(&cluster, 3, 1);
    let replaced = cluster
        .admin(&["drive", "replace", &id, place.to_str().unwrap()])
        .await;
    assert!(replaced.is_ok(), "{replaced:?}");
    cluster.await_health(true).await;

    maintenance(&cluster).await;
    removal(&mut cluster, &id).await;
    check(&cluster.client(), &objects).await;

    // All of it over a restart.
    cluster.stop().await;
    cluster.up().await;
    check(&cluster.client(), &objects).await;
    cluster.await_health(true).await;
    assert_eq!(shards_in(&cluster, 2).await, 0);
    cluster.stop().await;
}

/// An enclosure is under maintenance until that is ended.
async fn maintenance(cluster: &Cluster) {
    let seconds = |status: &Value| {
        let mut enclosures = status["enclosures"].as_array().unwrap().iter();
        let third = enclosures.find(|enclosure| enclosure["id"] == 3);
        third.unwrap()["maintenance_seconds"].as_u64()
    };
    let order = ["enclosure", "maintenance", "3", "--for", "30m"];
    cluster.admin(&order).await.unwrap();
    let status = cluster.status().await;
    assert!(
        (1700..=1800).contains(&seconds(&status).unwrap()),
        "{status}"
    );
    assert!(
        status["warnings"].to_string().contains("maintenance"),
        "{status}"
    );
    let end = ["enclosure", "maintenance", "3", "--end"];
    cluster.admin(&end).await.unwrap();
    assert_eq!(seconds(&cluster.status().await), None);
}

/// What holds nothing any more is taken out for good, and not before.
async fn removal(cluster: &mut Cluster, lost: &str) {
    let refused = cluster.admin(&["enclosure", "remove", "1"]).await;
    assert!(refused.unwrap_err().contains("metadata replicas"));
    cluster.admin(&["drive", "remove", lost]).await.unwrap();
    let refused = cluster.admin(&["enclosure", "remove", "5"]).await;
    assert!(refused.unwrap_err().contains("drain it first"));
    let plan = cluster.admin(&["plan", "remove", "--enclosure", "5"]).await;
    assert!(
        plan.unwrap()["refusals"]
            .to_string()
            .contains("drain it first")
    );
    cluster.admin(&["enclosure", "drain", "5"]).await.unwrap();
    until(|| async { shards_in(cluster, 5).await == 0 }).await;
    settle(cluster).await;
    cluster.admin(&["enclosure", "remove", "5"]).await.unwrap();
    let enclosures = cluster.status().await["enclosures"].clone();
    let mut enclosures = enclosures.as_array().unwrap().iter();
    assert!(enclosures.all(|one| one["id"] != 5));
    cluster.await_health(true).await;
}

/// Objects, until enough volumes are sealed.
async fn write(cluster: &Cluster, client: &Client) -> BTreeMap<String, Vec<u8>> {
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    let mut objects = BTreeMap::new();
    for number in 0..OBJECTS_MAX {
        let (key, body) = (format!("object/{number}"), bytes(number, LEN));
        put(client, BUCKET, &key, &body).await;
        objects.insert(key, body);
        if number % 8 == 0 && sealed(cluster).await >= SEALED {
            return objects;
        }
    }
    panic!("{} volumes are sealed", sealed(cluster).await);
}

async fn sealed(cluster: &Cluster) -> usize {
    let volumes = cluster.admin(&["volume", "list"]).await.unwrap();
    let volumes = volumes.as_array().unwrap().iter();
    volumes.filter(|volume| volume["state"] == "sealed").count()
}

async fn check(client: &Client, objects: &BTreeMap<String, Vec<u8>>) {
    for (key, body) in objects {
        assert!(get(client, BUCKET, key).await == *body, "{key}");
    }
}

async fn moves(cluster: &Cluster) -> Value {
    cluster.admin(&["rebalance", "status"]).await.unwrap()
}

/// Waits until nothing is on its way, and nothing is to be.
async fn settle(cluster: &Cluster) {
    until(|| async {
        let moves = moves(cluster).await;
        moves["under_way"].as_array().unwrap().is_empty() && moves["backlog_bytes"] == 0
    })
    .await;
}

async fn shards_in(cluster: &Cluster, enclosure: u64) -> u64 {
    let drives = cluster.admin(&["drive", "list"]).await.unwrap();
    let drives = drives.as_array().unwrap().iter();
    let here = drives.filter(|drive| drive["enclosure"] == enclosure);
    here.map(|drive| drive["shards"].as_u64().unwrap()).sum()
}

fn folder(cluster: &Cluster, enclosure: u64, slot: u64) -> PathBuf {
    let drives = format!("enclosures/{enclosure}/drives/{slot}");
    cluster.data().join(drives)
}
