//! The concurrent parts of an engine under schedules that shuttle chooses: group commit, reads
//! against deletes and the room that is given back, checkpoints against appends, drops, fences.
//!
//! A failure prints the schedule, for `shuttle::replay`.

use std::sync::atomic::AtomicBool;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{JoinHandle, spawn, yield_now};

use super::*;
use crate::sync::schedule::{explore, wait};

fn schedules() -> usize {
    match std::env::var_os("ENFILADE_SOAK") {
        Some(_) => 100_000,
        None => 3000,
    }
}

/// What a client did: a blob of a shard, and whether that was acked.
type Did = (ShardKey, u128, bool);

/// A client that appends blobs of four stripes, one after another.
fn appends(rig: &Arc<Rig>, key: ShardKey, blobs: std::ops::Range<u128>) -> JoinHandle<Vec<Did>> {
    let rig = Arc::clone(rig);
    spawn(move || {
        let append = |blob| wait(rig.append(key, 1, blob, 0..2)).is_ok();
        blobs.map(|blob| (key, blob, append(blob))).collect()
    })
}

/// Opens the drive again after a power cut, with a part of what the index had not made durable.
fn reopened(rig: Arc<Rig>) -> Rig {
    rig.drive.crash(thread_rng().r#gen());
    wait(rig.settle());
    let mut rig = Arc::into_inner(rig).expect("the clients are done");
    let seed = thread_rng().r#gen();
    wait(rig.crash(seed));
    rig
}

/// Everything that was acked is there, whole, and no log is damaged.
fn check(rig: &Rig, did: Vec<Did>) {
    for (key, blob, acked) in did {
        let first = wait(rig.read(key, blob, 0));
        let second = wait(rig.read(key, blob, 1));
        match acked {
            true => assert_eq!(first, Ok(fragment(blob, 0)), "{key:?} {blob}"),
            false => {
                assert!(first == Ok(fragment(blob, 0)) || first == Err(FragmentFault::Missing))
            }
        }
        assert_eq!(
            first.is_ok(),
            second.is_ok(),
            "a record is there or not: {key:?} {blob}"
        );
    }
    assert_eq!(rig.engine.faults(10), Ok(Vec::new()));
}

#[test]
fn what_a_group_acks_survives_a_power_cut_at_any_moment() {
    explore(1, schedules(), || {
        let rig = Arc::new(Rig::new());
        rig.drive.set_alone(thread_rng().r#gen());
        rig.drive
            .crash_after(thread_rng().gen_range(0..24), thread_rng().r#gen());
        let clients = [
            appends(&rig, key(1, 0), 1..3),
            appends(&rig, key(1, 0), 5..7),
            appends(&rig, key(2, 0), 1..3),
        ];
        let did = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        let did = did.collect();
        check(&reopened(rig), did);
    });
}

#[test]
fn readers_see_a_fragment_or_its_absence_while_it_is_deleted_and_its_room_given_back() {
    explore(2, schedules(), || {
        let rig = Arc::new(Rig::new());
        let shard = key(1, 0);
        // Larger than a block, so that there is something to be given back.
        wait(rig.append(shard, 1, 2, 0..4)).unwrap();
        wait(rig.append(shard, 1, 3, 0..4)).unwrap();
        let deletes = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                wait(rig.engine.delete(shard, BlobId::new(2), Vec::new())).unwrap();
                let gone = wait(rig.read(shard, 2, 1));
                assert_eq!(gone, Err(FragmentFault::Missing));
                wait(rig.engine.reclaim_all()).unwrap();
            })
        };
        let reads = || {
            let rig = Arc::clone(&rig);
            spawn(move || {
                for stripe in 0..4 {
                    let read = wait(rig.read(shard, 2, stripe));
                    let right = read == Ok(fragment(2, stripe));
                    assert!(right || read == Err(FragmentFault::Missing), "{read:?}");
                    assert_eq!(wait(rig.read(shard, 3, stripe)), Ok(fragment(3, stripe)));
                }
            })
        };
        for thread in [deletes, reads(), reads()] {
            thread.join().unwrap();
        }
        assert_eq!(rig.engine.faults(10), Ok(Vec::new()));
    });
}

