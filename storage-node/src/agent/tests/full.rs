//! A file system that has no room left.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::drive::file::FileDrive;

const LEN: u32 = 64 * 1024;
const STRIPES: u32 = 16;

/// A small file system; unmounted when this is dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96m", "enfilade-test"]);
        let mounted = mount.arg(&at).output().ok()?;
        mounted.status.success().then_some(Self(at))
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

struct Bay {
    root: Arc<FakeRoot>,
    node: Arc<StorageNode>,
    agent: Agent,
}

impl Bay {
    /// A node with one drive, the first member of a volume.
    async fn start(folder: &Path) -> Self {
        let root = Arc::new(FakeRoot::default());
        let members = vec![Some(DRIVES[0]), None, None];
        let volume = volume(1, VolumeState::Open);
        root.set_volume(Volume { members, ..volume });
        drop(FileDrive::format(folder, &block(DRIVES[0])).unwrap());
        let metadata: Arc<dyn MetadataClient> = Arc::clone(&root) as Arc<dyn MetadataClient>;
        let settings = Settings {
            compact_interval: Duration::from_millis(10),
            ..fast()
        };
        let host = Host::new(Env::seeded(3), settings);
        let node = StorageNode::new(host, identity(), Arc::clone(&metadata));
        let spec = DriveSpec::folder(DRIVES[0], 0, folder.to_owned(), None);
        let nodes = Arc::new(crate::client::in_process::LocalNodes::default());
        let mut agent = Agent::start(Arc::clone(&node), metadata, nodes, vec![spec]);
        agent.ready().await;
        Self { root, node, agent }
    }

    fn at(&self) -> ShardAddress {
        ShardAddress {
            cluster: CLUSTER,
            incarnation: Incarnation::new(1),
            drive: DRIVES[0],
            generation: self.root.generation(DRIVES[0]),
            volume: VOLUME,
            epoch: Epoch::FIRST,
            member: 0,
        }
    }

    async fn append(&self, blob: u128) -> Result<(), ShardError> {
        let fragments = sample(0..STRIPES, LEN);
        let request = append_of(self.at(), BlobId::new(blob), 0, &fragments);
        self.node.append(request).await.map(|_| ())
    }

    /// Appends blobs of 1 MiB behind the last one that was acked, until the drive is full. The
    /// index gives room back now and then, so that one more may fit after one was refused.
    async fn fill(&self, acked: &mut u128) {
        until(async || {
            let refused = loop {
                match self.append(*acked + 1).await {
                    Ok(()) => *acked += 1,
                    Err(error) => break error,
                }
            };
            refused == ShardError::Full && self.condition().state == DriveState::Full
        })
        .await;
    }

    async fn reads(&self, blob: u128) -> bool {
        let ranges = vec![crate::api::read::FragmentRange {
            stripe: 3,
            offset: 0,
            len: LEN,
        }];
        let request = crate::api::read::ReadRequest::get(self.at(), BlobId::new(blob), ranges);
        let Ok(answers) = self.node.read(request).await else {
            return false;
        };
        answers[0].as_ref() == Ok(&sample(0..STRIPES, LEN)[3])
    }

    fn condition(&self) -> Condition {
        self.agent.conditions().remove(&DRIVES[0]).unwrap()
    }
}

#[tokio::test]
async fn a_file_system_that_is_full_stays_readable_and_recovers_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(folder.path().join("bay")) else {
        println!("skipped: a small file system needs the right to mount");
        return;
    };
    let bay = Bay::start(&mount.0.join("drive")).await;
    let mut acked = 0;
    bay.fill(&mut acked).await;
    assert!(acked > 70, "{acked} MiB");
    let reason = bay.condition().reason.unwrap();
    assert!(reason.contains("bytes are in use"), "{reason}");
    assert!(
        bay.node.engines()[0].fill().unwrap().used < 96 << 20,
        "its reserve is left"
    );

    // Somebody else takes the rest, for a while. Nothing that was acked suffers.
    let ballast = mount.fill();
    assert!(bay.append(acked + 1).await.is_err());
    std::fs::remove_file(ballast).unwrap();
    bay.fill(&mut acked).await;
    for blob in 1..=acked {
        until(async || bay.reads(blob).await).await;
    }

    // Deletes are taken, their room is given back, and appends are taken again.
    let key = ShardKey {
        volume: VOLUME,
        member: 0,
    };
    let entry = |blob: u128| GarbageEntry {
        sequence: u64::try_from(blob).unwrap(),
        volume: VOLUME,
        member: 0,
        blob: BlobId::new(blob),
    };
    let dropped = (1..=acked).filter(|blob| blob % 8 != 0);
    bay.root.add_garbage(dropped.map(entry).collect());
    until(async || bay.root.garbage_left() == 0).await;
    until(async || bay.condition().state == DriveState::Healthy).await;
    for blob in (1..=acked).filter(|blob| blob % 8 == 0) {
        assert!(bay.reads(blob).await, "{blob}");
    }
    until(async || bay.append(1000).await.is_ok()).await;
    assert!(bay.reads(1000).await);
    let stats = bay.node.engines()[0].shard_stats(key).unwrap();
    assert!(stats.live < 16 << 20, "{stats:?}");
    bay.agent.shutdown().await;
}
