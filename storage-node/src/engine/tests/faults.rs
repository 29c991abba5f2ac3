//! Faults of the drive, one by one.

use super::*;
use crate::drive::memory::Action;

fn io(what: &str) -> DriveError {
    DriveError::Io(what.to_owned())
}

#[tokio::test]
async fn a_failed_sync_acks_nothing_and_closes_the_drive() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 1, 0..2).await.unwrap();
    rig.drive.fail(Action::Sync, 0, 1, io("sync"));
    let failed = rig.append(shard, 1, 2, 0..2).await;
    assert!(matches!(failed, Err(EngineError::Failed(_))), "{failed:?}");
    // The next sync would succeed: it is not tried.
    let refused = rig.append(key(2, 0), 1, 2, 0..2).await;
    assert!(
        matches!(refused, Err(EngineError::Failed(_))),
        "{refused:?}"
    );
    assert!(rig.engine.failure().is_some());
    assert_eq!(
        rig.read(shard, 1, 1).await,
        Ok(fragment(1, 1)),
        "what is synced can be read"
    );
    assert_eq!(rig.read(shard, 2, 1).await, Err(FragmentFault::Missing));
    rig.crash(1).await;
    assert_eq!(rig.read(shard, 1, 0).await, Ok(fragment(1, 0)));
    rig.append(shard, 1, 2, 0..2).await.unwrap();
}

#[tokio::test]
async fn a_failed_write_or_folder_sync_closes_the_drive() {
    for action in [Action::Write, Action::SyncFolder, Action::Open] {
        let mut rig = Rig::new();
        rig.append(key(1, 0), 1, 1, 0..2).await.unwrap();
        rig.drive.fail(action, 0, 1, io("bad"));
        let failed = rig.append(key(2, 0), 1, 2, 0..2).await;
        assert!(
            matches!(failed, Err(EngineError::Failed(_))),
            "{action:?} {failed:?}"
        );
        rig.crash(5).await;
        assert_eq!(rig.read(key(1, 0), 1, 0).await, Ok(fragment(1, 0)));
    }
}

#[tokio::test]
async fn a_full_device_refuses_and_goes_on_when_there_is_room() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 1, 0..4).await.unwrap();
    rig.engine.fill().unwrap();
    let space = rig.drive.replug().space().unwrap();
    rig.drive.set_capacity(space.total - space.available + 1000);
    assert_eq!(rig.append(shard, 1, 2, 0..4).await, Err(EngineError::Full));
    assert_eq!(
        rig.append(key(9, 0), 1, 2, 0..4).await,
        Err(EngineError::Full)
    );
    rig.drive.set_capacity(1 << 40);
    rig.append(shard, 1, 3, 0..4).await.unwrap();
    rig.append(key(9, 0), 1, 3, 0..4).await.unwrap();
    rig.crash(9).await;
    for shard in [shard, key(9, 0)] {
        assert_eq!(rig.read(shard, 3, 2).await, Ok(fragment(3, 2)));
        assert_eq!(rig.read(shard, 2, 2).await, Err(FragmentFault::Missing));
    }
}

#[tokio::test]
async fn a_drive_at_its_fill_limit_refuses_appends_but_not_deletes() {
    let rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..80).await.unwrap();
    let space = rig.drive.replug().space().unwrap();
    let used = space.total - space.available;
    rig.drive.set_capacity(used * 100 / 96);
    *lock(&rig.engine.space) = None;
    assert_eq!(rig.append(shard, 1, 3, 0..1).await, Err(EngineError::Full));
    rig.engine
        .delete(shard, BlobId::new(2), Vec::new())
        .await
        .unwrap();
}

#[tokio::test]
async fn rot_is_entered_in_the_log_before_it_is_told() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let (file, offset) = rig.engine.locate(shard, BlobId::new(2), 2).unwrap();
    assert!(rig.drive.rot(&file, offset + 3));
    assert_eq!(rig.read(shard, 2, 2).await, Err(FragmentFault::Corrupt));
    assert_eq!(rig.read(shard, 2, 1).await, Ok(fragment(2, 1)));
    let bad = [Fault {
        key: shard,
        fragment: Some((BlobId::new(2), 2)),
    }];
    assert_eq!(rig.engine.faults(10).unwrap(), bad);
    // The rot goes away by itself; the entry does not.
    assert!(rig.drive.rot(&file, offset + 3));
    rig.crash(11).await;
    assert_eq!(rig.read(shard, 2, 2).await, Err(FragmentFault::Corrupt));
    assert_eq!(rig.engine.faults(10).unwrap(), bad);
    // Appending it again puts a good one in its place.
    rig.append(shard, 1, 2, 2..3).await.unwrap();
    rig.reopen_without_index().await;
    assert_eq!(rig.read(shard, 2, 2).await, Ok(fragment(2, 2)));
    assert_eq!(rig.engine.faults(10).unwrap(), []);
}

