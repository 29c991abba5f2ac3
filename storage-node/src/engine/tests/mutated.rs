//! Damaged logs: whatever the bytes are, nothing panics, nothing loops, and no fragment is wrong.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::drive::memory::Action;
use crate::engine::log::write_record;
use crate::engine::record::{Body, Record};

/// What happens to the bytes of a log. Places are parts of 65,536 of its length.
#[derive(Debug, Clone)]
enum Damage {
    Flip(u16, u8),
    Zero(u16, u16),
    /// A former life shows through, in its place.
    Former(u16, u16),
    Truncate(u16),
    /// Bytes from one place of a log (this one, a former life of it, another shard's) to another.
    Copy {
        log: u8,
        from: u16,
        len: u16,
        to: u16,
    },
    /// The same, and what comes after moves on.
    Insert {
        log: u8,
        from: u16,
        len: u16,
        to: u16,
    },
    Remove(u16, u16),
    Garbage(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let copy = || (0..3u8, any::<u16>(), any::<u16>(), any::<u16>());
    prop_oneof![
        3 => any::<(u16, u8)>().prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<(u16, u16)>().prop_map(|(at, len)| Damage::Zero(at, len)),
        1 => any::<(u16, u16)>().prop_map(|(at, len)| Damage::Former(at, len)),
        1 => any::<u16>().prop_map(Damage::Truncate),
        2 => copy().prop_map(|(log, from, len, to)| Damage::Copy { log, from, len, to }),
        2 => copy().prop_map(|(log, from, len, to)| Damage::Insert { log, from, len, to }),
        1 => any::<(u16, u16)>().prop_map(|(at, len)| Damage::Remove(at, len)),
        1 => vec(any::<u8>(), 0..2000).prop_map(Damage::Garbage),
    ]
}

fn place(part: u16, len: usize) -> usize {
    // Where records may begin, mostly.
    let at = usize::from(part) * (len + 1) / 65_536;
    if part & 7 == 0 { at } else { at / 8 * 8 }
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, logs: &[Vec<u8>; 3]) {
        let range = |at: u16, len: u16, all: usize| {
            let from = place(at, all);
            from..(from + usize::from(len) / 8 + 1).min(all)
        };
        match self {
            Self::Flip(at, bit) => {
                let at = usize::from(*at) * bytes.len() / 65_536;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Zero(at, len) => {
                let range = range(*at, *len, bytes.len());
                bytes[range].fill(0);
            }
            Self::Former(at, len) => {
                let former = &logs[1];
                let range = range(*at, *len, bytes.len().min(former.len()));
                bytes[range.clone()].copy_from_slice(&former[range]);
            }
            Self::Truncate(at) => bytes.truncate(place(*at, bytes.len())),
            Self::Copy { log, from, len, to } => {
                let source = &logs[usize::from(*log)];
                let source = &source[range(*from, *len, source.len())];
                let to = place(*to, bytes.len());
                let end = bytes.len().max(to + source.len());
                bytes.resize(end, 0);
                bytes[to..to + source.len()].copy_from_slice(source);
            }
            Self::Insert { log, from, len, to } => {
                let source = &logs[usize::from(*log)];
                let source = source[range(*from, *len, source.len())].to_vec();
                let to = place(*to, bytes.len());
                bytes.splice(to..to, source);
            }
            Self::Remove(at, len) => {
                let range = range(*at, *len, bytes.len());
                bytes.drain(range);
            }
            Self::Garbage(garbage) => bytes.extend_from_slice(garbage),
        }
    }
}

const SHARD: (u64, u8) = (1, 0);

/// A drive with a log of many records; a former life of the log, and another shard's.
async fn written() -> (Rig, [Vec<u8>; 3]) {
    let rig = Rig::new();
    let shard = key(SHARD.0, SHARD.1);
    rig.append(shard, 1, 1, 0..3).await.unwrap();
    rig.append(shard, 1, 2, 0..2).await.unwrap();
    let former = rig.drive.content(&shard.file()).unwrap();
    rig.engine.drop_shard(shard).await.unwrap();
    rig.append(key(2, 0), 1, 1, 0..3).await.unwrap();
    for blob in 1..4u128 {
        rig.append(shard, 1, blob, 0..3).await.unwrap();
    }
    rig.engine
        .delete(shard, BlobId::new(2), vec![(1, 1)])
        .await
        .unwrap();
    rig.engine.mark(shard, vec![BlobId::new(1)]).await.unwrap();
    rig.engine.fence(shard, Epoch::new(1)).await.unwrap();
    rig.append(shard, 1, 2, 1..2).await.unwrap();
    rig.append(shard, 1, 4, 5..8).await.unwrap();
    rig.settle().await;
    let log = |key: ShardKey| rig.drive.content(&key.file()).unwrap();
    let logs = [log(shard), former, log(key(2, 0))];
    (rig, logs)
}

/// Puts bytes in the place of the log, opens the drive, and looks at everything.
async fn open_and_look(rig: &mut Rig, bytes: &[u8], keeps_index: bool) {
    let shard = key(SHARD.0, SHARD.1);
    let file = rig.drive.open(&shard.file(), Open::Existing).unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, &[std::io::IoSlice::new(bytes)]).unwrap();
    file.sync().unwrap();
    // More reads than any walk takes: one that loops fails.
    let most = 5000;
    rig.drive.fail(
        Action::Read,
        most,
        u32::MAX,
        DriveError::Io("too many reads".to_owned()),
    );
    match keeps_index {
        true => rig.reopen().await,
        false => rig.reopen_without_index().await,
    }
    for blob in 1..5u128 {
        for stripe in 0..8 {
            match rig.read(shard, blob, stripe).await {
                Ok(bytes) => assert_eq!(bytes, fragment(blob, stripe), "{blob} {stripe}"),
                Err(FragmentFault::Missing | FragmentFault::Corrupt) => {}
                Err(other) => panic!("{blob} {stripe}: {other:?}"),
            }
        }
    }
    rig.engine.inventory(shard, None, 100).await.unwrap();
    rig.engine.faults(100).unwrap();
    // The other shard is as it was, and this one takes what is new.
    assert_eq!(rig.read(key(2, 0), 1, 2).await, Ok(fragment(1, 2)));
    rig.append(shard, u64::MAX, 9, 0..2).await.unwrap();
    rig.reopen_without_index().await;
    assert_eq!(rig.read(shard, 9, 1).await, Ok(fragment(9, 1)));
}

