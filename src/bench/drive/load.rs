//! A drive of its own, and appends and reads on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use enfilade_cluster::env::Env;
use enfilade_placement::units::ByteSize;
use enfilade_placement::{BlobId, ClusterId, DriveId, Epoch, Generation, Incarnation, VolumeId};
use enfilade_storage_node::api::append::FragmentHeader;
use enfilade_storage_node::api::read::FragmentRange;
use enfilade_storage_node::drive::file::FileDrive;
use enfilade_storage_node::drive::superblock::Superblock;
use enfilade_storage_node::engine::{Append, Engine, ShardKey};
use enfilade_storage_node::erasure::checksum::{FragmentSeed, fragment_checksums};
use enfilade_storage_node::host::Host;
use enfilade_storage_node::settings::Settings;
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Runtime;

use super::{KIB, Pattern};
use crate::bench::noise;

const DRIVE: DriveId = DriveId::new(0xbe7c);
/// Bytes of a fragment; smaller records have one smaller one.
const UNIT: u32 = 64 * KIB;
/// The blob of the first writer.
const FIRST_BLOB: u128 = 1;
/// For how long an engine may take to let go of its drive.
const LET_GO: Duration = Duration::from_secs(30);

/// What appends came to.
pub(super) struct Appended {
    /// MB/s.
    pub(super) rate: f64,
    /// Bytes of fragments in a commit group, on average.
    pub(super) group_bytes: u64,
}

/// A formatted drive and its engine.
pub(super) struct Drive {
    path: PathBuf,
    engine: Arc<Engine>,
    registry: Registry,
}

const fn shard() -> ShardKey {
    ShardKey {
        volume: VolumeId::new(1),
        member: 0,
    }
}

impl Drive {
    /// Formats a new drive in a folder, and opens it.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("drive");
        let superblock = Superblock {
            revision: 1,
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            drive: DRIVE,
            file_system: 0,
            generation: Generation::new(1),
            pending: None,
        };
        drop(FileDrive::format(&path, &superblock)?);
        Self::open(&path)
    }

    /// Opens a drive.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (drive, _) = FileDrive::open(path, DRIVE)?;
        // 64 appends of a MiB at once are to be taken on, not refused.
        let settings = Settings {
            drive_queue: ByteSize::mib(128),
            ..Settings::default()
        };
        let host = Host::new(Env::real(), settings);
        let registry = Registry::new();
        host.metrics().register(&registry)?;
        Ok(Self {
            path: path.to_owned(),
            engine: Engine::open(&host, Arc::new(drive), DRIVE, None)?,
            registry,
        })
    }

    /// Closes the engine; the drive's folder.
    pub(super) fn close(self, runtime: &Runtime) -> Result<PathBuf> {
        runtime.block_on(self.engine.close())?;
        let (mut engine, begun) = (self.engine, Instant::now());
        // The committer holds it until it has answered its last order.
        while let Err(held) = Arc::try_unwrap(engine) {
            if begun.elapsed() > LET_GO {
                bail!("the engine does not let go of {}", self.path.display());
            }
            engine = held;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.path)
    }

    /// Closes the engine, and removes the drive.
    pub(super) fn remove(self, runtime: &Runtime) -> Result<()> {
        let path = self.close(runtime)?;
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The file of its only shard's log.
    pub(super) fn log(&self) -> PathBuf {
        log_in(&self.path)
    }

    /// Appends so many bytes: each writer waits for its ack before it goes on.
    pub(super) fn append(
        &self,
        runtime: &Runtime,
        pattern: Pattern,
        bytes: u64,
    ) -> Result<Appended> {
        let each = bytes / u64::from(pattern.bytes) / u64::from(pattern.at_once);
        let payload = Bytes::from(noise(pattern.bytes.min(UNIT) as usize, 1));
        let writers: Vec<Vec<Append>> = (0..pattern.at_once)
            .map(|writer| {
                let blob = FIRST_BLOB + u128::from(writer);
                (0..each.max(1))
                    .map(|i| request(blob, i, pattern, &payload))
                    .collect()
            })
            .collect();
        let before = self.groups();
        let begun = Instant::now();
        runtime.block_on(async {
            let tasks: Vec<_> = writers
                .into_iter()
                .map(|appends| tokio::spawn(write(Arc::clone(&self.engine), appends)))
                .collect();
            for task in tasks {
                task.await.context("a writer stopped")??;
            }
            anyhow::Ok(())
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = self.groups();
        let moved = each.max(1) * u64::from(pattern.at_once) * u64::from(pattern.bytes);
        let groups = after.saturating_sub(before).max(1);
        Ok(Appended {
            rate: moved as f64 / seconds / 1e6,
            group_bytes: moved / groups,
        })
    }

    /// Ends the log with a small record, which proves that all before it is synced.
    pub(super) fn prove(&self, runtime: &Runtime) -> Result<()> {
        Ok(runtime.block_on(self.engine.mark(shard(), Vec::new()))?)
    }

    /// How many groups there were.
    fn groups(&self) -> u64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "enfilade_storage_node_group_records");
        family
            .and_then(|family| family.get_metric().first())
            .map_or(0, |metric| metric.get_histogram().get_sample_count())
    }

    /// Reads so many bytes of what one writer appended in records of whole fragments; MB/s.
    pub(super) fn read(
        &self,
        runtime: &Runtime,
        in_order: bool,
        pattern: Pattern,
        (bytes, round): (u64, u32),
    ) -> Result<f64> {
        let log = std::fs::metadata(self.log())?.len();
        // A little less than the log has, which has headers too.
        let stripes = u32::try_from(log / u64::from(UNIT) * 63 / 64)?;
        let each = bytes / u64::from(pattern.bytes) / u64::from(pattern.at_once);
        let begun = Instant::now();
        runtime
            .block_on(async {
                let tasks: Vec<_> = (0..pattern.at_once)
                    .map(|reader| {
                        let mut random = StdRng::seed_from_u64(u64::from(round * 1000 + reader));
                        let places = (0..each)
                            .map(|i| match in_order {
                                true => i % u64::from(stripes) * u64::from(pattern.bytes),
                                false => {
                                    let places =
                                        u64::from(stripes) * u64::from(UNIT / pattern.bytes);
                                    random.random_range(0..places) * u64::from(pattern.bytes)
                                }
                            })
                            .collect();
                        tokio::spawn(fetch(Arc::clone(&self.engine), places, pattern.bytes))
                    })
                    .collect();
                let mut moved = 0;
                for task in tasks {
                    moved += task.await.context("a reader stopped")??;
                }
                anyhow::Ok(moved)
            })
            .map(|moved: u64| moved as f64 / begun.elapsed().as_secs_f64() / 1e6)
    }
}

