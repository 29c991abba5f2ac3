//! `enfilade bench meta`: puts, gets and listings of records, through groups that run in this
//! process: with one replica by calls, with more over gRPC on this machine's own network.

mod lists;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::command::{Conditions, KeyOp, WriteRequest};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::{ListQuery, PAGE_MAX};
use enfilade_cluster::api::root::{Birth, Bucket, RootCommand, RootReply};
use enfilade_cluster::bench::{key, make_groups, object};
use enfilade_cluster::env::Env;
use enfilade_cluster::metrics::metrics;
use enfilade_cluster::server::Replica;
use enfilade_placement::{ClusterId, EnclosureId, Profile, RequestId};
use serde::Serialize;
use tokio::net::TcpListener;

use super::table;
use crate::cli::BenchMetaArgs;
use crate::credentials::Token;
use crate::os;
use crate::role::meta::{Meta, peers};

/// Measures, and prints.
///
/// # Errors
/// When the folder cannot be used, or the service does not do what it is asked.
pub(crate) fn run(args: &BenchMetaArgs) -> Result<()> {
    let folder = &args.folder;
    let named = folder.display();
    let empty = !folder.exists() || folder.read_dir()?.next().is_none();
    ensure!(empty, "{named} is not empty: name another --folder");
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {named}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let measured = match args.idle {
        Some(groups) => runtime.block_on(idle(args, groups)),
        None if args.lists => runtime.block_on(lists::run(args)),
        None => runtime.block_on(measure(args)),
    };
    runtime.shutdown_timeout(Duration::from_secs(5));
    let removed = std::fs::remove_dir_all(folder);
    measured?;
    removed.with_context(|| format!("cannot remove {named}"))
}

/// The result, as JSON has it.
#[derive(Debug, Serialize)]
struct Report {
    rates: Vec<Rate>,
}

/// What one kind of call came to.
#[derive(Debug, Serialize)]
struct Rate {
    /// `put`, `get` or `list`.
    call: &'static str,
    replicas: u32,
    clients: usize,
    /// Calls a second.
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU time of the process, with all replicas, in microseconds a call.
    cpu_us: f64,
    /// Writes to the log that shared one sync, of all replicas; none without writes.
    writes_a_sync: Option<f64>,
    /// Syncs of all replicas a second.
    syncs: Option<f64>,
}

async fn measure(args: &BenchMetaArgs) -> Result<()> {
    let mut rates = Vec::new();
    let time = Duration::from_secs(args.seconds);
    for replicas in &args.replicas {
        let folder = args.folder.join(replicas.to_string());
        let cluster = Arc::new(Cluster::start(&folder, *replicas).await?);
        // Elections, and the first files.
        cluster.load(Kind::Put, 8, Duration::from_secs(1)).await?;
        for clients in &args.clients {
            rates.push(cluster.load(Kind::Put, *clients, time).await?);
        }
        for kind in [Kind::Get, Kind::List] {
            for clients in [1, 64] {
                rates.push(cluster.load(kind, clients, time).await?);
            }
        }
        let cluster = Arc::into_inner(cluster).context("a client still runs")?;
        cluster.stop().await;
        std::fs::remove_dir_all(&folder)?;
    }
    let report = Report { rates };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", told(&report)),
    }
    Ok(())
}

/// What groups cost that have nothing to do.
#[derive(Debug, Serialize)]
struct Idle {
    groups: u32,
    replicas: u32,
    /// CPU time a second of one replica's process, on average, as a part of a core.
    core: f64,
}

async fn idle(args: &BenchMetaArgs, groups: u32) -> Result<()> {
    let replicas = args.replicas.iter().copied().max().unwrap_or(1);
    let cluster = Cluster::start(&args.folder.join("idle"), replicas).await?;
    let services: Vec<_> = cluster
        .replicas
        .iter()
        .map(|r| r.service().clone())
        .collect();
    make_groups(&services, &cluster.members, groups).await?;
    // Elections.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (begin, cpu) = (Instant::now(), os::process_cpu_time()?);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let cpu = os::process_cpu_time()?.saturating_sub(cpu);
    let core = cpu.as_secs_f64() / begin.elapsed().as_secs_f64() / f64::from(replicas);
    cluster.stop().await;
    let idle = Idle {
        groups,
        replicas,
        core,
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&idle)?),
        false => println!(
            "{groups} idle groups on {replicas} replicas: {:.1} % of a core a replica",
            core * 100.0
        ),
    }
    Ok(())
}

fn told(report: &Report) -> String {
    let headings = [
        "call", "replicas", "clients", "rate", "p50 ms", "p99 ms", "CPU us", "batch", "syncs",
    ];
    let rows = report.rates.iter().map(|rate| {
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |n| format!("{n:.0}"));
        vec![
            rate.call.to_owned(),
            rate.replicas.to_string(),
            rate.clients.to_string(),
            number(Some(rate.rate)),
            format!("{:.2}", rate.p50_ms),
            format!("{:.2}", rate.p99_ms),
            format!("{:.1}", rate.cpu_us),
            number(rate.writes_a_sync),
            number(rate.syncs),
        ]
    });
    table(&headings, &rows.collect::<Vec<_>>())
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
    List,
}

/// A metadata service with a bucket.
struct Cluster {
    replicas: Vec<Meta>,
    /// Where the replicas reach each other.
    members: BTreeMap<EnclosureId, String>,
    client: Arc<dyn MetadataClient>,
    env: Env,
    bucket: Bucket,
    /// Keys that are there or are being put: those below this.
    keys: AtomicU64,
}

