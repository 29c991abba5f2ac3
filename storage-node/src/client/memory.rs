//! Storage nodes in memory, with switches, for the tests of other crates.
//!
//! They are real nodes, engines and commits included, over drives in memory. They believe every
//! volume, epoch and member that an address names, and hold any number of shards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use enfilade_cluster::env::Env;
use enfilade_placement::{
    BlobId, Chain, ChainId, ClusterId, Drive, DriveId, DriveState, Enclosure, EnclosureId,
    EnclosureState, Epoch, Generation, Incarnation, Profile, Topology, Volume, VolumeId,
    VolumeState,
};

use super::in_process::InProcess;
use crate::api::append::{AppendAck, AppendRequest};
use crate::api::error::ShardError;
use crate::api::read::{FragmentRead, InventoryPage, InventoryRequest, ReadRequest};
use crate::api::{Nodes, ShardAddress, ShardClient};
use crate::drive::FileSystemId;
use crate::drive::memory::MemoryDrive;
use crate::engine::{Engine, ShardKey};
use crate::host::Host;
use crate::server::{Identity, StorageNode};
use crate::settings::Settings;

/// The generation under which all drives in memory are attached.
pub const GENERATION: Generation = Generation::new(1);

/// A node over drives in memory.
pub struct MemoryNode {
    node: Arc<StorageNode>,
    client: InProcess,
    drives: BTreeMap<DriveId, MemoryDrive>,
    switches: Mutex<Switches>,
}

#[derive(Debug, Clone, Default)]
struct Switches {
    down: bool,
    delay: Duration,
    refusal: Option<ShardError>,
    appends_left: Option<u32>,
}

