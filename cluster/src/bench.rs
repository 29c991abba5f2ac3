//! What benchmarks need and nothing else: large buckets, made without going through a log.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use enfilade_placement::{
    BlobId, BucketId, EnclosureId, Epoch, PartitionId, Profile, RequestId, VolumeId,
};
use openraft::BasicNode;

use crate::api::command::{
    Conditions, GroupTime, KeyOp, NewObject, PartitionCommand, PartitionEnvelope, Versioning,
};
use crate::api::encoding::encode;
use crate::api::key::RowPrefix;
use crate::api::record::{Attributes, Blob, Extent, Layout, Place};
use crate::api::root::Partition;
use crate::partition::{self, is_kept_for_a_while};
use crate::raft::groups::FIRST_PARTITION;
use crate::raft::rocks::Rocks;
use crate::raft::store::StateStore;
use crate::raft::types::Position;
use crate::rows::Txn;
use crate::server::MetadataService;
use crate::settings::Settings;

/// Commands that are applied and committed together.
const BATCH: usize = 512;

/// Makes further groups with a replica at each of the services, which do nothing. Root knows
/// nothing of them.
///
/// # Errors
/// When storage fails, or a group cannot begin.
pub async fn make_groups(
    services: &[MetadataService],
    members: &BTreeMap<EnclosureId, String>,
    groups: u32,
) -> io::Result<()> {
    let voters: BTreeMap<u64, BasicNode> = members
        .iter()
        .map(|(id, address)| (u64::from(id.get()), BasicNode::new(address)))
        .collect();
    let first = FIRST_PARTITION.get() + 1;
    for id in (first..first + groups).map(PartitionId::new) {
        let mut held = Vec::new();
        for service in services {
            // An empty range, which no key lies in.
            let nowhere = RowPrefix::of_bucket(BucketId::new(u64::MAX));
            create(&*service.groups().parts.rows, id, &nowhere, Some(&nowhere))?;
            held.push(service.groups().hold(id).await?);
        }
        let leaders = u32::try_from(services.len().max(1)).unwrap_or(1);
        let leader = usize::try_from(id.get() % leaders).unwrap_or(0);
        if let Some(group) = held.get(leader) {
            let begun = group.raft.initialize(voters.clone()).await;
            begun.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Writes the rows that a partition begins with.
fn create(
    rows: &dyn StateStore,
    id: PartitionId,
    start: &RowPrefix,
    end: Option<&RowPrefix>,
) -> io::Result<()> {
    let partition = Partition {
        id,
        epoch: Epoch::FIRST,
        start: start.clone(),
        end: end.cloned(),
        replicas: Vec::new(),
        change: enfilade_placement::IntentId::new(0),
    };
    let mut writes = Vec::new();
    rows.read(&mut |below| {
        let mut txn = Txn::new(below);
        partition::create(&mut txn, &partition).map_err(io::Error::other)?;
        writes = txn.into_writes();
        Ok(())
    })?;
    rows.commit(id, writes, &encode(&Position::default()))
}

/// What one bucket is filled with. Its keys are numbers of ten digits; those that are deleted come
/// first, and are deleted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// The bucket.
    pub bucket: BucketId,
    /// Keys with an object.
    pub keys: u64,
    /// Keys before them that were deleted.
    pub deleted: u64,
    /// Whether the deletes left markers.
    pub markers: bool,
    /// Further versions of the key in the middle; none unless versions are kept.
    pub versions: u64,
}

/// A key of a filled bucket.
pub fn key(number: u64) -> String {
    format!("{number:010}")
}

/// A record of an object with one extent at 4+2, as a benchmark puts it.
///
/// # Panics
/// Never: 4+2 is a profile.
pub fn object(blob: u128) -> NewObject {
    NewObject {
        etag: format!("{blob:032x}"),
        modified_ms: 1_700_000_000_000,
        attributes: Attributes::default(),
        checksum: None,
        blob: Blob {
            id: BlobId::new(blob),
            len: 1 << 20,
            crc64: 7,
            place: Place::Striped {
                profile: Profile::new(4, 2).expect("4+2 is a profile"),
                layout: Layout::Full,
                extents: vec![Extent {
                    volume: VolumeId::new(1),
                    first_stripe: 0,
                    stripes: 4,
                }],
            },
        },
        inline: Bytes::new(),
    }
}

/// Fills buckets in the folder of a metadata service that has not been started yet. The results of
/// the commands are left out, as if they were more than an hour old.
///
/// # Errors
/// When the folder cannot be used.
pub fn fill(settings: &Settings, fillings: &[Filling]) -> io::Result<()> {
    let mut filler = Filler::open(&settings.dir.join("db"), settings)?;
    for filling in fillings {
        filler.fill(filling)?;
    }
    filler.flush()
}

struct Filler {
    rows: Rocks,
    waiting: Vec<PartitionEnvelope>,
    requests: u128,
}

impl Filler {
    fn open(dir: &Path, settings: &Settings) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let rows = Rocks::open(dir, &settings.storage)?;
        create(&rows, FIRST_PARTITION, &RowPrefix::default(), None)?;
        Ok(Self {
            rows,
            waiting: Vec::new(),
            requests: 0,
        })
    }

    fn fill(&mut self, filling: &Filling) -> io::Result<()> {
        let total = filling.deleted + filling.keys;
        if filling.markers || filling.versions > 0 {
            self.command(PartitionCommand::Bucket {
                bucket: filling.bucket,
                revision: 1,
                versioning: Versioning::Enabled,
                fenced: false,
                abort_uploads: false,
            })?;
        }
        for number in 0..total {
            self.put(filling.bucket, number)?;
        }
        for _ in 0..filling.versions {
            self.put(filling.bucket, filling.deleted + filling.keys / 2)?;
        }
        for number in 0..filling.deleted {
            let op = KeyOp::Delete {
                version: None,
                conditions: Conditions::default(),
                modified_ms: 1_700_000_000_000,
            };
            self.key(filling.bucket, number, op)?;
        }
        Ok(())
    }

    fn put(&mut self, bucket: BucketId, number: u64) -> io::Result<()> {
        let object = object(self.requests + 1);
        let conditions = Conditions::default();
        self.key(bucket, number, KeyOp::Put { object, conditions })
    }

    fn key(&mut self, bucket: BucketId, number: u64, op: KeyOp) -> io::Result<()> {
        self.command(PartitionCommand::Key {
            bucket,
            revision: 1,
            key: key(number),
            op,
        })
    }

    fn command(&mut self, command: PartitionCommand) -> io::Result<()> {
        self.requests += 1;
        self.waiting.push(PartitionEnvelope {
            request: RequestId::new(self.requests),
            deadline: GroupTime(u64::MAX),
            epoch: Epoch::FIRST,
            command,
        });
        match self.waiting.len() >= BATCH {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut writes = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        self.rows.read(&mut |below| {
            let mut txn = Txn::new(below);
            for envelope in &waiting {
                let outcome = partition::apply(&mut txn, PartitionId::new(1), envelope);
                let outcome = outcome.map_err(io::Error::other)?;
                outcome.map_err(io::Error::other)?;
            }
            writes = txn.into_writes();
            Ok(())
        })?;
        writes.retain(|write| !is_kept_for_a_while(write));
        self.rows
            .commit(FIRST_PARTITION, writes, &encode(&Position::default()))
    }
}
