//! Sectors that cannot be read (PROTOCOLS 22): they cost what they hold, and no more.

use enfilade_placement::{ClusterId, Generation, Incarnation};

use super::*;
use crate::drive::superblock::{self, Superblock};

fn bad(shard: ShardKey, blob: u128, stripe: u32) -> Fault {
    Fault {
        key: shard,
        fragment: Some((BlobId::new(blob), stripe)),
    }
}

/// The run of a fragment.
fn run_of(rig: &Rig, shard: ShardKey, blob: u128, stripe: u32) -> rows::RunRow {
    let log = rig.engine.log_id(shard).unwrap();
    let found = rig
        .engine
        .rows()
        .runs(log, BlobId::new(blob), (stripe, stripe));
    found.unwrap().remove(0).1
}

/// Makes the block unreadable that a fragment begins in.
fn spoil(rig: &Rig, shard: ShardKey, blob: u128, stripe: u32) {
    let (file, offset) = rig.engine.locate(shard, BlobId::new(blob), stripe).unwrap();
    assert!(rig.drive.spoil(&file, offset));
}

/// A shard with a fragment of two blocks, stripe 2 of blob 2, that is unreadable, and the header of
/// the record of blob 4; each is written by a group of its own.
async fn spoilt() -> (Rig, ShardKey) {
    let (rig, shard) = (Rig::new(), key(1, 0));
    for blob in [2, 4, 6, 8] {
        for stripe in 0..4 {
            rig.append(shard, 1, blob, stripe..stripe + 1)
                .await
                .unwrap();
        }
    }
    let (file, offset) = rig.engine.locate(shard, BlobId::new(2), 2).unwrap();
    assert_eq!(fragment(2, 2).len(), 8320);
    assert!(rig.drive.spoil(&file, offset + 5000));
    assert!(rig.drive.spoil(&file, run_of(&rig, shard, 4, 1).record));
    (rig, shard)
}

/// What is known to be lost is exactly what the two sectors held, whoever looks; all else reads.
async fn check(rig: &Rig, shard: ShardKey, lost: &[(u128, u32)]) {
    let expected: Vec<Fault> = lost.iter().map(|(b, s)| bad(shard, *b, *s)).collect();
    assert_eq!(rig.engine.faults(99).unwrap(), expected);
    for blob in [2, 4, 6, 8] {
        for stripe in 0..4 {
            let read = rig.read(shard, blob, stripe).await;
            match lost.contains(&(blob, stripe)) {
                true => assert_eq!(read, Err(FragmentFault::Corrupt), "{blob} {stripe}"),
                false => assert_eq!(read, Ok(fragment(blob, stripe)), "{blob} {stripe}"),
            }
        }
    }
    assert_eq!(rig.engine.failure(), None);
}

#[tokio::test]
async fn scrub_goes_past_unreadable_sectors_and_enters_what_they_held() {
    let (mut rig, shard) = spoilt().await;
    let found = rig.engine.scrub(shard).await.unwrap();
    assert_eq!((found.corrupt, found.damaged), (2, 1));
    let mut lost = vec![(2, 2), (4, 1)];
    check(&rig, shard, &lost).await;
    // The damage was written out of the log, and what was found is durable.
    for round in 0..3 {
        let found = rig.engine.scrub(shard).await.unwrap();
        assert_eq!((found.corrupt, found.damaged), (0, 0), "{round}");
        match round {
            0 => rig.reopen_without_index().await,
            1 => rig.crash(5).await,
            _ => {}
        }
        check(&rig, shard, &lost).await;
    }
    // Repair writes them anew.
    for (blob, stripe) in std::mem::take(&mut lost) {
        rig.append(shard, 1, blob, stripe..stripe + 1)
            .await
            .unwrap();
    }
    check(&rig, shard, &[]).await;
    rig.reopen_without_index().await;
    check(&rig, shard, &[]).await;
}

#[tokio::test]
async fn compaction_goes_past_unreadable_sectors_and_enters_what_they_held() {
    let (mut rig, shard) = spoilt().await;
    let lost = [(2, 2), (4, 1)];
    for round in 0..2 {
        rig.engine.compact(shard).await.unwrap();
        check(&rig, shard, &lost).await;
        let found = rig.engine.scrub(shard).await.unwrap();
        assert_eq!((found.corrupt, found.damaged), (0, 0), "{round}");
        rig.reopen_without_index().await;
        check(&rig, shard, &lost).await;
    }
}

