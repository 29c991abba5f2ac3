//! What becomes of a group whose write fails, in part or whole.

use tokio::sync::oneshot;

use super::*;
use crate::drive::Drive;
use crate::drive::memory::Action;
use crate::engine::record::BLOCK;
use crate::engine::tests::{Rig, append_of, fragment, key};
use enfilade_placement::BlobId;

type Answer = oneshot::Receiver<Result<Done, EngineError>>;

fn order(rig: &Rig, shard: ShardKey, work: Work) -> (Order, Answer) {
    let (reply, answer) = oneshot::channel();
    let order = Order {
        engine: Arc::clone(&rig.engine),
        shard,
        work,
        reply,
        _leases: Vec::new(),
    };
    (order, answer)
}

fn append(
    rig: &Rig,
    shard: ShardKey,
    blob: u128,
    stripes: std::ops::Range<u32>,
) -> (Order, Answer) {
    let append = append_of(shard, 1, blob, stripes);
    let work = Work::Append {
        epoch: append.epoch,
        blob: append.blob,
        first_stripe: append.first_stripe,
        fragments: append.fragments,
        owner: None,
        marks: Vec::new(),
        payload: append.payload,
    };
    order(rig, shard, work)
}

fn delete(rig: &Rig, shard: ShardKey, blob: u128) -> (Order, Answer) {
    let work = Work::Delete {
        blob: BlobId::new(blob),
        runs: Vec::new(),
    };
    order(rig, shard, work)
}

/// Commits the orders as one group; the answers of those that were answered, and the rest.
fn commit(rig: &Rig, orders: Vec<(Order, Answer)>) -> (Vec<Result<Done, EngineError>>, Vec<Order>) {
    let (orders, answers): (Vec<_>, Vec<_>) = orders.into_iter().unzip();
    let again = Group::default().run(orders, &rig.host.env, &mut Pace::default());
    let answered = answers.into_iter().filter_map(|mut a| a.try_recv().ok());
    (answered.collect(), again)
}

#[tokio::test]
async fn a_group_is_padded_once_and_shares_its_blocks() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    for group in 0..4u128 {
        let (answers, _) = commit(
            &rig,
            (0..3)
                .map(|i| append(&rig, shard, group * 3 + i + 5, 0..1))
                .collect(),
        );
        let ends: Vec<u64> = answers.into_iter().map(|a| a.unwrap().log_bytes).collect();
        assert!(
            ends.iter()
                .all(|end| *end == ends[0] && end.is_multiple_of(BLOCK))
        );
    }
    let fragments: u64 = (5..17).map(|blob| fragment(blob, 0).len() as u64).sum();
    let log = rig.engine.shard_stats(shard).unwrap().log_bytes;
    let most = HEAD_LEN + fragments + 12 * 128 + 4 * BLOCK;
    assert!(
        log <= most,
        "{log} bytes of log for {fragments}, at most {most}"
    );
    rig.reopen_without_index().await;
    for blob in 5..17 {
        assert_eq!(rig.read(shard, blob, 0).await, Ok(fragment(blob, 0)));
    }
}

#[tokio::test]
async fn without_room_appends_are_refused_and_deletes_are_done() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    let before = rig.engine.shard_stats(shard).unwrap().log_bytes;
    let space = rig.drive.replug().space().unwrap();
    rig.drive
        .set_capacity(space.total - space.available + BLOCK + 100);
    let orders = vec![
        append(&rig, shard, 7, 0..4),
        delete(&rig, shard, 2),
        append(&rig, shard, 8, 0..4),
    ];
    let (answers, again) = commit(&rig, orders);
    assert_eq!(answers, [Err(EngineError::Full), Err(EngineError::Full)]);
    assert_eq!(again.len(), 1);
    let left = Group::default().run(again, &rig.host.env, &mut Pace::default());
    assert!(left.is_empty());
    let stats = rig.engine.shard_stats(shard).unwrap();
    assert_eq!((stats.log_bytes, stats.live), (before + BLOCK, 0));
    rig.drive.set_capacity(1 << 40);
    rig.crash(3).await;
    for blob in [2, 7, 8] {
        let read = rig.read(shard, blob, 0).await;
        assert!(read.is_err(), "{blob}");
    }
    rig.append(shard, 1, 9, 0..4).await.unwrap();
    assert_eq!(rig.read(shard, 9, 3).await, Ok(fragment(9, 3)));
}

#[tokio::test]
async fn a_write_that_fails_acks_nothing_of_its_drive() {
    let mut rig = Rig::new();
    rig.append(key(1, 0), 1, 2, 0..4).await.unwrap();
    rig.append(key(2, 0), 1, 2, 0..4).await.unwrap();
    // The first log is written, the second fails.
    let error = DriveError::Io("write".to_owned());
    rig.drive.fail(Action::Write, 1, 1, error);
    let orders = vec![
        append(&rig, key(1, 0), 5, 0..2),
        append(&rig, key(2, 0), 5, 0..2),
        append(&rig, key(1, 0), 6, 0..2),
    ];
    let (answers, again) = commit(&rig, orders);
    assert_eq!((answers.len(), again.len()), (3, 0));
    for answer in answers {
        assert!(matches!(answer, Err(EngineError::Failed(_))), "{answer:?}");
    }
    assert!(rig.read(key(1, 0), 5, 0).await.is_err());
    rig.crash(8).await;
    assert_eq!(rig.read(key(2, 0), 2, 1).await, Ok(fragment(2, 1)));
    rig.append(key(2, 0), 1, 5, 0..2).await.unwrap();
}
