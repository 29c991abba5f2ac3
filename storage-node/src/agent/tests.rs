//! The agent against a metadata service that is scripted.

mod full;
mod moves;
mod places;
mod repair;
mod root;
mod ward;

use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::command::KeyReply;
use enfilade_cluster::api::garbage::GarbageEntry;
use enfilade_cluster::api::record::Extent;
use enfilade_cluster::env::Env;
use enfilade_placement::{
    BlobId, ClusterId, DriveId, DriveState, EnclosureId, Epoch, Generation, Incarnation, Profile,
    Volume, VolumeId, VolumeState,
};

use self::root::FakeRoot;
use super::*;
use crate::api::ShardAddress;
use crate::api::conformance::{append_of, sample};
use crate::api::error::ShardError;
use crate::drive::DriveError;
use crate::drive::memory::{Action, MemoryDrive};
use crate::drive::superblock::{self, Superblock};
use crate::host::Host;
use crate::server::Identity;
use crate::settings::Settings;

const CLUSTER: ClusterId = ClusterId::new(77);
const DRIVES: [DriveId; 2] = [DriveId::new(1), DriveId::new(2)];
const VOLUME: VolumeId = VolumeId::new(5);

fn identity() -> Identity {
    let (cluster, incarnation) = (CLUSTER, Incarnation::new(1));
    Identity {
        cluster,
        incarnation,
        enclosure: EnclosureId::new(1),
    }
}

fn block(drive: DriveId) -> Superblock {
    Superblock {
        revision: 1,
        cluster: CLUSTER,
        incarnation: Incarnation::new(1),
        drive,
        file_system: 0,
        generation: Generation::new(0),
        pending: None,
    }
}

fn fast() -> Settings {
    let soon = Duration::from_millis(10);
    Settings {
        heartbeat: soon,
        garbage_interval: soon,
        orphan_interval: soon,
        orphan_age: Duration::ZERO,
        checkpoint_interval: soon,
        reopen_interval: soon,
        rescan_interval: soon,
        probe_interval: soon,
        presence_interval: soon,
        ..Settings::default()
    }
}

/// A node with two drives, which are members 0 and 1 of an open volume of three, the last vacant.
struct Rig {
    root: Arc<FakeRoot>,
    drives: [MemoryDrive; 2],
    node: Arc<StorageNode>,
    agent: Agent,
}

fn volume(epoch: u64, state: VolumeState) -> Volume {
    Volume {
        id: VOLUME,
        profile: Profile::new(2, 1).unwrap(),
        members: vec![Some(DRIVES[0]), Some(DRIVES[1]), None],
        epoch: Epoch::new(epoch),
        state,
        bytes: 0,
        violation: false,
    }
}

impl Rig {
    async fn new() -> Self {
        let drives = [MemoryDrive::default(), MemoryDrive::default()];
        for (drive, id) in drives.iter().zip(DRIVES) {
            superblock::store(drive, &block(id)).unwrap();
        }
        let root = Arc::new(FakeRoot::default());
        root.set_volume(volume(1, VolumeState::Open));
        Self::start(root, drives, fast()).await
    }

    async fn start(root: Arc<FakeRoot>, drives: [MemoryDrive; 2], settings: Settings) -> Self {
        let host = Host::new(Env::seeded(4), settings);
        let metadata: Arc<dyn MetadataClient> = Arc::clone(&root) as Arc<dyn MetadataClient>;
        let node = StorageNode::new(host, identity(), Arc::clone(&metadata));
        let spec = |((slot, id), drive)| DriveSpec::memory(id, slot, drive);
        let specs = (0..).zip(DRIVES).zip(&drives).map(spec).collect();
        let nodes = Arc::new(crate::client::in_process::LocalNodes::default());
        let mut agent = Agent::start(Arc::clone(&node), metadata, nodes, specs);
        tokio::time::timeout(Duration::from_secs(20), agent.ready())
            .await
            .unwrap();
        Self {
            root,
            drives,
            node,
            agent,
        }
    }

    fn at(&self, member: u8) -> ShardAddress {
        let drive = DRIVES[usize::from(member)];
        ShardAddress {
            cluster: CLUSTER,
            incarnation: Incarnation::new(1),
            drive,
            generation: self.root.generation(drive),
            volume: VOLUME,
            epoch: Epoch::FIRST,
            member,
        }
    }

