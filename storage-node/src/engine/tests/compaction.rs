//! Compaction: what stays, what goes, and what happens meanwhile.

use super::*;
use crate::drive::memory::Action;
use crate::engine::compact::Compaction;
use crate::engine::rows::BlobRow;

/// The log of a shard as it is in its file.
fn log_len(rig: &Rig, shard: ShardKey) -> u64 {
    rig.drive.content(&shard.file()).unwrap().len() as u64
}

async fn switch(rig: &Rig, mut compaction: Compaction) -> Result<Compacted, CompactError> {
    loop {
        let step = compaction.step(1)?;
        for (blob, found) in step.rot {
            let log = rig.engine.log_id(key(1, 0)).unwrap();
            rig.engine.enter_rot(log, blob, found).await?;
        }
        if step.ready {
            break;
        }
    }
    compaction.prepare()?;
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    let act = move || *lock(&tell) = Some(compaction.switch());
    let alone = commit::Work::Alone(commit::Alone::new(act));
    rig.engine.order(key(1, 0), alone).await?;
    let outcome = lock(&told).take();
    outcome.unwrap()
}

#[tokio::test]
async fn what_is_live_stays_and_what_is_dead_goes() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    let owner = crate::api::Owner {
        at: enfilade_cluster::api::key::ObjectKey::new(enfilade_placement::BucketId::new(1), "k"),
        upload: None,
    };
    for blob in 1..5u128 {
        let mut append = append_of(shard, 3, blob, 0..12);
        append.owner = Some(owner.clone());
        let admission = rig.engine.admit(1).unwrap();
        rig.engine.append(shard, append, admission).await.unwrap();
    }
    rig.engine.mark(shard, vec![BlobId::new(2)]).await.unwrap();
    rig.engine.fence(shard, Epoch::new(2)).await.unwrap();
    let delete = |blob, runs| rig.engine.delete(shard, BlobId::new(blob), runs);
    delete(1, Vec::new()).await.unwrap();
    delete(3, vec![(0, 3), (6, 6)]).await.unwrap();
    let (file, offset) = rig.engine.locate(shard, BlobId::new(4), 2).unwrap();
    rig.drive.rot(&file, offset);
    assert_eq!(rig.read(shard, 4, 2).await, Err(FragmentFault::Corrupt));
    let before = log_len(&rig, shard);
    let seen = |rig: &Rig| -> BlobRow {
        let log = rig.engine.log_id(shard).unwrap();
        rig.engine
            .rows()
            .blob(log, BlobId::new(3))
            .unwrap()
            .unwrap()
    };
    let was = seen(&rig);
    let inventory = rig.engine.inventory(shard, None, 10).await.unwrap();
    let live = rig.engine.shard_stats(shard).unwrap().live;

    rig.engine.compact(shard).await.unwrap();
    assert!(log_len(&rig, shard) < before * 3 / 4);
    assert_eq!(seen(&rig), was);
    for round in 0..4 {
        match round {
            0 => {}
            3 => rig.reopen_without_index().await,
            seed => rig.crash(seed).await,
        }
        assert_eq!(
            rig.engine.inventory(shard, None, 10).await.unwrap(),
            inventory
        );
        let stats = rig.engine.shard_stats(shard).unwrap();
        assert_eq!((stats.epoch, stats.fence), (Epoch::new(3), Epoch::new(3)));
        assert_eq!((stats.live, stats.damaged), (live, 0));
        assert_eq!(rig.read(shard, 1, 0).await, Err(FragmentFault::Missing));
        assert_eq!(rig.read(shard, 2, 11).await, Ok(fragment(2, 11)));
        assert_eq!(rig.read(shard, 3, 2).await, Err(FragmentFault::Missing));
        assert_eq!(rig.read(shard, 3, 7).await, Ok(fragment(3, 7)));
        assert_eq!(rig.read(shard, 4, 2).await, Err(FragmentFault::Corrupt));
        assert_eq!(rig.read(shard, 4, 3).await, Ok(fragment(4, 3)));
    }
    rig.append(shard, 3, 9, 0..2).await.unwrap();
    assert_eq!(rig.read(shard, 9, 1).await, Ok(fragment(9, 1)));
}

/// Before and behind what is copied already: new, dropped, appended again, marked, fenced.
async fn meddle(rig: &Rig, shard: ShardKey, step: u32) {
    let delete = |blob, runs| rig.engine.delete(shard, BlobId::new(blob), runs);
    if step == 2 {
        rig.append(shard, 1, 2, 4..8).await.unwrap();
        rig.append(shard, 1, 20, 0..4).await.unwrap();
        delete(2, vec![(1, 2)]).await.unwrap();
        delete(8, vec![(0, 1)]).await.unwrap();
        let marks = vec![BlobId::new(2), BlobId::new(7)];
        rig.engine.mark(shard, marks).await.unwrap();
    }
    if step == 3 {
        delete(20, Vec::new()).await.unwrap();
        delete(3, Vec::new()).await.unwrap();
        rig.append(shard, 1, 3, 0..2).await.unwrap();
        rig.engine.fence(shard, Epoch::new(4)).await.unwrap();
    }
}

