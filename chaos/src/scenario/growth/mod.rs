//! A cluster grows, shrinks and loses parts under load, while processes are killed; after each step
//! the drives' own logs are walked through and compared with the ledger, to the fragment, and every
//! object is read.
//!
//! Each step waits for the one before: healthy, and nothing left to move. Only kills come at any
//! time. What was given up for good (an enclosure, a drive until it is replaced) is named by the
//! status for ever, and is no obstacle.

mod figures;
mod steps;
mod watch;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

use super::Options;
use super::stage::Stage;
use super::verdict::Verdict;
use crate::check::{Finding, Kind};
use crate::cluster::{Ask, Enclosure, Shape};
use crate::walk::{self, Walked};
use crate::workload::{Load, bulk};
use figures::Foreground;
use watch::{Moves, Seen, Watch};

/// The drives of the enclosures that the cluster is born with, and of those that come.
const BORN: [u32; 4] = [3, 3, 3, 5];
const FIFTH: u32 = 2;
const LAST_THREE: [u32; 3] = [4, 3, 6];

/// Bytes of the largest object of the load, but those by multipart.
pub(super) const LARGEST: usize = 1 << 20;

/// Raw bytes that the objects may take.
const RAW_MAX: u64 = 40 << 30;

/// Between two looks at a cluster that is awaited.
const LOOK: Duration = Duration::from_millis(700);

/// For so long must all be well: the planner looks only now and then.
const STEADY: Duration = Duration::from_secs(12);

/// When nothing but rows of the ledger keeps a cluster from being healthy for so long, they are
/// looked at: those of dead blobs stay for the time that running reads have.
const ROWS_STAY: Duration = Duration::from_secs(20);

/// Flags of this scenario.
#[derive(Clone, Debug, Args)]
pub(crate) struct Flags {
    /// Growth: objects that are there before the first step; nine in ten small, one in a hundred of
    /// 8 MiB, 138 KiB on average.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) objects: usize,
    /// Growth: processes that are killed and started again in each step.
    #[arg(long, default_value_t = 2)]
    pub(crate) kills: u32,
    /// Growth: milliseconds that a writer rests after each operation: what it overwrites takes room
    /// for ten minutes.
    #[arg(long, default_value_t = 100)]
    pub(crate) pause: u64,
    /// Growth: bytes of a shard at which its volume is sealed.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(crate) volume_target: String,
    /// Growth: seconds that a step may take until all is well.
    #[arg(long, default_value_t = 900)]
    pub(crate) settle: u64,
}

impl Flags {
    pub(super) fn shape(&self, profile: &str) -> Shape {
        Shape {
            // The fourth is of another size, and comes before the first object.
            enclosures: 3,
            drives: BORN[0],
            profile: profile.to_owned(),
            processes: true,
            files: None,
            volume_target: Some(self.volume_target.clone()),
        }
    }
}

/// A drive as `enfilade drive list --json` has it.
#[derive(Clone, Debug, Deserialize)]
struct Drive {
    id: String,
    enclosure: u32,
    slot: u32,
    state: String,
    shards: u64,
}

/// What is gone for good.
#[derive(Clone, Debug, Default)]
struct Lost {
    enclosures: Vec<u32>,
    drives: Vec<String>,
}

impl Lost {
    /// Whether this complaint is about nothing else.
    fn explains(&self, reason: &str) -> bool {
        let words = || reason.split(|letter: char| !letter.is_ascii_alphanumeric());
        let enclosure = |id: &u32| {
            let (mut before, id) = ("", id.to_string());
            words().any(|word| {
                let named = before == "enclosure" && word == id;
                before = word;
                named
            })
        };
        self.enclosures.iter().any(enclosure)
            || self
                .drives
                .iter()
                .any(|drive| words().any(|word| word == drive))
    }
}

/// The run so far.
pub(super) struct Growth {
    stage: Stage,
    load: Load,
    dice: StdRng,
    lost: Lost,
    /// Enclosures that were emptied and go on running.
    drained: Vec<u32>,
    /// The drive that is to be replaced.
    failed: Option<Drive>,
    before: Foreground,
    /// Set when something is wrong: no further steps.
    stop: bool,
}

