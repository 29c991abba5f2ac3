//! Runs a sequence on an engine over a drive in memory, and compares.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use async_trait::async_trait;
use enfilade_cluster::env::Clock;
use enfilade_placement::BucketId;
use futures::future::join_all;

use super::ops::{Amid, BLOBS, Item, Op, SHARDS, STRIPES, Sequence, Stripes};
use super::reference::{Can, Outcome, Shard as Reference};
use crate::api::Owner;
use crate::drive::memory::Action;
use crate::engine::rows::RunRow;
use crate::engine::tests::*;

/// A clock that stands still but for what a sequence adds.
struct StillClock(AtomicU64);

#[async_trait]
impl Clock for StillClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    async fn sleep(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

const ACTIONS: [Action; 8] = [
    Action::Open,
    Action::Read,
    Action::Write,
    Action::SetLen,
    Action::Sync,
    Action::SyncFolder,
    Action::Rename,
    Action::Punch,
];

/// The bytes of a fragment, made once.
fn plain(blob: u8, stripe: u32) -> Bytes {
    static ALL: OnceLock<Vec<Bytes>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let names = (0..BLOBS).flat_map(|blob| (0..STRIPES).map(move |stripe| (blob, stripe)));
        names
            .map(|(blob, stripe)| fragment(u128::from(blob) + 1, stripe))
            .collect()
    });
    all[usize::from(blob) * STRIPES as usize + stripe as usize].clone()
}

fn shard(number: u8) -> ShardKey {
    key(u64::from(number / 2) + 1, number % 2)
}

fn id(blob: u8) -> BlobId {
    BlobId::new(u128::from(blob) + 1)
}

struct World {
    rig: Rig,
    clock: Arc<StillClock>,
    shards: Vec<Reference>,
    /// Fragments whose bytes do not follow from their names.
    odd: BTreeMap<(u8, u8, u32), Bytes>,
    /// Blocks that were made unreadable: more than a few are the drive's failure.
    spoilt: u32,
}

/// A drive bears so many unreadable places.
const SPOILT_MAX: u32 = 2;

pub(super) async fn run(sequence: Arc<Sequence>) {
    let clock = Arc::new(StillClock(AtomicU64::new(0)));
    let env = Env {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..Env::seeded(7)
    };
    let rig = Rig::of(Host::new(env, Settings::default()));
    rig.drive.set_alone(sequence.alone);
    let mut world = World {
        rig,
        clock,
        shards: vec![Reference::default(); usize::from(SHARDS)],
        odd: BTreeMap::new(),
        spoilt: 0,
    };
    for op in &sequence.ops {
        world.apply(op).await;
    }
    world.crash(99).await;
    world.check("the last crash").await;
}

impl World {
    fn bytes(&self, shard: u8, blob: u8, stripe: u32) -> Bytes {
        let odd = self.odd.get(&(shard, blob, stripe)).cloned();
        odd.unwrap_or_else(|| plain(blob, stripe))
    }

    async fn apply(&mut self, op: &Op) {
        // What is known of the room on the drive is old by then.
        self.clock.0.fetch_add(600, Ordering::Relaxed);
        match op {
            Op::Together(items, amid) => self.together(items, amid).await,
            Op::Reclaim => self.rig.engine.reclaim_all().await.unwrap(),
            Op::Checkpoint => self.rig.engine.checkpoint().unwrap(),
            Op::Reopen => self.rig.reopen().await,
            Op::Rebuild => self.rig.reopen_without_index().await,
            Op::Crash(seed) => self.crash(*seed).await,
            Op::RotPayload(which, at) => {
                self.rot(*which, *at, false).await;
                // Who finds it is not always a reader.
                if at & 1 == 0 {
                    return;
                }
            }
            Op::RotHeader(which, at) => self.rot(*which, *at, true).await,
            Op::RotHead(s, at) => {
                let copy = 2048 * u64::from(at & 1);
                let file = shard(*s).file();
                self.rig.drive.rot(&file, copy + u64::from(at >> 1) % 45);
            }
            Op::Spoil(which, at) => {
                self.spoil(*which, *at).await;
                // Who comes across it is not always a reader.
                if at & 2 == 0 {
                    return;
                }
            }
            Op::TakeAway(s, when, seed) => self.take_away(*s, *when, *seed).await,
        }
        self.check(&format!("{op:?}")).await;
    }

