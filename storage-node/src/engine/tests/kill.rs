//! Processes over a volatile drive, killed at any moment.
//!
//! A child serves an engine, works on it at random, and says what it tries and what was acked. The
//! parent kills it after some lines: by SIGKILL, when nothing unsynced is left, or after the drive
//! has let go of its power, when any part of it is. The next child is told what must be there and
//! what must not, and says what is otherwise. A child is this test binary, asked for one test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::*;

const CHILD: &str = "engine::tests::kill::a_process_that_is_killed";
const FOLDER: &str = "ENFILADE_TEST_KILL_FOLDER";
const PLAN: &str = "ENFILADE_TEST_KILL_PLAN";

/// Shard, blob, and the stripes that its only append has.
type Name = (u64, u128, u32);

/// How a child is to work.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// Its syncs do nothing.
    lies: bool,
    /// It has an index on RocksDB, which keeps what it wrote.
    index: bool,
}

impl Plan {
    fn text(self) -> String {
        format!(
            "{} {} {}",
            self.seed,
            u8::from(self.lies),
            u8::from(self.index)
        )
    }

    fn of(text: &str) -> Self {
        let mut words = text.split(' ').map(|word| word.parse::<u64>().unwrap());
        let mut next = || words.next().unwrap();
        Self {
            seed: next(),
            lies: next() == 1,
            index: next() == 1,
        }
    }
}

fn say(line: &str) {
    // Not captured by the test harness, and written at once.
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn text((shard, blob, stripes): Name) -> String {
    format!("{shard} {blob} {stripes}")
}

fn name(words: &[&str]) -> Name {
    let [shard, blob, stripes] = words else {
        panic!("{words:?}")
    };
    (
        shard.parse().unwrap(),
        blob.parse().unwrap(),
        stripes.parse().unwrap(),
    )
}

/// Only a child has something to do here.
#[test]
fn a_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    // The harness has begun a line.
    say("");
    let plan = Plan::of(&std::env::var(PLAN).unwrap());
    let drive = MemoryDrive::over(Path::new(&folder), plan.index).unwrap();
    drive.set_lying(plan.lies);
    drive.set_alone(plan.seed & 1 == 0);
    let host = Host::new(Env::seeded(plan.seed), Settings::default());
    let engine = Engine::open(&host, Arc::new(drive.clone()), DRIVE, None).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut lines = std::io::stdin().lines();
    let mut owned = Vec::new();
    runtime.block_on(async {
        for line in lines.by_ref() {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let ["is", is, rest @ ..] = words.as_slice() else {
                break;
            };
            let name = name(rest);
            let found = look(&engine, name).await;
            match (*is, found) {
                ("there", Some(true)) => owned.push(name),
                ("gone", Some(false)) => {}
                ("either", Some(there)) => {
                    let word = if there { "there" } else { "gone" };
                    say(&format!("found {word} {}", text(name)));
                    owned.extend(there.then_some(name));
                }
                _ => say(&format!("wrong {is} {found:?} {}", text(name))),
            }
        }
        say("checked");
    });
    for writer in 0..6u64 {
        let mine: Vec<Name> = owned
            .iter()
            .copied()
            .filter(|n| n.0 == writer % 3)
            .collect();
        let mine = mine
            .into_iter()
            .skip((writer / 3) as usize)
            .step_by(2)
            .collect();
        runtime.spawn(work(Arc::clone(&engine), plan.seed, writer, mine));
    }
    runtime.spawn(tend(Arc::clone(&engine)));
    // The next line cuts the power; the end of the input says that there is no parent any more.
    if let Some(Ok(line)) = lines.next() {
        drive.crash(line.parse().unwrap());
        say("cut");
        let _ = lines.next();
    }
    std::process::exit(1);
}

/// Whether all of a blob is there, or none of it; none when it is something between.
async fn look(engine: &Arc<Engine>, (shard, blob, stripes): Name) -> Option<bool> {
    let range = |stripe| FragmentRange {
        stripe,
        offset: 0,
        len: u32::try_from(fragment(blob, stripe).len()).unwrap(),
    };
    let ranges: Vec<FragmentRange> = (0..stripes).map(range).collect();
    let answers = engine
        .read(key(shard + 1, 0), BlobId::new(blob), ranges.clone())
        .await;
    let mut there = Vec::new();
    for (answer, range) in answers.into_iter().zip(ranges) {
        there.push(match answer {
            Ok(blocks) => blocks.cut(&range)? == fragment(blob, range.stripe),
            Err(FragmentFault::Missing) => false,
            Err(_) => return None,
        });
    }
    let first = there[0];
    there.iter().all(|is| *is == first).then_some(first)
}