#[tokio::test]
async fn rot_that_cannot_be_entered_is_a_fault_of_the_drive() {
    let rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let (file, offset) = rig.engine.locate(shard, BlobId::new(2), 2).unwrap();
    assert!(rig.drive.rot(&file, offset));
    rig.drive.fail(Action::Sync, 0, 1, io("sync"));
    assert!(matches!(
        rig.read(shard, 2, 2).await,
        Err(FragmentFault::Drive(_))
    ));
}

#[tokio::test]
async fn a_rotten_header_is_found_by_its_readers() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.append(shard, 1, 3, 0..4).await.unwrap();
    assert!(rig.drive.rot(&shard.file(), log::HEAD_LEN + 40));
    assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Corrupt));
    assert_eq!(rig.read(shard, 3, 0).await, Ok(fragment(3, 0)));
    // Without the index nobody knows what was there, but that something was.
    rig.reopen_without_index().await;
    assert_eq!(rig.read(shard, 3, 0).await, Ok(fragment(3, 0)));
    assert_eq!(rig.read(shard, 2, 1).await, Err(FragmentFault::Missing));
    assert_eq!(
        rig.engine.faults(10).unwrap(),
        [Fault {
            key: shard,
            fragment: None
        }]
    );
    rig.append(shard, 1, 4, 0..2).await.unwrap();
    rig.crash(2).await;
    assert_eq!(rig.read(shard, 4, 0).await, Ok(fragment(4, 0)));
    assert_eq!(
        rig.engine.faults(10).unwrap(),
        [Fault {
            key: shard,
            fragment: None
        }]
    );
}

#[tokio::test]
async fn a_rotten_head_is_restored() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let whole = rig.drive.content(&shard.file()).unwrap();
    for places in [vec![9], vec![2050], vec![9, 2050]] {
        for place in places {
            assert!(rig.drive.rot(&shard.file(), place));
        }
        rig.reopen_without_index().await;
        assert_eq!(rig.read(shard, 2, 3).await, Ok(fragment(2, 3)));
        assert_eq!(rig.drive.content(&shard.file()).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_log_whose_head_is_destroyed_is_kept_if_the_index_knows_it_and_else_told_as_lost() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let destroy = |rig: &Rig| {
        let file = rig.drive.replug().open(&shard.file(), Open::Existing);
        let zeros = std::io::IoSlice::new(&[0; 4096]);
        file.unwrap().write_at(0, &[zeros]).unwrap();
    };
    destroy(&rig);
    rig.reopen().await;
    assert_eq!(rig.read(shard, 2, 3).await, Ok(fragment(2, 3)));
    assert_eq!(rig.engine.faults(10).unwrap(), []);
    // Nothing says that its records are not left by another log.
    destroy(&rig);
    rig.drive.rot(&shard.file(), log::HEAD_LEN + 8);
    rig.reopen().await;
    let lost = [Fault {
        key: shard,
        fragment: None,
    }];
    for _ in 0..2 {
        assert_eq!(rig.engine.faults(10).unwrap(), lost);
        assert_eq!(rig.read(shard, 2, 3).await, Err(FragmentFault::Missing));
        let refused = rig.append(shard, 0, 3, 0..1).await;
        assert_eq!(refused, Err(EngineError::Stale(Epoch::FIRST)));
        rig.reopen_without_index().await;
    }
    assert!(rig.drive.content("set-aside/1-0.log").is_some());
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.engine.accounted(shard).await.unwrap();
    assert_eq!(rig.engine.faults(10).unwrap(), []);
}

#[tokio::test]
async fn what_a_dropped_log_left_in_recycled_space_is_not_taken_for_a_new_one() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.engine.checkpoint().unwrap();
    let mut bytes = rig.drive.content(&shard.file()).unwrap();
    rig.engine.drop_shard(shard).await.unwrap();
    rig.settle().await;
    // A crash came before the next log of the shard was synced: its head is lost.
    bytes[..4096].fill(0);
    let drive = rig.drive.replug();
    let file = drive.open(&shard.file(), Open::New).unwrap();
    let slices = [std::io::IoSlice::new(&bytes)];
    file.write_at(0, &slices).unwrap();
    rig.reopen().await;
    assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Missing));
    assert_eq!(rig.engine.shards(), []);
    assert_eq!(rig.engine.faults(10).unwrap(), []);
    assert_eq!(rig.drive.content(&shard.file()), None);
}