    async fn crash(&mut self, seed: u64) {
        self.rig.crash(seed).await;
    }

    /// Takes a log away that holds something; whoever asks must be told.
    async fn take_away(&mut self, s: u8, when: u8, seed: u64) {
        let log = self.rig.engine.shard_stats(shard(s));
        if log.is_none_or(|log| log.log_bytes <= crate::engine::log::HEAD_LEN) {
            return;
        }
        // What is not durable in the index is known to nobody when both go.
        self.rig.engine.checkpoint().unwrap();
        assert!(self.rig.drive.take_away(&shard(s).file()));
        match when {
            0 => {
                let engine = &self.rig.engine;
                let gone = engine.gone().await.unwrap();
                assert_eq!(gone.len(), 1);
                assert!(engine.lose(gone[0], Epoch::FIRST).await.unwrap());
                assert!(!engine.lose(gone[0], Epoch::FIRST).await.unwrap());
            }
            1 => self.rig.reopen().await,
            _ => self.crash(seed).await,
        }
        self.shards[usize::from(s)].lose();
        self.odd.retain(|(of, _, _), _| *of != s);
    }

    /// A fragment that is certain to be there, and whole.
    fn certain(&self, which: u16) -> Option<(u8, (u8, u32))> {
        let there = |reference: &Reference| -> Vec<(u8, u32)> {
            let certain = reference
                .fragments
                .iter()
                .filter(|(_, is)| is.can == Can::THERE && !is.rotten && !is.loose);
            certain.map(|(name, _)| *name).collect()
        };
        let all: Vec<(u8, (u8, u32))> = (0..SHARDS)
            .flat_map(|s| {
                let names = there(&self.shards[usize::from(s)]);
                names.into_iter().map(move |name| (s, name))
            })
            .collect();
        all.get(usize::from(which) % all.len().max(1)).copied()
    }

    /// Lets a byte rot, of the payload or of the header of what is proven to be synced.
    async fn rot(&mut self, which: u16, at: u16, header: bool) {
        let Some((s, (blob, stripe))) = self.certain(which) else {
            return;
        };
        let engine = &self.rig.engine;
        // Above what a later record proves to be synced, rot and a torn tail are the same.
        engine.mark(shard(s), Vec::new()).await.unwrap();
        let (first, run) = run_of(engine, s, blob, stripe).unwrap();
        let file = shard(s).file();
        let reference = &mut self.shards[usize::from(s)];
        if header {
            let place = u64::from(at) % record::FIXED_LEN as u64;
            assert!(self.rig.drive.rot(&file, run.record + place));
            reference.damaged = true;
            for ((blob, stripe), is) in &mut reference.fragments {
                let other = run_of(engine, s, *blob, *stripe);
                if other.is_some_and(|(_, other)| other.record == run.record) {
                    is.loose = true;
                    is.can = Can::ANY;
                }
            }
        } else {
            let (offset, len) = run.fragment(stripe - first).unwrap();
            assert!(
                self.rig
                    .drive
                    .rot(&file, offset + u64::from(at) % u64::from(len))
            );
            let is = reference.fragments.get_mut(&(blob, stripe)).unwrap();
            is.can = Can::CORRUPT;
            is.rotten = true;
        }
    }

