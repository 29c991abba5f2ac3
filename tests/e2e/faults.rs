//! Drives that fail under a running cluster: the status tells which, and why, and nothing is lost.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::cluster::{Cluster, files_in, until};
use crate::drives::{await_state, drive_in, folder};
use crate::kept;
use crate::losses::{self, Writer};

/// A file system of its own for one drive, in a file that can be cut short: what was in the part
/// that is gone cannot be read any more, as on a device with bad sectors.
struct Device {
    image: PathBuf,
    mount: PathBuf,
}

async fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output().await;
    output.is_ok_and(|output| output.status.success())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Device {
    /// Puts a drive that nobody serves on a file system of its own; none without the right to.
    async fn under(drive: &Path, image: PathBuf) -> Option<Self> {
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(1 << 30).unwrap();
        let aside = drive.with_extension("aside");
        std::fs::rename(drive, &aside).unwrap();
        std::fs::create_dir(drive).unwrap();
        let (at, from) = (text(drive), format!("{}/.", text(&aside)));
        let options = "loop,errors=continue";
        let made = succeeds("mkfs.ext4", &["-q", "-O", "^has_journal", text(&image)]).await
            && succeeds("mount", &["-o", options, text(&image), at]).await;
        if !made {
            std::fs::remove_dir(drive).unwrap();
            std::fs::rename(&aside, drive).unwrap();
            return None;
        }
        let mount = drive.to_owned();
        let device = Self { image, mount };
        assert!(succeeds("cp", &["-a", &from, at]).await);
        std::fs::remove_dir_all(&aside).unwrap();
        Some(device)
    }

    /// From now on reads fail with EIO; what the system has cached is forgotten.
    async fn fail(&self) -> bool {
        assert!(succeeds("sync", &["-f", text(&self.mount)]).await);
        let image = std::fs::File::options().write(true).open(&self.image);
        image.unwrap().set_len(64 * 1024).unwrap();
        // The device is told that it is smaller now; else it gives zeros.
        let of = ["-n", "-O", "NAME", "-j", text(&self.image)];
        let Ok(device) = Command::new("losetup").args(of).output().await else {
            return false;
        };
        let device = String::from_utf8_lossy(&device.stdout).trim().to_owned();
        succeeds("losetup", &["-c", &device]).await
            && std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
    }

    /// Pulls it out.
    async fn unplug(&self) {
        assert!(succeeds("umount", &["-l", text(&self.mount)]).await);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["-q", "-l", text(&self.mount)])
            .output();
    }
}

async fn reasons(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status().await;
    let reasons = status["reasons"].as_array().unwrap().iter();
    reasons
        .map(|reason| reason.as_str().unwrap().to_owned())
        .collect()
}

/// Waits until the status has a reason with all these words.
async fn await_reason(cluster: &Cluster, words: &[&str]) {
    until(|| async {
        let reasons = reasons(cluster).await;
        let mut reasons = reasons.iter();
        reasons.any(|reason| words.iter().all(|word| reason.contains(word)))
    })
    .await;
}

fn id(drive: &Value) -> &str {
    drive["id"].as_str().unwrap()
}

/// Another drive, and an old copy of a third, in the place of a drive.
async fn another_drive_in_its_place(cluster: &Cluster, stale: &Path) {
    let (lost, third) = (drive_in(cluster, 3, 0).await, drive_in(cluster, 2, 1).await);
    let (lost, third) = (lost.unwrap(), third.unwrap());
    let (place, aside) = (folder(cluster, 3, 0), cluster.data().join("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::fs::rename(stale, &place).unwrap();
    await_state(cluster, (3, 0), &lost["id"], "foreign").await;
    let holds = format!("holds drive {}", id(&third));
    await_reason(cluster, &[id(&lost), "is foreign", &holds]).await;
    await_reason(cluster, &["ALARM", id(&third), "enclosure 3"]).await;
    let shown = drive_in(cluster, 3, 0).await.unwrap();
    assert!(
        shown["reason"].as_str().unwrap().contains(&holds),
        "{shown}"
    );
    // The right one of the two is served all the time.
    let shown = drive_in(cluster, 2, 1).await.unwrap();
    assert_eq!(
        (&shown["state"], &shown["generation"]),
        (&"healthy".into(), &third["generation"])
    );
    assert_eq!(shown["twins"].as_array().unwrap().len(), 1, "{shown}");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    await_state(cluster, (3, 0), &lost["id"], "healthy").await;
    until(|| async {
        let shown = drive_in(cluster, 2, 1).await.unwrap();
        shown["twins"].as_array().unwrap().is_empty()
    })
    .await;
}

/// Bad sectors, then pulled out, then another one in its slot.
async fn bad_sectors(cluster: &Cluster, device: &Device) -> bool {
    let sick = drive_in(cluster, 1, 1).await.unwrap();
    if !device.fail().await {
        return false;
    }
    await_state(cluster, (1, 1), &sick["id"], "failing").await;
    await_reason(cluster, &[id(&sick), "is failing", "os error 5"]).await;
    device.unplug().await;
    let place = folder(cluster, 1, 1);
    assert_eq!(files_in(&place), 0);
    await_state(cluster, (1, 1), &sick["id"], "gone").await;
    assert_eq!(files_in(&place), 0, "nothing is initialised there");
    let new = cluster
        .admin(&["drive", "replace", id(&sick), text(&place)])
        .await
        .unwrap();
    await_state(cluster, (1, 1), &new["drive"], "healthy").await;
    true
}

pub(crate) async fn of_drives_are_told_and_lose_nothing() {
    let mut cluster = Cluster::start(&[]).await;
    let first = kept::write(&cluster.client()).await;
    cluster.await_health(true).await;
    // A copy of a drive as an operator may have made it, older than its last attachment.
    let stale = cluster.data().join("stale");
    std::fs::create_dir(&stale).unwrap();
    for name in ["superblock", "superblock.copy"] {
        std::fs::copy(folder(&cluster, 2, 1).join(name), stale.join(name)).unwrap();
    }
    cluster.stop().await;
    let image = cluster.data().join("image");
    let device = Device::under(&folder(&cluster, 1, 1), image).await;
    cluster.up().await;
    let client = cluster.client();
    cluster.await_health(true).await;
    let writer = Writer::start(client.clone(), "faults").await;
    writer.await_more(20).await;

    another_drive_in_its_place(&cluster, &stale).await;
    first.check(&client).await;
    writer.await_more(10).await;
    cluster.await_health(true).await;

    let failed = match &device {
        Some(device) => bad_sectors(&cluster, device).await,
        None => false,
    };
    if !failed {
        println!("skipped: failing reads need the right to mount");
    }
    first.check(&client).await;
    writer.await_more(10).await;
    let acked = writer.stop().await;
    losses::check(&client, "faults", acked).await;
    cluster.stop().await;
}
