//! Many clients at once, half of them very slow, against a cluster in one process with 4,096 open
//! files: how much memory it takes, and whether the slow ones starve the fast ones (promise P9,
//! PROTOCOLS 16).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use super::Options;
use super::stage::{Ground, Stage};
use super::verdict::Verdict;
use crate::check::{Finding, Kind};
use crate::client::S3;
use crate::client::raw::{self, Pace};

/// What a node with 24 drives may use.
const LIMIT: u64 = 1 << 30;

/// Open files that the cluster may have.
pub(crate) const FILES: u64 = 4096;

/// What a slow client sends in a second.
const SLOW_BYTES: usize = 1024;

/// The body that a slow client will never end, and the largest of a fast one.
const LONG: usize = 64 << 20;
const SIZES: [usize; 6] = [8 << 10, 40 << 10, 200 << 10, 1 << 20, 3 << 20, 6 << 20];

/// Fast clients must keep this part of what they had without slow ones.
const KEPT_PERCENT: u64 = 50;

/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the load, and compares with what the program itself says that it may use.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Verdict> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let ground = Ground::lay(options, seed, options.scenario.name())?;
    let mut cluster = ground.cluster(&ground.folder.join("data"), options.shape());
    cluster.up(options.patience()).await?;
    let mut stage = Stage::on(ground, options, cluster, None).await?;
    let half = options.clients / 2;
    stage.say(&stage.cluster.explain_memory(options.clients).await?);
    let s3 = Arc::new(stage.s3.beside("crowd"));
    let made = s3.create_bucket().await;
    made.map_err(|failure| anyhow::anyhow!("cannot create the bucket: {failure:?}"))?;
    let process = Process(stage.cluster.pid()?);
    stage.say(&format!("idle: {}", process.show()?));
    // Interleaved, since this machine may have other things to do.
    let (mut alone, mut beside, mut files) = (Done::default(), Done::default(), 0);
    for slow in [0, half, half, 0] {
        let (done, open) = crowd(&stage, &s3, process, half, slow, options.hold()).await?;
        let sum = if slow == 0 { &mut alone } else { &mut beside };
        sum.bytes += done.bytes;
        sum.idle += done.idle;
        files = files.max(open);
    }
    let peak = process.memory("VmHWM")?;
    let mut findings = Vec::new();
    if peak > LIMIT {
        let text = format!("{} MiB of memory, {} allowed", peak >> 20, LIMIT >> 20);
        findings.push(Finding::new(Kind::OverLimit, text));
    }
    if files > FILES {
        let text = format!("{files} open files, {FILES} allowed");
        findings.push(Finding::new(Kind::OverLimit, text));
    }
    // A machine that is slow enough leaves some idle, with slow clients or without.
    let idle_max = alone.idle + u64::from(half / 10);
    if beside.bytes * 100 < alone.bytes * KEPT_PERCENT || beside.idle > idle_max {
        let (with, without) = (beside.bytes >> 20, alone.bytes >> 20);
        let text = format!(
            "fast clients moved {with} MiB beside slow ones and {without} MiB without; {} of them \
             nothing, and {} without",
            beside.idle, alone.idle
        );
        findings.push(Finding::new(Kind::Unavailable, text));
    }
    if !findings.is_empty() {
        stage.found(findings);
    }
    // The crowd is gone; everything works as before.
    stage.keep().await?;
    stage.audit_at_rest("after the crowd", "").await?;
    stage.say(&format!("in the end: {}", process.show()?));
    stage.end(&[]).await
}

/// What the fast clients got done.
#[derive(Debug, Default)]
struct Done {
    bytes: u64,
    /// Clients that ended no request.
    idle: u64,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    requests: AtomicU64,
    /// Answers that say to come back later.
    slow_down: AtomicU64,
    failed: AtomicU64,
    /// Milliseconds of the slowest request that ended.
    slowest_ms: AtomicU64,
}

