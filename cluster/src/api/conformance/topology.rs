//! Claims about enclosures, drives, volumes, garbage and groups.

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{
    BlobId, ChainId, DriveId, DriveState, EnclosureId, Generation, PartitionId, Profile, Volume,
    VolumeState,
};

use super::Subject;
use crate::api::garbage::{GarbageAck, GarbageQuery};
use crate::api::heartbeat::{DriveBeat, Heartbeat, ScrubBeat};
use crate::api::key::ObjectKey;
use crate::api::record::{Extent, Layout, Place};
use crate::api::root::{
    Addresses, LedgerQuery, LedgerRange, LedgerRow, RootCommand, RootRefusal, RootReply, RootView,
};

/// An enclosure with drives of its own.
async fn enter(subject: &Subject, drives: u32) -> (EnclosureId, Vec<DriveId>) {
    let command = RootCommand::JoinEnclosure {
        id: None,
        chain: ChainId::new(1),
        addresses: Addresses::default(),
    };
    let Ok(RootReply::Enclosure(enclosure)) = subject.root(command).await else {
        panic!("the enclosure is entered");
    };
    let mut entered = Vec::new();
    for slot in 0..drives {
        let drive = DriveId::new(subject.env.random.next_u128());
        let (capacity, generation) = (1 << 40, Generation::new(0));
        let command = RootCommand::AttachDrive {
            drive,
            enclosure,
            slot,
            capacity,
            generation,
        };
        assert_eq!(
            subject.root(command).await,
            Ok(RootReply::Attached(Generation::new(1)))
        );
        entered.push(drive);
    }
    (enclosure, entered)
}

async fn view(subject: &Subject) -> RootView {
    subject.client.watch(0, Duration::ZERO).await.unwrap()
}

async fn open(subject: &Subject) -> Volume {
    let (_, drives) = enter(subject, 3).await;
    let members = drives.into_iter().map(Some).collect();
    let profile = Profile::new(2, 1).unwrap();
    let command = RootCommand::OpenVolume {
        profile,
        members,
        violation: true,
    };
    match subject.root(command).await {
        Ok(RootReply::Volume(volume)) => volume,
        other => panic!("a volume is opened: {other:?}"),
    }
}

pub(super) async fn an_enclosure_and_its_drives_are_entered(subject: &Subject) {
    let (enclosure, drives) = enter(subject, 2).await;
    let view = view(subject).await;
    assert!(view.topology.enclosures.contains_key(&enclosure));
    for drive in &drives {
        assert_eq!(
            view.topology.drives.get(drive).map(|d| d.enclosure),
            Some(enclosure)
        );
    }
    let said = DriveBeat {
        drive: drives[0],
        state: DriveState::Healthy,
        capacity: 1 << 30,
        used: 7,
        logs: 5,
        reason: "a reason".to_owned(),
        twin: String::new(),
        scrub: Some(ScrubBeat {
            period_s: 9,
            complete_s: Some(3),
            oldest_s: 3,
            percent: 50,
        }),
    };
    let beat = Heartbeat {
        cluster: view.cluster,
        incarnation: view.incarnation,
        enclosure,
        drives: vec![said.clone()],
        shards: Vec::new(),
    };
    // A leader that has just become one forgets what it heard before.
    for _ in 0..100 {
        let reply = subject.client.heartbeat(beat.clone()).await.unwrap();
        assert!(reply.revision >= view.revision);
        let reports = subject.client.drive_reports().await.unwrap();
        let told = reports
            .iter()
            .filter(|report| report.enclosure == enclosure);
        let told: Vec<&DriveBeat> = told.map(|report| &report.beat).collect();
        if told == [&said] {
            return;
        }
        assert!(told.is_empty(), "{told:?}");
        subject.env.clock.sleep(Duration::from_millis(20)).await;
    }
    panic!("what nodes say of their drives is not told");
}

