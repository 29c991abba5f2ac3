//! What every scenario has: a cluster in a folder of its own, load on it, a history, audits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::Rng;

use super::Options;
use super::verdict::Verdict;
use crate::check::available::{measure, seconds};
use crate::check::{self, Finding, Kind, durable, listing, register};
use crate::client::{Failure, S3, Store};
use crate::cluster::{self, Cluster, Login, Shape};
use crate::history::History;
use crate::volatile::Volatile;
use crate::workload::audit::Audit;
use crate::workload::{Load, keep};

const BUCKET: &str = "chaos";

/// Objects that are written once.
const KEPT: usize = 64;

/// Objects that an audit reads at a time.
const READERS: usize = 8;

/// What is there before a cluster is: a folder, a login, a program.
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    name: String,
    seed: u64,
    binary: PathBuf,
    login: Login,
    began: Instant,
}

impl Ground {
    /// Makes the folder of a run.
    pub(crate) fn lay(options: &Options, seed: u64, name: &str) -> anyhow::Result<Ground> {
        let binary = cluster::find(options.binary.as_deref())?;
        let base = options.folder.clone().unwrap_or_else(std::env::temp_dir);
        let own = std::process::id();
        let folder = base.join(format!("enfilade-chaos-{own}-{name}-{seed}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        println!("{name}: seed {seed}, folder {}", folder.display());
        let login = Login {
            user: "chaos".to_owned(),
            // Secret enough for the minutes that the cluster lives on this machine.
            password: format!("{:032x}", rand::rng().random::<u128>()),
        };
        Ok(Ground {
            folder,
            name: name.to_owned(),
            seed,
            binary,
            login,
            began: Instant::now(),
        })
    }

    /// A cluster that does not run yet.
    pub(crate) fn cluster(&self, data: &Path, shape: Shape) -> Cluster {
        Cluster::new(&self.binary, &self.folder, data, shape, self.login.clone())
    }

    /// Prints what happens, with the time since the beginning.
    pub(crate) fn say(&self, what: &str) {
        say(self.began, what);
    }

    /// The verdict on a cluster that did not get as far as to take load.
    pub(crate) fn fail(self, finding: Finding) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict::new(&self.name, self.seed, &self.folder);
        verdict.findings.push(finding);
        verdict.took = self.began.elapsed();
        verdict.keep()?;
        Ok(verdict)
    }
}

fn say(began: Instant, what: &str) {
    println!("{:>7.1} s  {what}", began.elapsed().as_secs_f64());
}

/// A cluster under test.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    /// What the cluster lives on, if that forgets; it outlives the cluster.
    pub(crate) volatile: Option<Volatile>,
    pub(crate) s3: Arc<S3>,
    pub(super) store: Arc<dyn Store>,
    pub(super) history: Arc<History>,
    pub(super) options: Options,
    folder: PathBuf,
    began: Instant,
    pub(super) verdict: Verdict,
}

impl Stage {
    /// Starts a healthy cluster with an empty bucket.
    pub(crate) async fn set(options: &Options, seed: u64, name: &str) -> anyhow::Result<Stage> {
        let ground = Ground::lay(options, seed, name)?;
        let mut cluster = ground.cluster(&ground.folder.join("data"), options.shape());
        cluster.up(options.patience()).await?;
        Stage::on(ground, options, cluster, None).await
    }

    /// Makes an empty bucket in a cluster that is healthy.
    pub(crate) async fn on(
        ground: Ground,
        options: &Options,
        cluster: Cluster,
        volatile: Option<Volatile>,
    ) -> anyhow::Result<Stage> {
        let Ground { login, folder, .. } = ground;
        let s3 = S3::new(BUCKET, login, cluster.s3()?, options.deadline());
        let s3 = Arc::new(s3);
        bucket(&s3, options.patience()).await?;
        let history = Arc::new(History::create(&folder.join("history.jsonl"))?);
        let stage = Stage {
            store: s3.clone(),
            s3,
            cluster,
            volatile,
            history,
            options: options.clone(),
            verdict: Verdict::new(&ground.name, ground.seed, &folder),
            folder,
            began: ground.began,
        };
        stage.say("cluster is healthy");
        Ok(stage)
    }

    /// Prints what happens, with the time since the beginning.
    pub(crate) fn say(&self, what: &str) {
        say(self.began, what);
    }

    /// Writes objects that no load touches, while all is well.
    pub(crate) async fn keep(&self) -> anyhow::Result<()> {
        let plan = self.options.plan(self.verdict.seed, 0);
        keep(&self.store, &self.history, plan, KEPT).await
    }

    /// Puts load on the cluster.
    pub(crate) fn load(&self, round: u32) -> Load {
        self.say(&format!("load: {} writers", self.options.writers));
        let plan = self.options.plan(self.verdict.seed, round);
        Load::start(&self.store, &self.history, plan)
    }

    /// Lets the load work for a while.
    pub(crate) async fn hold(&self) {
        tokio::time::sleep(self.options.hold()).await;
    }

