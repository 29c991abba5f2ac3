//! What the root leader does by itself: opens volumes, suspends them, ends deletions.

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{
    ChainId, DriveId, DriveState, EnclosureId, Generation, RequestId, VolumeState,
};

use super::harness::{Cluster, bucket};
use crate::api::MetadataClient;
use crate::api::command::GroupTime;
use crate::api::heartbeat::{DriveBeat, Heartbeat};
use crate::api::root::{Addresses, RootCommand, RootEnvelope, RootReply, RootView};
use crate::client::{InProcess, in_process};
use crate::root::DEADLINE_MS;

const CAPACITY: u64 = 1 << 40;

fn drive(enclosure: u32) -> DriveId {
    DriveId::new(u128::from(enclosure))
}

/// Enters enclosures with one drive each.
async fn enter(client: &InProcess, enclosures: u32) {
    for number in 1..=enclosures {
        let enclosure = EnclosureId::new(number);
        let (chain, addresses) = (ChainId::new(1), Addresses::default());
        let join = RootCommand::JoinEnclosure {
            id: Some(enclosure),
            chain,
            addresses,
        };
        let request = |kind: u128| RequestId::new(u128::from(number) << 8 | kind);
        let joined = client.root(request(1), join).await.unwrap();
        assert_eq!(joined, Ok(RootReply::Enclosure(enclosure)));
        let attach = RootCommand::AttachDrive {
            drive: drive(number),
            enclosure,
            slot: 0,
            capacity: CAPACITY,
            generation: Generation::new(0),
        };
        client.root(request(2), attach).await.unwrap().unwrap();
    }
}

async fn beat(client: &InProcess, view: &RootView, enclosure: u32, state: DriveState) {
    let drives = vec![DriveBeat::new(drive(enclosure), state, CAPACITY, 0)];
    let beat = Heartbeat {
        cluster: view.cluster,
        incarnation: view.incarnation,
        enclosure: EnclosureId::new(enclosure),
        drives,
        shards: Vec::new(),
    };
    client.heartbeat(beat).await.unwrap();
}

/// Waits until the view is as wanted.
async fn until(client: &InProcess, wanted: impl Fn(&RootView) -> bool) -> RootView {
    let mut view = client.watch(0, Duration::ZERO).await.unwrap();
    while !wanted(&view) {
        view = client
            .watch(view.revision, Duration::from_secs(1))
            .await
            .unwrap();
    }
    view
}

fn count(view: &RootView, state: VolumeState) -> usize {
    view.volumes
        .values()
        .filter(|volume| volume.state == state)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_opened_and_replaced_when_a_drive_fails() {
    let cluster = Cluster::start_tuned(1, |settings| {
        settings.keeper.volumes = Duration::from_millis(50);
    })
    .await;
    let client = Arc::new(in_process::client(cluster.service(1)));
    enter(&client, 7).await;
    let view = client.watch(0, Duration::ZERO).await.unwrap();
    for enclosure in 1..=7 {
        beat(&client, &view, enclosure, DriveState::Healthy).await;
    }
    let view = until(&client, |view| count(view, VolumeState::Open) == 2).await;
    let volume = view.volumes.values().next().unwrap();
    let failed = volume.members[0].unwrap();
    let enclosure = u32::try_from(failed.get()).unwrap();
    let hit: Vec<_> = view
        .volumes
        .values()
        .filter(|v| v.member_of(failed).is_some())
        .collect();
    beat(&client, &view, enclosure, DriveState::Failing).await;
    let view = until(&client, |view| {
        hit.iter()
            .all(|volume| view.volumes[&volume.id].state == VolumeState::Sealing)
            && count(view, VolumeState::Open) == 2
    })
    .await;
    assert_eq!(view.topology.drives[&failed].state, DriveState::Failing);
    let open = view
        .volumes
        .values()
        .filter(|volume| volume.state == VolumeState::Open);
    assert!(
        open.into_iter()
            .all(|volume| volume.member_of(failed).is_none())
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_nobody_ended_is_ended_by_the_root_leader() {
    let cluster = Cluster::start_tuned(1, |settings| {
        settings.keeper.deletion_max = Duration::from_millis(100);
    })
    .await;
    let client = in_process::client(cluster.service(1));
    bucket(&client, "bucket").await;
    let command = RootCommand::BeginDeleteBucket {
        name: "bucket".to_owned(),
    };
    let (request, deadline) = (RequestId::new(77), GroupTime(DEADLINE_MS));
    let begin = RootEnvelope {
        request,
        deadline,
        command,
    };
    cluster
        .service(1)
        .propose_root(&begin)
        .await
        .unwrap()
        .unwrap();
    until(&client, |view| !view.buckets.contains_key("bucket")).await;
    cluster.stop().await;
}