impl MemoryNode {
    /// A node with these drives, each of 1 TiB and attached under [`GENERATION`].
    ///
    /// # Panics
    /// When a fresh drive cannot be opened: a defect.
    pub fn new(host: &Host, identity: Identity, drives: &[DriveId]) -> Arc<Self> {
        let node = StorageNode::trusting(host.clone(), identity);
        let mut held = BTreeMap::new();
        for id in drives {
            let file_system = FileSystemId(u64::from(identity.enclosure.get()));
            let drive = MemoryDrive::new(file_system);
            let engine = Engine::open(host, Arc::new(drive.clone()), *id, None);
            node.serve(engine.expect("an empty drive opens"), GENERATION);
            held.insert(*id, drive);
        }
        let client = InProcess::new(Arc::clone(&node));
        Arc::new(Self {
            node,
            client,
            drives: held,
            switches: Mutex::default(),
        })
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers nothing any more.
    pub fn stop(&self) {
        self.switches().down = true;
    }

    /// Answers again.
    pub fn start(&self) {
        self.switches().down = false;
    }

    /// Waits so long before it looks at a request.
    pub fn delay(&self, time: Duration) {
        self.switches().delay = time;
    }

    /// Takes so many more appends, and is stopped then: a loss in the middle of a write.
    pub fn stop_after_appends(&self, appends: u32) {
        self.switches().appends_left = Some(appends);
    }

    /// Refuses every request with this error; none: not any more.
    pub fn refuse(&self, error: Option<ShardError>) {
        self.switches().refusal = error;
    }

    /// One of its drives, to be filled or broken.
    pub fn drive(&self, drive: DriveId) -> Option<&MemoryDrive> {
        self.drives.get(&drive)
    }

    /// The service itself.
    pub fn service(&self) -> &Arc<StorageNode> {
        &self.node
    }

    /// Flips bits of a fragment where it is stored. Whether it is there.
    pub fn corrupt(&self, drive: DriveId, volume: VolumeId, member: u8, at: (BlobId, u32)) -> bool {
        let engines = self.node.engines();
        let Some(engine) = engines.iter().find(|engine| engine.id() == drive) else {
            return false;
        };
        let key = ShardKey { volume, member };
        let place = engine.locate(key, at.0, at.1);
        let Some(((file, offset), drive)) = place.zip(self.drives.get(&drive)) else {
            return false;
        };
        drive.rot(&file, offset)
    }

    /// Loses a run of stripes (first and last) of a blob, as if they had never come.
    ///
    /// # Panics
    /// When there is no such drive here, or it fails.
    pub async fn lose(
        &self,
        drive: DriveId,
        (volume, member): (VolumeId, u8),
        blob: BlobId,
        run: (u32, u32),
    ) {
        let engines = self.node.engines();
        let engine = engines.iter().find(|engine| engine.id() == drive);
        let engine = engine.expect("the drive is here");
        let key = ShardKey { volume, member };
        let lost = engine.delete(key, blob, vec![run]).await;
        lost.expect("a drive in memory does what it is told");
    }

    async fn pass(&self) -> Result<(), ShardError> {
        let Switches {
            down,
            delay,
            refusal,
            ..
        } = self.switches().clone();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match refusal {
            _ if down => Err(ShardError::Unreachable("stopped".to_owned())),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl ShardClient for MemoryNode {
    async fn append(&self, request: AppendRequest) -> Result<AppendAck, ShardError> {
        {
            let mut switches = self.switches();
            match switches.appends_left {
                Some(0) => switches.down = true,
                Some(left) => switches.appends_left = Some(left - 1),
                None => {}
            }
        }
        self.pass().await?;
        self.client.append(request).await
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<FragmentRead>, ShardError> {
        self.pass().await?;
        self.client.read(request).await
    }

    async fn inventory(&self, request: InventoryRequest) -> Result<InventoryPage, ShardError> {
        self.pass().await?;
        self.client.inventory(request).await
    }
}

/// Nodes in memory, one an enclosure, all in one chain.
pub struct MemoryNodes {
    cluster: ClusterId,
    incarnation: Incarnation,
    nodes: BTreeMap<EnclosureId, Arc<MemoryNode>>,
    topology: Topology,
}

impl MemoryNodes {
    /// So many enclosures, numbered from 1, with so many drives each.
    pub fn new(cluster: ClusterId, incarnation: Incarnation, enclosures: u32, drives: u32) -> Self {
        let host = Host::new(Env::seeded(1), Settings::default());
        let mut nodes = BTreeMap::new();
        let mut topology = Topology::default();
        let chain = ChainId::new(1);
        topology.chains.insert(
            chain,
            Chain {
                id: chain,
                closed: false,
            },
        );
        for position in 0..enclosures {
            let id = EnclosureId::new(position + 1);
            let enclosure = Enclosure {
                id,
                chain,
                position,
                state: EnclosureState::Up,
                shard_address: String::new(),
                meta_address: String::new(),
                admin_address: String::new(),
            };
            topology.enclosures.insert(id, enclosure);
            let ids: Vec<DriveId> = (0..drives).map(|slot| drive_id(id, slot)).collect();
            for (slot, drive) in (0..drives).zip(&ids) {
                let drive = Drive {
                    id: *drive,
                    enclosure: id,
                    slot,
                    capacity: 1 << 40,
                    state: DriveState::Healthy,
                    generation: GENERATION,
                };
                topology.drives.insert(drive.id, drive);
            }
            let identity = Identity {
                cluster,
                incarnation,
                enclosure: id,
            };
            nodes.insert(id, MemoryNode::new(&host, identity, &ids));
        }
        Self {
            cluster,
            incarnation,
            nodes,
            topology,
        }
    }

    /// The topology that these nodes make up.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The node of an enclosure, with its switches.
    ///
    /// # Panics
    /// When there is no such enclosure.
    pub fn at(&self, enclosure: u32) -> &Arc<MemoryNode> {
        &self.nodes[&EnclosureId::new(enclosure)]
    }

    /// An open volume whose member `i` is on drive `number % drives` of enclosure `i + 1`, round
    /// and round when there are more members than enclosures.
    pub fn volume(&self, number: u64, profile: Profile) -> Volume {
        let all: Vec<DriveId> = self.topology.drives.keys().copied().collect();
        let (enclosures, drives) = (self.nodes.len(), all.len() / self.nodes.len().max(1));
        let member = |index: usize| {
            let (enclosure, round) = (index % enclosures, index / enclosures);
            let slot = (usize::try_from(number).unwrap_or(0) + round) % drives;
            let enclosure = EnclosureId::new(u32::try_from(enclosure + 1).unwrap_or(0));
            Some(drive_id(enclosure, u32::try_from(slot).unwrap_or(0)))
        };
        Volume {
            id: VolumeId::new(number),
            profile,
            members: (0..profile.width()).map(member).collect(),
            epoch: Epoch::FIRST,
            state: VolumeState::Open,
            bytes: 0,
            violation: false,
        }
    }

    /// The address of a member of a volume.
    ///
    /// # Panics
    /// When the member is vacant.
    pub fn address(&self, volume: &Volume, member: usize) -> ShardAddress {
        ShardAddress {
            cluster: self.cluster,
            incarnation: self.incarnation,
            drive: volume.members[member].expect("the member is not vacant"),
            generation: GENERATION,
            volume: volume.id,
            epoch: volume.epoch,
            member: u8::try_from(member).expect("a volume has less than 256 members"),
        }
    }
}

impl Nodes for MemoryNodes {
    fn node(&self, enclosure: EnclosureId) -> Option<Arc<dyn ShardClient>> {
        let node = self.nodes.get(&enclosure)?;
        Some(Arc::clone(node) as Arc<dyn ShardClient>)
    }
}

fn drive_id(enclosure: EnclosureId, slot: u32) -> DriveId {
    DriveId::new((u128::from(enclosure.get()) << 32) | u128::from(slot))
}
