//! Not a test of anything: prints how fast the data path is over nodes that only keep what comes.
//!
//! `ENFILADE_SPEED=1 cargo test --release -p enfilade-gateway speed -- --nocapture`

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_placement::{BlobId, EnclosureId};
use enfilade_storage_node::api::append::{AppendAck, AppendRequest};
use enfilade_storage_node::api::error::ShardError;
use enfilade_storage_node::api::read::{
    FragmentFault, FragmentRead, InventoryPage, InventoryRequest, ReadRequest,
};
use enfilade_storage_node::api::{Nodes, ShardClient};
use futures::{StreamExt, future, stream};

use super::{Cluster, content, noise};
use crate::path::DataPath;
use crate::settings::PathSettings;

const BODY: usize = 256 << 20;

#[test]
fn the_speed_is_printed_when_asked_for() {
    if std::env::var_os("ENFILADE_SPEED").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    for bodies in [1, 8] {
        runtime.block_on(measure(bodies));
    }
}

/// A node that keeps the fragments as they come, without a copy or a checksum.
#[derive(Default)]
struct Shelf(Mutex<HashMap<(BlobId, u32, u8), Bytes>>);

#[async_trait]
impl ShardClient for Shelf {
    async fn append(&self, request: AppendRequest) -> Result<AppendAck, ShardError> {
        let AppendRequest { header, fragments } = request;
        let mut shelf = self.0.lock().unwrap();
        for (stripe, fragment) in (header.first_stripe..).zip(fragments) {
            shelf.insert((header.blob, stripe, header.at.member), fragment);
        }
        Ok(AppendAck {
            epoch: header.at.epoch,
            shard_bytes: 0,
        })
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<FragmentRead>, ShardError> {
        let shelf = self.0.lock().unwrap();
        let read = |range: &enfilade_storage_node::api::read::FragmentRange| {
            let fragment = shelf.get(&(request.blob, range.stripe, request.at.member));
            let (start, end) = (range.offset as usize, (range.offset + range.len) as usize);
            Ok(fragment.ok_or(FragmentFault::Missing)?.slice(start..end))
        };
        Ok(request.ranges.iter().map(read).collect())
    }

    async fn inventory(&self, _: InventoryRequest) -> Result<InventoryPage, ShardError> {
        Err(ShardError::Busy)
    }
}

/// All enclosures are one shelf.
struct Shelves(Arc<Shelf>);

impl Nodes for Shelves {
    fn node(&self, _: EnclosureId) -> Option<Arc<dyn ShardClient>> {
        Some(Arc::clone(&self.0) as Arc<dyn ShardClient>)
    }
}

async fn measure(bodies: usize) {
    let mut cluster = Cluster::start("4+2".parse().unwrap(), 6, |_| {}).await;
    let (env, view) = (cluster.env.clone(), Arc::clone(&cluster.view));
    let nodes = Arc::new(Shelves(Arc::default()));
    let settings = PathSettings::default();
    cluster.path = DataPath::new(settings, env, cluster.metadata.clone(), nodes, view);
    let bytes = Bytes::from(noise(BODY / bodies, 1));
    let body = || {
        let piece = |at| Ok(bytes.slice(at..bytes.len().min(at + (64 << 10))));
        let pieces: Vec<_> = (0..bytes.len()).step_by(64 << 10).map(piece).collect();
        let mut body = cluster.body("key", stream::iter(pieces).boxed());
        body.len = Some(bytes.len() as u64);
        body
    };
    let total = (bytes.len() * bodies) as f64;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let writes = (0..bodies).map(|_| cluster.path.write(body()));
    let written = future::join_all(writes).await;
    report(&format!("put x{bodies}"), total, began, cpu);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let reads = written.iter().map(|written| async {
        let content = content(written.as_ref().unwrap());
        let stream = cluster
            .path
            .read(cluster.key("key"), content, 0..u64::MAX)
            .await
            .unwrap();
        let len = stream
            .fold(0, |len, chunk| future::ready(len + chunk.unwrap().len()))
            .await;
        assert_eq!(len, bytes.len());
    });
    future::join_all(reads).await;
    report(&format!("get x{bodies}"), total, began, cpu);
}

fn report(what: &str, bytes: f64, began: Instant, cpu: f64) {
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let gib = bytes / f64::from(1 << 30);
    println!(
        "{what}: {:.2} GB/s, {:.2} core-s/GiB",
        bytes / wall / 1e9,
        cpu / gib
    );
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: Vec<f64> = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    ticks.iter().sum::<f64>() / 100.0
}
