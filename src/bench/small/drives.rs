//! The drives of a volume, and blobs on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use enfilade_cluster::api::record::Layout;
use enfilade_cluster::env::Env;
use enfilade_placement::{
    BlobId, ClusterId, DriveId, Epoch, Generation, Incarnation, Profile, VolumeId,
};
use enfilade_storage_node::api::append::FragmentHeader;
use enfilade_storage_node::api::read::FragmentRange;
use enfilade_storage_node::api::shape::Shape;
use enfilade_storage_node::drive::file::FileDrive;
use enfilade_storage_node::drive::superblock::Superblock;
use enfilade_storage_node::engine::{Append, Engine, ShardKey};
use enfilade_storage_node::erasure::Codec;
use enfilade_storage_node::erasure::checksum::fragment_checksums;
use enfilade_storage_node::host::Host;
use enfilade_storage_node::settings::Settings;
use futures::future::try_join_all;
use prometheus::Registry;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::bench::noise;
use crate::os;

const VOLUME: VolumeId = VolumeId::new(1);
/// For how long an engine may take to let go of its drive.
const LET_GO: Duration = Duration::from_secs(30);

/// What one blob costs.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Cost {
    /// Bytes on all drives: headers, checksums and padding included.
    pub(super) bytes: f64,
    /// Syncs of all drives.
    pub(super) syncs: f64,
    /// CPU time of the process to write it, and to read it.
    pub(super) put_micros: f64,
    pub(super) get_micros: f64,
}

/// A drive for each member of a profile.
pub(super) struct Drives {
    folder: PathBuf,
    profile: Profile,
    codec: Codec,
    members: Vec<Member>,
}

struct Member {
    engine: Arc<Engine>,
    registry: Registry,
}

pub(super) fn shape(blob: u128, profile: Profile, layout: Layout) -> Shape {
    Shape {
        blob: BlobId::new(blob),
        profile,
        layout,
    }
}

fn shard(member: usize) -> ShardKey {
    ShardKey {
        volume: VOLUME,
        member: u8::try_from(member).expect("a profile has at most 116 members"),
    }
}

impl Drives {
    /// Formats new drives in a folder.
    pub(super) fn create(folder: &Path, profile: Profile) -> Result<Self> {
        let folder = folder.join("drives");
        let members: Result<Vec<Member>> = (0..profile.width())
            .map(|member| Member::create(&folder.join(member.to_string()), member))
            .collect();
        Ok(Self {
            codec: Codec::new(profile.k(), profile.m())?,
            members: members?,
            profile,
            folder,
        })
    }

    /// Writes and reads blobs of so many bytes; what one costs on average.
    pub(super) fn cost(
        &self,
        runtime: &Runtime,
        layout: Layout,
        len: u32,
        (writers, blobs): (u32, u32),
    ) -> Result<Cost> {
        let each = blobs.div_ceil(writers);
        let data = noise(len as usize, 1);
        let (bytes, syncs) = (self.bytes(), self.syncs());
        let spread = |writer: u32| (writer * each..(writer + 1) * each).map(|n| u128::from(n) + 1);
        let begun = os::process_cpu_time()?;
        let write = |writer| {
            let data = &data;
            async move {
                for blob in spread(writer) {
                    self.put(shape(blob, self.profile, layout), data).await?;
                }
                anyhow::Ok(())
            }
        };
        runtime.block_on(try_join_all((0..writers).map(write)))?;
        let written = os::process_cpu_time()?;
        let read = |writer| async move {
            for blob in spread(writer) {
                self.get(shape(blob, self.profile, layout), len).await?;
            }
            anyhow::Ok(())
        };
        runtime.block_on(try_join_all((0..writers).map(read)))?;
        let ended = os::process_cpu_time()?;
        let count = f64::from(each * writers);
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
        Ok(Cost {
            bytes: (self.bytes() - bytes) as f64 / count,
            syncs: (self.syncs() - syncs) as f64 / count,
            put_micros: micros(written.saturating_sub(begun)),
            get_micros: micros(ended.saturating_sub(written)),
        })
    }

