//! The engine over a drive in memory: what it stores, and what faults do to it.

mod compaction;
mod faults;
mod kill;
mod model;
mod mutated;
mod rebuild;
mod schedules;
mod scrub;
mod space;
mod stress;
mod unread;

use std::sync::Arc;

use bytes::Bytes;
use enfilade_cluster::env::Env;
use enfilade_placement::{BlobId, DriveId, Epoch, VolumeId};

use super::*;
use crate::api::append::{AppendAck, FragmentHeader};
use crate::api::read::{FragmentFault, FragmentRange};
use crate::drive::memory::MemoryDrive;
use crate::erasure::checksum::{FragmentSeed, fragment_checksums};
use crate::settings::Settings;

pub(super) const DRIVE: DriveId = DriveId::new(0xd1);

/// A drive in memory and its engine.
pub(super) struct Rig {
    pub(super) host: Host,
    pub(super) drive: MemoryDrive,
    pub(super) index: Arc<MemoryIndex>,
    pub(super) engine: Arc<Engine>,
}

pub(super) fn key(volume: u64, member: u8) -> ShardKey {
    ShardKey {
        volume: VolumeId::new(volume),
        member,
    }
}

/// Fragments whose length and bytes follow from their names.
pub(super) fn fragment(blob: u128, stripe: u32) -> Bytes {
    let lens = [128u32, 512, 4096, 4224, 8320];
    let len = lens[(u128::from(stripe) + blob) as usize % lens.len()];
    let salt = (blob as u32).wrapping_mul(0x9e37_79b9) ^ stripe.wrapping_mul(0x85eb_ca6b);
    (0..len)
        .map(|i| (i.wrapping_mul(salt | 1) >> 11) as u8)
        .collect::<Vec<u8>>()
        .into()
}

pub(super) fn append_of(
    key: ShardKey,
    epoch: u64,
    blob: u128,
    stripes: std::ops::Range<u32>,
) -> Append {
    let payload = stripes.clone().map(|stripe| fragment(blob, stripe));
    Append {
        epoch: Epoch::new(epoch),
        ..append_bytes(key, blob, stripes.clone(), payload.collect())
    }
}

/// An append of any bytes, for the first epoch.
pub(super) fn append_bytes(
    key: ShardKey,
    blob: u128,
    stripes: std::ops::Range<u32>,
    payload: Vec<Bytes>,
) -> Append {
    let header = |(stripe, bytes): (u32, &Bytes)| {
        let seed = FragmentSeed {
            volume: key.volume.get(),
            blob,
            stripe,
            index: key.member,
        };
        FragmentHeader {
            len: u32::try_from(bytes.len()).unwrap(),
            checksums: fragment_checksums(seed, bytes).collect(),
        }
    };
    Append {
        epoch: Epoch::FIRST,
        blob: BlobId::new(blob),
        first_stripe: stripes.start,
        fragments: stripes.clone().zip(&payload).map(header).collect(),
        owner: None,
        marks: Vec::new(),
        payload,
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self::of(Host::new(Env::seeded(7), settings))
    }

    pub(super) fn of(host: Host) -> Self {
        let drive = MemoryDrive::default();
        drive.set_alone(true);
        let index = Arc::new(MemoryIndex::crashable());
        let engine = Self::open(&host, &drive, &index).unwrap();
        Self {
            host,
            drive,
            index,
            engine,
        }
    }

    fn open(
        host: &Host,
        drive: &MemoryDrive,
        index: &Arc<MemoryIndex>,
    ) -> Result<Arc<Engine>, EngineOpenError> {
        let (drive, index) = (Arc::new(drive.replug()), Arc::clone(index));
        Engine::open_with(host, drive, DRIVE, None, index)
    }

    pub(super) async fn append(
        &self,
        key: ShardKey,
        epoch: u64,
        blob: u128,
        stripes: std::ops::Range<u32>,
    ) -> Result<AppendAck, EngineError> {
        let append = append_of(key, epoch, blob, stripes);
        let bytes = append.payload.iter().map(|bytes| bytes.len() as u64).sum();
        let admission = self.engine.admit(bytes)?;
        self.engine.append(key, append, admission).await
    }

    /// Reads a whole fragment.
    pub(super) async fn read(
        &self,
        key: ShardKey,
        blob: u128,
        stripe: u32,
    ) -> Result<Bytes, FragmentFault> {
        let len = u32::try_from(fragment(blob, stripe).len()).unwrap();
        let range = FragmentRange {
            stripe,
            offset: 0,
            len,
        };
        let mut answers = self.engine.read(key, BlobId::new(blob), vec![range]).await;
        answers.remove(0).map(|blocks| blocks.cut(&range).unwrap())
    }

    /// Waits until the committer is done with the engine.
    pub(super) async fn settle(&self) {
        let _ = self.engine.order(key(0, 0), commit::Work::Barrier).await;
    }

    /// Opens the drive again, without a crash.
    pub(super) async fn reopen(&mut self) {
        self.settle().await;
        self.engine = Self::open(&self.host, &self.drive, &self.index).unwrap();
    }

    /// Opens the drive again with an empty index.
    pub(super) async fn reopen_without_index(&mut self) {
        self.settle().await;
        self.index = Arc::new(MemoryIndex::crashable());
        self.engine = Self::open(&self.host, &self.drive, &self.index).unwrap();
    }

    /// Cuts the power and opens the drive again; the index keeps a part of what it had not made
    /// durable.
    pub(super) async fn crash(&mut self, seed: u64) {
        self.drive.crash(seed);
        self.settle().await;
        let kept = usize::try_from(seed >> 7).unwrap() % (self.index.unflushed() + 1);
        self.index.crash(kept);
        self.engine = Self::open(&self.host, &self.drive, &self.index).unwrap();
    }
}

