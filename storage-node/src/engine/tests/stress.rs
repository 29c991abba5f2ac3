//! Many drives in one process (P9), over real folders.

use super::*;
use crate::drive::file::FileDrive;
use crate::drive::superblock::Superblock;
use enfilade_placement::{ClusterId, Generation, Incarnation};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_four_drives_share_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(Env::seeded(3), Settings::default());
    let mut engines = Vec::new();
    for slot in 0..24u128 {
        let superblock = Superblock {
            revision: 1,
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            drive: DriveId::new(slot),
            file_system: 0,
            generation: Generation::new(1),
            pending: None,
        };
        let path = folder.path().join(slot.to_string());
        let drive = FileDrive::format(&path, &superblock).unwrap();
        let engine = Engine::open(&host, Arc::new(drive), superblock.drive, Some(1 << 30));
        engines.push(engine.unwrap());
    }
    let write = |engine: &Arc<Engine>, volume: u64| {
        let engine = Arc::clone(engine);
        async move {
            let append = append_of(key(volume, 1), 1, u128::from(volume), 0..4);
            let admission = engine.admit(20_000).unwrap();
            engine
                .append(key(volume, 1), append, admission)
                .await
                .unwrap();
        }
    };
    let writes = engines
        .iter()
        .flat_map(|engine| (0..10).map(move |v| write(engine, v)));
    futures::future::join_all(writes).await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 3000, "{open} descriptors");
    for engine in engines {
        assert!(engine.shards().len() == 10);
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_index_is_built_anew_from_the_logs() {
    let folder = tempfile::tempdir().unwrap();
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
    drop(FileDrive::format(&path, &superblock).unwrap());
    let host = Host::new(Env::seeded(3), Settings::default());
    for round in 0..4u32 {
        let drive = loop {
            // The committer may be about to let go of the last engine.
            match FileDrive::open(&path, DRIVE) {
                Err(crate::drive::file::OpenError::Locked(_)) => std::thread::yield_now(),
                opened => break opened.unwrap().0,
            }
        };
        let engine = Engine::open(&host, Arc::new(drive), DRIVE, None).unwrap();
        for old in 0..round {
            let stripes = engine
                .stripes(key(1, 0), BlobId::new(u128::from(old)))
                .await;
            assert_eq!(stripes, Ok(vec![(0, 3)]), "{old} in {round}");
        }
        let append = append_of(key(1, 0), 1, u128::from(round), 0..4);
        let admission = engine.admit(20_000).unwrap();
        engine.append(key(1, 0), append, admission).await.unwrap();
        engine.close().await.unwrap();
        let current = path.join("index/CURRENT");
        match round {
            0 => std::fs::write(current, "MANIFEST-nonsense\n").unwrap(),
            1 => std::fs::remove_file(current).unwrap(),
            _ => {
                let failed = engine.told::<()>(Err(index::IndexError("rot".to_owned())));
                assert!(matches!(failed, Err(EngineError::Failed(_))));
                assert!(path.join(DAMAGED_INDEX).exists());
            }
        }
    }
}
