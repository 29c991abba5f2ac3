//! An index that is built from the logs is the one that was there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::Owner;
use crate::drive::file::FileDrive;
use crate::drive::superblock::Superblock;
use crate::engine::index::{Row, format};
use crate::engine::rows::{BlobRow, ShardRow};

#[derive(Debug, Clone)]
enum Op {
    Append {
        shard: u8,
        blob: u8,
        first: u32,
        count: u32,
        owned: bool,
    },
    Delete(u8, u8),
    DeleteRun(u8, u8, u32),
    Mark(u8, u8),
    Fence(u8),
    Rot(u8, u8, u32),
    Drop(u8),
    Reclaim,
}

fn op() -> impl Strategy<Value = Op> {
    let append = (0..3u8, 0..4u8, 0..9u32, 1..6u32, any::<bool>());
    prop_oneof![
        6 => append.prop_map(|(shard, blob, first, count, owned)| {
            Op::Append { shard, blob, first, count, owned }
        }),
        2 => (0..3u8, 0..4u8).prop_map(|(s, b)| Op::Delete(s, b)),
        2 => (0..3u8, 0..4u8, 0..12u32).prop_map(|(s, b, n)| Op::DeleteRun(s, b, n)),
        2 => (0..3u8, 0..4u8).prop_map(|(s, b)| Op::Mark(s, b)),
        1 => (0..3u8).prop_map(Op::Fence),
        2 => (0..3u8, 0..4u8, 0..12u32).prop_map(|(s, b, n)| Op::Rot(s, b, n)),
        1 => (0..3u8).prop_map(Op::Drop),
        1 => Just(Op::Reclaim),
    ]
}

fn blob_id(blob: u8) -> BlobId {
    BlobId::new(u128::from(blob) + 1)
}

async fn act(rig: &Rig, epochs: &mut BTreeMap<u8, u64>, op: Op) {
    let at = |shard: u8| key(u64::from(shard), shard % 2);
    match op {
        Op::Append {
            shard,
            blob,
            first,
            count,
            owned,
        } => {
            let epoch = epochs.get(&shard).copied().unwrap_or(1);
            let stripes = first..first + count;
            let mut append = append_of(at(shard), epoch, u128::from(blob) + 1, stripes);
            append.owner = owned.then(|| Owner {
                at: enfilade_cluster::api::key::ObjectKey::new(
                    enfilade_placement::BucketId::new(1),
                    format!("key-{blob}"),
                ),
                upload: None,
            });
            let admission = rig.engine.admit(1).unwrap();
            rig.engine
                .append(at(shard), append, admission)
                .await
                .unwrap();
        }
        Op::Delete(shard, blob) => {
            let blob = blob_id(blob);
            rig.engine
                .delete(at(shard), blob, Vec::new())
                .await
                .unwrap();
        }
        Op::DeleteRun(shard, blob, stripe) => {
            let run = vec![(stripe, stripe + 1)];
            rig.engine
                .delete(at(shard), blob_id(blob), run)
                .await
                .unwrap();
        }
        Op::Mark(shard, blob) => {
            let marks = vec![blob_id(blob)];
            rig.engine.mark(at(shard), marks).await.unwrap();
        }
        Op::Fence(shard) => {
            let epoch = epochs.get(&shard).copied().unwrap_or(1) + 1;
            epochs.insert(shard, epoch);
            rig.engine
                .fence(at(shard), Epoch::new(epoch))
                .await
                .unwrap();
        }
        Op::Rot(shard, blob, stripe) => {
            if let Some((file, place)) = rig.engine.locate(at(shard), blob_id(blob), stripe) {
                rig.drive.rot(&file, place);
                let _ = rig.read(at(shard), u128::from(blob) + 1, stripe).await;
            }
        }
        Op::Drop(shard) => {
            rig.engine.drop_shard(at(shard)).await.unwrap();
            epochs.remove(&shard);
        }
        Op::Reclaim => rig.engine.reclaim_all().await.unwrap(),
    }
}

/// All rows but those that tell of this index's own life: how long the drive was served, when a
/// blob was first seen by that clock, when shards were scrubbed, what was given back to the file
/// system.
fn rows(index: &dyn Index) -> BTreeMap<Vec<u8>, Vec<u8>> {
    use enfilade_cluster::api::encoding::{decode, encode};
    let plain = |(key, value): Row| {
        let value = match key[0] {
            b'c' | b'p' | b'v' => return None,
            b's' => encode(&ShardRow {
                punched: 0,
                ..decode(&value).unwrap()
            }),
            b'm' => encode(&BlobRow {
                seen_ms: 0,
                ..decode(&value).unwrap()
            }),
            _ => value,
        };
        Some((key, value))
    };
    let all = index.scan(&[], &[0xff], usize::MAX).unwrap();
    all.into_iter().filter_map(plain).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("ENFILADE_SOAK").is_some() { 5_000 } else { 150 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_rebuilt_index_has_the_rows_of_the_old_one(
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::new();
            let mut epochs = BTreeMap::new();
            for op in ops {
                act(&rig, &mut epochs, op).await;
            }
            rig.settle().await;
            let old = rows(rig.index.as_ref());
            rig.reopen_without_index().await;
            assert_eq!(rows(rig.index.as_ref()), old);
        });
    }
}

