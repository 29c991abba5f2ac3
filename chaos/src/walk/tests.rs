//! The walk reads the bytes that are on drives, and whatever is planted there, or in the ledger,
//! it notices: a walk that cannot fail proves nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::drives::Drives;
use super::format::{self, Act, FIRST_RECORD, Shard};
use super::judge::{Contradiction, Counts};
use super::log::{Log, State};
use super::said::{Blob, Table, Volume};
use super::{Demand, Turn, turn};
use crate::client::{Condition, S3, Store};
use crate::cluster::{self, Cluster, Login, Shape};
use crate::workload::body;

/// The format's own samples: what the drive engine writes at offset 8192 of a log.
const SAMPLES: &str = include_str!("../../../storage-node/src/engine/record/golden.txt");
const SAMPLE_AT: usize = 8192;
const SAMPLE_OF: Shard = Shard {
    volume: 0x11,
    member: 5,
};
const INCARNATION: u64 = 0x0102_0304_0506_0708;

fn sample(name: &str) -> Vec<u8> {
    let mut lines = SAMPLES.lines().filter_map(|line| line.split_once(' '));
    let (_, bytes) = lines.find(|(found, _)| *found == name).unwrap();
    let mut log = vec![0; SAMPLE_AT];
    log.extend(hex::decode(bytes).unwrap());
    log
}

#[test]
fn the_formats_own_samples_are_read() {
    let read = |name: &str| {
        let record = format::record(&sample(name), SAMPLE_AT, SAMPLE_OF, Some(INCARNATION));
        record.unwrap()
    };
    let runs = vec![(1, 2), (9, 9)];
    let blob = 0xb10b;
    assert_eq!(read("delete-runs").act, Act::Delete { blob, runs });
    let runs = vec![(3, 3)];
    assert_eq!(read("bad").act, Act::Bad { blob, runs });
    assert_eq!(read("lost").act, Act::Lost);
    assert_eq!(read("fence").act, Act::Other);
    assert_eq!(read("padded").end, sample("padded").len() + 3960);
    for name in ["append", "append-plain"] {
        let append = read(name);
        let header = sample(name).len();
        let Act::Append {
            blob: 0xb10b,
            first: 12,
            fragments,
        } = append.act
        else {
            panic!("{append:?}");
        };
        let places: Vec<_> = fragments.iter().map(|one| (one.at, one.len)).collect();
        assert_eq!(places, [(header, 4224), (header + 4224, 128)]);
        assert_eq!((append.end, append.synced), (header + 4352, 4096));
    }
}

#[test]
fn a_record_elsewhere_of_another_life_or_with_one_wrong_bit_is_none() {
    let log = sample("append");
    let read = |log: &[u8], at, shard, incarnation| format::record(log, at, shard, incarnation);
    assert!(read(&log, SAMPLE_AT, SAMPLE_OF, None).is_some());
    assert!(read(&log[8..], SAMPLE_AT - 8, SAMPLE_OF, None).is_none());
    assert!(read(&log, SAMPLE_AT, SAMPLE_OF, Some(1)).is_none());
    let member = 4;
    let other = Shard {
        member,
        ..SAMPLE_OF
    };
    assert!(read(&log, SAMPLE_AT, other, None).is_none());
    for at in SAMPLE_AT..log.len() {
        let mut log = log.clone();
        log[at] ^= 1;
        assert!(read(&log, SAMPLE_AT, SAMPLE_OF, None).is_none(), "{at}");
    }
}

#[test]
fn a_superblock_names_its_drive_unless_it_is_rotten() {
    // As the drive engine's own test has it.
    let golden = "454e4653555045520100000036000000010700000000000000000000000000000001\
                  0200000000000000000000000000000003040501000000000000000000000000\
                  0000000643ad68f5";
    let mut bytes = hex::decode(golden).unwrap();
    assert_eq!(format::superblock(&bytes), Some((7, 3)));
    bytes[30] ^= 1;
    assert_eq!(format::superblock(&bytes), None);
}

#[test]
fn later_records_undo_earlier_ones() {
    // Records of one log lie behind each other; these are only valid at their own place, so each
    // is taken in by itself.
    let mut log = Log::default();
    let mut take = |name: &str| {
        let record = format::record(&sample(name), SAMPLE_AT, SAMPLE_OF, None);
        log.apply(record.unwrap());
        let held: Vec<u32> = log.held().map(|(_, stripe, _)| stripe).collect();
        held
    };
    assert_eq!(take("append"), [12, 13]);
    assert_eq!(take("bad"), [12, 13]);
    assert_eq!(take("delete-runs"), [12, 13]);
    assert!(take("delete").is_empty());
}

/// A cluster in one process with some objects, stopped: its drives, and what it said before.
struct Stopped {
    folder: tempfile::TempDir,
    table: Table,
    demand: Demand,
}

impl Stopped {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn turn(&self) -> Turn {
        self.turn_with(&self.table)
    }

    fn turn_with(&self, table: &Table) -> Turn {
        turn(&self.data(), table, &self.demand, None).unwrap()
    }