    async fn append(&self, member: u8, blob: u128) -> Result<(), ShardError> {
        let mut request = append_of(self.at(member), BlobId::new(blob), 0, &sample(0..4, 4096));
        request.header.owner = Some(crate::api::Owner {
            at: enfilade_cluster::api::key::ObjectKey::new(
                enfilade_placement::BucketId::new(1),
                format!("key-{blob}"),
            ),
            upload: None,
        });
        self.node.append(request).await.map(|_| ())
    }

    async fn stripes(&self, member: u8, blob: u128) -> Vec<(u32, u32)> {
        let key = ShardKey {
            volume: VOLUME,
            member,
        };
        let engines = self.node.engines();
        let engine = engines
            .iter()
            .find(|e| e.id() == DRIVES[usize::from(member)])
            .unwrap();
        engine.stripes(key, BlobId::new(blob)).await.unwrap()
    }
}

/// Waits until something holds.
#[track_caller]
fn until(mut holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(came.is_ok(), "it never came about: {caller}");
    }
}

#[tokio::test]
async fn drives_are_served_under_the_generation_that_the_root_group_gave() {
    let rig = Rig::new().await;
    assert_eq!(rig.root.generation(DRIVES[0]), Generation::new(1));
    rig.append(0, 1).await.unwrap();
    let old = ShardAddress {
        generation: Generation::new(0),
        ..rig.at(0)
    };
    let refused = rig
        .node
        .append(append_of(old, BlobId::new(2), 0, &sample(0..1, 128)))
        .await;
    assert_eq!(refused, Err(ShardError::NotHere(Generation::new(1))));
    let kept = superblock::load(&rig.drives[0]).unwrap();
    assert_eq!((kept.generation, kept.pending), (Generation::new(1), None));
    until(async || rig.root.beats().iter().any(|beat| beat.drives.len() == 2)).await;
    until(async || rig.root.beats().iter().any(|beat| beat.shards.len() == 1)).await;
    let Rig {
        root,
        drives,
        agent,
        ..
    } = rig;
    agent.shutdown().await;
    let rig = Rig::start(root, drives, fast()).await;
    assert_eq!(rig.root.generation(DRIVES[0]), Generation::new(2));
    assert_eq!(rig.stripes(0, 1).await, [(0, 3)]);
}

#[tokio::test]
async fn a_crash_between_the_commit_and_the_superblock_is_no_second_attachment() {
    let rig = Rig::new().await;
    let Rig {
        root,
        drives,
        agent,
        ..
    } = rig;
    agent.shutdown().await;
    // As the crash leaves it: asked for generation 2, which was committed.
    let mut block = superblock::load(&drives[0]).unwrap();
    let request = RequestId::new(0xa);
    block.pending = Some(request);
    superblock::store(&drives[0], &block).unwrap();
    root.set_attached(DRIVES[0], Generation::new(2), request);
    // The other one was attached by somebody else meanwhile.
    root.set_attached(DRIVES[1], Generation::new(2), RequestId::new(0xb));
    let rig = Rig::start(root, drives, fast()).await;
    let conditions = rig.agent.conditions();
    assert_eq!(conditions[&DRIVES[0]].state, DriveState::Healthy);
    assert_eq!(rig.root.generation(DRIVES[0]), Generation::new(2));
    assert_eq!(conditions[&DRIVES[1]].state, DriveState::Foreign);
    assert!(
        conditions[&DRIVES[1]]
            .reason
            .as_ref()
            .unwrap()
            .contains("attached elsewhere")
    );
    // However often it asks, a copy never takes the drive from who has it.
    let beats = rig.root.beats().len();
    until(async || rig.root.beats().len() > beats + 20).await;
    assert_eq!(rig.root.generation(DRIVES[1]), Generation::new(2));
    assert_eq!(
        rig.agent.conditions()[&DRIVES[1]].state,
        DriveState::Foreign
    );
}

