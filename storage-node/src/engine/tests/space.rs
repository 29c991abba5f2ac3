//! Room: how much more than what is live the logs take, and a drive without any.

use std::os::unix::fs::MetadataExt;

use enfilade_placement::{ClusterId, Generation, Incarnation};
use futures::future::join_all;

use super::*;
use crate::drive::file::FileDrive;
use crate::drive::superblock::Superblock;

/// Shards that the load is spread over, and appends that are under way together.
const SHARDS: u64 = 8;
const TOGETHER: u64 = 32;

/// A fragment of a blob of its own.
fn sized(key: ShardKey, blob: u128, len: usize) -> Append {
    let bytes: Vec<u8> = (0..len)
        .map(|at| ((at as u128 * blob) >> 3) as u8)
        .collect();
    let seed = FragmentSeed {
        volume: key.volume.get(),
        blob,
        stripe: 0,
        index: key.member,
    };
    Append {
        epoch: Epoch::FIRST,
        blob: BlobId::new(blob),
        first_stripe: 0,
        fragments: vec![FragmentHeader {
            len: u32::try_from(len).unwrap(),
            checksums: fragment_checksums(seed, &bytes).collect(),
        }],
        owner: None,
        marks: Vec::new(),
        payload: vec![bytes.into()],
    }
}

async fn put(
    engine: &Arc<Engine>,
    shard: ShardKey,
    blob: u128,
    len: usize,
) -> Result<AppendAck, EngineError> {
    let admission = engine.admit(len as u64)?;
    engine
        .append(shard, sized(shard, blob, len), admission)
        .await
}

async fn compact_what_pays(engine: &Arc<Engine>) -> u32 {
    let mut compacted = 0;
    while let Some(key) = engine.wasteful(|_| false).unwrap() {
        engine.compact(key).await.unwrap();
        compacted += 1;
    }
    compacted
}

/// Overwrites blobs of one size at random; the most room, as the file system counts it, that the
/// logs took for each live byte, successors included, once the load was steady.
async fn amplification(len: usize, blobs: u64, writes: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let superblock = Superblock {
        revision: 1,
        cluster: ClusterId::new(1),
        incarnation: Incarnation::new(1),
        drive: DRIVE,
        file_system: 0,
        generation: Generation::new(0),
        pending: None,
    };
    let drive = Arc::new(FileDrive::format(&path, &superblock).unwrap());
    let host = Host::new(Env::seeded(7), Settings::default());
    let index = Arc::new(MemoryIndex::default());
    let engine = Engine::open_with(&host, drive, DRIVE, None, index).unwrap();
    let shard = |blob: u64| key(blob % SHARDS + 1, 0);
    let mut held: Vec<u64> = Vec::new();
    let (mut next, mut random, mut worst) = (0u64, 1u64, 0f64);
    while next < writes {
        let new: Vec<u64> = (next..next + TOGETHER).collect();
        join_all(
            new.iter()
                .map(|b| put(&engine, shard(*b), u128::from(*b) + 1, len)),
        )
        .await;
        held.extend(new);
        next += TOGETHER;
        let mut gone = Vec::new();
        while held.len() as u64 > blobs {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (random >> 33) % held.len() as u64;
            gone.push(held.swap_remove(usize::try_from(at).unwrap()));
        }
        let delete =
            |blob: u64| engine.delete(shard(blob), BlobId::new(u128::from(blob) + 1), Vec::new());
        for deleted in join_all(gone.into_iter().map(delete)).await {
            deleted.unwrap();
        }
        engine.reclaim_all().await.unwrap();
        compact_what_pays(&engine).await;
        if next > blobs * 2 {
            let files = std::fs::read_dir(path.join("shards")).unwrap();
            let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
            let taken = blocks.sum::<u64>() * 512;
            worst = worst.max(taken as f64 / (held.len() * len) as f64);
        }
    }
    let whole: u64 = engine.shards().iter().map(|shard| shard.live).sum();
    assert_eq!(whole, (held.len() * len) as u64);
    worst
}

#[tokio::test]
async fn a_steady_overwrite_load_takes_less_than_1_3_times_what_is_live() {
    let soak = if std::env::var_os("ENFILADE_SOAK").is_some() {
        10
    } else {
        1
    };
    for (len, blobs, writes) in [
        (4096, 4096, 16_384),
        (65_536, 512, 2048),
        (1 << 20, 64, 256),
    ] {
        let worst = amplification(len, blobs, writes * soak).await;
        println!("{len} bytes: {worst:.3}");
        assert!(worst < 1.3, "{worst} for fragments of {len} bytes");
    }
}

/// PROTOCOLS 15.
#[tokio::test]
async fn a_full_drive_takes_deletes_fences_and_compaction_and_then_appends() {
    let host = Host::new(Env::seeded(7), Settings::default());
    let drive = MemoryDrive::default();
    let index = Arc::new(MemoryIndex::default());
    let capacity = 8 * 1024 * 1024;
    let drive = Arc::new(drive);
    let engine = Engine::open_with(&host, drive, DRIVE, Some(capacity), index).unwrap();
    let forget = || *lock(&engine.space) = None;
    let shard = |blob: u64| key(blob % 24 + 1, 0);
    let mut blobs = 0;
    // Fragments of less than a block: holes give nothing back.
    loop {
        let new: Vec<u64> = (blobs..blobs + 48).collect();
        let puts = new
            .iter()
            .map(|b| put(&engine, shard(*b), u128::from(*b) + 1, 2048));
        blobs += 48;
        if join_all(puts).await.contains(&Err(EngineError::Full)) {
            break;
        }
        forget();
    }
    forget();
    assert!(blobs > 1000);
    assert_eq!(engine.admit(64 * 1024).unwrap_err(), EngineError::Full);
    let all = engine.shards();
    for shard in &all {
        engine.fence(shard.key, Epoch::FIRST).await.unwrap();
    }
    // A shard at a time, as garbage comes: a group takes a block of each log that it writes to.
    for of in &all {
        let gone = (0..blobs).filter(|b| b % 48 >= 16 && shard(*b) == of.key);
        let delete = |b: u64| engine.delete(of.key, BlobId::new(u128::from(b) + 1), Vec::new());
        for deleted in join_all(gone.map(delete)).await {
            deleted.unwrap();
        }
    }
    engine.reclaim_all().await.unwrap();
    forget();
    let used = engine.fill().unwrap().used;
    assert!(compact_what_pays(&engine).await >= 8);
    forget();
    let left = engine.fill().unwrap().used;
    assert!(left < used / 2, "{left} of {used}");
    put(&engine, shard(1), 1 << 40, 2048).await.unwrap();
}
