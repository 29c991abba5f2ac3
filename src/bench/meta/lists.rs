//! Pages of large buckets, against the same of a small one.

use std::time::{Duration, Instant};

use anyhow::Result;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::query::{ListQuery, PAGE_MAX, VersionsQuery};
use enfilade_cluster::bench::{Filling, fill, key};
use enfilade_cluster::settings::Settings;
use enfilade_placement::BucketId;
use serde::Serialize;

use super::{Cluster, quantile};
use crate::bench::table;
use crate::cli::BenchMetaArgs;

/// Pages of each kind.
const PAGES: u64 = 200;

/// The bucket that the others are measured against has so many keys.
const SMALL: u64 = 10_000;

/// The longest that is waited for what was deleted to be forgotten.
const FORGOTTEN_MAX: Duration = Duration::from_secs(120);

/// The result, as JSON has it.
#[derive(Debug, Serialize)]
struct Report {
    /// Seconds to fill the buckets.
    filled: f64,
    pages: Vec<Pages>,
}

/// What pages of one kind took.
#[derive(Debug, Serialize)]
struct Pages {
    /// What was listed.
    what: String,
    /// Pages.
    pages: usize,
    /// Entries of all pages.
    entries: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// The median against that of the first row.
    ratio: f64,
}

pub(super) async fn run(args: &BenchMetaArgs) -> Result<()> {
    let folder = args.folder.join("lists");
    let tenth = (args.keys / 10).max(1);
    let buckets = [
        filling(1_001, SMALL, 0, false, 0),
        filling(1_002, args.keys, 0, false, 0),
        filling(1_003, SMALL, tenth, false, 0),
        filling(1_004, SMALL, tenth, true, 0),
        filling(1_005, SMALL, 0, false, tenth / 10),
    ];
    let settings = Settings {
        dir: folder.join("1"),
        ..Settings::default()
    };
    let begin = Instant::now();
    tokio::task::spawn_blocking(move || fill(&settings, &buckets)).await??;
    let filled = begin.elapsed().as_secs_f64();
    let cluster = Cluster::start(&folder, 1).await?;
    let lister = Lister {
        client: &*cluster.client,
        random: &|| cluster.env.random.next_u64(),
    };
    // In turns, so that what else the machine does meets all alike.
    let mut report = Report {
        filled,
        pages: Vec::new(),
    };
    let [small, large, deleted, marked, versions] = buckets;
    let (mut of_small, mut of_large, mut of_versions) =
        (Taken::default(), Taken::default(), Taken::default());
    for page in 0..PAGES {
        of_small.page(&lister, &small, None).await?;
        of_large.page(&lister, &large, Some(page)).await?;
        of_versions.page(&lister, &versions, None).await?;
    }
    report.add("10 thousand keys, from anywhere", of_small);
    report.add("all keys, from everywhere", of_large);
    report.add("beside a key with many versions", of_versions);
    for (what, bucket) in [("deleted", deleted), ("under markers", marked)] {
        let first = lister.walk(&bucket).await?;
        report.add(&format!("a tenth of the keys {what}: first listing"), first);
        let end = Instant::now() + FORGOTTEN_MAX;
        let again = loop {
            let again = lister.walk(&bucket).await?;
            if again.times.len() <= 10 || Instant::now() > end {
                break again;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        report.add(&format!("a tenth of the keys {what}: soon after"), again);
    }
    report.add("versions, a page", lister.versions(&marked).await?);
    cluster.stop().await;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", told(&report)),
    }
    Ok(())
}

const fn filling(bucket: u64, keys: u64, deleted: u64, markers: bool, versions: u64) -> Filling {
    Filling {
        bucket: BucketId::new(bucket),
        keys,
        deleted,
        markers,
        versions,
    }
}

impl Report {
    fn add(&mut self, what: &str, mut taken: Taken) {
        taken.times.sort_unstable();
        let p50_ms = quantile(&taken.times, 0.5);
        let base = self.pages.first().map_or(p50_ms, |first| first.p50_ms);
        self.pages.push(Pages {
            what: what.to_owned(),
            pages: taken.times.len(),
            entries: taken.entries,
            p50_ms,
            p99_ms: quantile(&taken.times, 0.99),
            ratio: p50_ms / base,
        });
    }
}

fn told(report: &Report) -> String {
    let headings = [
        "listing", "", "pages", "entries", "p50 ms", "p99 ms", "ratio",
    ];
    let rows = report.pages.iter().map(|pages| {
        vec![
            pages.what.clone(),
            String::new(),
            pages.pages.to_string(),
            pages.entries.to_string(),
            format!("{:.2}", pages.p50_ms),
            format!("{:.2}", pages.p99_ms),
            format!("{:.2}", pages.ratio),
        ]
    });
    let rows: Vec<_> = rows.collect();
    format!(
        "filled in {:.0} s\n{}",
        report.filled,
        table(&headings, &rows)
    )
}

/// Pages that were taken.
#[derive(Debug, Default)]
struct Taken {
    times: Vec<Duration>,
    entries: usize,
}

impl Taken {
    /// Takes a full page: of as many as there are, the one with this number, or any.
    async fn page(
        &mut self,
        lister: &Lister<'_>,
        bucket: &Filling,
        page: Option<u64>,
    ) -> Result<()> {
        let room = bucket.keys.saturating_sub(u64::from(PAGE_MAX) + 1).max(1);
        let first = match page {
            Some(page) => page * room / PAGES,
            None => (lister.random)() % room,
        };
        let query = ListQuery {
            after: Some(key(bucket.deleted + first)),
            limit: PAGE_MAX,
            ..ListQuery::default()
        };
        let begin = Instant::now();
        let page = lister.client.list(bucket.bucket, query).await?;
        self.times.push(begin.elapsed());
        self.entries += page.entries.len();
        Ok(())
    }
}

struct Lister<'c> {
    client: &'c dyn MetadataClient,
    random: &'c (dyn Fn() -> u64 + Sync),
}

impl Lister<'_> {
    /// Lists a whole bucket from its beginning.
    async fn walk(&self, bucket: &Filling) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut query = ListQuery {
            limit: PAGE_MAX,
            ..ListQuery::default()
        };
        loop {
            let begin = Instant::now();
            let page = self.client.list(bucket.bucket, query.clone()).await?;
            taken.times.push(begin.elapsed());
            taken.entries += page.entries.len();
            if page.next.is_none() {
                return Ok(taken);
            }
            (query.after, query.inside) = (page.next, page.inside);
        }
    }

    /// Pages of versions, from anywhere.
    async fn versions(&self, bucket: &Filling) -> Result<Taken> {
        let mut taken = Taken::default();
        for _ in 0..PAGES {
            let first = (self.random)() % (bucket.keys + bucket.deleted);
            let query = VersionsQuery {
                after: Some((key(first), None)),
                limit: PAGE_MAX,
                ..VersionsQuery::default()
            };
            let begin = Instant::now();
            let page = self.client.versions(bucket.bucket, query).await?;
            taken.times.push(begin.elapsed());
            taken.entries += page.versions.len();
        }
        Ok(taken)
    }
}
