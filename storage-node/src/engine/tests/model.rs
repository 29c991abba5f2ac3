//! Random operations with crashes against a model (after the method of AWS ShardStore, SOSP 2021).
//!
//! The model knows of every fragment whether it must be there, must not, or may be either (what was
//! under way in a crash). Bytes follow from names, so there is nothing between right and wrong.

use std::collections::BTreeMap;

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

/// Shard, blob, first stripe, and how many.
type Stripes = (u8, u8, u32, u32);

#[derive(Debug, Clone)]
enum Op {
    /// Appends that are under way together.
    Append(Vec<Stripes>),
    Delete(u8, u8),
    DeleteRun(u8, u8, u32, u32),
    Fence(u8),
    Drop(u8),
    Reclaim,
    Checkpoint,
    Reopen,
    Rebuild,
    Crash(u64),
    /// The power goes while these are appended and one blob is deleted.
    CrashAmid(u64, Vec<Stripes>, u8),
    FailSync(Vec<Stripes>),
    NoSpace(Vec<Stripes>, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    There,
    Gone,
    Either,
}

type Name = (u8, u8, u32);

struct Model {
    fragments: BTreeMap<Name, Is>,
    /// Epoch below which a shard refuses, and whether a higher one may hold.
    epochs: BTreeMap<u8, u64>,
}

const SHARDS: u8 = 3;
const BLOBS: u8 = 4;
const STRIPES: u32 = 12;

fn append() -> impl Strategy<Value = Stripes> {
    (0..SHARDS, 0..BLOBS, 0..STRIPES - 4, 1..5u32)
}

fn op() -> impl Strategy<Value = Op> {
    let appends = || proptest::collection::vec(append(), 1..6);
    prop_oneof![
        6 => appends().prop_map(Op::Append),
        2 => (0..SHARDS, 0..BLOBS).prop_map(|(s, b)| Op::Delete(s, b)),
        1 => append().prop_map(|(s, b, f, n)| Op::DeleteRun(s, b, f, n)),
        1 => (0..SHARDS).prop_map(Op::Fence),
        1 => (0..SHARDS).prop_map(Op::Drop),
        1 => Just(Op::Reclaim),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Reopen),
        1 => Just(Op::Rebuild),
        2 => any::<u64>().prop_map(Op::Crash),
        2 => (any::<u64>(), appends(), 0..BLOBS).prop_map(|(s, a, b)| Op::CrashAmid(s, a, b)),
        1 => appends().prop_map(Op::FailSync),
        1 => (appends(), 0..60_000u32).prop_map(|(a, room)| Op::NoSpace(a, room)),
    ]
}

fn shard(number: u8) -> ShardKey {
    key(u64::from(number / 2) + 1, number % 2)
}

