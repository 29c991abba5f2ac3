//! Scrub: what is whole passes, what is not is found.

use super::*;
use crate::drive::memory::Action;
use crate::engine::scrub::Scrub;

fn bad(shard: ShardKey, blob: u128, stripe: u32) -> Fault {
    Fault {
        key: shard,
        fragment: Some((BlobId::new(blob), stripe)),
    }
}

#[tokio::test]
async fn a_whole_shard_passes_whatever_was_dropped_or_replaced_in_it() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    for blob in 1..6u128 {
        rig.append(shard, 1, blob, 0..8).await.unwrap();
    }
    let delete = |blob, runs| rig.engine.delete(shard, BlobId::new(blob), runs);
    delete(1, Vec::new()).await.unwrap();
    delete(2, vec![(2, 3), (7, 7)]).await.unwrap();
    rig.append(shard, 1, 1, 2..6).await.unwrap();
    rig.append(shard, 1, 2, 3..4).await.unwrap();
    rig.engine.reclaim_all().await.unwrap();
    for round in 0..4 {
        let stats = rig.engine.shard_stats(shard).unwrap();
        let found = rig.engine.scrub(shard).await.unwrap();
        assert_eq!((found.corrupt, found.damaged), (0, 0), "{round}");
        assert!(found.bytes >= stats.live, "{found:?} {stats:?}");
        assert_eq!(rig.engine.scrub_state().unwrap().oldest_ms, 0);
        match round {
            0 => rig.reopen_without_index().await,
            1 => {
                rig.engine.compact(shard).await.unwrap();
            }
            _ => rig.crash(4).await,
        }
    }
    assert_eq!(rig.engine.scrub(key(9, 0)).await.unwrap().bytes, 0);
}

#[tokio::test]
async fn rot_in_bytes_and_headers_is_found_and_entered_once() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    for blob in [2, 4, 6, 8] {
        rig.append(shard, 1, blob, 0..4).await.unwrap();
    }
    let (file, offset) = rig.engine.locate(shard, BlobId::new(2), 2).unwrap();
    assert!(rig.drive.rot(&file, offset + 3));
    let log = rig.engine.log_id(shard).unwrap();
    let runs = rig.engine.rows().runs(log, BlobId::new(4), (0, 9)).unwrap();
    assert!(rig.drive.rot(&file, runs[0].1.record + 40));
    let found = rig.engine.scrub(shard).await.unwrap();
    assert_eq!((found.corrupt, found.damaged), (5, 1));
    let mut expected = vec![bad(shard, 2, 2)];
    expected.extend((0..4).map(|stripe| bad(shard, 4, stripe)));
    // The damage was written out of the log: without the index nothing is unknown.
    for round in 0..2 {
        assert_eq!(rig.engine.faults(99).unwrap(), expected, "{round}");
        let found = rig.engine.scrub(shard).await.unwrap();
        assert_eq!((found.corrupt, found.damaged), (0, 0));
        rig.reopen_without_index().await;
    }
    assert_eq!(rig.read(shard, 8, 3).await, Ok(fragment(8, 3)));
}

#[tokio::test]
async fn a_delete_that_rots_does_not_bring_its_blob_back() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let at = rig.engine.shard_stats(shard).unwrap().log_bytes;
    rig.engine
        .delete(shard, BlobId::new(2), Vec::new())
        .await
        .unwrap();
    rig.append(shard, 1, 3, 0..4).await.unwrap();
    assert!(rig.drive.rot(&shard.file(), at + 30));
    let found = rig.engine.scrub(shard).await.unwrap();
    assert_eq!((found.corrupt, found.damaged), (0, 1));
    rig.reopen_without_index().await;
    assert_eq!(rig.engine.shard_stats(shard).unwrap().damaged, 0);
    assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Missing));
    assert_eq!(rig.read(shard, 3, 0).await, Ok(fragment(3, 0)));
}

#[tokio::test]
async fn an_index_that_lost_a_fragment_fails_and_is_built_anew() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.append(shard, 1, 3, 0..4).await.unwrap();
    let row = rig.index.scan(b"r", b"s", 1).unwrap().remove(0);
    let mut batch = index::Batch::default();
    batch.delete(row.0);
    rig.index.write(batch).unwrap();
    assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Missing));
    assert!(matches!(
        rig.engine.scrub(shard).await,
        Err(ScrubError::Engine(_))
    ));
    assert!(rig.engine.failure().unwrap().contains("lacks 4 fragments"));
    rig.reopen_without_index().await;
    assert_eq!(rig.read(shard, 2, 0).await, Ok(fragment(2, 0)));
}

#[tokio::test]
async fn a_drive_that_does_not_answer_is_no_rot() {
    let rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.drive
        .fail(Action::Read, 2, 1, DriveError::Io("read".to_owned()));
    let failed = rig.engine.scrub(shard).await;
    assert!(
        matches!(failed, Err(ScrubError::Unreadable(_))),
        "{failed:?}"
    );
    assert_eq!(rig.engine.faults(9).unwrap(), []);
    assert_eq!(rig.engine.scrub(shard).await.unwrap().corrupt, 0);
}

#[tokio::test]
async fn scrub_goes_on_where_it_was_left() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    for blob in 1..30u128 {
        rig.append(shard, 1, blob, 0..4).await.unwrap();
    }
    let whole = rig.engine.scrub(shard).await.unwrap().bytes;
    let mut scrub = Scrub::begin(&rig.engine, shard).unwrap();
    while !scrub.step(u64::MAX).unwrap().walked {}
    scrub.settle().unwrap();
    for _ in 0..2 {
        assert!(!scrub.step(1).unwrap().done);
    }
    drop(scrub);
    rig.engine.checkpoint().unwrap();
    rig.crash(3).await;
    let rest = rig.engine.scrub(shard).await.unwrap().bytes;
    assert!(rest > 0 && rest < whole * 3 / 4, "{rest} of {whole}");
    assert_eq!(rig.engine.scrub(shard).await.unwrap().bytes, whole);
}

#[tokio::test]
async fn what_was_scrubbed_lately_and_what_was_not_is_told_by_bytes() {
    let rig = Rig::new();
    let (all, none) = (Duration::from_secs(3600), Duration::ZERO);
    let empty = rig.engine.scrub_coverage(none).unwrap();
    assert_eq!((empty.percent, empty.complete), (100, None));
    for (shard, blobs) in [(key(1, 0), 1..4u128), (key(2, 0), 1..2)] {
        for blob in blobs {
            rig.append(shard, 1, blob, 0..8).await.unwrap();
        }
        rig.engine.scrub(shard).await.unwrap();
    }
    assert_eq!(rig.engine.scrub_coverage(all).unwrap().percent, 100);
    assert_eq!(rig.engine.scrub_coverage(none).unwrap().percent, 0);
    // Only the second one was scrubbed just now: about a quarter of the bytes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.engine.scrub(key(2, 0)).await.unwrap();
    let half = rig
        .engine
        .scrub_coverage(Duration::from_millis(200))
        .unwrap();
    assert!((20..35).contains(&half.percent), "{half:?}");
    assert!(half.oldest >= Duration::from_millis(300), "{half:?}");
    assert_eq!(half.complete, Some(half.oldest));
}
