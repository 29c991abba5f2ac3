//! A small cluster of agents, with a real root state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::api::command::{Conditions, KeyOp, NewObject, WriteRequest};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::memory::MemoryMetadata;
use enfilade_cluster::api::record::{Attributes, Blob, Extent, Layout, Place};
use enfilade_cluster::api::root::{
    Addresses, Birth, Bucket, LedgerRange, LedgerRow, RootCommand, RootReply,
};
use enfilade_placement::ChainId;

use super::*;
use crate::api::Owner;
use crate::api::append::{AppendHeader, AppendRequest, FragmentHeader};
use crate::api::read::{FragmentFault, FragmentRange, ReadRequest};
use crate::api::shape::Shape;
use crate::client::in_process::LocalNodes;
use crate::erasure::Codec;
use crate::erasure::checksum::fragment_checksums;

pub(super) const NODES: u32 = 4;
pub(super) const UNIT: u32 = 4096;

pub(super) fn profile() -> Profile {
    Profile::new(2, 2).unwrap().with_unit(UNIT).unwrap()
}

/// One of the nodes, with one drive.
pub(super) struct Station {
    pub(super) drive: MemoryDrive,
    pub(super) node: Arc<StorageNode>,
    pub(super) agent: Agent,
}

/// A cluster of enclosures with a drive each, and one volume over all of them.
pub(super) struct Ward {
    pub(super) metadata: Arc<MemoryMetadata>,
    pub(super) nodes: LocalNodes,
    pub(super) stations: BTreeMap<u32, Station>,
    pub(super) bucket: Bucket,
    pub(super) volume: Volume,
}

pub(super) fn settings() -> Settings {
    Settings {
        repair_interval: Duration::from_millis(10),
        move_grace: Duration::from_millis(200),
        move_dead_grace: Duration::from_millis(50),
        reference_period: Duration::from_millis(500),
        orphan_age: Duration::from_secs(24 * 3600),
        ..fast()
    }
}

pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(waited.is_ok(), "{what}");
}

impl Ward {
    pub(super) async fn new() -> Self {
        let birth = Birth {
            cluster: CLUSTER,
            profile: profile(),
            volume_target: 1 << 40,
            open_volumes: 1,
            replicas: vec![EnclosureId::new(1)],
        };
        let metadata = Arc::new(MemoryMetadata::born(birth, Env::seeded(9)));
        let nodes = LocalNodes::default();
        let mut stations = BTreeMap::new();
        for number in 1..=NODES {
            let join = RootCommand::JoinEnclosure {
                id: None,
                chain: ChainId::new(1),
                addresses: Addresses::default(),
            };
            root(&metadata, join).await;
            let drive = MemoryDrive::default();
            let id = DriveId::new(u128::from(number));
            superblock::store(&drive, &block(id)).unwrap();
            stations.insert(number, open(&metadata, &nodes, number, drive).await);
        }
        let bucket = RootCommand::CreateBucket {
            name: "ward".to_owned(),
            owner: String::new(),
            created_ms: 0,
        };
        let RootReply::Bucket(bucket) = root(&metadata, bucket).await else {
            panic!("the bucket is created");
        };
        let open = RootCommand::OpenVolume {
            profile: profile(),
            members: (1..=NODES).map(|n| Some(DriveId::new(n.into()))).collect(),
            violation: false,
        };
        let RootReply::Volume(volume) = root(&metadata, open).await else {
            panic!("the volume is opened");
        };
        Self {
            metadata,
            nodes,
            stations,
            bucket,
            volume,
        }
    }

    pub(super) fn key(&self, member: u8) -> ShardKey {
        ShardKey {
            volume: self.volume.id,
            member,
        }
    }

    pub(super) fn engine(&self, member: u8) -> Arc<Engine> {
        let station = &self.stations[&(u32::from(member) + 1)];
        station.node.engines().remove(0)
    }

    pub(super) async fn at(&self, member: u8) -> ShardAddress {
        let view = self.metadata.watch(0, Duration::ZERO).await.unwrap();
        let drive = self.volume.members[usize::from(member)].unwrap();
        ShardAddress {
            cluster: CLUSTER,
            incarnation: Incarnation::new(1),
            drive,
            generation: view.topology.drives[&drive].generation,
            volume: self.volume.id,
            epoch: self.volume.epoch,
            member,
        }
    }

    pub(super) fn owner(&self, id: u128) -> Owner {
        Owner {
            at: ObjectKey::new(self.bucket.id, format!("key-{id}")),
            upload: None,
        }
    }

    /// Writes a blob to all members, as a gateway does; its fragments by member, then stripe.
    pub(super) async fn write(
        &self,
        id: u128,
        len: u64,
        layout: Layout,
    ) -> (Blob, Vec<Vec<Bytes>>) {
        let shape = Shape {
            blob: BlobId::new(id),
            profile: profile(),
            layout,
        };
        let stripes = u32::try_from(len.div_ceil(shape.stripe_len())).unwrap();
        let extent = Extent {
            volume: self.volume.id,
            first_stripe: 0,
            stripes,
        };
        let blob = Blob {
            id: shape.blob,
            len,
            crc64: 0,
            place: Place::Striped {
                profile: profile(),
                layout,
                extents: vec![extent],
            },
        };
        let codec = Codec::new(2, 2).unwrap();
        let mut members: Vec<Vec<Bytes>> = vec![Vec::new(); 4];
        for stripe in 0..stripes {
            let unit = shape.unit_at(stripe, len) as usize;
            let byte = |i: usize| (i * 7 + stripe as usize * 13 + (id as usize)) as u8;
            let mut data: Vec<Vec<u8>> = (0..2)
                .map(|d| (0..unit).map(|i| byte(i + d * unit)).collect())
                .collect();
            if layout == Layout::Shortened {
                data[1 - shape.short_index()].fill(0);
            }
            let mut parity = vec![vec![0; unit]; 2];
            let sources: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            codec.encode(&sources, &mut outputs).unwrap();
            for (member, bytes) in data.into_iter().chain(parity).enumerate() {
                members[member].push(bytes.into());
            }
        }
        for member in shape.stored() {
            self.append(member, shape, &members[member]).await;
        }
        (blob, members)
    }