#[test]
fn a_compaction_amid_appends_deletes_and_reads_loses_and_brings_back_nothing() {
    explore(6, schedules(), || {
        let rig = Arc::new(Rig::new());
        let shard = key(1, 0);
        for blob in 1..4 {
            wait(rig.append(shard, 1, blob, 0..2)).unwrap();
        }
        if thread_rng().r#gen() {
            rig.drive
                .crash_after(thread_rng().gen_range(0..40), thread_rng().r#gen());
        }
        let compacts = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                let _ = wait(rig.engine.compact(shard));
            })
        };
        let deletes = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                let deleted = wait(rig.engine.delete(shard, BlobId::new(2), Vec::new()));
                let read = wait(rig.read(shard, 2, 1));
                assert!(deleted.is_err() || read != Ok(fragment(2, 1)), "{read:?}");
                deleted.is_ok()
            })
        };
        let reads = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                for stripe in [0, 1, 0] {
                    match wait(rig.read(shard, 1, stripe)) {
                        Ok(bytes) => assert_eq!(bytes, fragment(1, stripe)),
                        // Its power was cut.
                        Err(FragmentFault::Drive(_)) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        let mut did = appends(&rig, shard, 5..7).join().unwrap();
        did.extend([(shard, 1, true), (shard, 3, true)]);
        reads.join().unwrap();
        compacts.join().unwrap();
        let deleted = deletes.join().unwrap();
        let rig = reopened(rig);
        if deleted {
            assert_eq!(wait(rig.read(shard, 2, 0)), Err(FragmentFault::Missing));
        }
        check(&rig, did);
    });
}

#[test]
fn a_checkpoint_amid_appends_points_at_nothing_that_is_not_synced() {
    explore(3, schedules(), || {
        let rig = Arc::new(Rig::new());
        rig.drive
            .crash_after(thread_rng().gen_range(0..24), thread_rng().r#gen());
        let clients = [
            appends(&rig, key(1, 0), 1..4),
            appends(&rig, key(2, 0), 1..4),
        ];
        let checkpoints = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                for _ in 0..3 {
                    let _ = rig.engine.checkpoint();
                    yield_now();
                }
            })
        };
        let did = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        let did = did.collect();
        checkpoints.join().unwrap();
        check(&reopened(rig), did);
    });
}

#[test]
fn what_is_appended_after_a_drop_is_there_and_what_was_before_is_not() {
    explore(4, schedules(), || {
        let rig = Arc::new(Rig::new());
        let shard = key(1, 0);
        wait(rig.append(shard, 1, 1, 0..2)).unwrap();
        let drops = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                wait(rig.engine.drop_shard(shard)).unwrap();
                wait(rig.append(shard, 1, 2, 0..2)).unwrap();
                (shard, 2, true)
            })
        };
        let reads = {
            let rig = Arc::clone(&rig);
            spawn(move || {
                for stripe in [0, 1, 0] {
                    let read = wait(rig.read(shard, 1, stripe));
                    let right = read == Ok(fragment(1, stripe));
                    assert!(right || read == Err(FragmentFault::Missing), "{read:?}");
                }
            })
        };
        let other = appends(&rig, key(2, 0), 1..3);
        reads.join().unwrap();
        let mut did = other.join().unwrap();
        did.push(drops.join().unwrap());
        let rig = reopened(rig);
        assert_eq!(wait(rig.read(shard, 1, 0)), Err(FragmentFault::Missing));
        check(&rig, did);
    });
}

#[test]
fn nothing_older_than_a_fence_is_appended_after_its_ack() {
    explore(5, schedules(), || {
        let rig = Arc::new(Rig::new());
        let shard = key(1, 0);
        let fenced = Arc::new(AtomicBool::new(false));
        let fence = || {
            let (rig, fenced) = (Arc::clone(&rig), Arc::clone(&fenced));
            spawn(move || {
                let done = wait(rig.engine.fence(shard, Epoch::new(2)));
                if done.is_ok() {
                    fenced.store(true, Ordering::SeqCst);
                }
            })
        };
        let late = {
            let (rig, fenced) = (Arc::clone(&rig), Arc::clone(&fenced));
            spawn(move || {
                for blob in 1..4 {
                    let before = fenced.load(Ordering::SeqCst);
                    let appended = wait(rig.append(shard, 1, blob, 0..1));
                    assert!(!(before && appended.is_ok()), "{appended:?}");
                }
            })
        };
        rig.drive
            .crash_after(thread_rng().gen_range(4..24), thread_rng().r#gen());
        for thread in [fence(), fence(), late] {
            thread.join().unwrap();
        }
        let rig = reopened(rig);
        if fenced.load(Ordering::SeqCst) {
            let refused = wait(rig.append(shard, 1, 9, 0..1));
            assert_eq!(refused.unwrap_err(), EngineError::Stale(Epoch::new(2)));
        }
    });
}