impl Model {
    fn new() -> Self {
        Self {
            fragments: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    fn epoch(&self, shard: u8) -> u64 {
        self.epochs.get(&shard).copied().unwrap_or(1)
    }

    fn set(&mut self, name: Name, is: Is) {
        self.fragments.insert(name, is);
    }

    /// An append was acked, or it failed and may be there all the same.
    fn appended(&mut self, (s, b, first, count): Stripes, acked: bool) {
        for stripe in first..first + count {
            let old = self
                .fragments
                .get(&(s, b, stripe))
                .copied()
                .unwrap_or(Is::Gone);
            let is = match (acked, old) {
                (true, _) | (false, Is::There) => Is::There,
                (false, _) => Is::Either,
            };
            self.set((s, b, stripe), is);
        }
    }

    fn deleted(&mut self, s: u8, b: u8, stripes: std::ops::Range<u32>, acked: bool) {
        for stripe in stripes {
            let old = self
                .fragments
                .get(&(s, b, stripe))
                .copied()
                .unwrap_or(Is::Gone);
            let is = if acked || old == Is::Gone {
                Is::Gone
            } else {
                Is::Either
            };
            self.set((s, b, stripe), is);
        }
    }
}

async fn append_all(
    rig: &Rig,
    model: &Model,
    appends: &[Stripes],
) -> Vec<Result<AppendAck, EngineError>> {
    let run = |(s, b, first, count): &Stripes| {
        let (epoch, stripes) = (model.epoch(*s), *first..first + count);
        rig.append(shard(*s), epoch, u128::from(*b) + 1, stripes)
    };
    join_all(appends.iter().map(run)).await
}

async fn check(rig: &Rig, model: &mut Model, op: &str) {
    for (&(s, b, stripe), is) in &mut model.fragments {
        let read = rig.read(shard(s), u128::from(b) + 1, stripe).await;
        let right = fragment(u128::from(b) + 1, stripe);
        // Short, for people who read failures.
        let found = read.map(|bytes| if bytes == right { "right" } else { "wrong" });
        let expected = match *is {
            Is::There => Ok("right"),
            Is::Gone => Err(FragmentFault::Missing),
            // From here on it is what it was found to be.
            Is::Either if found == Ok("right") => {
                *is = Is::There;
                Ok("right")
            }
            Is::Either => {
                *is = Is::Gone;
                Err(FragmentFault::Missing)
            }
        };
        assert_eq!(
            found, expected,
            "shard {s}, blob {b}, stripe {stripe} after {op}"
        );
    }
    for s in 0..SHARDS {
        let epoch = model.epoch(s);
        if epoch > 1 {
            let refused = rig.append(shard(s), epoch - 1, 99, 0..1).await;
            assert!(
                matches!(refused, Err(EngineError::Stale(_))),
                "{s} {refused:?}"
            );
        }
        let (blobs, _) = rig.engine.inventory(shard(s), None, 100).await.unwrap();
        let held = blobs.iter().flat_map(|blob| {
            let stripes = blob.stripes.iter().flat_map(|(first, last)| *first..=*last);
            stripes.map(|stripe| (u8::try_from(blob.blob.get() - 1).unwrap(), stripe))
        });
        let there = model
            .fragments
            .iter()
            .filter(|((shard, ..), is)| *shard == s && **is == Is::There);
        let there: Vec<(u8, u32)> = there.map(|((_, b, stripe), _)| (*b, *stripe)).collect();
        assert_eq!(
            held.collect::<Vec<_>>(),
            there,
            "inventory of {s} after {op}"
        );
    }
}

async fn apply(rig: &mut Rig, model: &mut Model, op: Op) {
    let name = format!("{op:?}");
    match op {
        Op::Append(appends) => {
            let outcomes = append_all(rig, model, &appends).await;
            for (append, outcome) in appends.into_iter().zip(outcomes) {
                outcome.unwrap();
                model.appended(append, true);
            }
        }
        Op::Delete(s, b) => {
            let blob = BlobId::new(u128::from(b) + 1);
            rig.engine.delete(shard(s), blob, Vec::new()).await.unwrap();
            model.deleted(s, b, 0..STRIPES, true);
        }
        Op::DeleteRun(s, b, first, count) => {
            let (blob, run) = (BlobId::new(u128::from(b) + 1), (first, first + count - 1));
            rig.engine.delete(shard(s), blob, vec![run]).await.unwrap();
            model.deleted(s, b, first..first + count, true);
        }
        Op::Fence(s) => {
            let epoch = model.epoch(s) + 1;
            rig.engine.fence(shard(s), Epoch::new(epoch)).await.unwrap();
            model.epochs.insert(s, epoch);
        }
        Op::Drop(s) => {
            rig.engine.drop_shard(shard(s)).await.unwrap();
            for b in 0..BLOBS {
                model.deleted(s, b, 0..STRIPES, true);
            }
            model.epochs.remove(&s);
        }
        Op::Reclaim => rig.engine.reclaim_all().await.unwrap(),
        Op::Checkpoint => rig.engine.checkpoint().unwrap(),
        Op::Reopen => rig.reopen().await,
        Op::Rebuild => rig.reopen_without_index().await,
        Op::Crash(seed) => rig.crash(seed).await,
        Op::CrashAmid(seed, appends, b) => crash_amid(rig, model, seed, &appends, b).await,
        Op::FailSync(appends) => fail_sync(rig, model, appends).await,
        Op::NoSpace(appends, room) => no_space(rig, model, appends, room).await,
    }
    check(rig, model, &name).await;
}

async fn crash_amid(rig: &mut Rig, model: &mut Model, seed: u64, appends: &[Stripes], b: u8) {
    let drive = rig.drive.clone();
    let deletes = async {
        let blob = BlobId::new(u128::from(b) + 1);
        let delete = |s| rig.engine.delete(shard(s), blob, Vec::new());
        join_all((0..SHARDS).map(delete)).await
    };
    let cut = async {
        tokio::task::yield_now().await;
        // Somewhere in the middle of what the committer does.
        for _ in 0..seed % 4 {
            tokio::task::yield_now().await;
        }
        drive.crash(seed);
    };
    let (outcomes, deleted, ()) = futures::join!(append_all(rig, model, appends), deletes, cut);
    // What a shard's own order of the two was is not known here.
    for (append, outcome) in appends.iter().zip(&outcomes) {
        model.appended(*append, outcome.is_ok());
    }
    for (s, outcome) in (0..SHARDS).zip(deleted) {
        let both = appends.iter().any(|(at, blob, ..)| *at == s && *blob == b);
        model.deleted(s, b, 0..STRIPES, outcome.is_ok() && !both);
    }
    rig.crash(seed.rotate_left(17)).await;
}

async fn fail_sync(rig: &mut Rig, model: &mut Model, appends: Vec<Stripes>) {
    let error = DriveError::Io("sync".to_owned());
    rig.drive
        .fail(crate::drive::memory::Action::Sync, 0, 1, error);
    let outcomes = append_all(rig, model, &appends).await;
    for (append, outcome) in appends.into_iter().zip(outcomes) {
        model.appended(append, outcome.is_ok());
    }
    rig.drive.mend();
    rig.crash(3).await;
}

async fn no_space(rig: &Rig, model: &mut Model, appends: Vec<Stripes>, room: u32) {
    rig.engine.fill().unwrap();
    let used = rig.drive.replug().space().unwrap();
    rig.drive
        .set_capacity(used.total - used.available + u64::from(room));
    let outcomes = append_all(rig, model, &appends).await;
    rig.drive.set_capacity(1 << 40);
    for (append, outcome) in appends.into_iter().zip(outcomes) {
        // An append that was refused for want of room has left nothing behind.
        match outcome {
            Err(EngineError::Full) => {}
            outcome => model.appended(append, outcome.is_ok()),
        }
    }
}

fn cases() -> u32 {
    if std::env::var_os("ENFILADE_SOAK").is_some() {
        20_000
    } else {
        250
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_does_what_its_model_does(
        alone in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::new();
            // Logs are synced together, or one by one.
            rig.drive.set_alone(alone);
            let mut model = Model::new();
            for op in ops {
                apply(&mut rig, &mut model, op).await;
            }
        });
    }
}