struct Folder {
    _temporary: tempfile::TempDir,
    path: std::path::PathBuf,
    host: Host,
}

impl Folder {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("drive");
        let superblock = Superblock {
            revision: 1,
            cluster: enfilade_placement::ClusterId::new(1),
            incarnation: enfilade_placement::Incarnation::new(1),
            drive: DRIVE,
            file_system: 0,
            generation: enfilade_placement::Generation::new(1),
            pending: None,
        };
        drop(FileDrive::format(&path, &superblock).unwrap());
        Self {
            _temporary: temporary,
            path,
            host: Host::new(Env::seeded(7), Settings::default()),
        }
    }

    /// The drive; the committer may still be about to let go of the last one.
    fn drive(&self) -> Arc<dyn Drive> {
        loop {
            match FileDrive::open_any(&self.path) {
                Err(crate::drive::file::OpenError::Locked(_)) => std::thread::yield_now(),
                opened => break Arc::new(opened.unwrap().0),
            }
        }
    }

    async fn append(&self, blob: u128, stripes: std::ops::Range<u32>) {
        let engine = Engine::open(&self.host, self.drive(), DRIVE, None).unwrap();
        let append = append_of(key(1, 0), 1, blob, stripes);
        let admission = engine.admit(1).unwrap();
        engine.append(key(1, 0), append, admission).await.unwrap();
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_index_on_rocksdb_is_rebuilt_whole_and_says_what_it_found() {
    let folder = Folder::new();
    folder.append(2, 0..5).await;
    folder.append(3, 0..2).await;
    // What nothing in a log explains goes.
    {
        // The engine's index is closed before its drive is unlocked.
        let _locked = folder.drive();
        let path = folder.path.join("index");
        let index = index::rocks::RocksIndex::open(&path, &folder.host.index_memory).unwrap();
        let mut batch = index::Batch::default();
        batch.put(b"r-a-row-of-nobody".to_vec(), vec![9]);
        index.write(batch).unwrap();
        index.flush().unwrap();
    }
    let rebuilt = Engine::rebuild_index(&folder.host, folder.drive(), DRIVE).unwrap();
    let bytes = (0..5).map(|stripe| fragment(2, stripe));
    let bytes = bytes.chain((0..2).map(|stripe| fragment(3, stripe)));
    let expected = Rebuilt {
        shards: 1,
        records: 2,
        fragments: 7,
        bytes: bytes.map(|fragment| fragment.len() as u64).sum(),
        ..Rebuilt::default()
    };
    // A clean end may write one more record, which proves what is synced.
    assert_eq!(
        Rebuilt {
            records: 2,
            ..rebuilt
        },
        expected
    );
    let path = folder.path.join("index");
    let index = index::rocks::RocksIndex::open(&path, &folder.host.index_memory).unwrap();
    assert!(index.get(b"r-a-row-of-nobody").unwrap().is_none());
    assert!(!rows(&index).is_empty());
}

#[tokio::test]
async fn an_index_of_a_newer_program_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    folder.append(2, 0..5).await;
    let drive = folder.drive();
    format::store_newer(drive.as_ref());
    // Even when it is said to be damaged.
    drive.open(DAMAGED_INDEX, Open::New).unwrap();
    let files = || {
        let entries = std::fs::read_dir(folder.path.join("index")).unwrap();
        let entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name(), entry.metadata().unwrap().len())
        };
        entries.map(entry).collect::<BTreeMap<_, _>>()
    };
    let before = files();
    let opened = Engine::open(&folder.host, Arc::clone(&drive), DRIVE, None);
    let rebuilt = Engine::rebuild_index(&folder.host, drive, DRIVE);
    for error in [opened.err(), rebuilt.err()] {
        let Some(EngineOpenError::Newer(text)) = error else {
            panic!("{error:?}")
        };
        assert_eq!(text, "written by a newer program: an index of version 2");
    }
    assert_eq!(files(), before);
}

#[tokio::test]
async fn a_record_of_a_newer_program_stops_the_drive_and_stays() {
    let rig = Rig::new();
    rig.append(key(1, 0), 1, 2, 0..4).await.unwrap();
    rig.append(key(1, 0), 1, 3, 0..4).await.unwrap();
    rig.settle().await;
    let file = key(1, 0).file();
    let bytes = rig.drive.content(&file).unwrap();
    let at = usize::try_from(log::HEAD_LEN).unwrap();
    let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    let mut header = bytes[at..at + len].to_vec();
    header[4] = 2;
    let incarnation: [u8; 8] = header[16..24].try_into().unwrap();
    let sum = record::header_crc(
        u64::from_le_bytes(incarnation),
        log::HEAD_LEN,
        &header[..len - 4],
    );
    header[len - 4..].copy_from_slice(&sum.to_le_bytes());
    let open = rig.drive.replug().open(&file, Open::Existing).unwrap();
    open.write_at(log::HEAD_LEN, &[std::io::IoSlice::new(&header)])
        .unwrap();
    let before = rig.drive.content(&file);
    let index = Arc::new(MemoryIndex::crashable());
    let opened = Rig::open(&rig.host, &rig.drive, &index);
    let Err(EngineOpenError::Newer(text)) = opened else {
        panic!("it opened")
    };
    assert!(text.contains("a record of version 2"), "{text}");
    assert_eq!(rig.drive.content(&file), before);
}