#[tokio::test]
async fn a_log_that_was_dropped_is_not_told_as_lost() {
    for seed in 0..20 {
        let mut rig = Rig::new();
        rig.append(key(1, 0), 1, 2, 0..4).await.unwrap();
        rig.engine.checkpoint().unwrap();
        rig.engine.drop_shard(key(1, 0)).await.unwrap();
        rig.crash(seed).await;
        assert_eq!(rig.engine.faults(10).unwrap(), []);
        assert_eq!(rig.engine.shards(), []);
    }
}

#[tokio::test]
async fn a_payload_that_looks_like_a_record_is_none() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    // A client stores the very bytes of the log, heads and all.
    let copy = Bytes::from(rig.drive.content(&shard.file()).unwrap()[4096..4096 + 8192].to_vec());
    let blob = BlobId::new(7);
    let seed = FragmentSeed {
        volume: 1,
        blob: 7,
        stripe: 0,
        index: 0,
    };
    let append = Append {
        epoch: Epoch::new(1),
        blob,
        first_stripe: 0,
        fragments: vec![FragmentHeader {
            len: 8192,
            checksums: fragment_checksums(seed, &copy).collect(),
        }],
        owner: None,
        marks: Vec::new(),
        payload: vec![copy],
    };
    let place = rig.engine.shard_stats(shard).unwrap().log_bytes;
    let admission = rig.engine.admit(8192).unwrap();
    rig.engine.append(shard, append, admission).await.unwrap();
    rig.append(shard, 1, 3, 0..4).await.unwrap();
    // Its header rots, so that recovery looks for the next record inside the payload.
    assert!(rig.drive.rot(&shard.file(), place + 20));
    rig.reopen_without_index().await;
    assert_eq!(
        rig.engine.faults(10).unwrap(),
        [Fault {
            key: shard,
            fragment: None
        }]
    );
    let (blobs, _) = rig.engine.inventory(shard, None, 10).await.unwrap();
    assert_eq!(
        blobs.iter().map(|blob| blob.blob.get()).collect::<Vec<_>>(),
        [2, 3]
    );
    for stripe in 0..4 {
        assert_eq!(rig.read(shard, 3, stripe).await, Ok(fragment(3, stripe)));
    }
}

#[tokio::test]
async fn the_queue_of_a_drive_is_bounded() {
    use enfilade_placement::units::ByteSize;
    let settings = Settings {
        drive_queue: ByteSize::mib(4),
        ..Settings::default()
    };
    let rig = Rig::with(settings);
    let held = rig.engine.admit(3 << 20).unwrap();
    assert_eq!(rig.engine.admit(2 << 20).unwrap_err(), EngineError::Busy);
    drop(held);
    rig.engine.admit(2 << 20).unwrap();
}

#[tokio::test]
async fn a_log_of_a_newer_program_stops_the_drive() {
    let rig = Rig::new();
    rig.append(key(1, 0), 1, 2, 0..4).await.unwrap();
    rig.settle().await;
    let file = rig
        .drive
        .replug()
        .open(&key(1, 0).file(), Open::Existing)
        .unwrap();
    let mut head = log::encode_head(1, DRIVE, key(1, 0));
    head[6] = 9;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &head[..41]);
    head[41..45].copy_from_slice(&u32::try_from(crc).unwrap().to_le_bytes());
    file.write_at(0, &[std::io::IoSlice::new(&head)]).unwrap();
    let opened = Rig::open(&rig.host, &rig.drive, &rig.index);
    assert!(matches!(opened, Err(EngineOpenError::Newer(_))));
}

#[tokio::test]
async fn a_place_that_cannot_be_read_takes_nothing_of_what_is_read_with_it() {
    let rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 1, 0..3).await.unwrap();
    // After the header: the read of all three, then that of the first alone.
    rig.drive.fail(Action::Read, 1, 2, io("bad sector"));
    let range = |stripe| FragmentRange {
        stripe,
        offset: 0,
        len: u32::try_from(fragment(1, stripe).len()).unwrap(),
    };
    let ranges: Vec<FragmentRange> = (0..3).map(range).collect();
    let read = rig.engine.read(shard, BlobId::new(1), ranges.clone()).await;
    assert!(matches!(read[0], Err(FragmentFault::Drive(_))), "{read:?}");
    for (stripe, (read, range)) in (0..).zip(read.iter().zip(&ranges)).skip(1) {
        let blocks = read.as_ref().unwrap().clone();
        assert_eq!(blocks.cut(range), Some(fragment(1, stripe)));
    }
    assert_eq!(rig.engine.read_errors(), 1);
}