#[tokio::test]
async fn a_foreign_or_corrupt_drive_is_not_served() {
    let drives = [MemoryDrive::default(), MemoryDrive::default()];
    let foreign = Superblock {
        cluster: ClusterId::new(1),
        ..block(DRIVES[0])
    };
    superblock::store(&drives[0], &foreign).unwrap();
    superblock::store(&drives[1], &block(DRIVES[1])).unwrap();
    assert!(drives[1].rot("superblock", 20) && drives[1].rot("superblock.copy", 20));
    let root = Arc::new(FakeRoot::default());
    root.set_volume(volume(1, VolumeState::Open));
    let rig = Rig::start(root, drives, fast()).await;
    let conditions = rig.agent.conditions();
    assert_eq!(conditions[&DRIVES[0]].state, DriveState::Foreign);
    assert_eq!(conditions[&DRIVES[1]].state, DriveState::Failing);
    assert_eq!(rig.root.generation(DRIVES[0]), Generation::new(0));
    until(async || rig.root.beats().iter().any(|beat| beat.drives.len() == 2)).await;
}

#[tokio::test]
async fn a_sealing_volume_is_fenced_durably_and_reported() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.root.set_volume(volume(2, VolumeState::Sealing));
    until(async || rig.root.fenced().len() >= 2).await;
    let mut members: Vec<(u8, u64)> = rig
        .root
        .fenced()
        .iter()
        .map(|(member, epoch)| (*member, epoch.get()))
        .collect();
    members.sort_unstable();
    members.dedup();
    assert_eq!(members, [(0, 2), (1, 2)]);
    let refused = rig.append(0, 2).await;
    let stale = ShardError::StaleEpoch {
        volume: VOLUME,
        current: Epoch::new(2),
    };
    assert_eq!(refused, Err(stale));
    let newer = ShardAddress {
        epoch: Epoch::new(2),
        ..rig.at(0)
    };
    let refused = rig
        .node
        .append(append_of(newer, BlobId::new(2), 0, &sample(0..1, 128)))
        .await;
    assert_eq!(refused, Err(ShardError::NotOpen(VOLUME)));
    // A member without any bytes is fenced too, so that it knows of the volume later.
    let engine = rig
        .node
        .engines()
        .into_iter()
        .find(|e| e.id() == DRIVES[1])
        .unwrap();
    assert_eq!(engine.shards()[0].fence, Epoch::new(2));
}

#[tokio::test]
async fn a_volume_that_was_sealed_meanwhile_is_fenced_and_a_retired_one_dropped() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.root.set_volume(volume(3, VolumeState::Sealed));
    let engine = rig
        .node
        .engines()
        .into_iter()
        .find(|e| e.id() == DRIVES[0])
        .unwrap();
    until(async || engine.shards()[0].fence == Epoch::new(3)).await;
    rig.root.set_volume(volume(3, VolumeState::Retired));
    until(async || engine.shards().is_empty()).await;
}

#[tokio::test]
async fn an_unknown_volume_is_asked_for_and_never_dropped() {
    let rig = Rig::new().await;
    // Newer than the view: as when an append is faster than the watch.
    rig.root.hide_from_view(VOLUME);
    rig.append(0, 1).await.unwrap();
    let other = ShardAddress {
        volume: VolumeId::new(99),
        ..rig.at(0)
    };
    let refused = rig
        .node
        .append(append_of(other, BlobId::new(1), 0, &sample(0..1, 128)))
        .await;
    assert_eq!(refused, Err(ShardError::NotOpen(VolumeId::new(99))));
    let wrong = ShardAddress {
        member: 1,
        ..rig.at(0)
    };
    let refused = rig
        .node
        .append(append_of(wrong, BlobId::new(1), 0, &sample(0..1, 128)))
        .await;
    assert!(
        matches!(refused, Err(ShardError::NotHere(_))),
        "{refused:?}"
    );
    let ahead = ShardAddress {
        epoch: Epoch::new(9),
        ..rig.at(0)
    };
    let refused = rig
        .node
        .append(append_of(ahead, BlobId::new(1), 0, &sample(0..1, 128)))
        .await;
    assert!(
        matches!(refused, Err(ShardError::Invalid(_))),
        "{refused:?}"
    );
    rig.root.forget(VOLUME);
    let asked = rig.root.asked();
    until(async || rig.root.asked() > asked + 2).await;
    assert_eq!(rig.stripes(0, 1).await, [(0, 3)]);
}