    /// A fragment of some blob on a member that stores it: where it is in which file.
    fn fragment(&self, shortened: bool) -> (Shard, u128, u32, PathBuf, usize, usize) {
        let drives = Drives::find(&self.data()).unwrap();
        let wanted = self.demand.volumes.iter();
        let mut wanted = wanted.flat_map(|(id, all)| all.iter().map(move |one| (id, one)));
        let (volume, one) = wanted
            .find(|(_, one)| one.code.shortened == shortened)
            .unwrap();
        let volume: &Volume = &self.table.volumes[volume];
        let member = (0..one.code.k).find(|member| one.code.stores(*member));
        let member = member.unwrap();
        let (shard, drive) = (volume.shard(member), volume.drive(member).unwrap());
        let log = Log::of(drives.log(drive, shard).unwrap().unwrap(), drive, shard);
        let (blob, stripe) = (one.code.blob, one.extent.first_stripe);
        let len = one.code.fragment_bytes(stripe);
        assert_eq!(log.state(blob, stripe, len), State::Good);
        let at = log.place(blob, stripe).unwrap();
        (shard, blob, stripe, drives.path(drive, shard), at, len)
    }
}

async fn stopped() -> Stopped {
    let folder = tempfile::tempdir().unwrap();
    let login = Login {
        user: "walker".to_owned(),
        password: "walker-walker-walker".to_owned(),
    };
    let shape = Shape {
        enclosures: 4,
        drives: 2,
        profile: "4+2".to_owned(),
        processes: false,
        files: None,
        volume_target: None,
    };
    let program = cluster::find(None).unwrap();
    let data = folder.path().join("data");
    let patience = Duration::from_secs(60);
    let mut cluster = Cluster::new(&program, folder.path(), &data, shape, login.clone());
    cluster.up(patience).await.unwrap();
    let s3 = S3::new("walk", login, cluster.s3().unwrap(), patience);
    s3.create_bucket().await.unwrap();
    for (number, length) in [(1, 20_000), (2, 700_000), (3, 3_000_000), (4, 5_000)] {
        let key = format!("object/{number}");
        let body = body::whole(1, number, length);
        s3.put(&key, body, Condition::None).await.unwrap();
    }
    let parts = body::parts(1, 5, &[5 << 20, 100_000]);
    s3.put("object/5", parts, Condition::None).await.unwrap();
    s3.delete("object/2").await.unwrap();
    let ask = cluster.ask().unwrap();
    let walked = super::walk(&data, &ask).await.unwrap();
    assert!(walked.contradictions.is_empty(), "{walked}");
    assert!(walked.counts.unreferenced > 0, "{walked}");
    let table = super::said::table(&ask).await.unwrap();
    let blobs: Vec<Blob> = super::said::blobs(&ask).await.unwrap();
    let demand = Demand::of(&blobs).unwrap();
    cluster.stop(patience).await.unwrap();
    Stopped {
        folder,
        table,
        demand,
    }
}

fn contradictions(turn: &Turn) -> Vec<&Contradiction> {
    let judged = turn.judged.values();
    judged.flat_map(|one| &one.contradictions).collect()
}

fn counts(turn: &Turn) -> Counts {
    let mut sum = Counts::default();
    turn.judged.values().for_each(|one| sum.add(&one.counts));
    sum
}

fn change(path: &Path, at: usize, bytes: &[u8]) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut how = std::fs::File::options();
    let file = how.read(true).write(true).open(path).unwrap();
    let mut old = vec![0; bytes.len()];
    file.read_exact_at(&mut old, at as u64).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
    old
}

/// Each thing is planted and taken back; the cluster is made once.
#[tokio::test]
async fn whatever_is_planted_is_noticed_to_the_fragment() {
    let stopped = stopped().await;
    let sound = stopped.turn();
    assert!(contradictions(&sound).is_empty());
    // Three blobs: one shortened (a data fragment and two of parity), one of 12 stripes, two parts
    // of 20 and 1.
    assert_eq!(counts(&sound).fragments, 3 + 6 * (12 + 20 + 1));
    assert_eq!(counts(&sound).parity, 1 + 12 + 20 + 1);

    for shortened in [false, true] {
        let (shard, blob, stripe, path, at, len) = stopped.fragment(shortened);
        // Rot that nobody noticed.
        let old = change(&path, at + len - 1, &[0xa5]);
        change(&path, at + len - 1, &[old[0] ^ 1]);
        let rotten = Contradiction::Unknown {
            shard,
            blob,
            stripe,
            state: State::Rotten,
        };
        let seen = stopped.turn();
        assert_eq!(contradictions(&seen), [&rotten]);
        // The same, with its row in the ledger: that is exact.
        let mut table = stopped.table.clone();
        table.ledger.enter(shard, blob, (stripe, stripe));
        let told = stopped.turn_with(&table);
        assert!(contradictions(&told).is_empty());
        assert_eq!(counts(&told).faulty, 1);
        // The row goes before the fragment is whole: a ledger that lies.
        let mut table = table.clone();
        table.ledger.forget(shard, blob);
        assert_eq!(contradictions(&stopped.turn_with(&table)), [&rotten]);
        change(&path, at + len - 1, &old);
        // A row of a fragment that is whole.
        table.ledger.enter(shard, blob, (stripe, stripe));
        let whole = Contradiction::Whole {
            shard,
            blob,
            stripe,
        };
        assert_eq!(contradictions(&stopped.turn_with(&table)), [&whole]);
    }
    let (shard, blob, ..) = stopped.fragment(false);
    let mut table = stopped.table.clone();
    table.ledger.enter(shard, blob, (500_000, 600_000));
    table.ledger.enter(shard, 1, (0, 3));
    let dead = stopped.turn_with(&table);
    assert!(contradictions(&dead).is_empty());
    assert_eq!(counts(&dead).dead_rows, 2);
}