#[tokio::test]
async fn deletes_fences_and_marks_survive_a_crash_with_and_without_the_index() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 1, 0..4).await.unwrap();
    rig.append(shard, 1, 2, 0..4).await.unwrap();
    rig.append(shard, 1, 3, 0..8).await.unwrap();
    rig.engine
        .delete(shard, BlobId::new(1), Vec::new())
        .await
        .unwrap();
    rig.engine
        .delete(shard, BlobId::new(3), vec![(2, 3), (6, 6)])
        .await
        .unwrap();
    rig.engine.mark(shard, vec![BlobId::new(2)]).await.unwrap();
    rig.engine.fence(shard, Epoch::new(5)).await.unwrap();
    for round in 0..4 {
        match round {
            0 => {}
            3 => rig.reopen_without_index().await,
            seed => rig.crash(seed).await,
        }
        assert_eq!(rig.read(shard, 1, 0).await, Err(FragmentFault::Missing));
        assert_eq!(rig.read(shard, 2, 3).await, Ok(fragment(2, 3)));
        let (blobs, more) = rig.engine.inventory(shard, None, 10).await.unwrap();
        assert!(!more);
        let summary = blobs.iter();
        let summary = summary.map(|b| (b.blob.get(), b.committed, b.stripes.clone()));
        let runs = vec![(0, 1), (4, 5), (7, 7)];
        assert_eq!(
            summary.collect::<Vec<_>>(),
            [(2, true, vec![(0, 3)]), (3, false, runs)]
        );
        let refused = rig.append(shard, 4, 9, 0..1).await;
        assert_eq!(refused, Err(EngineError::Stale(Epoch::new(5))));
    }
    rig.append(shard, 5, 9, 0..1).await.unwrap();
}

#[tokio::test]
async fn a_dropped_shard_is_gone_for_good() {
    let mut rig = Rig::new();
    rig.append(key(1, 0), 1, 1, 0..4).await.unwrap();
    rig.append(key(2, 0), 1, 1, 0..4).await.unwrap();
    rig.engine.drop_shard(key(1, 0)).await.unwrap();
    rig.engine.drop_shard(key(1, 0)).await.unwrap();
    for seed in 1..4 {
        assert_eq!(rig.read(key(1, 0), 1, 0).await, Err(FragmentFault::Missing));
        assert_eq!(rig.read(key(2, 0), 1, 0).await, Ok(fragment(1, 0)));
        rig.crash(seed).await;
    }
    rig.append(key(1, 0), 1, 1, 0..4).await.unwrap();
    assert_eq!(rig.read(key(1, 0), 1, 3).await, Ok(fragment(1, 3)));
}

#[tokio::test]
async fn the_room_of_dropped_fragments_is_given_back_only_where_it_is_proven() {
    let mut rig = Rig::new();
    let shard = key(1, 0);
    rig.append(shard, 1, 4, 0..1).await.unwrap();
    rig.append(shard, 1, 2, 0..20).await.unwrap();
    let before = rig.engine.fill().unwrap();
    rig.engine
        .delete(shard, BlobId::new(2), Vec::new())
        .await
        .unwrap();
    rig.engine.reclaim_all().await.unwrap();
    let stats = rig.engine.shard_stats(shard).unwrap();
    assert!(stats.dead < 20 * 4096, "{stats:?}");
    assert_eq!(before.dead, 0);
    rig.reopen_without_index().await;
    assert_eq!(rig.read(shard, 4, 0).await, Ok(fragment(4, 0)));
    assert_eq!(rig.read(shard, 2, 0).await, Err(FragmentFault::Missing));
}

#[tokio::test]
async fn old_blobs_without_a_mark_are_orphans_when_they_have_an_owner() {
    let rig = Rig::new();
    let shard = key(1, 0);
    let owner = crate::api::Owner {
        at: enfilade_cluster::api::key::ObjectKey::new(enfilade_placement::BucketId::new(1), "k"),
        upload: None,
    };
    for blob in 1..4u128 {
        let mut append = append_of(shard, 1, blob, 0..1);
        append.owner = (blob != 3).then(|| owner.clone());
        let admission = rig.engine.admit(1).unwrap();
        rig.engine.append(shard, append, admission).await.unwrap();
    }
    rig.engine.mark(shard, vec![BlobId::new(1)]).await.unwrap();
    let (none, _) = rig
        .engine
        .orphans(shard, Duration::from_secs(60), None)
        .await
        .unwrap();
    assert_eq!(none, []);
    let (orphans, next) = rig
        .engine
        .orphans(shard, Duration::ZERO, None)
        .await
        .unwrap();
    assert_eq!(
        orphans,
        [Orphan {
            blob: BlobId::new(2),
            owner
        }]
    );
    assert_eq!(next, None);
}