#[tokio::test]
async fn garbage_is_dropped_and_acked_for_vacant_members_too() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.append(1, 1).await.unwrap();
    rig.append(0, 2).await.unwrap();
    rig.root.keep_referenced(BlobId::new(2));
    let entry = |sequence, member| GarbageEntry {
        sequence,
        volume: VOLUME,
        member,
        blob: BlobId::new(1),
    };
    rig.root
        .add_garbage(vec![entry(1, 0), entry(1, 1), entry(2, 1)]);
    until(async || rig.root.garbage_left() == 0).await;
    assert_eq!(rig.stripes(0, 1).await, []);
    assert_eq!(rig.stripes(1, 1).await, []);
    assert_eq!(rig.stripes(0, 2).await, [(0, 3)]);
    let mut acks: Vec<_> = rig
        .root
        .acks()
        .into_iter()
        .map(|a| (a.sequence, a.members))
        .collect();
    acks.sort();
    acks.dedup();
    assert_eq!(acks, [(1, vec![0, 2]), (1, vec![1]), (2, vec![1])]);
    assert!(rig.root.acks().iter().all(|ack| ack.epoch == Epoch::FIRST));
}

#[tokio::test]
async fn orphans_are_dropped_only_when_they_are_condemned() {
    let rig = Rig::new().await;
    let extent = Extent {
        volume: VOLUME,
        first_stripe: 1,
        stripes: 2,
    };
    rig.root
        .answer_condemn(BlobId::new(2), KeyReply::Referenced(vec![extent]));
    rig.root.answer_condemn(BlobId::new(1), KeyReply::Condemned);
    for blob in 1..=3 {
        rig.append(0, blob).await.unwrap();
    }
    until(async || rig.stripes(0, 1).await.is_empty()).await;
    until(async || rig.stripes(0, 2).await == [(1, 2)]).await;
    // Nobody said anything about the third.
    assert_eq!(rig.stripes(0, 3).await, [(0, 3)]);
    // What is referenced is not asked about again.
    let asked = rig.root.condemns(BlobId::new(2));
    let third = rig.root.condemns(BlobId::new(3));
    until(async || rig.root.condemns(BlobId::new(3)) > third + 2).await;
    assert!(rig.root.condemns(BlobId::new(2)) <= asked + 1);
}

#[tokio::test]
async fn faults_are_reported_until_the_ledger_takes_them() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.root.refuse_reports(3);
    let engine = rig
        .node
        .engines()
        .into_iter()
        .find(|e| e.id() == DRIVES[0])
        .unwrap();
    let key = ShardKey {
        volume: VOLUME,
        member: 0,
    };
    let (file, offset) = engine.locate(key, BlobId::new(1), 2).unwrap();
    assert!(rig.drives[0].rot(&file, offset));
    let ranges = vec![crate::api::read::FragmentRange {
        stripe: 2,
        offset: 0,
        len: 1,
    }];
    let read = crate::api::read::ReadRequest::get(rig.at(0), BlobId::new(1), ranges);
    rig.node.read(read).await.unwrap()[0].clone().unwrap_err();
    until(async || !rig.root.reported().is_empty()).await;
    let row = &rig.root.reported()[0];
    assert_eq!((row.volume, row.member), (VOLUME, 0));
}

#[tokio::test]
async fn a_drive_that_fails_is_told_and_opened_again() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.drives[0].fail(Action::Sync, 0, 1, DriveError::Io("bad sector".to_owned()));
    let failed = rig.append(0, 2).await;
    assert!(
        matches!(failed, Err(ShardError::DriveFailed(_))),
        "{failed:?}"
    );
    let failing = |beat: &enfilade_cluster::api::heartbeat::Heartbeat| {
        beat.drives
            .iter()
            .any(|drive| drive.state == DriveState::Failing)
    };
    until(async || rig.root.beats().iter().any(failing)).await;
    until(async || rig.root.generation(DRIVES[0]) > Generation::new(1)).await;
    until(async || rig.append(0, 2).await.is_ok()).await;
    assert_eq!(rig.stripes(0, 1).await, [(0, 3)]);
}