    /// Notes a fault in the history and on the terminal.
    pub(crate) fn fault(&self, what: &str) {
        self.history.fault(what);
        self.say(what);
    }

    /// Notes broken promises.
    pub(crate) fn found(&mut self, findings: Vec<Finding>) {
        self.show(&findings);
        self.verdict.findings.extend(findings);
    }

    fn show(&self, findings: &[Finding]) {
        if let Some(first) = findings.first() {
            self.say(&format!("FOUND {} times, first {first}", findings.len()));
        }
    }

    /// Expects the status to change, as promised, within the patience.
    pub(crate) async fn expect_health(&mut self, healthy: bool) {
        let patience = self.options.patience();
        match self.cluster.await_health(healthy, patience).await {
            Ok(took) => {
                let state = if healthy { "healthy" } else { "not healthy" };
                self.say(&format!(
                    "status says {state} after {:.1} s",
                    took.as_secs_f64()
                ));
                if healthy {
                    self.verdict.healthy_after = self.verdict.healthy_after.max(took);
                }
            }
            Err(last) => {
                let kind = match healthy {
                    true => Kind::Unavailable,
                    false => Kind::FalseStatus,
                };
                let wanted = if healthy { "healthy" } else { "not healthy" };
                let text = format!("status is not '{wanted}' after {patience:?}: {last}");
                self.found(vec![Finding::new(kind, text)]);
            }
        }
    }

    /// Reads everything while the load rests. Whether nothing wrong was seen so far.
    pub(crate) async fn audit(&mut self, load: &Load, name: &str) -> anyhow::Result<bool> {
        let rest = load.rest().await;
        let sound = self.audit_at_rest(name, "").await?;
        drop(rest);
        Ok(sound)
    }

    /// Reads everything under a prefix. No load may be at work.
    pub(crate) async fn audit_at_rest(
        &mut self,
        name: &str,
        prefix: &'static str,
    ) -> anyhow::Result<bool> {
        let audit = Audit {
            seed: self.verdict.seed,
            prefix,
            readers: READERS,
            patience: self.options.patience(),
            gave_up: AtomicBool::new(false),
        };
        let began = Instant::now();
        let audited = audit.run(&self.store, &self.history).await?;
        let (took, mib) = (began.elapsed().as_secs_f64(), audited.bytes >> 20);
        let objects = audited.objects;
        self.say(&format!(
            "audit {name}: {objects} objects, {mib} MiB in {took:.1} s"
        ));
        self.verdict.audits += 1;
        self.verdict.audited_objects += audited.objects;
        self.verdict.audited_bytes += audited.bytes;
        let unreadable = |finding: &Finding| finding.kind == Kind::Unreadable;
        let lost = audited.findings.iter().any(unreadable);
        self.found(audited.findings);
        if lost {
            // Whatever became of the objects: the cluster was told by those who read them.
            self.expect_health(false).await;
        }
        let operations = self.history.operations()?;
        let registers = register::by_key(&operations);
        let mut findings = durable::check(&registers);
        findings.extend(listing::check(&operations, &registers));
        // They are found again when the whole history is checked.
        self.show(&findings);
        Ok(findings.is_empty() && self.verdict.findings.is_empty())
    }

    /// Checks the whole history, stops the cluster, and says how it went.
    pub(crate) async fn end(mut self, windows: &[(u64, u64)]) -> anyhow::Result<Verdict> {
        let operations = self.history.operations()?;
        self.say(&format!("checking {} operations", operations.len()));
        let availability = measure(&operations, windows);
        let limit = u64::try_from(self.options.max_gap().as_micros()).unwrap_or(u64::MAX);
        let mut findings = availability.check(limit);
        findings.extend(check::all(&operations));
        for (what, write, read) in &availability.after_faults {
            let show = |time: &Option<u64>| time.map_or("never".to_owned(), seconds);
            let (write, read) = (show(write), show(read));
            self.say(&format!(
                "after {what}: next write {write} s, next read {read} s"
            ));
        }
        self.verdict.findings.extend(findings);
        self.verdict.count(&operations);
        self.verdict.availability = availability;
        self.verdict.took = self.began.elapsed();
        let stopped = self.cluster.stop(self.options.patience()).await;
        if let Err(error) = stopped {
            let text = format!("the cluster did not stop cleanly: {error:#}");
            self.verdict
                .findings
                .push(Finding::new(Kind::Unavailable, text));
        }
        if let Some(volatile) = &mut self.volatile {
            match self.verdict.passed() {
                true => volatile.detach()?,
                false => volatile.lay_out()?,
            }
        }
        if self.verdict.passed() && !self.options.keep {
            remove(&self.folder);
            self.verdict.folder = None;
        }
        self.verdict.keep()?;
        Ok(self.verdict)
    }
}

/// A new cluster may answer before all its parts do.
async fn bucket(s3: &S3, patience: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match s3.create_bucket().await {
            Ok(()) => return Ok(()),
            Err(Failure::Unknown(_)) if began.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(failure) => anyhow::bail!("cannot create the bucket: {failure:?}"),
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        println!("{} stays: {error}", folder.display());
    }
}
