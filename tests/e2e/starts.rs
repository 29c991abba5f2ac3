//! How the program starts, and how it refuses to.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::cluster::{Cluster, files_in, lives, program, run, until};

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it must not start");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn up(data: &str, flags: &[&str]) -> Output {
    let basis = [
        "up",
        "--data",
        data,
        "--s3",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    run(&[&basis, flags].concat()).await
}

pub(crate) async fn are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let text = data.to_str().unwrap();
    let wide = complaint(&up(text, &["--profile", "8+4", "--enclosures", "2"]).await);
    assert!(wide.contains("profile 8+4 needs 12 drives"), "{wide}");
    let odd = complaint(&up(text, &["--profile", "4-2"]).await);
    assert!(odd.contains("4-2"), "{odd}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&[
        "up",
        "--data",
        text,
        "--s3",
        &address,
        "--admin",
        "127.0.0.1:0",
    ])
    .await;
    let port = complaint(&output);
    assert!(
        port.contains(&format!("cannot serve S3 on {address}")),
        "{port}"
    );
    assert!(!data.exists(), "nothing was made");

    std::fs::write(folder.path().join("file"), b"mine").unwrap();
    let file = folder.path().join("file/data");
    let below_a_file = complaint(&up(file.to_str().unwrap(), &[]).await);
    assert!(below_a_file.contains("file/data"), "{below_a_file}");
    let foreign = complaint(&up(folder.path().to_str().unwrap(), &[]).await);
    assert!(foreign.contains("not empty"), "{foreign}");
    assert_eq!(files_in(folder.path()), 1);

    let nobody = run(&["status", "--admin", "http://127.0.0.1:1"]).await;
    assert!(complaint(&nobody).contains("does not answer"));
    let config = folder.path().join("file");
    let config = run(&["node", "--config", config.to_str().unwrap()]).await;
    assert!(complaint(&config).contains("file"));
    let mut lonely = program(&["up", "--data", text]);
    lonely.env_remove("ENFILADE_ROOT_PASSWORD");
    let lonely = lonely.output().await.unwrap();
    assert!(complaint(&lonely).contains("ENFILADE_ROOT_PASSWORD is not"));
}

pub(crate) async fn are_exclusive() {
    let mut cluster = Cluster::start(&["--processes", "--drives", "1"]).await;
    let data = cluster.data();
    let text = data.to_str().unwrap();
    let second = complaint(&up(text, &[]).await);
    assert!(
        second.contains(&format!("in use by process {}", cluster.parent_pid())),
        "{second}"
    );

    // One child is held: its standard input stays open here when its parent is gone.
    let enclosures = cluster.enclosures();
    let held = u32::try_from(enclosures[3]["pid"].as_u64().unwrap()).unwrap();
    let others: Vec<u32> = enclosures
        .iter()
        .map(|enclosure| u32::try_from(enclosure["pid"].as_u64().unwrap()).unwrap())
        .filter(|pid| *pid != held)
        .collect();
    let input = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{held}/fd/0"))
        .unwrap();
    kill("-KILL", cluster.parent_pid());
    until(|| async { !others.iter().any(|pid| lives(*pid)) }).await;
    let survivor = complaint(&up(text, &[]).await);
    assert!(
        survivor.contains("still live") && survivor.contains(&held.to_string()),
        "{survivor}"
    );
    drop(input);
    until(|| async { !lives(held) }).await;
    cluster.abandon().await;
    cluster.up().await;
    cluster.await_health(true).await;
    for secret in ["token", "credentials"] {
        let Ok(file) = std::fs::metadata(data.join(secret)) else {
            continue;
        };
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{secret}");
    }
    cluster.stop().await;
}

fn kill(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.unwrap().success(), "kill {signal} {pid}");
}