/// Runs all steps on one cluster.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Verdict> {
    let flags = &options.growth;
    let raw = bulk::expected_bytes(flags.objects) / 2 * 3;
    anyhow::ensure!(
        raw <= RAW_MAX,
        "{} objects take about {} GiB on drives, {} are allowed",
        flags.objects,
        raw >> 30,
        RAW_MAX >> 30
    );
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut stage = Stage::set(options, seed, options.scenario.name()).await?;
    for drives in &BORN[3..] {
        add(&stage, *drives).await?;
    }
    stage.expect_health(true).await;
    let began = Instant::now();
    let count = flags.objects;
    let bytes = bulk::write(&stage.store, &stage.history, seed, count).await?;
    let (mib, took) = (bytes >> 20, began.elapsed().as_secs_f64());
    stage.say(&format!("wrote {count} objects, {mib} MiB in {took:.0} s"));
    let load = stage.load(1);
    let mut growth = Growth {
        stage,
        load,
        dice: StdRng::seed_from_u64(seed),
        lost: Lost::default(),
        drained: Vec::new(),
        failed: None,
        before: Foreground::default(),
        stop: false,
    };
    let done = growth.steps().await;
    let Growth {
        mut stage, load, ..
    } = growth;
    let windows = load.stop().await;
    if let Err(error) = done {
        // Without the backtrace that it may carry.
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        stage.found(vec![Finding::new(Kind::Unavailable, causes.join(": "))]);
    }
    stage.end(&windows).await
}

async fn add(stage: &Stage, drives: u32) -> anyhow::Result<()> {
    let drives_text = drives.to_string();
    let ask = stage.cluster.ask()?;
    let arguments = ["enclosure", "add", "--drives", &drives_text];
    ask.text(&arguments).await?;
    stage.fault(&format!("added an enclosure of {drives} drives"));
    Ok(())
}

impl Growth {
    fn ask(&self) -> anyhow::Result<Ask> {
        self.stage.cluster.ask()
    }

    async fn drives(&self) -> anyhow::Result<Vec<Drive>> {
        self.ask()?.json(&["drive", "list", "--json"]).await
    }