/// Lets clients work for a while; what the fast ones got done, and the most files that were open.
async fn crowd(
    stage: &Stage,
    s3: &Arc<S3>,
    process: Process,
    fast: u32,
    slow: u32,
    hold: Duration,
) -> anyhow::Result<(Done, u64)> {
    let server = stage.cluster.s3()?;
    let mut clients = JoinSet::new();
    for number in 0..slow {
        let target = s3.signed_put(&format!("slow/{number}")).await?;
        clients.spawn(async move {
            let pace = Pace::BytesASecond(SLOW_BYTES);
            let _ = raw::put(server, &target, LONG, pace).await;
        });
    }
    // They hold what they can get before the fast ones come.
    tokio::time::sleep(Duration::from_secs(u64::from(slow.min(3)))).await;
    let counts: Vec<Arc<Counts>> = (0..fast).map(|_| Arc::default()).collect();
    for (number, counts) in (0..).zip(&counts) {
        clients.spawn(hurry(s3.clone(), server, number, counts.clone()));
    }
    let (began, mut files, mut peak) = (Instant::now(), 0, 0);
    while began.elapsed() < hold {
        tokio::time::sleep(LOOK).await;
        files = files.max(process.files()?);
        peak = peak.max(process.memory("VmRSS")?);
    }
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    let sum = |of: fn(&Counts) -> &AtomicU64| -> u64 {
        let each = counts
            .iter()
            .map(|counts| of(counts).load(Ordering::Relaxed));
        each.sum()
    };
    let slowest = counts.iter();
    let slowest = slowest.map(|counts| counts.slowest_ms.load(Ordering::Relaxed));
    let idle = |counts: &&Arc<Counts>| counts.requests.load(Ordering::Relaxed) == 0;
    let done = Done {
        bytes: sum(|counts| &counts.bytes),
        idle: counts.iter().filter(idle).count() as u64,
    };
    stage.say(&format!(
        "{fast} fast and {slow} slow clients: {} requests, {} MiB, {} slowed down, {} failed, \
         slowest write {} s, {} clients without a success; {} MiB of memory, {files} files",
        sum(|counts| &counts.requests),
        done.bytes >> 20,
        sum(|counts| &counts.slow_down),
        sum(|counts| &counts.failed),
        slowest.max().unwrap_or(0) / 1000,
        done.idle,
        peak >> 20
    ));
    Ok((done, files))
}

/// A client that writes and reads as fast as it can.
async fn hurry(s3: Arc<S3>, server: SocketAddr, number: usize, counts: Arc<Counts>) {
    for turn in number.. {
        let key = format!("fast/{number}");
        // The first is small, so that who gets no answer at all is starved: beside 255 others a
        // large body takes its time on any machine, and a sixth of the clients would begin with
        // one.
        let length = match turn == number {
            true => SIZES[0],
            false => SIZES[turn % SIZES.len()],
        };
        let (Ok(put), Ok(get)) = (s3.signed_put(&key).await, s3.signed_get(&key).await) else {
            return;
        };
        let began = Instant::now();
        let written = raw::put(server, &put, length, Pace::Full).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        counts.slowest_ms.fetch_max(took, Ordering::Relaxed);
        let written = written.map(|status| (status, length as u64));
        let read = match written {
            Ok((200, _)) => Some(raw::get(server, &get).await),
            _ => None,
        };
        for answer in [Some(written), read].into_iter().flatten() {
            let (count, by) = match answer {
                Ok((200, bytes)) => {
                    counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                    (&counts.requests, 1)
                }
                Ok((503, _)) => (&counts.slow_down, 1),
                _ => (&counts.failed, 1),
            };
            count.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// A process of this machine, as the kernel shows it.
#[derive(Clone, Copy, Debug)]
struct Process(u32);

impl Process {
    /// A line of its status, in bytes.
    fn memory(self, line: &str) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0));
        let text = text.context("the cluster has ended")?;
        let line = text.lines().find_map(|found| found.strip_prefix(line));
        let number =
            line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok());
        let kib: u64 = number.context("a line of the status of a process")?;
        Ok(kib << 10)
    }

    fn files(self) -> anyhow::Result<u64> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.0));
        Ok(files.context("the cluster has ended")?.count() as u64)
    }

    fn show(self) -> anyhow::Result<String> {
        let (now, peak) = (self.memory("VmRSS")? >> 20, self.memory("VmHWM")? >> 20);
        let files = self.files()?;
        Ok(format!(
            "{now} MiB of memory ({peak} at most), {files} files"
        ))
    }
}