#[tokio::test]
async fn requests_go_on_while_a_log_is_compacted() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    for blob in 1..9u128 {
        rig.append(shard, 1, blob, 0..4).await.unwrap();
    }
    rig.engine
        .delete(shard, BlobId::new(1), Vec::new())
        .await
        .unwrap();
    let mut compaction = Compaction::begin(&rig.engine, shard).unwrap();
    let mut steps = 0;
    loop {
        let step = compaction.step(1).unwrap();
        steps += 1;
        meddle(&rig, shard, steps).await;
        for blob in [4, 5, 6] {
            assert_eq!(rig.read(shard, blob, 3).await, Ok(fragment(blob, 3)));
        }
        if step.ready && steps > 4 {
            break;
        }
    }
    let expected = rig.engine.inventory(shard, None, 99).await.unwrap();
    let old = rig
        .engine
        .log_file(rig.engine.log_id(shard).unwrap())
        .unwrap();
    let done = switch(&rig, compaction).await.unwrap();
    assert!(done.after < done.before, "{done:?}");
    let new = rig
        .engine
        .log_file(rig.engine.log_id(shard).unwrap())
        .unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    for round in 0..3 {
        assert_eq!(
            rig.engine.inventory(shard, None, 99).await.unwrap(),
            expected
        );
        assert_eq!(rig.read(shard, 2, 1).await, Err(FragmentFault::Missing));
        assert_eq!(rig.read(shard, 2, 6).await, Ok(fragment(2, 6)));
        assert_eq!(rig.read(shard, 3, 1).await, Ok(fragment(3, 1)));
        assert_eq!(rig.read(shard, 3, 3).await, Err(FragmentFault::Missing));
        assert_eq!(rig.engine.shard_stats(shard).unwrap().fence, Epoch::new(4));
        match round {
            0 => rig.crash(5).await,
            _ => rig.reopen_without_index().await,
        }
    }
}

#[tokio::test]
async fn rot_that_compaction_comes_across_is_entered_and_stays_known() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.append(shard, 1, 4, 0..4).await.unwrap();
    rig.append(shard, 1, 6, 0..4).await.unwrap();
    // A block of one fragment, and the header of another record.
    let (file, offset) = rig.engine.locate(shard, BlobId::new(2), 2).unwrap();
    assert!(rig.drive.rot(&file, offset + 3));
    let log = rig.engine.log_id(shard).unwrap();
    let runs = rig.engine.rows().runs(log, BlobId::new(4), (0, 9)).unwrap();
    assert!(rig.drive.rot(&file, runs[0].1.record + 40));
    rig.engine.compact(shard).await.unwrap();
    let bad = |stripe, blob| Fault {
        key: shard,
        fragment: Some((BlobId::new(blob), stripe)),
    };
    let expected = [bad(2, 2), bad(0, 4), bad(1, 4), bad(2, 4), bad(3, 4)];
    for round in 0..3 {
        assert_eq!(rig.engine.faults(99).unwrap(), expected);
        assert_eq!(rig.read(shard, 2, 1).await, Ok(fragment(2, 1)));
        assert_eq!(rig.read(shard, 4, 1).await, Err(FragmentFault::Corrupt));
        assert_eq!(rig.read(shard, 6, 3).await, Ok(fragment(6, 3)));
        match round {
            0 => rig.crash(5).await,
            _ => rig.reopen_without_index().await,
        }
    }
    rig.append(shard, 1, 4, 0..4).await.unwrap();
    rig.engine.compact(shard).await.unwrap();
    assert_eq!(rig.engine.faults(99).unwrap(), expected[..1]);
    assert_eq!(rig.read(shard, 4, 1).await, Ok(fragment(4, 1)));
}

#[tokio::test]
async fn a_shard_that_is_dropped_amid_compaction_stays_dropped() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let compaction = Compaction::begin(&rig.engine, shard).unwrap();
    rig.engine.drop_shard(shard).await.unwrap();
    assert_eq!(switch(&rig, compaction).await, Err(CompactError::Gone));
    assert_eq!(rig.engine.compact(shard).await, Err(CompactError::Gone));
    // The same when another log took its place.
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let compaction = Compaction::begin(&rig.engine, shard).unwrap();
    rig.engine.drop_shard(shard).await.unwrap();
    rig.append(shard, 1, 3, 0..4).await.unwrap();
    assert_eq!(switch(&rig, compaction).await, Err(CompactError::Gone));
    for seed in 1..4 {
        assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Missing));
        assert_eq!(rig.read(shard, 3, 0).await, Ok(fragment(3, 0)));
        rig.crash(seed).await;
    }
}