fn cases() -> u32 {
    match std::env::var_os("ENFILADE_SOAK") {
        Some(_) => 100_000,
        None => 2000,
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn on_a_runtime(act: impl AsyncFn() + Send + Sync + 'static) {
    let act = Arc::new(act);
    crate::sync::schedule::run(0, move || crate::sync::schedule::wait(act()));
}

/// A record that some log might hold, with any numbers in it.
fn any_record() -> impl Strategy<Value = (Record, Vec<u8>)> {
    let stripe = || prop_oneof![0..9u32, Just(u32::MAX), any::<u32>()];
    let runs = vec((stripe(), stripe()), 0..3);
    let lens = vec(prop_oneof![Just(0u32), 1..600u32, Just(4_194_304)], 0..3);
    let number = || prop_oneof![0..5000u64, Just(u64::MAX >> 1), any::<u64>()];
    let payload = vec(any::<u8>(), 0..300);
    (
        0..6u8,
        number(),
        number(),
        number(),
        0..5u128,
        stripe(),
        runs,
        lens,
        payload,
    )
        .prop_map(
            |(kind, sequence, synced, epoch, blob, first_stripe, runs, lens, payload)| {
                let blob = BlobId::new(blob);
                let fragment = |len| FragmentHeader {
                    len,
                    checksums: vec![0; crate::erasure::checksum::checksum_count(len as usize)],
                };
                let body = match kind {
                    0 => Body::Append {
                        blob,
                        first_stripe,
                        fragments: lens.into_iter().map(fragment).collect(),
                        owner: None,
                        marks: vec![blob],
                    },
                    1 => Body::Delete { blob, runs },
                    2 => Body::Bad { blob, runs },
                    3 => Body::Fence,
                    4 => Body::Lost,
                    _ => Body::Commit { marks: vec![blob] },
                };
                let record = Record {
                    sequence,
                    padding: 0,
                    synced,
                    volume: VolumeId::new(SHARD.0),
                    member: SHARD.1,
                    epoch: Epoch::new(epoch),
                    body,
                };
                (record, payload)
            },
        )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_mutated_log_yields_no_wrong_fragment(
        damages in vec(damage(), 1..6),
        keeps_index in any::<bool>(),
    ) {
        on_a_runtime(async move || {
            let (mut rig, logs) = written().await;
            let mut bytes = logs[0].clone();
            for damage in &damages {
                damage.apply(&mut bytes, &logs);
            }
            open_and_look(&mut rig, &bytes, keeps_index).await;
        });
    }

    #[test]
    fn any_bytes_are_a_log_that_can_be_opened(
        head in any::<bool>(),
        bytes in vec(any::<u8>(), 0..10_000),
        magic in vec(any::<u16>(), 0..20),
    ) {
        on_a_runtime(async move || {
            let (mut rig, logs) = written().await;
            let mut bytes = bytes.clone();
            for at in &magic {
                let at = usize::from(*at) / 8 * 8;
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&record::MAGIC);
                }
            }
            let whole = if head { [&logs[0][..4096], bytes.as_slice()].concat() } else { bytes };
            open_and_look(&mut rig, &whole, head).await;
        });
    }

    #[test]
    fn records_that_nobody_wrote_do_no_harm(records in vec(any_record(), 1..6)) {
        on_a_runtime(async move || {
            let (mut rig, logs) = written().await;
            let shard = key(SHARD.0, SHARD.1);
            let incarnation = rig.engine.shard(shard, false).unwrap().log().row.incarnation;
            let scratch = MemoryDrive::default();
            let file = scratch.open("log", Open::New).unwrap();
            file.write_at(0, &[std::io::IoSlice::new(&logs[0])]).unwrap();
            for (record, payload) in &records {
                let end = file.size().unwrap().next_multiple_of(8);
                let header = record.encode(incarnation, end);
                write_record(file.as_ref(), end, &header, &[payload.clone().into()]).unwrap();
            }
            let bytes = scratch.content("log").unwrap();
            open_and_look_at_records(&mut rig, &bytes).await;
        });
    }

    #[test]
    fn a_mutated_superblock_is_the_one_that_was_stored_or_none(
        damages in vec((0..2usize, damage()), 1..4),
    ) {
        use crate::drive::superblock::{Superblock, load, names, store};
        let drive = MemoryDrive::default();
        let superblock = Superblock {
            revision: 3,
            cluster: enfilade_placement::ClusterId::new(1),
            incarnation: enfilade_placement::Incarnation::new(1),
            drive: DRIVE,
            file_system: 5,
            generation: enfilade_placement::Generation::new(2),
            pending: None,
        };
        store(&drive, &superblock).unwrap();
        let whole = drive.content(names()[0]).unwrap();
        for (which, damage) in damages {
            let name = names()[which];
            let mut bytes = drive.content(name).unwrap();
            damage.apply(&mut bytes, &[whole.clone(), whole.clone(), whole.clone()]);
            let file = drive.open(name, Open::Existing).unwrap();
            file.set_len(0).unwrap();
            file.write_at(0, &[std::io::IoSlice::new(&bytes)]).unwrap();
        }
        if let Ok(loaded) = load(&drive) {
            prop_assert_eq!(loaded, superblock);
        }
    }
}

/// As [`open_and_look`], of records that say anything: an epoch of theirs may bar new appends.
async fn open_and_look_at_records(rig: &mut Rig, bytes: &[u8]) {
    let shard = key(SHARD.0, SHARD.1);
    let file = rig.drive.open(&shard.file(), Open::Existing).unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, &[std::io::IoSlice::new(bytes)]).unwrap();
    file.sync().unwrap();
    for round in 0..2 {
        match round {
            0 => rig.reopen().await,
            _ => rig.reopen_without_index().await,
        }
        for blob in 0..5u128 {
            for stripe in 0..9 {
                if let Ok(bytes) = rig.read(shard, blob, stripe).await {
                    assert_eq!(bytes, fragment(blob, stripe), "{blob} {stripe}");
                }
            }
        }
        rig.engine.inventory(shard, None, 100).await.unwrap();
        rig.engine.faults(100).unwrap();
        let _ = rig.append(shard, u64::MAX, 9, 0..2).await;
        assert_eq!(rig.engine.failure(), None);
    }
}