    async fn put(&self, shape: Shape, data: &[u8]) -> Result<()> {
        let fragments = self.encode(shape, data)?;
        let append = |(member, bytes): (usize, Bytes)| async move {
            let header = FragmentHeader {
                len: u32::try_from(bytes.len())?,
                checksums: fragment_checksums(shape.seed(VOLUME, 0, member), &bytes).collect(),
            };
            let append = Append {
                epoch: Epoch::FIRST,
                blob: shape.blob,
                first_stripe: 0,
                fragments: vec![header],
                owner: None,
                marks: Vec::new(),
                payload: vec![bytes],
            };
            let engine = &self.members[member].engine;
            let admission = engine.admit(data.len() as u64)?;
            engine.append(shard(member), append, admission).await?;
            anyhow::Ok(())
        };
        try_join_all(fragments.into_iter().map(append)).await?;
        Ok(())
    }

    /// The fragments that are stored, with their members.
    fn encode(&self, shape: Shape, data: &[u8]) -> Result<Vec<(usize, Bytes)>> {
        let unit = shape.unit_for(data.len() as u64) as usize;
        let (k, m) = (self.profile.k(), self.profile.m());
        let parts = match shape.layout {
            Layout::Full => k,
            Layout::Shortened => 1,
        };
        let mut padded = data.to_vec();
        padded.resize(unit * parts, 0);
        let mut parity = vec![vec![0; unit]; m];
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        let sources: Vec<&[u8]> = padded.chunks(unit).collect();
        match shape.layout {
            Layout::Full => self.codec.encode(&sources, &mut outputs)?,
            Layout::Shortened => {
                let index = shape.short_index();
                self.codec.encode_shortened(index, &padded, &mut outputs)?;
            }
        }
        let padded = Bytes::from(padded);
        let data = (0..parts).map(|part| padded.slice(part * unit..(part + 1) * unit));
        let fragments = data.chain(parity.into_iter().map(Bytes::from));
        Ok(shape.stored().zip(fragments).collect())
    }

    async fn get(&self, shape: Shape, len: u32) -> Result<()> {
        let unit = shape.unit_for(u64::from(len));
        let read = |(member, within): (usize, std::ops::Range<u32>)| async move {
            let range = FragmentRange {
                stripe: 0,
                offset: within.start,
                len: within.end - within.start,
            };
            let engine = &self.members[member].engine;
            let mut answers = engine.read(shard(member), shape.blob, vec![range]).await;
            answers.pop().context("an answer for the range")??;
            anyhow::Ok(())
        };
        try_join_all(shape.fragments_of(unit, 0..len).map(read)).await?;
        Ok(())
    }

    /// Bytes of all logs.
    fn bytes(&self) -> u64 {
        let shards = self
            .members
            .iter()
            .flat_map(|member| member.engine.shards());
        shards.map(|shard| shard.log_bytes).sum()
    }

    fn syncs(&self) -> u64 {
        self.members.iter().map(Member::syncs).sum()
    }

    /// Closes all drives, and removes them.
    pub(super) fn remove(self, runtime: &Runtime) -> Result<()> {
        for member in self.members {
            runtime.block_on(member.engine.close())?;
            let (mut engine, begun) = (member.engine, Instant::now());
            // The committer holds it until it has answered its last order.
            while let Err(held) = Arc::try_unwrap(engine) {
                if begun.elapsed() > LET_GO {
                    bail!("an engine does not let go of its drive");
                }
                engine = held;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let folder = self.folder;
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))
    }
}

impl Member {
    fn create(path: &Path, member: usize) -> Result<Self> {
        let id = DriveId::new(0x5a11 + member as u128);
        let superblock = Superblock {
            revision: 1,
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            drive: id,
            file_system: 0,
            generation: Generation::new(1),
            pending: None,
        };
        drop(FileDrive::format(path, &superblock)?);
        let (drive, _) = FileDrive::open(path, id)?;
        let host = Host::new(Env::real(), Settings::default());
        let registry = Registry::new();
        host.metrics().register(&registry)?;
        let engine = Engine::open(&host, Arc::new(drive), id, None)?;
        Ok(Self { engine, registry })
    }

    /// How many commit groups there were: each has one sync.
    fn syncs(&self) -> u64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "enfilade_storage_node_group_records");
        family
            .and_then(|family| family.get_metric().first())
            .map_or(0, |metric| metric.get_histogram().get_sample_count())
    }
}
