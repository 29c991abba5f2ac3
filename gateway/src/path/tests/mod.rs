//! Tests of the data path over nodes and metadata in memory.

mod failures;
mod memory;
mod missing;
mod objects;
mod random;
mod speed;
pub(crate) mod switched;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::command::{Conditions, KeyOp, KeyReply, NewObject, WriteRequest};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::memory::MemoryMetadata;
use enfilade_cluster::api::record::{Attributes, Blob, Content, Place};
use enfilade_cluster::api::root::{Addresses, Birth, RootCommand, RootReply};
use enfilade_cluster::env::Env;
use enfilade_placement::{
    BucketId, ChainId, ClusterId, DriveId, EnclosureId, Generation, Incarnation, Profile,
    RequestId, Stamp, Volume,
};
use enfilade_storage_node::api::append::{AppendHeader, AppendRequest, FragmentHeader};
use enfilade_storage_node::api::read::{FragmentRange, ReadRequest};
use enfilade_storage_node::api::{Owner, ShardClient};
use enfilade_storage_node::client::memory::MemoryNodes;
use enfilade_storage_node::erasure::checksum::fragment_checksums;
use futures::{StreamExt, TryStreamExt, stream};

use super::DataPath;
use super::types::{Body, ReadContent, ReadError, WriteBody, WriteError, Written};
use crate::settings::{PathSettings, ViewSettings};
use crate::view::View;
use switched::Switched;

/// Enclosures with one drive each, volumes over them, and a data path.
pub(crate) struct Cluster {
    pub(crate) nodes: Arc<MemoryNodes>,
    pub(crate) metadata: Arc<Switched>,
    pub(crate) view: Arc<View>,
    pub(crate) path: DataPath,
    pub(crate) profile: Profile,
    drives: Vec<DriveId>,
    env: Env,
    bucket: BucketId,
}

impl Cluster {
    /// A cluster without volumes. Times and sizes are small, so that few bytes go every way.
    pub(crate) async fn bare(
        profile: Profile,
        enclosures: u32,
        change: impl FnOnce(&mut PathSettings),
    ) -> Self {
        let env = Env::seeded(7);
        let cluster = ClusterId::new(3);
        let birth = Birth {
            cluster,
            profile,
            volume_target: 1 << 40,
            open_volumes: 4,
            replicas: vec![EnclosureId::new(1)],
        };
        let metadata = Arc::new(Switched::new(MemoryMetadata::born(birth, env.clone())));
        let nodes = Arc::new(MemoryNodes::new(
            cluster,
            Incarnation::new(1),
            enclosures,
            1,
        ));
        let view = View::start(ViewSettings::default(), env.clone(), metadata.clone());
        let mut settings = PathSettings {
            run_bytes: 4 * u64::from(profile.unit()),
            read_bytes: 3 * u64::from(profile.unit()),
            ..PathSettings::default()
        };
        change(&mut settings);
        let path = DataPath::new(
            settings,
            env.clone(),
            metadata.clone(),
            nodes.clone(),
            view.clone(),
        );
        let drives = nodes.topology().drives.keys().copied().collect();
        let bucket = BucketId::new(1);
        let mut made = Self {
            nodes,
            metadata,
            view,
            path,
            profile,
            drives,
            env,
            bucket,
        };
        made.enter_drives().await;
        made.view.refresh().await.unwrap();
        made
    }

    /// A cluster with a volume that begins at each enclosure.
    pub(crate) async fn start(
        profile: Profile,
        enclosures: u32,
        change: impl FnOnce(&mut PathSettings),
    ) -> Self {
        let cluster = Self::bare(profile, enclosures, change).await;
        for first in 0..enclosures as usize {
            cluster.open(first, &[]).await;
        }
        cluster.view.refresh().await.unwrap();
        cluster
    }

    async fn enter_drives(&mut self) {
        for drive in self.nodes.topology().drives.values() {
            let join = RootCommand::JoinEnclosure {
                id: Some(drive.enclosure),
                chain: ChainId::new(1),
                addresses: Addresses::default(),
            };
            self.root(join).await;
            let attach = RootCommand::AttachDrive {
                drive: drive.id,
                enclosure: drive.enclosure,
                slot: drive.slot,
                capacity: drive.capacity,
                generation: Generation::new(0),
            };
            self.root(attach).await;
        }
        let (name, owner) = ("bucket".to_owned(), "me".to_owned());
        let create = RootCommand::CreateBucket {
            name,
            owner,
            created_ms: 0,
        };
        let RootReply::Bucket(bucket) = self.root(create).await else {
            panic!("no bucket")
        };
        self.bucket = bucket.id;
    }

    pub(crate) async fn root(&self, command: RootCommand) -> RootReply {
        let request = RequestId::new(self.env.random.next_u128());
        self.metadata
            .inner
            .root(request, command)
            .await
            .unwrap()
            .unwrap()
    }

