//! The engine of one drive: appends, each synced before its ack; reads of what the page cache
//! holds,
//! and of what it does not; building the index from a log.
//!
//! `cargo bench -p enfilade-storage-node --bench drive`, in the folder that `ENFILADE_BENCH_DIR`
//! names, or in that of temporary files. `enfilade bench drive --fio` compares with fio.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
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
use tempfile::TempDir;
use tokio::runtime::Runtime;

const KIB: u32 = 1024;
const UNIT: u32 = 64 * KIB;
const DRIVE: DriveId = DriveId::new(1);
const SHARD: ShardKey = ShardKey {
    volume: VolumeId::new(1),
    member: 0,
};
/// Stripes that are there to be read.
const STORED: u32 = 2048;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let runtime = Runtime::new().expect("threads");
    appends(&mut criterion, &runtime);
    reads(&mut criterion, &runtime);
    rebuilds(&mut criterion, &runtime);
    criterion.final_summary();
}

/// A drive in a folder of its own.
struct Drive {
    engine: Arc<Engine>,
    path: PathBuf,
    _folder: TempDir,
}

impl Drive {
    fn new() -> Self {
        let folder = match std::env::var_os("ENFILADE_BENCH_DIR") {
            Some(folder) => TempDir::new_in(folder),
            None => TempDir::new(),
        };
        let folder = folder.expect("a folder");
        let path = folder.path().join("drive");
        let superblock = Superblock {
            revision: 1,
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            drive: DRIVE,
            file_system: 0,
            generation: Generation::new(1),
            pending: None,
        };
        drop(FileDrive::format(&path, &superblock).expect("an empty folder"));
        Self {
            engine: open(&path),
            path,
            _folder: folder,
        }
    }

    /// Appends records of so many bytes from a stripe on, by so many writers at once.
    fn append(&self, runtime: &Runtime, (bytes, writers, each): (u32, u32, u32), first: u32) {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|writer| {
                    let engine = Arc::clone(&self.engine);
                    tokio::spawn(async move {
                        for record in 0..each {
                            let stripes = bytes.div_ceil(UNIT);
                            let append = append_of(writer, first + record * stripes, bytes);
                            let admission = engine.admit(u64::from(bytes)).expect("room");
                            let acked = engine.append(SHARD, append, admission).await;
                            acked.expect("an ack");
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a writer");
            }
        });
    }

    fn log(&self) -> PathBuf {
        let name = format!("shards/{}-{}.log", SHARD.volume, SHARD.member);
        self.path.join(name)
    }
}

/// Opens a drive once whoever had it has let go of it.
fn open(path: &Path) -> Arc<Engine> {
    let settings = Settings {
        drive_queue: ByteSize::mib(128),
        ..Settings::default()
    };
    let host = Host::new(Env::real(), settings);
    loop {
        match FileDrive::open(path, DRIVE) {
            Ok((drive, _)) => {
                break Engine::open(&host, Arc::new(drive), DRIVE, None).expect("a drive");
            }
            Err(enfilade_storage_node::drive::file::OpenError::Locked(_)) => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn append_of(writer: u32, first_stripe: u32, bytes: u32) -> Append {
    let payload = Bytes::from(vec![0x5a; bytes.min(UNIT) as usize]);
    let (count, blob) = (bytes.div_ceil(UNIT), u128::from(writer) + 1);
    let fragment = |stripe| {
        let seed = FragmentSeed {
            volume: SHARD.volume.get(),
            blob,
            stripe,
            index: SHARD.member,
        };
        FragmentHeader {
            len: bytes.min(UNIT),
            checksums: fragment_checksums(seed, &payload).collect(),
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

fn appends(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("append");
    for bytes in [4 * KIB, 64 * KIB, 1024 * KIB] {
        for writers in [1, 16] {
            let (drive, mut next) = (Drive::new(), 0);
            group.throughput(Throughput::Bytes(u64::from(bytes) * u64::from(writers) * 4));
            let name = format!("{} KiB", bytes / KIB);
            group.bench_function(BenchmarkId::new(name, writers), |bench| {
                bench.iter(|| {
                    drive.append(runtime, (bytes, writers, 4), next);
                    next += 4 * bytes.div_ceil(UNIT);
                });
            });
        }
    }
}

fn reads(criterion: &mut Criterion, runtime: &Runtime) {
    let drive = Drive::new();
    drive.append(runtime, (1024 * KIB, 1, STORED / 16), 0);
    let mut group = criterion.benchmark_group("read");
    for bytes in [4 * KIB, 64 * KIB] {
        for readers in [1u32, 16] {
            for cold in [false, true] {
                group.throughput(Throughput::Bytes(
                    u64::from(bytes) * u64::from(readers) * 64,
                ));
                let name = format!("{} KiB {}", bytes / KIB, if cold { "cold" } else { "warm" });
                let mut seed = 1;
                group.bench_function(BenchmarkId::new(name, readers), |bench| {
                    bench.iter_custom(|rounds| {
                        let mut took = Duration::ZERO;
                        for _ in 0..rounds {
                            if cold {
                                forget(&drive.log());
                            }
                            seed += 1;
                            let begun = Instant::now();
                            read(&drive.engine, runtime, (bytes, readers), seed);
                            took += begun.elapsed();
                        }
                        took
                    });
                });
            }
        }
    }
}

/// 64 reads by each reader.
fn read(engine: &Arc<Engine>, runtime: &Runtime, (bytes, readers): (u32, u32), seed: u32) {
    runtime.block_on(async {
        let tasks: Vec<_> = (0..readers)
            .map(|reader| {
                let engine = Arc::clone(engine);
                tokio::spawn(async move {
                    for step in 0..64 {
                        let place = (seed * 64 + step).wrapping_mul(2_654_435_761) ^ reader;
                        let range = FragmentRange {
                            stripe: place.rotate_left(13) % STORED,
                            offset: (place >> 8) % (UNIT / bytes) * bytes,
                            len: bytes,
                        };
                        let read = engine.read(SHARD, BlobId::new(1), vec![range]).await;
                        assert!(read.iter().all(Result::is_ok));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a reader");
        }
    });
}

/// Takes a file out of the page cache.
fn forget(file: &Path) {
    let done = std::process::Command::new("dd")
        .arg(format!("if={}", file.display()))
        .args(["iflag=nocache", "count=0", "status=none"])
        .status();
    assert!(done.is_ok_and(|status| status.success()), "dd");
}

fn rebuilds(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("rebuild the index");
    for (bytes, records) in [(4 * KIB, 1024), (64 * KIB, 64)] {
        let Drive {
            engine,
            path,
            _folder,
        } = {
            let drive = Drive::new();
            drive.append(runtime, (bytes, 16, records), 0);
            drive
        };
        runtime.block_on(engine.close()).expect("a checkpoint");
        drop(engine);
        group.throughput(Throughput::Elements(u64::from(records) * 16));
        group.bench_function(format!("{} KiB", bytes / KIB), |bench| {
            let forget_index = || match fs::remove_dir_all(path.join("index")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            };
            bench.iter_batched(forget_index, |()| open(&path), BatchSize::PerIteration);
        });
    }
}