/// Appends blobs of its own and deletes them, for ever.
async fn work(engine: Arc<Engine>, seed: u64, writer: u64, mut mine: Vec<Name>) {
    let mut random = StdRng::seed_from_u64(seed ^ (writer << 32));
    let shard = writer % 3;
    for count in 0u128.. {
        let doomed = (0..mine.len()).choose(&mut random);
        if let Some(doomed) = doomed.filter(|_| random.random_ratio(2, 5)) {
            let name = mine.swap_remove(doomed);
            say(&format!("try delete {}", text(name)));
            let deleted = engine
                .delete(key(shard + 1, 0), BlobId::new(name.1), Vec::new())
                .await;
            if deleted.is_ok() {
                say(&format!("ack delete {}", text(name)));
            }
            continue;
        }
        let blob = (u128::from(seed) << 64) | (u128::from(writer) << 32) | count;
        let name = (shard, blob, random.random_range(1..5));
        say(&format!("try append {}", text(name)));
        let append = append_of(key(shard + 1, 0), 1, blob, 0..name.2);
        let Ok(admission) = engine.admit(20_000) else {
            // The power was cut, or else the parent wants to know.
            say("stuck");
            return;
        };
        let appended = engine.append(key(shard + 1, 0), append, admission).await;
        if appended.is_ok() {
            say(&format!("ack append {}", text(name)));
            mine.push(name);
        }
    }
}

/// What goes on beside.
async fn tend(engine: Arc<Engine>) {
    loop {
        let _ = engine.reclaim_all().await;
        for shard in engine.shards() {
            let _ = engine.compact(shard.key).await;
        }
        let tended = Arc::clone(&engine);
        let _ = tokio::task::spawn_blocking(move || tended.checkpoint()).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    There,
    Gone,
    Either,
}

/// What a parent knows of one drive.
#[derive(Default)]
struct Known {
    blobs: BTreeMap<Name, Is>,
    acks: usize,
}

/// Starts a child; tells it what is known.
fn start(folder: &Path, plan: Plan, known: &Known) -> (Child, JoinHandle<ChildStdin>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(PLAN, plan.text())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = String::new();
    for (name, is) in &known.blobs {
        let is = format!("{is:?}").to_lowercase();
        input.push_str(&format!("is {is} {}\n", text(*name)));
    }
    input.push_str("go\n");
    // It may answer more than a pipe holds before it has read all this.
    let mut stdin = child.stdin.take().unwrap();
    let told = std::thread::spawn(move || {
        // A child that ended has nothing to be told.
        let _ = stdin.write_all(input.as_bytes());
        stdin
    });
    (child, told)
}

/// Lets a child work until it has said so many lines, and kills it; what it found to be wrong.
fn round(folder: &Path, plan: Plan, known: &mut Known, lines: usize, cut: bool) -> Vec<String> {
    let (mut child, told) = start(folder, plan, known);
    let (mut wrong, mut count, mut checked) = (Vec::new(), 0, false);
    let mut told = Some(told);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["checked"] => checked = true,
            ["wrong", ..] => wrong.push(line),
            ["found", is, rest @ ..] => {
                let is = if *is == "there" { Is::There } else { Is::Gone };
                known.blobs.insert(name(rest), is);
            }
            ["try", _, rest @ ..] => {
                known.blobs.insert(name(rest), Is::Either);
            }
            ["ack", what, rest @ ..] => {
                let is = if *what == "append" {
                    Is::There
                } else {
                    Is::Gone
                };
                known.blobs.insert(name(rest), is);
                known.acks += 1;
            }
            ["cut"] => child.kill().unwrap(),
            ["stuck"] if count < lines => {
                wrong.extend((!plan.lies).then_some(line));
                child.kill().unwrap();
                continue;
            }
            _ => continue,
        }
        count += usize::from(checked);
        if count == lines.max(1) {
            let input = told.take().map(|told| told.join().unwrap());
            match (cut, input) {
                (true, Some(mut input)) => writeln!(input, "{}", plan.seed).unwrap(),
                _ => child.kill().unwrap(),
            }
        }
    }
    child.wait().unwrap();
    assert!(
        plan.lies || checked,
        "a child did not get to work: {:?}",
        plan.text()
    );
    wrong
}

/// Kills so many children, ten on each drive; what was found to be wrong, and how much was acked.
fn kills(lane: u64, count: u64, lies: bool) -> (Vec<String>, usize) {
    let (mut wrong, mut acks) = (Vec::new(), 0);
    let mut random = StdRng::seed_from_u64(lane);
    for first in (0..count).step_by(10) {
        let folder = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        for number in first..=count.min(first + 10) {
            let plan = Plan {
                seed: (lane << 32) | number,
                lies,
                index: (first / 10) % 3 == 0,
            };
            let (lines, cut) = (random.random_range(1..150), random.random());
            let found = round(folder.path(), plan, &mut known, lines, cut);
            wrong.extend(found);
        }
        acks += known.acks;
        if lies && !wrong.is_empty() {
            break;
        }
    }
    (wrong, acks)
}

#[test]
fn nothing_acked_is_lost_and_nothing_deleted_returns_over_many_kills() {
    let each = match std::env::var_os("ENFILADE_SOAK") {
        Some(_) => 3000,
        None => 100,
    };
    let lane = |lane| std::thread::spawn(move || kills(lane, each, false));
    let lanes: Vec<_> = (0..2).map(lane).collect();
    for lane in lanes {
        let (wrong, acks) = lane.join().unwrap();
        assert_eq!(wrong, Vec::<String>::new());
        assert!(acks > 10 * usize::try_from(each).unwrap(), "{acks} acks");
    }
}

#[test]
fn a_drive_that_lies_about_its_syncs_is_found_out() {
    let (wrong, acks) = kills(9, 20, true);
    assert!(acks > 0);
    let lost = |line: &&String| line.starts_with("wrong there");
    assert!(wrong.iter().any(|line| lost(&line)), "{wrong:?}");
}
