//! Repair by the agents of a small cluster, with a real root state machine.

mod absent;

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

const NODES: u32 = 4;
const UNIT: u32 = 4096;

fn profile() -> Profile {
    Profile::new(2, 2).unwrap().with_unit(UNIT).unwrap()
}

/// One of the nodes, with one drive.
struct Station {
    drive: MemoryDrive,
    node: Arc<StorageNode>,
    agent: Agent,
}

/// A cluster of enclosures with a drive each, and one volume over all of them.
struct Ward {
    metadata: Arc<MemoryMetadata>,
    nodes: LocalNodes,
    stations: BTreeMap<u32, Station>,
    bucket: Bucket,
    volume: Volume,
}

fn settings() -> Settings {
    Settings {
        repair_interval: Duration::from_millis(10),
        orphan_age: Duration::from_secs(24 * 3600),
        ..fast()
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(waited.is_ok(), "{what}");
}

impl Ward {
    async fn new() -> Self {
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

    fn key(&self, member: u8) -> ShardKey {
        ShardKey {
            volume: self.volume.id,
            member,
        }
    }

    fn engine(&self, member: u8) -> Arc<Engine> {
        let station = &self.stations[&(u32::from(member) + 1)];
        station.node.engines().remove(0)
    }

    async fn at(&self, member: u8) -> ShardAddress {
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

    fn owner(&self, id: u128) -> Owner {
        Owner {
            at: ObjectKey::new(self.bucket.id, format!("key-{id}")),
            upload: None,
        }
    }

    /// Writes a blob to all members, as a gateway does; its fragments by member, then stripe.
    async fn write(&self, id: u128, len: u64, layout: Layout) -> (Blob, Vec<Vec<Bytes>>) {
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

    async fn append(&self, member: usize, shape: Shape, fragments: &[Bytes]) {
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

    async fn commit(&self, blob: &Blob) {
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

    async fn key_op(&self, blob: BlobId, op: KeyOp) {
        let request = WriteRequest {
            request: RequestId::new(rand::random()),
            bucket: self.bucket.id,
            revision: self.bucket.revision,
            key: self.owner(blob.get()).at.key,
            op,
        };
        self.metadata.write(request).await.unwrap().unwrap();
    }

    fn rot(&self, member: u8, blob: BlobId, stripe: u32) {
        let place = self.engine(member).locate(self.key(member), blob, stripe);
        let (file, offset) = place.unwrap();
        let drive = &self.stations[&(u32::from(member) + 1)].drive;
        assert!(drive.rot(&file, offset));
    }

    async fn read(&self, member: u8, blob: BlobId, stripe: u32) -> Result<Bytes, FragmentFault> {
        let ranges = vec![FragmentRange {
            stripe,
            offset: 0,
            len: UNIT,
        }];
        let request = ReadRequest::get(self.at(member).await, blob, ranges);
        let node = &self.stations[&(u32::from(member) + 1)].node;
        node.read(request).await.unwrap().remove(0)
    }

    async fn ledger(&self) -> Vec<LedgerRow> {
        self.metadata.ledger(1000).await.unwrap()
    }

    async fn until_listed(&self) {
        until("the ledger lists it", || async {
            !self.ledger().await.is_empty()
        })
        .await;
    }

    async fn until_clear(&self) {
        until("the ledger is clear", || async {
            self.ledger().await.is_empty()
        })
        .await;
    }

    fn row(&self, member: u8, what: LedgerRange) -> LedgerRow {
        LedgerRow {
            volume: self.volume.id,
            member,
            what,
        }
    }

    /// Bytes that the nodes of all members but one have read for repair.
    fn read_for_repair(&self, without: u8) -> u64 {
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
    async fn restart(&mut self, member: u8) {
        let number = u32::from(member) + 1;
        let station = self.stations.remove(&number).unwrap();
        station.agent.shutdown().await;
        self.nodes.remove(EnclosureId::new(number));
        drop(station.node);
        let station = open(&self.metadata, &self.nodes, number, station.drive).await;
        self.stations.insert(number, station);
    }

    async fn stop(self) {
        for station in self.stations.into_values() {
            station.agent.shutdown().await;
        }
    }
}

async fn root(metadata: &MemoryMetadata, command: RootCommand) -> RootReply {
    let request = RequestId::new(rand::random());
    metadata.root(request, command).await.unwrap().unwrap()
}

async fn open(
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

#[tokio::test]
async fn a_rotten_fragment_is_rebuilt_from_exactly_k_others_and_closed() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(77, 5 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    for (member, stripe) in [(0u8, 1u32), (3, 4)] {
        let before = ward.read_for_repair(member);
        ward.rot(member, blob.id, stripe);
        let corrupt = ward.read(member, blob.id, stripe).await;
        assert_eq!(corrupt, Err(FragmentFault::Corrupt));
        // Entered, rebuilt, closed.
        until("it is rebuilt", || async {
            ward.read(member, blob.id, stripe).await.is_ok()
        })
        .await;
        ward.until_clear().await;
        let back = ward.read(member, blob.id, stripe).await.unwrap();
        assert_eq!(back, members[usize::from(member)][stripe as usize]);
        let read = ward.read_for_repair(member) - before;
        assert_eq!(read, 2 * u64::from(UNIT), "k fragments, no more");
    }
    ward.stop().await;
}

#[tokio::test]
async fn a_fragment_of_a_shortened_stripe_is_rebuilt_from_one_other() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(78, 4000, Layout::Shortened).await;
    ward.commit(&blob).await;
    for member in [0u8, 2, 3] {
        ward.rot(member, blob.id, 0);
        let before = ward.read_for_repair(member);
        assert!(ward.read(member, blob.id, 0).await.is_err());
        until("it is rebuilt", || async {
            ward.read(member, blob.id, 0).await.is_ok()
        })
        .await;
        let back = ward.read(member, blob.id, 0).await.unwrap();
        assert_eq!(back, members[usize::from(member)][0]);
        ward.until_clear().await;
        assert_eq!(ward.read_for_repair(member) - before, u64::from(UNIT));
    }
    ward.stop().await;
}

#[tokio::test]
async fn missing_fragments_of_a_referenced_blob_are_rebuilt() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(79, 5 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    // As after a gateway met them missing. What lies outside the extents is not looked for.
    let key = ward.key(1);
    ward.engine(1)
        .delete(key, blob.id, Vec::new())
        .await
        .unwrap();
    let row = ward.row(1, LedgerRange::stripes(blob.id, 0..=9));
    root(&ward.metadata, RootCommand::ReportFaults(vec![row])).await;
    ward.until_clear().await;
    for stripe in 0..5 {
        let back = ward.read(1, blob.id, stripe).await.unwrap();
        assert_eq!(back, members[1][stripe as usize], "{stripe}");
    }
    let missing = ward.read(1, blob.id, 5).await;
    assert_eq!(missing, Err(FragmentFault::Missing));
    ward.stop().await;
}

#[tokio::test]
async fn an_entry_whose_fragment_is_whole_already_is_closed_without_reading_others() {
    let ward = Ward::new().await;
    let (blob, _) = ward.write(80, 3 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    // As after a crash between the rebuilt fragment and the end of its entry.
    let row = ward.row(2, LedgerRange::stripes(blob.id, 0..=2));
    root(&ward.metadata, RootCommand::ReportFaults(vec![row])).await;
    ward.until_clear().await;
    assert_eq!(ward.read_for_repair(2), 0);
    ward.stop().await;
}

#[tokio::test]
async fn what_nothing_references_is_no_entry_until_it_is_committed() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(81, 2 * 8192, Layout::Full).await;
    ward.rot(0, blob.id, 1);
    assert!(ward.read(0, blob.id, 1).await.is_err());
    until("it was entered and taken out", || async {
        let aside = !ward.stations[&1].agent.context.ledger.is_empty();
        aside && ward.ledger().await.is_empty()
    })
    .await;
    assert_eq!(ward.read_for_repair(0), 0);
    assert!(ward.read(0, blob.id, 1).await.is_err());
    ward.commit(&blob).await;
    until("it is rebuilt", || async {
        ward.read(0, blob.id, 1).await.is_ok()
    })
    .await;
    assert_eq!(ward.read(0, blob.id, 1).await.unwrap(), members[0][1]);
    ward.until_clear().await;
    ward.stop().await;
}

#[tokio::test]
async fn an_entry_of_a_blob_that_nobody_has_stays_until_it_is_known_to_be_dead() {
    let ward = Ward::new().await;
    let (blob, _) = ward.write(70, 2 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    // As when all drives forgot what they had synced, and a reader met that.
    for member in 0..4 {
        let engine = ward.engine(member);
        let gone = engine.delete(ward.key(member), blob.id, Vec::new());
        gone.await.unwrap();
    }
    let row = ward.row(0, LedgerRange::stripes(blob.id, 0..=1));
    root(&ward.metadata, RootCommand::ReportFaults(vec![row.clone()])).await;
    let metrics = ward.stations[&1].node.host().metrics().clone();
    until("it was tried", || async {
        metrics.repair.put_off.get() > 0
    })
    .await;
    assert_eq!(ward.ledger().await, [row]);
    let delete = KeyOp::Delete {
        version: None,
        conditions: Conditions::default(),
        modified_ms: 0,
    };
    ward.key_op(blob.id, delete).await;
    ward.metadata.advance(Duration::from_secs(3600));
    ward.until_clear().await;
    ward.stop().await;
}

#[tokio::test]
async fn an_entry_stays_while_too_few_others_can_be_read() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(82, 2 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    for number in 2..=4 {
        ward.nodes.remove(EnclosureId::new(number));
    }
    ward.nodes.insert(&ward.stations[&2].node);
    ward.rot(0, blob.id, 0);
    assert!(ward.read(0, blob.id, 0).await.is_err());
    ward.until_listed().await;
    let metrics = ward.stations[&1].node.host().metrics().clone();
    until("it was tried", || async {
        metrics.repair.put_off.get() > 0
    })
    .await;
    assert_eq!(ward.read_for_repair(0), 0, "nothing is read in vain");
    assert!(!ward.ledger().await.is_empty());
    assert!(ward.read(0, blob.id, 0).await.is_err());
    for number in 3..=4 {
        ward.nodes.insert(&ward.stations[&number].node);
    }
    ward.until_clear().await;
    assert_eq!(ward.read(0, blob.id, 0).await.unwrap(), members[0][0]);
    ward.stop().await;
}

#[tokio::test]
async fn a_damaged_log_is_made_whole_by_what_the_others_hold() {
    let mut ward = Ward::new().await;
    let mut written = Vec::new();
    for id in 90..96 {
        written.push(ward.write(id, 2 * 8192, Layout::Full).await);
    }
    for (blob, _) in &written[..5] {
        ward.commit(blob).await;
    }
    // The header of a record in the middle is gone, and the index with it.
    let (blob, members) = &written[2];
    let place = ward.engine(1).locate(ward.key(1), blob.id, 0).unwrap();
    let drive = ward.stations[&2].drive.clone();
    assert!(drive.rot(&place.0, place.1 - 100));
    ward.restart(1).await;
    until("it is whole", || async {
        ward.read(1, blob.id, 1).await.is_ok()
    })
    .await;
    assert_eq!(ward.read(1, blob.id, 0).await.unwrap(), members[1][0]);
    ward.until_clear().await;
    assert_eq!(ward.engine(1).shard_stats(ward.key(1)).unwrap().damaged, 0);
    let rebuilt = ward.stations[&2].node.host().metrics().repair.rebuilt.get();
    assert_eq!(rebuilt, 2, "what was lost, and no more");
    ward.stop().await;
}

#[tokio::test]
async fn traffic_is_counted_by_what_it_is_for() {
    use crate::api::Cause::{Compaction, Get, Put, Repair, Scrub};
    let ward = Ward::new().await;
    let (blob, _) = ward.write(77, 4 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    let metrics = ward.stations[&1].node.host().metrics().clone();
    let bytes = || {
        let causes = [Put, Get, Scrub, Compaction, Repair];
        causes.map(|cause| ["read", "write"].map(|way| metrics.traffic(cause, way)))
    };
    let unit = u64::from(UNIT);
    let put = [0, 4 * unit];
    assert_eq!(bytes(), [put, [0; 2], [0; 2], [0; 2], [0; 2]]);
    ward.engine(0).scrub(ward.key(0)).await.unwrap();
    let [_, get, [scrubbed, 0], compacted, repaired] = bytes() else {
        panic!("scrub writes nothing: {:?}", bytes());
    };
    assert!((4 * unit..5 * unit).contains(&scrubbed), "{scrubbed}");
    assert_eq!((get, compacted, repaired), ([0; 2], [0; 2], [0; 2]));
    ward.read(0, blob.id, 1).await.unwrap();
    ward.engine(0).compact(ward.key(0)).await.unwrap();
    let [_, _, _, [read, written], _] = bytes();
    assert!((4 * unit..5 * unit).contains(&read) && read == written);
    let others = [put, [unit, 0], [scrubbed, 0], [read, written], [0; 2]];
    assert_eq!(bytes(), others);
    // The others read for it; what it reads itself is to verify what it wrote.
    ward.rot(0, blob.id, 2);
    assert!(ward.read(0, blob.id, 2).await.is_err());
    until("it is rebuilt", || async {
        metrics.repair.rebuilt.get() == 1
    })
    .await;
    ward.until_clear().await;
    assert_eq!(ward.read_for_repair(0), 2 * unit);
    let repaired = [
        metrics.traffic(Repair, "read"),
        metrics.traffic(Repair, "write"),
    ];
    assert_eq!(repaired, [unit; 2]);
    assert_eq!(metrics.traffic(Get, "read"), unit);
    ward.stop().await;
}