/// The log in a drive's folder.
pub(super) fn log_in(drive: &Path) -> PathBuf {
    let key = shard();
    drive.join(format!("shards/{}-{}.log", key.volume, key.member))
}

fn request(blob: u128, number: u64, pattern: Pattern, payload: &Bytes) -> Append {
    let count = pattern.bytes.div_ceil(UNIT);
    let first_stripe = u32::try_from(number).unwrap_or(u32::MAX) * count;
    let fragment = |stripe| {
        let seed = FragmentSeed {
            volume: shard().volume.get(),
            blob,
            stripe,
            index: shard().member,
        };
        FragmentHeader {
            len: pattern.bytes.min(UNIT),
            checksums: fragment_checksums(seed, payload).collect(),
        }
    };
    Append {
        epoch: Epoch::new(1),
        blob: BlobId::new(blob),
        first_stripe,
        fragments: (first_stripe..first_stripe + count).map(fragment).collect(),
        owner: None,
        marks: Vec::new(),
        payload: vec![payload.clone(); count as usize],
    }
}

async fn write(engine: Arc<Engine>, appends: Vec<Append>) -> Result<()> {
    for append in appends {
        let bytes = append.payload.iter().map(|bytes| bytes.len() as u64).sum();
        let admission = engine.admit(bytes)?;
        engine.append(shard(), append, admission).await?;
    }
    Ok(())
}

/// Reads ranges of the first writer's blob, whose bytes are counted from its beginning.
async fn fetch(engine: Arc<Engine>, places: Vec<u64>, bytes: u32) -> Result<u64> {
    let mut moved = 0;
    for place in places {
        let mut ranges = Vec::new();
        let mut at = place;
        while at < place + u64::from(bytes) {
            let offset = u32::try_from(at % u64::from(UNIT))?;
            let len = (UNIT - offset).min(bytes);
            ranges.push(FragmentRange {
                stripe: u32::try_from(at / u64::from(UNIT))?,
                offset,
                len,
            });
            at += u64::from(len);
        }
        for answer in engine.read(shard(), BlobId::new(FIRST_BLOB), ranges).await {
            moved += answer?.bytes.len() as u64;
        }
    }
    Ok(moved)
}

/// Takes a file out of the page cache, as fio does before it reads one.
pub(super) fn forget_cached(file: &Path) -> Result<()> {
    let done = Command::new("dd")
        .arg(format!("if={}", file.display()))
        .args(["iflag=nocache", "count=0", "status=none"])
        .status()
        .context("cannot run dd")?;
    if !done.success() {
        bail!("dd cannot take {} out of the page cache", file.display());
    }
    Ok(())
}