    /// Kills processes and starts them again, one after the other, at random moments.
    async fn kills(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.stage.options.growth.kills {
            let wait = self.dice.random_range(500..6000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let lost = self.lost.enclosures.clone();
            let enclosures = self.stage.cluster.enclosures()?.iter();
            let running = enclosures.filter(|one| one.process().is_some());
            let running: Vec<&Enclosure> = running.filter(|one| !lost.contains(&one.id)).collect();
            let id = running
                .choose(&mut self.dice)
                .context("no process runs")?
                .id;
            self.stage.cluster.kill(id).await?;
            self.stage.fault(&format!("killed enclosure {id}"));
            let wait = self.dice.random_range(200..3000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            self.stage.cluster.start_enclosure(id).await?;
            self.stage.fault(&format!("started enclosure {id}"));
        }
        Ok(())
    }

    /// Kills, waits until all is well, and looks at everything.
    async fn after(&mut self, name: &str, from: u64, watch: Watch) -> anyhow::Result<()> {
        self.kills().await?;
        let live = self.walk().await?;
        self.stage.say(&format!("walk during '{name}': {live}"));
        self.judge(&live);
        let settled = self.settle().await?;
        let to = self.stage.history.now();
        let seen = watch.seen();
        drop(watch);
        let operations = self.stage.history.operations()?;
        let during = Foreground::measure(&operations, from, to);
        self.figures(name, &seen, &during, settled).await?;
        self.look(name).await
    }

    /// Walks and audits while the load rests.
    async fn look(&mut self, name: &str) -> anyhow::Result<()> {
        let rest = self.load.rest().await;
        let walked = self.walk().await?;
        self.stage.say(&format!("walk after '{name}': {walked}"));
        self.judge(&walked);
        let name = format!("after '{name}'");
        self.stop |= !self.stage.audit_at_rest(&name, "").await?;
        drop(rest);
        Ok(())
    }

    async fn walk(&self) -> anyhow::Result<Walked> {
        walk::walk(self.stage.cluster.data(), &self.ask()?).await
    }

    fn judge(&mut self, walked: &Walked) {
        let findings = walked.contradictions.iter();
        let findings = findings.map(|one| Finding::new(Kind::Ledger, one.to_string()));
        let findings: Vec<Finding> = findings.collect();
        if !findings.is_empty() {
            self.stop = true;
            self.stage.found(findings);
        }
    }

    /// Waits until nothing is missing and nothing moves; how long that took.
    async fn settle(&mut self) -> anyhow::Result<Duration> {
        let patience = Duration::from_secs(self.stage.options.growth.settle);
        let began = Instant::now();
        let (mut steady, mut rows) = (None::<Instant>, None::<Instant>);
        loop {
            let left = self.left().await.unwrap_or_else(|error| Left {
                other: vec![format!("{error:#}")],
                rows: 0,
            });
            let well =
                left.other.is_empty() && (left.rows == 0 || self.are_dead(&mut rows).await?);
            if left.rows == 0 || !left.other.is_empty() {
                rows = None;
            }
            steady = steady.or(well.then(Instant::now)).filter(|_| well);
            if steady.is_some_and(|since| since.elapsed() >= STEADY) {
                return Ok(began.elapsed().saturating_sub(STEADY));
            }
            if began.elapsed() > patience {
                let other = left.other.join("; ");
                anyhow::bail!("not well after {patience:?}: {} rows; {other}", left.rows);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What keeps the cluster from being well.
    async fn left(&self) -> anyhow::Result<Left> {
        let ask = self.ask()?;
        let status = ask.status().await?;
        let is_rows = |reason: &String| reason.contains("ranges of fragments");
        let reasons = status.reasons.into_iter();
        let reasons = reasons.filter(|reason| !is_rows(reason) && !self.lost.explains(reason));
        let mut other: Vec<String> = reasons.collect();
        let moves = Moves::ask(&ask).await?;
        if !moves.are_done() {
            let (bytes, under_way) = (moves.backlog_bytes, moves.under_way.len());
            other.push(format!("{bytes} bytes to move, {under_way} under way"));
        }
        if moves.unplaced + moves.unreadable > 0 {
            let (unplaced, unreadable) = (moves.unplaced, moves.unreadable);
            other.push(format!(
                "{unplaced} shards without a place, {unreadable} volumes unreadable"
            ));
        }
        Ok(Left {
            other,
            rows: status.missing.ranges,
        })
    }

    /// Whether all rows of the ledger are of dead blobs; looked at when they stay.
    async fn are_dead(&self, since: &mut Option<Instant>) -> anyhow::Result<bool> {
        let now = Instant::now();
        if now.duration_since(*since.get_or_insert(now)) < ROWS_STAY {
            return Ok(false);
        }
        let walked = self.walk().await?;
        // Rows come and go amid a walk.
        Ok(walked.counts.dead_rows >= walked.rows as u64)
    }

    async fn figures(
        &mut self,
        name: &str,
        seen: &Seen,
        during: &Foreground,
        settled: Duration,
    ) -> anyhow::Result<()> {
        let (moved, rebuilt) = seen.bytes();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let of_bound = |bytes: u64| match seen.bound_bytes {
            0 => "-".to_owned(),
            bound => format!("{:.3}", bytes as f64 / bound as f64),
        };
        let (planned, made) = (of_bound(seen.plan_bytes), of_bound(moved + rebuilt));
        self.stage.say(&format!(
            "'{name}' was done after {:.0} s: moved {:.1} MiB, rebuilt {:.1} MiB; largest plan \
             {:.1} MiB, bound {:.1} MiB, plan/bound {planned}, moved/bound {made}",
            settled.as_secs_f64(),
            mib(moved),
            mib(rebuilt),
            mib(seen.plan_bytes),
            mib(seen.bound_bytes)
        ));
        if rebuilt > 0 {
            let drives = self.drives().await?;
            let healthy = drives.iter().filter(|drive| drive.state == "healthy");
            let (count, seconds) = (healthy.count(), seen.rebuilding().max(0.001));
            let rate = mib(rebuilt) / seconds;
            let each = rate / count.max(1) as f64;
            self.stage.say(&format!(
                "repair: {rate:.1} MiB/s, {each:.2} MiB/s a drive, {count} drives, {seconds:.1} s"
            ));
        }
        let (before, part) = (&self.before, during.part_of(&self.before) * 100.0);
        self.stage.say(&format!("foreground before: {before}"));
        self.stage.say(&format!(
            "foreground during '{name}': {during} ({part:.0} % of before)"
        ));
        Ok(())
    }
}

/// What keeps a cluster from being well.
struct Left {
    other: Vec<String>,
    /// Rows of the ledger.
    rows: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_up_explains_a_complaint() {
        let lost = Lost {
            enclosures: vec![4],
            drives: vec!["00ff".to_owned()],
        };
        for reason in [
            "enclosure 4 is out",
            "the process of enclosure 4 is exited",
            "the replica of the root group in enclosure 4 does not answer",
            "drive 00ff (slot 1 of enclosure 3) is gone",
            "drive 00aa (slot 1 of enclosure 4) is gone",
        ] {
            assert!(lost.explains(reason), "{reason}");
        }
        for reason in [
            "enclosure 41 is down",
            "4 volumes are suspended",
            "drive 00aa (slot 4 of enclosure 3) is gone",
            "3 shards of volumes are missing",
        ] {
            assert!(!lost.explains(reason), "{reason}");
        }
    }
}