#[tokio::test]
async fn what_is_not_there_is_noticed_to_the_fragment() {
    let stopped = stopped().await;
    let (shard, _, _, path, at, _) = stopped.fragment(false);
    // A record is overwritten: what it held is missing, and only that.
    let header = FIRST_RECORD;
    let old = change(&path, header, &[0; 4]);
    assert!(at > header);
    let seen = stopped.turn();
    let missing = contradictions(&seen);
    let is_missing = |one: &&Contradiction| match one {
        Contradiction::Unknown {
            state: State::Missing,
            shard: of,
            ..
        } => *of == shard,
        _ => false,
    };
    let stripes = missing.len();
    assert!((1..=20).contains(&stripes) && missing.iter().all(is_missing));
    // It is damage when a later record tells that it was synced (PROTOCOLS 24): not always here.
    assert!(counts(&seen).damaged <= 1);
    change(&path, header, &old);
    assert!(contradictions(&stopped.turn()).is_empty());

    // A log is gone: all that the member should hold is missing.
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    let gone = stopped.turn();
    let wanted = &stopped.demand.volumes[&shard.volume];
    let member = usize::from(shard.member);
    let mine = wanted.iter().filter(|one| one.code.stores(member));
    let stripes: u32 = mine.map(|one| one.extent.stripes).sum();
    assert_eq!(contradictions(&gone).len(), stripes as usize);
    // The table says so: then it is exact.
    let mut table = stopped.table.clone();
    let volume = table.volumes.get_mut(&shard.volume).unwrap();
    volume.missing.push(member);
    assert!(contradictions(&stopped.turn_with(&table)).is_empty());
    std::fs::rename(&away, &path).unwrap();

    // A drive is gone, and the table does not know.
    let drive = path.parent().and_then(Path::parent).unwrap();
    std::fs::rename(drive, stopped.folder.path().join("away")).unwrap();
    let nowhere = stopped.turn();
    let nowhere = contradictions(&nowhere);
    assert!(!nowhere.is_empty());
    let is_nowhere = |one: &&Contradiction| matches!(one, Contradiction::NoDrive { .. });
    assert!(nowhere.iter().all(is_nowhere));

    // A volume that is not in the table.
    let table = Table {
        volumes: BTreeMap::new(),
        ..stopped.table.clone()
    };
    assert_eq!(
        stopped.turn_with(&table).gone.len(),
        stopped.demand.volumes.len()
    );
}

/// Wrong parity with right checksums, as a rebuild that errs would write it.
#[tokio::test]
async fn parity_of_other_data_is_noticed() {
    let stopped = stopped().await;
    let wanted = stopped.demand.volumes.values().flatten();
    let one = wanted.max_by_key(|one| one.extent.stripes).unwrap();
    let (blob, stripe) = (one.code.blob, one.extent.first_stripe);
    let volume = &stopped.table.volumes[&one.extent.volume];
    let member = one.code.k;
    let (shard, drive) = (volume.shard(member), volume.drive(member).unwrap());
    let path = Drives::find(&stopped.data()).unwrap().path(drive, shard);
    let mut log = std::fs::read(&path).unwrap();
    forge(&mut log, drive, shard, (blob, stripe));
    std::fs::write(&path, log).unwrap();
    let wrong = Contradiction::Parity {
        volume: volume.id,
        blob,
        stripe,
    };
    assert_eq!(contradictions(&stopped.turn()), [&wrong]);
}

/// Changes a byte of a fragment, and makes its checksum and that of its header anew.
fn forge(log: &mut [u8], drive: u128, shard: Shard, (blob, stripe): (u128, u32)) {
    let incarnation = format::incarnation(log, drive, shard).unwrap();
    let mut at = FIRST_RECORD;
    loop {
        let record = format::record(log, at, shard, Some(incarnation)).unwrap();
        let Act::Append {
            blob: found,
            first,
            fragments,
        } = record.act
        else {
            at = record.end;
            continue;
        };
        let index = stripe.checked_sub(first).unwrap_or(u32::MAX) as usize;
        let Some(fragment) = fragments.get(index).filter(|_| found == blob) else {
            at = record.end;
            continue;
        };
        log[fragment.at] ^= 1;
        format::seal_block(log, shard, blob, stripe, *fragment);
        format::seal_header(log, at, incarnation);
        return;
    }
}