    /// Makes a block of what is proven to be synced unreadable, unless it holds more than appends:
    /// what a lost delete or fence would bring back is another matter.
    async fn spoil(&mut self, which: u16, at: u16) {
        let Some((s, (blob, stripe))) = self.certain(which) else {
            return;
        };
        let engine = &self.rig.engine;
        engine.mark(shard(s), Vec::new()).await.unwrap();
        let (first, run) = run_of(engine, s, blob, stripe).unwrap();
        let (offset, len) = run.fragment(stripe - first).unwrap();
        let place = match at & 1 {
            0 => run.record,
            _ => offset + u64::from(at >> 2) % u64::from(len),
        };
        let block =
            place / record::BLOCK * record::BLOCK..(place / record::BLOCK + 1) * record::BLOCK;
        let meets = |from: u64, to: u64| from < block.end && to > block.start;
        let records = self.records(s);
        let inside: Vec<_> = records
            .iter()
            .filter(|found| meets(found.offset, found.end()))
            .collect();
        let appends = |found: &&crate::engine::log::Found| {
            matches!(found.record.body, record::Body::Append { .. })
        };
        if self.spoilt >= SPOILT_MAX || inside.is_empty() || !inside.iter().all(appends) {
            return;
        }
        self.spoilt += 1;
        assert!(self.rig.drive.spoil(&shard(s).file(), place));
        let engine = &self.rig.engine;
        let reference = &mut self.shards[usize::from(s)];
        let headers = inside
            .iter()
            .filter(|found| meets(found.offset, found.offset + found.header_len as u64));
        let headers: Vec<u64> = headers.map(|found| found.offset).collect();
        reference.damaged |= !headers.is_empty();
        for ((blob, stripe), is) in &mut reference.fragments {
            let Some((first, run)) = run_of(engine, s, *blob, *stripe) else {
                continue;
            };
            let Some((offset, len)) = run.fragment(stripe - first) else {
                continue;
            };
            if headers.contains(&run.record) {
                is.loose = true;
                is.can = Can::ANY;
            } else if meets(offset, offset + u64::from(len)) {
                is.rotten = true;
                // What a log holds elsewhere may be zeros.
                let odd = self.odd.contains_key(&(s, *blob, *stripe));
                is.can = match is.can {
                    Can::THERE if !odd => Can::CORRUPT,
                    can => can.or(Can::CORRUPT),
                };
            }
        }
    }

    /// The records of a shard's log.
    fn records(&self, s: u8) -> Vec<crate::engine::log::Found> {
        let engine = &self.rig.engine;
        let log = engine.log_id(shard(s)).unwrap();
        let file = engine.log_file(log).unwrap();
        let file = engine.lenient(shard(s), file.as_ref());
        let scan = crate::engine::log::Scan {
            file: &file,
            len: engine.shard(shard(s), false).unwrap().log().tail,
            key: shard(s),
            incarnation: Some(log.incarnation),
        };
        let (mut at, mut found) = (crate::engine::log::HEAD_LEN, Vec::new());
        while let Some(stretch) = scan.next(at).unwrap() {
            at = stretch.end();
            if let crate::engine::log::Stretch::Record(record) = stretch {
                found.push(record);
            }
        }
        found
    }

    async fn together(&mut self, items: &[Item], amid: &Amid) {
        let drive = self.rig.drive.clone();
        match amid {
            Amid::Nothing => {}
            Amid::Cut { after, seed } => drive.crash_after(*after, *seed),
            Amid::Fail {
                action,
                after,
                times,
                ..
            } => {
                let error = DriveError::Io("injected".to_owned());
                drive.fail(ACTIONS[usize::from(*action)], *after, *times, error);
            }
            Amid::Room(room) => {
                let space = drive.replug().space().unwrap();
                drive.set_capacity(space.total - space.available + u64::from(*room));
            }
        }
        for item in items {
            self.make_odd(item);
        }
        let before = self.shards.clone();
        let outcomes = join_all(items.iter().map(|item| self.act(item))).await;
        let results = items.iter().zip(&outcomes);
        let results: Vec<(&Item, Outcome)> = results.map(|(item, is)| (item, *is)).collect();
        for (item, outcome) in &results {
            let s = item.shard();
            let early = matches!(item, Item::Append { early: true, .. }) && self.epochs(s).0 > 1;
            let dropped = items
                .iter()
                .any(|item| matches!(item, Item::Drop(of) if *of == s));
            let taken = early && !dropped && *outcome == Outcome::Done;
            assert!(!taken, "an old epoch was taken: {item:?}");
        }
        for s in 0..SHARDS {
            let of: Vec<_> = results
                .iter()
                .filter(|(item, _)| item.shard() == s)
                .collect();
            self.shards[usize::from(s)] = after_all(&before[usize::from(s)], &of);
        }
        drive.mend();
        drive.set_capacity(1 << 40);
        match amid {
            Amid::Nothing => {
                assert_eq!(self.rig.engine.failure(), None);
                // Without a fault, only an epoch is a reason to refuse.
                let fences = |s| {
                    items
                        .iter()
                        .any(|item| matches!(item, Item::Fence(of) if *of == s))
                };
                for (item, outcome) in &results {
                    let early = matches!(item, Item::Append { early: true, .. });
                    let may = early || fences(item.shard());
                    assert!(*outcome == Outcome::Done || may, "{item:?} was {outcome:?}");
                }
            }
            Amid::Room(_) => assert_eq!(self.rig.engine.failure(), None),
            Amid::Cut { seed, .. } => self.crash(seed.rotate_left(17)).await,
            Amid::Fail {
                cut: Some(seed), ..
            } => self.crash(*seed).await,
            Amid::Fail { cut: None, .. } => self.rig.reopen().await,
        }
    }