pub(super) async fn a_volume_is_opened_suspended_and_sealed(subject: &Subject) {
    let Volume {
        id: volume, epoch, ..
    } = open(subject).await;
    let suspended = subject
        .root(RootCommand::SuspendVolume { volume, epoch })
        .await;
    assert!(
        matches!(suspended, Ok(RootReply::Volume(_))),
        "{suspended:?}"
    );
    let Ok(RootReply::Volume(sealing)) = subject
        .root(RootCommand::SealVolume { volume, epoch })
        .await
    else {
        panic!("the volume begins to seal");
    };
    assert_eq!(
        (sealing.state, sealing.epoch > epoch),
        (VolumeState::Sealing, true)
    );
    let stale = RootCommand::SuspendVolume { volume, epoch };
    let stale = subject.root(stale).await;
    assert!(
        matches!(stale, Err(RootRefusal::StaleEpoch(_))),
        "{stale:?}"
    );
    let fenced = RootCommand::VolumeFenced {
        volume,
        epoch: sealing.epoch,
        member: 0,
        bytes: 5,
    };
    assert!(subject.root(fenced).await.is_ok());
    let volumes = subject.client.volumes(&[volume]).await.unwrap();
    assert_eq!(
        volumes.iter().map(|v| v.state).collect::<Vec<_>>(),
        [VolumeState::Sealed]
    );
    assert!(!view(subject).await.volumes.contains_key(&volume));
    let all = subject.client.all_volumes(None, 1000).await.unwrap();
    assert!(all.iter().any(|v| v.id == volume));
    assert!(subject.client.ledger(10).await.unwrap().is_empty());
    let row = |member| LedgerRow {
        volume,
        member,
        what: LedgerRange::stripes(BlobId::new(7), 1..=2),
    };
    let rows = vec![row(0), row(1)];
    let reported = subject.root(RootCommand::ReportFaults(rows.clone())).await;
    assert!(reported.is_ok());
    let query = |drives, after| LedgerQuery {
        drives,
        after,
        limit: 10,
    };
    let of = async |query| subject.client.ledger_of(query).await.unwrap();
    let drive = sealing.members[0].into_iter().collect();
    assert_eq!(of(query(drive, None)).await, [row(0)]);
    let all = || sealing.members.iter().flatten().copied().collect();
    assert_eq!(of(query(all(), None)).await, rows);
    assert_eq!(of(query(all(), Some((volume, 0)))).await, [row(1)]);
    let drives = all();
    let closed = RootCommand::CloseFaults { rows, drives };
    assert!(subject.root(closed).await.is_ok());
    assert!(of(query(all(), None)).await.is_empty());
}

pub(super) async fn a_watch_waits_for_a_change(subject: &Subject) {
    let before = view(subject).await.revision;
    let client = Arc::clone(&subject.client);
    let waiting = tokio::spawn(async move { client.watch(before, Duration::from_secs(20)).await });
    tokio::task::yield_now().await;
    let bucket = subject.bucket("watched").await;
    let seen = waiting.await.unwrap().unwrap();
    assert!(seen.revision > before && seen.buckets.contains_key(&bucket.name));
    let same = subject
        .client
        .watch(seen.revision, Duration::from_millis(1))
        .await
        .unwrap();
    assert_eq!(same.revision, seen.revision);
}

pub(super) async fn dead_blobs_are_garbage_until_all_members_acked(subject: &Subject) {
    let (volume, bucket) = (open(subject).await, subject.bucket("garbage").await);
    let mut object = subject.object("");
    object.blob.len = 100_000;
    object.blob.place = Place::Striped {
        profile: volume.profile,
        layout: Layout::Full,
        extents: vec![Extent {
            volume: volume.id,
            first_stripe: 0,
            stripes: 1,
        }],
    };
    let blob = object.blob.id;
    let (at, held) = (ObjectKey::new(bucket.id, "key"), object.blob.clone());
    assert_eq!(subject.client.blob(&at, blob).await.unwrap(), None);
    assert!(subject.put(&bucket, "key", object).await.is_ok());
    assert_eq!(subject.client.blob(&at, blob).await.unwrap(), Some(held));
    assert!(
        subject
            .put(&bucket, "key", subject.object("new"))
            .await
            .is_ok()
    );
    assert_eq!(subject.client.blob(&at, blob).await.unwrap(), None);
    (subject.pass_grace)();
    let partition = PartitionId::new(1);
    for member in 0..3u8 {
        let shards = vec![(volume.id, member)];
        let query = GarbageQuery {
            partition,
            shards,
            limit: 100,
        };
        let due = subject.client.garbage(query.clone()).await.unwrap();
        assert_eq!(
            due.iter().map(|g| (g.blob, g.member)).collect::<Vec<_>>(),
            [(blob, member)]
        );
        let ack = GarbageAck {
            sequence: due[0].sequence,
            volume: volume.id,
            epoch: volume.epoch,
            members: vec![member],
        };
        subject
            .client
            .ack_garbage(partition, vec![ack.clone()])
            .await
            .unwrap();
        subject
            .client
            .ack_garbage(partition, vec![ack])
            .await
            .unwrap();
        assert!(subject.client.garbage(query).await.unwrap().is_empty());
    }
}

pub(super) async fn every_group_has_a_leader(subject: &Subject) {
    let groups = subject.client.groups().await.unwrap();
    for group in [PartitionId::ROOT, PartitionId::new(1)] {
        let of = groups.iter().filter(|status| status.group == group);
        let leaders: Vec<_> = of.filter_map(|status| status.leader).collect();
        assert!(!leaders.is_empty() && leaders.iter().all(|leader| *leader == leaders[0]));
    }
}
