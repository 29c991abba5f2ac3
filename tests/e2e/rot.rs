//! Bits that flip on drives while the program runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, bytes, until};
use crate::objects::{get, put};

const REBUILT: &str = "enfilade_storage_node_rebuilt_fragments_total";
const DEGRADED: &str = "enfilade_gateway_degraded_stripes_total";

/// Found by a reader, entered, rebuilt from the others, closed; the reader never sees wrong bytes.
pub(crate) async fn is_repaired_under_a_running_cluster() {
    let mut cluster = Cluster::start(&[]).await;
    let client = cluster.client();
    client.create_bucket().bucket("rot").send().await.unwrap();
    let body = bytes(17, 9_000_000);
    put(&client, "rot", "object", &body).await;
    cluster.await_health(true).await;

    // One byte a member, each in another stripe.
    let logs = longest_volume(&cluster.data());
    assert_eq!(logs.len(), 6);
    for (member, log) in (0u64..).zip(&logs) {
        flip(log, 100_000 + member * 70_000);
    }
    assert!(get(&client, "rot", "object").await == body);
    // The reader met those of the four members that hold data.
    until(|| async { metric(cluster.admin, REBUILT).await >= 4 }).await;
    cluster.await_health(true).await;
    let degraded = metric(cluster.admin, DEGRADED).await;
    assert!(degraded >= 4, "{degraded}");
    assert!(get(&client, "rot", "object").await == body);
    assert_eq!(metric(cluster.admin, DEGRADED).await, degraded);

    // A whole log goes: nobody needs to read it for that to be noticed.
    let rebuilt = metric(cluster.admin, REBUILT).await;
    std::fs::remove_file(&logs[5]).unwrap();
    until(|| async { metric(cluster.admin, REBUILT).await > rebuilt + 10 }).await;
    cluster.await_health(true).await;
    assert!(logs[5].exists());

    cluster.stop().await;
    cluster.up().await;
    assert!(get(&cluster.client(), "rot", "object").await == body);
    cluster.await_health(true).await;
    cluster.stop().await;
}

/// The logs of the volume that has the longest, by member.
fn longest_volume(data: &Path) -> Vec<PathBuf> {
    let mut volumes: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    let mut longest = (0, String::new());
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let shard = name.strip_suffix(".log").and_then(|n| n.split_once('-'));
            let Some((volume, member)) =
                shard.filter(|_| path.parent().unwrap().ends_with("shards"))
            else {
                continue;
            };
            longest = longest.max((path.metadata().unwrap().len(), volume.to_owned()));
            let members = volumes.entry(volume.to_owned()).or_default();
            members.insert(member.to_owned(), path);
        }
    }
    volumes[&longest.1].values().cloned().collect()
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// The sum of a metric as a process shows it.
async fn metric(admin: SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let of_it = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let values = answer.lines().filter(of_it);
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    values.map(value).sum()
}