#[tokio::test]
async fn an_idle_drive_that_fails_is_found_before_anybody_needs_it() {
    for action in [Action::Sync, Action::Write, Action::Read] {
        let rig = Rig::new().await;
        let error = DriveError::Io("bad sector".to_owned());
        rig.drives[0].fail(action, 0, 1, error);
        let failing = || {
            rig.root.beats().into_iter().any(|beat| {
                let mut drives = beat.drives.into_iter();
                drives.any(|drive| drive.state == DriveState::Failing)
            })
        };
        // One sector of one copy is no more than that.
        match action {
            Action::Read => {
                let beats = rig.root.beats().len();
                until(async || rig.root.beats().len() > beats + 10).await;
                assert!(!failing());
            }
            _ => {
                until(async || failing()).await;
                until(async || rig.root.generation(DRIVES[0]) > Generation::new(1)).await;
            }
        }
        rig.agent.shutdown().await;
    }
}

#[tokio::test]
async fn a_drive_that_cannot_be_read_says_what_could_not_be() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    let error = DriveError::Io("bad sector".to_owned());
    rig.drives[0].fail(Action::Read, 0, 1000, error);
    let ranges = vec![crate::api::read::FragmentRange {
        stripe: 1,
        offset: 0,
        len: 4096,
    }];
    let told = |beat: &enfilade_cluster::api::heartbeat::Heartbeat| {
        let mut drives = beat.drives.iter();
        let drive = drives.find(|drive| drive.drive == DRIVES[0]);
        drive.is_some_and(|drive| {
            drive.state == DriveState::Failing && drive.reason.contains("bad sector")
        })
    };
    let what = "read of ";
    until(async || {
        let read = crate::api::read::ReadRequest::get(rig.at(0), BlobId::new(1), ranges.clone());
        let _ = rig.node.read(read).await;
        rig.root.beats().iter().any(told)
    })
    .await;
    let beats = rig.root.beats();
    let beat = beats.iter().find(|beat| told(beat)).unwrap();
    let drive = beat.drives.iter().find(|d| d.drive == DRIVES[0]).unwrap();
    assert!(drive.reason.contains(what), "{}", drive.reason);
    assert!(beat.drives.iter().any(|d| d.reason.is_empty()));
}

#[tokio::test]
async fn how_far_scrub_is_is_told_of_each_drive() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    let told = || {
        let beat = rig.root.beats().pop()?;
        let of = |drive| beat.drives.iter().find(|d| d.drive == drive)?.scrub;
        Some((of(DRIVES[0])?, of(DRIVES[1])?))
    };
    let complete = || told().is_some_and(|(first, _)| first.complete_s.is_some());
    let key = ShardKey {
        volume: VOLUME,
        member: 0,
    };
    let engines = rig.node.engines();
    let engine = engines.iter().find(|e| e.id() == DRIVES[0]).unwrap();
    engine.scrub(key).await.unwrap();
    until(async || complete()).await;
    let (held, empty) = told().unwrap();
    let period = Settings::default().scrub_period.as_secs();
    assert_eq!((held.period_s, held.percent), (period, 100));
    assert_eq!(
        (empty.complete_s, empty.oldest_s, empty.percent),
        (None, 0, 100)
    );
}

#[tokio::test]
async fn a_drive_that_was_attached_again_elsewhere_is_let_go() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.root
        .set_attached(DRIVES[0], Generation::new(2), RequestId::new(9));
    until(async || !rig.node.engines().iter().any(|e| e.id() == DRIVES[0])).await;
    let foreign = || {
        let condition = rig.agent.conditions().remove(&DRIVES[0]);
        condition.is_some_and(|condition| condition.state == DriveState::Foreign)
    };
    until(async || foreign()).await;
    assert_eq!(rig.root.generation(DRIVES[0]), Generation::new(2));
    rig.append(1, 1).await.unwrap();
}

#[tokio::test]
async fn a_drive_that_returned_is_read_from_and_not_written_to() {
    let rig = Rig::new().await;
    rig.append(0, 1).await.unwrap();
    rig.root.set_state(DRIVES[0], DriveState::Returned);
    let refused = async || rig.append(0, 2).await == Err(ShardError::NotOpen(VOLUME));
    until(refused).await;
    assert_eq!(rig.stripes(0, 1).await, [(0, 3)]);
    rig.append(1, 2).await.unwrap();
}