#[tokio::test]
async fn a_shard_that_is_dropped_gives_its_room_back_though_it_is_read() {
    let rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..40).await.unwrap();
    let held = rig
        .engine
        .log_file(rig.engine.log_id(shard).unwrap())
        .unwrap();
    let used = rig.engine.fill_now().unwrap().used;
    assert!(used > 100_000);
    rig.engine.drop_shard(shard).await.unwrap();
    assert_eq!(held.size().unwrap(), 0);
    assert_eq!(rig.engine.fill_now().unwrap().used, 0);
    assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Missing));
}

#[tokio::test]
async fn a_damaged_log_is_not_compacted() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    for blob in 1..4 {
        rig.append(shard, 1, blob, 0..4).await.unwrap();
    }
    assert!(rig.drive.rot(&shard.file(), 4096 + 40));
    rig.reopen_without_index().await;
    assert_eq!(rig.engine.compact(shard).await, Err(CompactError::Damaged));
    assert_eq!(rig.read(shard, 2, 0).await, Ok(fragment(2, 0)));
}

/// Two shards, with much that is dead in the first.
async fn before_the_crash() -> Rig {
    let rig = Rig::new();
    for blob in 1..6u128 {
        rig.append(key(1, 0), 1, blob, 0..3).await.unwrap();
    }
    rig.append(key(2, 0), 1, 7, 0..3).await.unwrap();
    let delete = |blob, runs| rig.engine.delete(key(1, 0), BlobId::new(blob), runs);
    delete(1, Vec::new()).await.unwrap();
    delete(2, vec![(1, 1)]).await.unwrap();
    rig.engine
        .mark(key(1, 0), vec![BlobId::new(3)])
        .await
        .unwrap();
    rig.engine.fence(key(1, 0), Epoch::new(4)).await.unwrap();
    rig
}

async fn check_after_the_crash(rig: &Rig, dropped: bool, at: &str) {
    let shard = key(1, 0);
    let (blobs, _) = rig.engine.inventory(shard, None, 99).await.unwrap();
    let held = blobs
        .iter()
        .map(|b| (b.blob.get(), b.committed, b.stripes.clone()));
    let whole = |blob, committed| (blob, committed, vec![(0, 2)]);
    let expected = [
        (2, false, vec![(0, 0), (2, 2)]),
        whole(3, true),
        whole(4, false),
        whole(5, false),
    ];
    assert_eq!(held.collect::<Vec<_>>(), expected, "{at}");
    for (blob, stripe) in [(2, 2), (3, 0), (4, 1), (5, 2)] {
        let read = rig.read(shard, blob, stripe).await;
        assert_eq!(read, Ok(fragment(blob, stripe)), "{at}");
    }
    let late = rig.append(shard, 3, 9, 0..1).await;
    assert_eq!(late, Err(EngineError::Stale(Epoch::new(4))), "{at}");
    let other = rig.read(key(2, 0), 7, 1).await;
    let missing = other == Err(FragmentFault::Missing);
    assert!(
        missing || !dropped && other == Ok(fragment(7, 1)),
        "{at}: {other:?}"
    );
    let found = rig.engine.scrub(shard).await.unwrap();
    assert_eq!((found.corrupt, found.damaged), (0, 0), "{at}");
}

#[tokio::test]
async fn wherever_compaction_or_a_drop_is_cut_off_nothing_is_lost_and_nothing_comes_back() {
    for action in [
        Action::Open,
        Action::Read,
        Action::Write,
        Action::Sync,
        Action::SyncFolder,
    ] {
        for after in 0.. {
            let mut rig = before_the_crash().await;
            rig.drive
                .fail(action, after, u32::MAX, DriveError::Io("cut".to_owned()));
            let compacted = rig.engine.compact(key(1, 0)).await;
            let dropped = rig.engine.drop_shard(key(2, 0)).await.is_ok();
            rig.drive.mend();
            let at = format!("{action:?} {after}: {compacted:?}");
            rig.crash(u64::from(after) * 977 + 13).await;
            check_after_the_crash(&rig, dropped, &at).await;
            rig.engine.compact(key(1, 0)).await.unwrap();
            rig.reopen_without_index().await;
            check_after_the_crash(&rig, dropped, &at).await;
            if compacted.is_ok() && dropped {
                assert!(after > 0, "{at}");
                break;
            }
        }
    }
}
