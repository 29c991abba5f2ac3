//! Enclosures that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, bytes, eventually, until};
use crate::kept;
use crate::objects::get;

/// With two drives in each of four enclosures that are left, volumes of 4+2 can still be opened.
const PROCESSES: [&str; 3] = ["--processes", "--drives", "2"];

/// One after another, then both down; then started again, one by the clean way.
pub(crate) async fn of_two_enclosures() {
    let mut cluster = Cluster::start(&PROCESSES).await;
    let enclosures = cluster.enclosures();
    assert_eq!(enclosures.len(), 6);
    assert_eq!(
        enclosures
            .iter()
            .filter(|enclosure| enclosure["meta"] == true)
            .count(),
        5
    );
    let client = cluster.client();
    let first = kept::write(&client).await;
    cluster.await_health(true).await;

    let writer = Writer::start(client.clone(), "losses").await;
    cluster.kill(1).await;
    cluster.await_health(false).await;
    writer.await_more(3).await;
    cluster.kill(2).await;
    first.check(&client).await;
    writer.await_more(3).await;
    let status = cluster.status().await;
    assert!(status["reasons"].as_array().unwrap().len() >= 2, "{status}");
    let twice = cluster
        .admin(&["enclosure", "stop", "1"])
        .await
        .unwrap_err();
    assert!(twice.contains("does not run"), "{twice}");

    let started = cluster.admin(&["enclosure", "start", "1"]).await.unwrap();
    assert!(started["pid"].as_u64().is_some(), "{started}");
    cluster.admin(&["enclosure", "start", "2"]).await.unwrap();
    writer.await_more(3).await;
    cluster.await_health(true).await;
    let acked = writer.stop().await;
    check(&client, "losses", acked).await;
    first.check(&client).await;

    cluster.admin(&["enclosure", "stop", "6"]).await.unwrap();
    cluster.await_health(false).await;
    cluster.admin(&["enclosure", "start", "6"]).await.unwrap();
    cluster.await_health(true).await;

    let added = cluster.admin(&["enclosure", "add"]).await.unwrap();
    assert_eq!(added["id"], 7);
    await_volume_on(&cluster, 7).await;
    cluster.stop().await;
    assert!(
        cluster
            .enclosures()
            .iter()
            .all(|enclosure| enclosure["pid"].is_null())
    );
}

/// SIGKILL for the parent and all enclosures while objects are written; then a new start.
pub(crate) async fn of_everything_at_once() {
    let mut cluster = Cluster::start(&PROCESSES).await;
    let client = cluster.client();
    let first = kept::write(&client).await;
    let writer = Writer::start(client, "everything").await;
    writer.await_more(20).await;
    cluster.kill_all().await;
    let acked = writer.stop().await;
    cluster.up().await;
    let client = cluster.client();
    check(&client, "everything", acked).await;
    first.check(&client).await;
    cluster.await_health(true).await;
    cluster.stop().await;
}

/// Waits until a volume has a member on an enclosure.
pub(crate) async fn await_volume_on(cluster: &Cluster, enclosure: u64) {
    let has = || async {
        let status = cluster.status().await;
        let enclosures = status["enclosures"].as_array().unwrap();
        let found = enclosures
            .iter()
            .find(|found| found["id"] == enclosure)
            .unwrap();
        found["shards"].as_u64().unwrap() > 0
    };
    until(has).await;
}

/// Writes one object after another, and counts those that were acked.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    acked: tokio::sync::watch::Receiver<u64>,
    task: JoinHandle<Vec<u64>>,
}

fn body(number: u64) -> Vec<u8> {
    // Inline, shortened and striped ones in turn.
    let size = [5_000, 40_000, 200_000][usize::try_from(number % 3).unwrap()];
    bytes(number, size)
}

impl Writer {
    pub(crate) async fn start(client: Client, bucket: &'static str) -> Self {
        eventually(|| async { client.create_bucket().bucket(bucket).send().await }).await;
        let stop = Arc::new(AtomicBool::new(false));
        let (count, acked) = tokio::sync::watch::channel(0);
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut numbers = Vec::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let stream = ByteStream::from(body(number));
                let put = client
                    .put_object()
                    .bucket(bucket)
                    .key(format!("{number}"))
                    .body(stream);
                if put.send().await.is_ok() {
                    numbers.push(number);
                    count.send_modify(|count| *count += 1);
                }
            }
            numbers
        });
        Self { stop, acked, task }
    }

    /// Waits until so many more were acked.
    pub(crate) async fn await_more(&self, more: u64) {
        let mut acked = self.acked.clone();
        let goal = *acked.borrow() + more;
        let reached = acked.wait_for(|count| *count >= goal);
        let reached = tokio::time::timeout(crate::cluster::PATIENCE, reached).await;
        assert!(reached.is_ok(), "writes go on");
    }

    pub(crate) async fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Whether all of it is there, byte for byte.
pub(crate) async fn check(client: &Client, bucket: &str, acked: Vec<u64>) {
    assert!(!acked.is_empty());
    for number in acked {
        let key = format!("{number}");
        let head = || async { client.head_object().bucket(bucket).key(&key).send().await };
        eventually(head).await;
        assert!(
            get(client, bucket, &key).await == body(number),
            "object {number}"
        );
    }
}