    /// Opens a volume: member `i` is in enclosure `first + i`, around; some members are vacant.
    pub(crate) async fn open(&self, first: usize, vacant: &[usize]) -> Volume {
        let member = |index: usize| {
            let drive = self.drives[(first + index) % self.drives.len()];
            (!vacant.contains(&index)).then_some(drive)
        };
        let members = (0..self.profile.width()).map(member).collect();
        let profile = self.profile;
        let open = RootCommand::OpenVolume {
            profile,
            members,
            violation: false,
        };
        match self.root(open).await {
            RootReply::Volume(volume) => volume,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn key(&self, key: &str) -> ObjectKey {
        ObjectKey::new(self.bucket, key)
    }

    pub(crate) fn body(&self, key: &str, body: Body) -> WriteBody {
        let owner = Owner {
            at: self.key(key),
            upload: None,
        };
        WriteBody {
            owner,
            body,
            len: None,
            len_max: 1 << 40,
            digest: None,
            md5: true,
        }
    }

    /// Writes bytes that come in pieces of this size.
    pub(crate) async fn write(&self, bytes: &[u8], piece: usize) -> Result<Written, WriteError> {
        let mut body = self.body("key", pieces(bytes, piece));
        body.len = Some(bytes.len() as u64);
        self.path.write(body).await
    }

    /// Names a blob by a record, as the S3 front does.
    pub(crate) async fn commit(&self, key: &str, written: &Written) -> ReadContent {
        let object = NewObject {
            etag: hex::encode(written.md5.unwrap()),
            modified_ms: 0,
            attributes: Attributes::default(),
            checksum: None,
            blob: written.blob.clone(),
            inline: written.inline.clone(),
        };
        let request = WriteRequest {
            request: written.blob.id.into(),
            bucket: self.bucket,
            revision: 1,
            key: key.to_owned(),
            op: KeyOp::Put {
                object,
                conditions: Conditions::default(),
            },
        };
        let reply = self.metadata.write(request).await.unwrap().unwrap();
        let KeyReply::Put { .. } = reply else {
            panic!("{reply:?}")
        };
        self.path.committed(&written.blob);
        self.metadata
            .object(&self.key(key), None)
            .await
            .unwrap()
            .unwrap()
            .into()
    }

    pub(crate) async fn read(
        &self,
        content: &ReadContent,
        range: Range<u64>,
    ) -> Result<Vec<u8>, ReadError> {
        let stream = self
            .path
            .read(self.key("key"), content.clone(), range)
            .await?;
        let chunks: Vec<Bytes> = stream.try_collect().await?;
        Ok(chunks.concat())
    }

    /// The volume of a blob's first extent.
    pub(crate) async fn volume_of(&self, blob: &Blob) -> Volume {
        let Place::Striped { extents, .. } = &blob.place else {
            panic!("inline")
        };
        let volume = self.view.volume(extents[0].volume).await.unwrap().unwrap();
        (*volume).clone()
    }

    /// Copies the fragments of a blob from one member to where it is under another epoch.
    pub(crate) async fn copy_shard(&self, from: &Volume, to: &Volume, member: usize, blob: &Blob) {
        let shape = self.path.shape_of(blob).unwrap();
        let stripes = u32::try_from(blob.len.div_ceil(shape.stripe_len())).unwrap();
        for stripe in 0..stripes {
            let len = shape.unit_at(stripe, blob.len);
            let ranges = vec![FragmentRange {
                stripe,
                offset: 0,
                len,
            }];
            let at = self.nodes.address(from, member);
            let node = self.nodes.at(self.enclosure(from, member));
            let request = ReadRequest::get(at, blob.id, ranges);
            let bytes = node.read(request).await.unwrap().remove(0).unwrap();
            let seed = shape.seed(to.id, stripe, member);
            let checksums = fragment_checksums(seed, &bytes).collect();
            let header = AppendHeader {
                at: self.nodes.address(to, member),
                blob: blob.id,
                first_stripe: stripe,
                fragments: vec![FragmentHeader { len, checksums }],
                owner: None,
                committed: Vec::new(),
            };
            let node = self.nodes.at(self.enclosure(to, member));
            node.append(AppendRequest {
                header,
                fragments: vec![bytes],
            })
            .await
            .unwrap();
        }
    }

    /// The enclosure of a member, as [`MemoryNodes::at`] counts.
    pub(crate) fn enclosure(&self, volume: &Volume, member: usize) -> u32 {
        let drive = volume.members[member].unwrap();
        self.nodes.topology().drives[&drive].enclosure.get()
    }
}

/// A blob that a record might name.
pub(crate) fn content(written: &Written) -> ReadContent {
    ReadContent {
        stamp: Stamp::new(1),
        content: Content::Blobs(vec![written.blob.clone()]),
        inline: written.inline.clone(),
    }
}

/// Bytes as a body in pieces.
pub(crate) fn pieces(bytes: &[u8], piece: usize) -> Body {
    let pieces = bytes
        .chunks(piece.max(1))
        .map(|piece| Ok(Bytes::copy_from_slice(piece)));
    stream::iter(pieces.collect::<Vec<_>>()).boxed()
}

/// Bytes that differ everywhere.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = enfilade_placement::seed::SplitMix64::new(seed);
    let words = std::iter::repeat_with(move || random.bits().to_le_bytes());
    words.flatten().take(len).collect()
}

/// A profile with small units.
pub(crate) fn profile(text: &str) -> Profile {
    text.parse::<Profile>().unwrap().with_unit(4096).unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: impl Fn() -> bool) {
    let patience = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patience)
        .await
        .expect("it never held");
}
