//! Metadata replicas: an enclosure that held some is lost for good, others follow.

use serde_json::Value;

use crate::cluster::{Cluster, bytes, eventually, until};
use crate::objects::{get, put};

const BUCKET: &str = "replicas";

/// Kept inside records: what is shown does not depend on drives.
const LEN: usize = 1000;

fn ids(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap().iter();
    list.map(|id| id.as_u64().unwrap()).collect()
}

/// Whether all groups have so many voters that all answer, none in an enclosure that is named, and
/// nothing is under way.
async fn settled(cluster: &Cluster, voters: usize, without: &[u64]) -> bool {
    let Ok(groups) = cluster.admin(&["partition", "list"]).await else {
        return false;
    };
    let groups = groups.as_array().unwrap();
    groups.iter().all(|group| {
        let there = ids(&group["voters"]);
        let still = ids(&group["moving_to"]).is_empty() && ids(&group["learners"]).is_empty();
        let all = ids(&group["silent"]).is_empty() && group["leader"].is_u64();
        still && all && there.len() == voters && !there.iter().any(|id| without.contains(id))
    })
}

pub(crate) async fn are_replaced_grow_and_move() {
    let flags = [
        "--processes",
        "--drives",
        "2",
        "--profile",
        "2+1",
        "--enclosures",
        "4",
    ];
    let mut cluster = Cluster::start(&flags).await;
    let client = cluster.client();
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    let key = |number: u64| format!("key-{number}");
    for number in 0..50 {
        put(&client, BUCKET, &key(number), &bytes(number, LEN)).await;
    }
    until(|| settled(&cluster, 3, &[])).await;
    let list = cluster.admin(&["partition", "list"]).await.unwrap();
    assert_eq!(list[1]["objects"], 50, "{list}");

    // An enclosure goes for good: another takes its place, and then one more may go.
    let lost = ids(&list[0]["voters"])[0];
    let gone = [lost];
    cluster.kill(lost).await;
    let id = lost.to_string();
    until(|| async {
        let out = cluster.admin(&["enclosure", "out", &id]).await;
        out.is_ok()
    })
    .await;
    until(|| settled(&cluster, 3, &gone)).await;
    let more = (1..=4).find(|id| *id != lost).unwrap();
    cluster.kill(more).await;
    let write = || async {
        let body = bytes(50, LEN).into();
        let put = client.put_object().bucket(BUCKET).key(key(50));
        put.body(body).send().await
    };
    eventually(write).await;
    for number in 0..=50 {
        let got = get(&client, BUCKET, &key(number)).await;
        assert!(got == bytes(number, LEN), "object {number}");
    }
    cluster
        .admin(&["enclosure", "start", &more.to_string()])
        .await
        .unwrap();
    until(|| settled(&cluster, 3, &gone)).await;

    // What was given up comes back empty-handed, and disturbs nobody.
    cluster.admin(&["enclosure", "start", &id]).await.unwrap();
    until(|| settled(&cluster, 3, &gone)).await;

    // An enclosure that is added takes a replica over by command.
    cluster.admin(&["enclosure", "add"]).await.unwrap();
    let (from, group) = (more.to_string(), "1");
    cluster
        .admin(&["partition", "move", group, "--from", &from, "--to", "5"])
        .await
        .unwrap();
    until(|| async {
        let list = cluster.admin(&["partition", "list"]).await.unwrap();
        let voters = ids(&list[1]["voters"]);
        voters.contains(&5) && !voters.contains(&more) && ids(&list[1]["moving_to"]).is_empty()
    })
    .await;
    for number in 0..=50 {
        let got = get(&client, BUCKET, &key(number)).await;
        assert!(got == bytes(number, LEN), "object {number}");
    }
    cluster.stop().await;
}