    /// Chooses the bytes of a fragment that is to hold a part of a log.
    fn make_odd(&mut self, item: &Item) {
        let Item::AppendLog { at, from } = item else {
            return;
        };
        let name = (at.shard, at.blob, at.first);
        let known = &self.shards[usize::from(at.shard)].fragments;
        let content = self.rig.drive.content(&shard(at.shard).file());
        let content = content.unwrap_or_default();
        if known.contains_key(&(at.blob, at.first)) || content.len() < 8192 {
            return;
        }
        let run = run_of(&self.rig.engine, at.shard, 0, 0);
        let from = match run {
            Some((_, run)) if from & 1 == 0 => usize::try_from(run.record).unwrap(),
            _ => 4096 + usize::from(*from) * 8 % (content.len() - 4096),
        };
        let end = content.len().min(from + 6000);
        if end > from {
            self.odd.insert(name, content[from..end].to_vec().into());
        }
    }

    fn epochs(&self, s: u8) -> (u64, u64) {
        let (least, most) = self.shards[usize::from(s)].fence;
        (least, most.max(1))
    }

    async fn act(&self, item: &Item) -> Outcome {
        let engine = &self.rig.engine;
        let s = item.shard();
        let (least, current) = self.epochs(s);
        let told = |done: Result<(), EngineError>| match done {
            Ok(()) => Outcome::Done,
            Err(EngineError::Failed(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        match item {
            Item::Append {
                at,
                marks,
                owner,
                early,
            } => {
                let mut append = self.append_of(*at, at.count);
                let marked = (0..BLOBS).filter(|blob| marks & (1 << blob) != 0);
                append.marks = marked.map(id).collect();
                append.owner = owner.then(owner_of);
                let early = *early && least > 1;
                append.epoch = Epoch::new(if early { least - 1 } else { current });
                told(self.append(s, append).await)
            }
            Item::AppendLog { at, .. } => {
                let mut append = self.append_of(*at, 1);
                append.epoch = Epoch::new(current);
                told(self.append(s, append).await)
            }
            Item::Delete { blob, .. } => told(engine.delete(shard(s), id(*blob), Vec::new()).await),
            Item::DeleteRun(at) => {
                let run = (at.first, at.first + at.count - 1);
                told(engine.delete(shard(s), id(at.blob), vec![run]).await)
            }
            Item::Mark { blob, .. } => told(engine.mark(shard(s), vec![id(*blob)]).await),
            Item::Fence(_) => {
                let fenced = engine.fence(shard(s), Epoch::new(current + 1)).await;
                told(fenced.map(|_| ()))
            }
            Item::Drop(_) => told(engine.drop_shard(shard(s)).await),
            // Whatever came of it: what the shard holds is the same.
            Item::Compact(_) => {
                let _ = engine.compact(shard(s)).await;
                Outcome::Done
            }
            Item::Scrub(_) => {
                let _ = engine.scrub(shard(s)).await;
                Outcome::Done
            }
            Item::Read { at, offset, len } => {
                self.read_parts(*at, *offset, *len).await;
                Outcome::Done
            }
        }
    }

    fn append_of(&self, at: Stripes, count: u32) -> Append {
        let stripes = at.first..at.first + count;
        let payload: Vec<Bytes> = stripes
            .clone()
            .map(|stripe| self.bytes(at.shard, at.blob, stripe))
            .collect();
        append_bytes(shard(at.shard), id(at.blob).get(), stripes, payload)
    }

    async fn append(&self, s: u8, append: Append) -> Result<(), EngineError> {
        let bytes = append.payload.iter().map(|bytes| bytes.len() as u64).sum();
        let admission = self.rig.engine.admit(bytes)?;
        self.rig.engine.append(shard(s), append, admission).await?;
        Ok(())
    }

    /// Reads parts of fragments; whatever is under way, they are right or not there.
    async fn read_parts(&self, at: Stripes, offset: u32, len: u32) {
        let ranges: Vec<FragmentRange> = (at.first..at.first + at.count)
            .map(|stripe| {
                let whole = u32::try_from(self.bytes(at.shard, at.blob, stripe).len()).unwrap();
                let offset = offset % whole;
                let len = len.min(whole - offset).max(1);
                FragmentRange {
                    stripe,
                    offset,
                    len,
                }
            })
            .collect();
        let engine = &self.rig.engine;
        let answers = engine
            .read(shard(at.shard), id(at.blob), ranges.clone())
            .await;
        for (answer, range) in answers.into_iter().zip(ranges) {
            if let Ok(blocks) = answer {
                let whole = self.bytes(at.shard, at.blob, range.stripe);
                let (from, to) = (range.offset as usize, (range.offset + range.len) as usize);
                assert_eq!(blocks.cut(&range).unwrap(), whole[from..to], "{range:?}");
            }
        }
    }

    /// Compares everything that the engine answers with the reference; from then on it is what it
    /// was found to be.
    async fn check(&mut self, after: &str) {
        let faults = self.rig.engine.faults(1000).unwrap();
        for s in 0..SHARDS {
            self.check_fragments(s, after).await;
            self.check_inventory(s, after).await;
        }
        // A reader may have found rot that the first list did not have yet, never the reverse.
        let now = self.rig.engine.faults(1000).unwrap();
        for fault in faults {
            assert!(
                now.contains(&fault),
                "{fault:?} was forgotten after {after}"
            );
        }
        self.check_faults(&now, after);
    }

    async fn check_fragments(&mut self, s: u8, after: &str) {
        for blob in 0..BLOBS {
            let fragments = &self.shards[usize::from(s)].fragments;
            let stripes: Vec<u32> = fragments
                .range((blob, 0)..(blob + 1, 0))
                .map(|((_, stripe), _)| *stripe)
                .collect();
            let range = |stripe: &u32| FragmentRange {
                stripe: *stripe,
                offset: 0,
                len: u32::try_from(self.bytes(s, blob, *stripe).len()).unwrap(),
            };
            let ranges: Vec<FragmentRange> = stripes.iter().map(range).collect();
            if ranges.is_empty() {
                continue;
            }
            let answers = self
                .rig
                .engine
                .read(shard(s), id(blob), ranges.clone())
                .await;
            for (answer, range) in answers.into_iter().zip(ranges) {
                let stripe = range.stripe;
                let right = self.bytes(s, blob, stripe);
                let found = match answer.map(|blocks| blocks.cut(&range).unwrap()) {
                    Ok(bytes) if bytes == right => Can::THERE,
                    Ok(_) => panic!("wrong bytes: {s} {blob} {stripe} after {after}"),
                    Err(FragmentFault::Missing) => Can::GONE,
                    Err(FragmentFault::Corrupt) => Can::CORRUPT,
                    Err(other) => panic!("{other:?}: {s} {blob} {stripe} after {after}"),
                };
                let is = self.shards[usize::from(s)]
                    .fragments
                    .get_mut(&(blob, stripe));
                let is = is.unwrap();
                assert!(
                    is.can.may(found),
                    "shard {s}, blob {blob}, stripe {stripe} is {found:?} and may be {is:?} after \
                     {after}"
                );
                if !is.loose {
                    is.can = found;
                    is.rotten = false;
                }
            }
        }
    }

    async fn check_inventory(&mut self, s: u8, after: &str) {
        let (blobs, _) = self
            .rig
            .engine
            .inventory(shard(s), None, 100)
            .await
            .unwrap();
        let reference = &mut self.shards[usize::from(s)];
        let loose = reference.damaged;
        let mut held = Vec::new();
        for blob in &blobs {
            let number = u8::try_from(blob.blob.get() - 1).unwrap();
            let stripes = blob.stripes.iter().flat_map(|(first, last)| *first..=*last);
            held.extend(stripes.map(|stripe| (number, stripe)));
        }
        let there = reference
            .fragments
            .iter()
            .filter(|(_, is)| !is.can.may(Can::GONE));
        let there: Vec<(u8, u32)> = there.map(|(name, _)| *name).collect();
        if !loose {
            assert_eq!(held, there, "inventory of {s} after {after}");
        }
        let live: usize = there
            .iter()
            .map(|(blob, stripe)| {
                let odd = self.odd.get(&(s, *blob, *stripe)).cloned();
                odd.unwrap_or_else(|| plain(*blob, *stripe)).len()
            })
            .sum();
        if let Some(stats) = self.rig.engine.shard_stats(shard(s)).filter(|_| !loose) {
            assert_eq!(stats.live, live as u64, "live bytes of {s} after {after}");
        }
        let reference = &mut self.shards[usize::from(s)];
        for number in (0..BLOBS).filter(|_| !loose) {
            let row = blobs.iter().find(|blob| blob.blob == id(number));
            let is = reference
                .blobs
                .entry(number)
                .or_insert(super::reference::Blob::NEVER);
            let told = |expected: &mut Option<bool>, found: bool, what: &str| {
                let expected = expected.get_or_insert(found);
                assert_eq!(*expected, found, "{what} of {s} {number} after {after}");
            };
            told(&mut is.known, row.is_some(), "row");
            let committed = row.is_some_and(|row| row.committed);
            told(&mut is.committed, committed, "mark");
            let owned = row.is_some_and(|row| row.owner.is_some());
            told(&mut is.owner, owned, "owner");
        }
    }

    fn check_faults(&self, faults: &[Fault], after: &str) {
        for fault in faults {
            let s = (0..SHARDS).find(|s| shard(*s) == fault.key).unwrap();
            let reference = &self.shards[usize::from(s)];
            let founded = match fault.fragment {
                None => reference.damaged || reference.lost.1,
                Some((blob, stripe)) => {
                    let name = (u8::try_from(blob.get() - 1).unwrap(), stripe);
                    let is = reference.fragments.get(&name);
                    is.is_some_and(|is| is.can.may(Can::CORRUPT))
                }
            };
            assert!(founded, "{fault:?} is none after {after}");
        }
        for (s, reference) in (0..SHARDS).zip(&self.shards) {
            let lost = Fault {
                key: shard(s),
                fragment: None,
            };
            let told = !reference.lost.0 || faults.contains(&lost);
            assert!(told, "{lost:?} is not told after {after}");
            for ((blob, stripe), is) in &reference.fragments {
                let exact = Fault {
                    key: shard(s),
                    fragment: Some((id(*blob), *stripe)),
                };
                let told = is.can != Can::CORRUPT || faults.contains(&exact);
                assert!(told, "{exact:?} is not told after {after}");
            }
        }
    }
}

/// The run that holds a fragment.
fn run_of(engine: &Engine, s: u8, blob: u8, stripe: u32) -> Option<(u32, RunRow)> {
    let log = engine.log_id(shard(s))?;
    let runs = engine.rows().runs(log, id(blob), (stripe, stripe)).unwrap();
    runs.into_iter().next()
}

fn owner_of() -> Owner {
    Owner {
        at: enfilade_cluster::api::key::ObjectKey::new(BucketId::new(1), "k"),
        upload: None,
    }
}

/// The state of a shard after items that were under way together, in whichever order.
fn after_all(before: &Reference, items: &[&(&Item, Outcome)]) -> Reference {
    let epoch = before.fence.1.max(1) + 1;
    let apply = |items: &[&(&Item, Outcome)]| {
        let mut now = before.clone();
        for (item, outcome) in items {
            now = match outcome {
                Outcome::Done => now.after(item, epoch),
                Outcome::Refused => now,
                Outcome::Unknown => now.or(&now.after(item, epoch)),
            };
        }
        now
    };
    let mut state = apply(items);
    let removes = |item: &&&(&Item, Outcome)| item.0.removes();
    if items.iter().any(|item| removes(&item)) && items.len() > 1 {
        let (gone, rest): (Vec<_>, Vec<_>) = items.iter().copied().partition(|item| removes(&item));
        state = state.or(&apply(&[gone.clone(), rest.clone()].concat()));
        state = state.or(&apply(&[rest, gone].concat()));
    }
    state
}