#[tokio::test]
async fn what_is_appended_again_replaces_what_cannot_be_read_even_its_header() {
    let (rig, shard) = spoilt().await;
    rig.append(shard, 1, 4, 0..4).await.unwrap();
    assert_eq!(rig.read(shard, 2, 2).await, Err(FragmentFault::Corrupt));
    check(&rig, shard, &[(2, 2)]).await;
    rig.append(shard, 1, 2, 2..3).await.unwrap();
    check(&rig, shard, &[]).await;
}

#[tokio::test]
async fn a_drive_that_cannot_be_read_in_several_places_fails_and_is_not_taken_for_rotten() {
    let (mut rig, shard) = (Rig::new(), key(1, 0));
    let block = Superblock {
        revision: 1,
        cluster: ClusterId::new(1),
        incarnation: Incarnation::new(1),
        drive: DRIVE,
        file_system: 0,
        generation: Generation::new(0),
        pending: None,
    };
    superblock::store(&rig.drive, &block).unwrap();
    for blob in [2, 4, 6] {
        rig.append(shard, 1, blob, 0..40).await.unwrap();
    }
    for blob in [2, 4, 6] {
        spoil(&rig, shard, blob, 7);
    }
    assert_eq!(rig.read(shard, 2, 7).await, Err(FragmentFault::Corrupt));
    assert_eq!(rig.read(shard, 2, 7).await, Err(FragmentFault::Corrupt));
    let mut entered = vec![bad(shard, 2, 7)];
    assert_eq!(rig.engine.faults(99).unwrap(), entered);
    assert_eq!(rig.engine.read_errors(), 1, "again and again counts once");
    assert_eq!(rig.read(shard, 4, 7).await, Err(FragmentFault::Corrupt));
    let last = rig.read(shard, 6, 7).await;
    assert!(matches!(last, Err(FragmentFault::Drive(_))), "{last:?}");
    let scrubbed = rig.engine.scrub(shard).await;
    assert!(
        matches!(scrubbed, Err(ScrubError::Unreadable(_))),
        "{scrubbed:?}"
    );
    entered.push(bad(shard, 4, 7));
    assert_eq!(rig.engine.faults(99).unwrap(), entered);
    assert_eq!(rig.engine.failure(), None);
    rig.engine.probe(ClusterId::new(1), false);
    assert!(rig.engine.failure().is_some());
    // Opened again it is found to be one more place than it was.
    rig.reopen().await;
    assert_eq!(rig.read(shard, 6, 7).await, Err(FragmentFault::Corrupt));
    entered.push(bad(shard, 6, 7));
    assert_eq!(rig.engine.faults(99).unwrap(), entered);
}

#[tokio::test]
async fn a_log_opens_past_unreadable_sectors_of_what_is_proven_and_not_above() {
    let (mut rig, shard) = spoilt().await;
    rig.reopen_without_index().await;
    // Without the index nobody knows what the record held.
    let whole = Fault {
        key: shard,
        fragment: None,
    };
    assert_eq!(rig.engine.faults(99).unwrap(), [whole]);
    for blob in [2, 4, 6, 8] {
        for stripe in (0..4).filter(|stripe| (blob, *stripe) != (2, 2)) {
            let read = rig.read(shard, blob, stripe).await;
            match (blob, stripe) {
                (4, 1) => assert_eq!(read, Err(FragmentFault::Missing)),
                _ => assert_eq!(read, Ok(fragment(blob, stripe)), "{blob} {stripe}"),
            }
        }
    }
    assert_eq!(rig.read(shard, 2, 2).await, Err(FragmentFault::Corrupt));
    // The last record was acked, and nothing proves it: it is not cut off.
    rig.append(shard, 1, 10, 0..1).await.unwrap();
    spoil(&rig, shard, 10, 0);
    rig.settle().await;
    let before = rig.drive.content(&shard.file());
    let index = Arc::new(MemoryIndex::crashable());
    let opened = Rig::open(&rig.host, &rig.drive, &index);
    assert!(opened.is_err());
    assert_eq!(rig.drive.content(&shard.file()), before);
}