impl Cluster {
    async fn start(folder: &Path, replicas: u32) -> Result<Self> {
        ensure!(replicas > 0, "there must be a replica");
        let env = Env::real();
        let token = Token {
            cluster: ClusterId::new(env.random.next_u128()),
            credential: "bench".to_owned(),
        };
        let mut listeners = Vec::new();
        for _ in 0..replicas {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let mut members = BTreeMap::new();
        for (id, listener) in (1..).map(EnclosureId::new).zip(&listeners) {
            members.insert(id, listener.local_addr()?.to_string());
        }
        let mut started = Vec::new();
        for ((id, address), listener) in members.iter().zip(listeners) {
            let folder = folder.join(id.to_string());
            std::fs::create_dir_all(&folder)?;
            let (id, address) = (*id, address.clone());
            let peers = peers(&token, members.clone())?;
            let replica = Replica { id, address };
            let meta = Meta::start(&folder, replica, peers, env.clone(), Some(listener));
            started.push(meta.await?);
        }
        let first = started.first().context("there must be a replica")?;
        let birth = Birth {
            cluster: token.cluster,
            profile: "4+2".parse::<Profile>()?,
            volume_target: 1 << 36,
            open_volumes: 1,
            replicas: members.keys().copied().collect(),
        };
        first.service().bootstrap(birth, &members).await?;
        let client = first.client();
        let bucket = create(&*client, &env).await?;
        let keys = AtomicU64::new(0);
        Ok(Self {
            replicas: started,
            members,
            client,
            env,
            bucket,
            keys,
        })
    }

    async fn stop(self) {
        for replica in self.replicas {
            replica.stop().await;
        }
    }

    /// Has clients call for a while.
    async fn load(self: &Arc<Self>, kind: Kind, clients: usize, time: Duration) -> Result<Rate> {
        let (batches, syncs) = (&metrics().log_batch_writes, &metrics().log_sync_seconds);
        let before = (batches.get_sample_sum(), syncs.get_sample_count());
        let (begin, cpu) = (Instant::now(), os::process_cpu_time()?);
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let cluster = Arc::clone(self);
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while begin.elapsed() < time {
                        let asked = Instant::now();
                        cluster.call(kind).await?;
                        times.push(asked.elapsed());
                    }
                    anyhow::Ok(times)
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        let took = begin.elapsed().as_secs_f64();
        let cpu = os::process_cpu_time()?.saturating_sub(cpu).as_secs_f64();
        let calls = times.len() as f64;
        let synced = syncs.get_sample_count().saturating_sub(before.1) as f64;
        let writes = batches.get_sample_sum() - before.0;
        let put = kind == Kind::Put;
        times.sort_unstable();
        Ok(Rate {
            call: match kind {
                Kind::Put => "put",
                Kind::Get => "get",
                Kind::List => "list",
            },
            replicas: u32::try_from(self.replicas.len())?,
            clients,
            rate: calls / took,
            p50_ms: quantile(&times, 0.5),
            p99_ms: quantile(&times, 0.99),
            cpu_us: cpu * 1e6 / calls,
            writes_a_sync: put.then(|| writes / synced),
            syncs: put.then(|| synced / took),
        })
    }

    async fn call(&self, kind: Kind) -> Result<()> {
        let some = || self.env.random.next_u64() % self.keys.load(Ordering::Relaxed).max(1);
        match kind {
            Kind::Put => self.put().await,
            Kind::Get => {
                let at = ObjectKey::new(self.bucket.id, key(some()));
                let found = self.client.object(&at, None).await?;
                found.map(drop).context("a record is not there")
            }
            Kind::List => {
                let query = ListQuery {
                    after: Some(key(some())),
                    limit: PAGE_MAX,
                    ..ListQuery::default()
                };
                self.client.list(self.bucket.id, query).await?;
                Ok(())
            }
        }
    }

    async fn put(&self) -> Result<()> {
        let blob = self.env.random.next_u128();
        let object = object(blob);
        let conditions = Conditions::default();
        let request = WriteRequest {
            request: RequestId::new(blob),
            bucket: self.bucket.id,
            revision: self.bucket.revision,
            key: key(self.keys.fetch_add(1, Ordering::Relaxed)),
            op: KeyOp::Put { object, conditions },
        };
        let outcome = self.client.write(request).await?;
        outcome.map(drop).map_err(|refusal| anyhow!(refusal))
    }
}

async fn create(client: &dyn MetadataClient, env: &Env) -> Result<Bucket> {
    let command = RootCommand::CreateBucket {
        name: "bench".to_owned(),
        owner: "bench".to_owned(),
        created_ms: env.clock.wall_ms(),
    };
    let request = RequestId::new(env.random.next_u128());
    match client.root(request, command).await? {
        Ok(RootReply::Bucket(bucket)) => Ok(bucket),
        other => bail!("the bucket was not made: {other:?}"),
    }
}

/// A quantile of sorted times, in milliseconds.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let index = (times.len() as f64 * part) as usize;
    let time = times.get(index.min(times.len().saturating_sub(1)));
    time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_put_got_and_listed_and_the_folder_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = BenchMetaArgs {
            replicas: vec![1],
            clients: vec![4],
            seconds: 0,
            lists: false,
            keys: 2_000,
            idle: None,
            folder: folder.path().join("bench"),
            json: true,
        };
        run(&args).expect("it runs");
        let lists = BenchMetaArgs {
            lists: true,
            ..args
        };
        run(&lists).expect("it runs");
        assert!(!lists.folder.exists());
        std::fs::write(folder.path().join("other"), "x").expect("a file");
        let other = BenchMetaArgs {
            folder: folder.path().to_owned(),
            ..lists
        };
        assert!(run(&other).is_err());
        assert!(folder.path().join("other").exists());
    }
}