    pub(super) async fn append(&self, member: usize, shape: Shape, fragments: &[Bytes]) {
        let header = |(stripe, bytes): (u32, &Bytes)| FragmentHeader {
            len: u32::try_from(bytes.len()).unwrap(),
            checksums: fragment_checksums(shape.seed(self.volume.id, stripe, member), bytes)
                .collect(),
        };
        let request = AppendRequest {
            header: AppendHeader {
                at: self.at(u8::try_from(member).unwrap()).await,
                blob: shape.blob,
                first_stripe: 0,
                fragments: (0..).zip(fragments).map(header).collect(),
                owner: Some(self.owner(shape.blob.get())),
                committed: Vec::new(),
            },
            fragments: fragments.to_vec(),
        };
        let station = &self.stations[&(u32::try_from(member).unwrap() + 1)];
        station.node.append(request).await.unwrap();
    }

    pub(super) async fn commit(&self, blob: &Blob) {
        let object = NewObject {
            etag: "e".to_owned(),
            modified_ms: 0,
            attributes: Attributes::default(),
            checksum: None,
            blob: blob.clone(),
            inline: Bytes::new(),
        };
        let op = KeyOp::Put {
            object,
            conditions: Conditions::default(),
        };
        self.key_op(blob.id, op).await;
    }

    pub(super) async fn key_op(&self, blob: BlobId, op: KeyOp) {
        let request = WriteRequest {
            request: RequestId::new(rand::random()),
            bucket: self.bucket.id,
            revision: self.bucket.revision,
            key: self.owner(blob.get()).at.key,
            op,
        };
        self.metadata.write(request).await.unwrap().unwrap();
    }

    pub(super) fn rot(&self, member: u8, blob: BlobId, stripe: u32) {
        let place = self.engine(member).locate(self.key(member), blob, stripe);
        let (file, offset) = place.unwrap();
        let drive = &self.stations[&(u32::from(member) + 1)].drive;
        assert!(drive.rot(&file, offset));
    }

    pub(super) async fn read(
        &self,
        member: u8,
        blob: BlobId,
        stripe: u32,
    ) -> Result<Bytes, FragmentFault> {
        let ranges = vec![FragmentRange {
            stripe,
            offset: 0,
            len: UNIT,
        }];
        let request = ReadRequest::get(self.at(member).await, blob, ranges);
        let node = &self.stations[&(u32::from(member) + 1)].node;
        node.read(request).await.unwrap().remove(0)
    }

    pub(super) async fn ledger(&self) -> Vec<LedgerRow> {
        self.metadata.ledger(1000).await.unwrap()
    }

    pub(super) async fn until_listed(&self) {
        until("the ledger lists it", || async {
            !self.ledger().await.is_empty()
        })
        .await;
    }

    pub(super) async fn until_clear(&self) {
        until("the ledger is clear", || async {
            self.ledger().await.is_empty()
        })
        .await;
    }

    pub(super) fn row(&self, member: u8, what: LedgerRange) -> LedgerRow {
        LedgerRow {
            volume: self.volume.id,
            member,
            what,
        }
    }

    /// Bytes that the nodes of all members but one have read for repair.
    pub(super) fn read_for_repair(&self, without: u8) -> u64 {
        let others = self
            .stations
            .iter()
            .filter(|(number, _)| **number != u32::from(without) + 1);
        others
            .map(|(_, station)| {
                let metrics = station.node.host().metrics();
                metrics.traffic(crate::api::Cause::Repair, "read")
            })
            .sum()
    }

    /// Ends a node, and starts it on what its drive has kept.
    pub(super) async fn restart(&mut self, member: u8) {
        let number = u32::from(member) + 1;
        let station = self.stations.remove(&number).unwrap();
        station.agent.shutdown().await;
        self.nodes.remove(EnclosureId::new(number));
        drop(station.node);
        let station = open(&self.metadata, &self.nodes, number, station.drive).await;
        self.stations.insert(number, station);
    }

    pub(super) async fn stop(self) {
        for station in self.stations.into_values() {
            station.agent.shutdown().await;
        }
    }
}

pub(super) async fn root(metadata: &MemoryMetadata, command: RootCommand) -> RootReply {
    let request = RequestId::new(rand::random());
    metadata.root(request, command).await.unwrap().unwrap()
}

pub(super) async fn open(
    metadata: &Arc<MemoryMetadata>,
    nodes: &LocalNodes,
    number: u32,
    drive: MemoryDrive,
) -> Station {
    let host = Host::new(Env::seeded(u64::from(number)), settings());
    let identity = Identity {
        enclosure: EnclosureId::new(number),
        ..identity()
    };
    let metadata = Arc::clone(metadata) as Arc<dyn MetadataClient>;
    let node = StorageNode::new(host, identity, Arc::clone(&metadata));
    nodes.insert(&node);
    let spec = DriveSpec::memory(DriveId::new(number.into()), 0, &drive);
    let mut agent = Agent::start(
        Arc::clone(&node),
        metadata,
        Arc::new(nodes.clone()),
        vec![spec],
    );
    agent.ready().await;
    Station { drive, node, agent }
}
