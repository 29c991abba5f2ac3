//! Members that fail, hang, move or lie.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::command::{Conditions, KeyOp, WriteRequest};
use enfilade_cluster::api::record::Place;
use enfilade_cluster::api::root::RootCommand;
use enfilade_placement::{EnclosureId, EnclosureState, Epoch, RequestId, VolumeState};
use enfilade_storage_node::api::error::ShardError;

use super::{Cluster, content, noise, profile, until};
use crate::path::types::{ReadError, WriteError};

#[tokio::test]
async fn a_member_that_fails_ends_the_extent_and_its_volume_is_suspended() {
    let cluster = Cluster::start(profile("4+2"), 12, |_| {}).await;
    // Only one volume has no member that fails after three appends.
    for enclosure in 7..=12 {
        cluster.nodes.at(enclosure).stop_after_appends(3);
    }
    let bytes = noise(1_000_000, 2);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    let Place::Striped { extents, .. } = &written.blob.place else {
        panic!("inline")
    };
    let mut next = 0;
    for extent in extents {
        assert_eq!(extent.first_stripe, next);
        next += extent.stripes;
    }
    assert_eq!(u64::from(next), cluster.profile.stripes(bytes.len() as u64));
    let last = cluster
        .view
        .volume(extents.last().unwrap().volume)
        .await
        .unwrap()
        .unwrap();
    assert!((0..6).all(|member| cluster.enclosure(&last, member) <= 6));
    if extents.len() > 1 {
        let failed = extents[0].volume;
        let changes = cluster.view.changes();
        let state = || changes.borrow().volumes[&failed].state;
        until(|| state() == VolumeState::Suspended).await;
    }
    for enclosure in 7..=12 {
        cluster.nodes.at(enclosure).stop_after_appends(u32::MAX);
        cluster.nodes.at(enclosure).start();
    }
    assert_eq!(
        cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
        bytes
    );
}

#[tokio::test]
async fn a_member_that_is_late_does_not_hold_a_write_for_long() {
    let change = |s: &mut crate::settings::PathSettings| {
        s.append_deadline = Duration::from_millis(100);
    };
    let cluster = Cluster::start(profile("2+1"), 6, change).await;
    for enclosure in 4..=6 {
        cluster.nodes.at(enclosure).delay(Duration::from_secs(60));
    }
    let bytes = noise(200_000, 2);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    assert_eq!(
        cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
        bytes
    );
}

#[tokio::test]
async fn a_busy_member_is_waited_for() {
    let cluster = Cluster::start(profile("2+1"), 3, |_| {}).await;
    cluster.nodes.at(2).refuse(Some(ShardError::Busy));
    let bytes = noise(100_000, 1);
    let relief = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.nodes.at(2).refuse(None);
    };
    let (written, ()) = tokio::join!(cluster.write(&bytes, 50_000), relief);
    assert_eq!(
        cluster
            .read(&content(&written.unwrap()), 0..u64::MAX)
            .await
            .unwrap(),
        bytes
    );
    let open = |v: &enfilade_placement::Volume| v.state == VolumeState::Open;
    assert!(
        cluster
            .view
            .refresh()
            .await
            .unwrap()
            .volumes
            .values()
            .all(open)
    );
}

#[tokio::test]
async fn a_volume_that_the_nodes_have_closed_is_left_without_a_report() {
    let cluster = Cluster::start(profile("2+1"), 6, |_| {}).await;
    for enclosure in 4..=6 {
        let (volume, current) = (enfilade_placement::VolumeId::new(1), Epoch::new(2));
        let stale = ShardError::StaleEpoch { volume, current };
        cluster.nodes.at(enclosure).refuse(Some(stale));
    }
    let bytes = noise(100_000, 1);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    assert_eq!(
        cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
        bytes
    );
    let open = |v: &enfilade_placement::Volume| v.state == VolumeState::Open;
    assert!(
        cluster
            .view
            .refresh()
            .await
            .unwrap()
            .volumes
            .values()
            .all(open)
    );
}

#[tokio::test]
async fn without_a_usable_volume_a_write_is_refused_and_with_one_it_goes_on() {
    let change = |s: &mut crate::settings::PathSettings| s.volume_wait = Duration::from_millis(50);
    let cluster = Cluster::bare(profile("2+1"), 3, change).await;
    let bytes = noise(100_000, 1);
    let error = cluster.write(&bytes, 50_000).await.unwrap_err();
    assert!(matches!(error, WriteError::NoVolume(_)), "{error}");
    until(|| cluster.path.inner.write_budget.used() == 0).await;
    assert_eq!(cluster.metadata.writes.load(Ordering::SeqCst), 0);

    let cluster = Cluster::bare(profile("2+1"), 3, |_| {}).await;
    let opened = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.open(0, &[]).await
    };
    let (written, _) = tokio::join!(cluster.write(&bytes, 50_000), opened);
    assert_eq!(
        cluster
            .read(&content(&written.unwrap()), 0..u64::MAX)
            .await
            .unwrap(),
        bytes
    );
}

#[tokio::test]
async fn a_volume_with_vacant_members_takes_writes_down_to_k_and_one() {
    for vacant in [vec![0], vec![4], vec![2, 5], vec![0, 1]] {
        let cluster = Cluster::bare(profile("4+3"), 7, |s| s.inline_limit = 100).await;
        cluster.open(0, &vacant).await;
        cluster.view.refresh().await.unwrap();
        for len in [3_000, 90_000] {
            let bytes = noise(len, 1);
            let written = cluster.write(&bytes, 50_000).await.unwrap();
            assert_eq!(
                cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
                bytes
            );
        }
    }
}

#[tokio::test]
async fn a_late_member_is_replaced_by_parity() {
    let change = |s: &mut crate::settings::PathSettings| {
        s.hedge_start = Duration::from_millis(20);
        s.hedge_min = Duration::from_millis(20);
        s.inline_limit = 100;
    };
    let cluster = Cluster::start(profile("4+2"), 6, change).await;
    for (len, slow) in [(200_000, vec![0, 3]), (3_000, vec![])] {
        let bytes = noise(len, 1);
        let written = cluster.write(&bytes, 50_000).await.unwrap();
        let volume = cluster.volume_of(&written.blob).await;
        let shape = cluster.path.shape_of(&written.blob).unwrap();
        let slow = if slow.is_empty() {
            vec![shape.short_index()]
        } else {
            slow
        };
        for member in &slow {
            let node = cluster.nodes.at(cluster.enclosure(&volume, *member));
            node.delay(Duration::from_secs(60));
        }
        let began = Instant::now();
        assert_eq!(
            cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
            bytes
        );
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert!(cluster.path.metrics().hedges.get() > 0);
        (1..=6).for_each(|enclosure| cluster.nodes.at(enclosure).delay(Duration::ZERO));
    }
}

#[tokio::test]
async fn a_member_that_is_known_to_be_down_is_not_asked() {
    let cluster = Cluster::start(profile("2+1"), 3, |_| {}).await;
    let bytes = noise(100_000, 1);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    // It would answer, but too late to be waited for.
    cluster.nodes.at(1).delay(Duration::from_secs(60));
    let (id, state) = (EnclosureId::new(1), EnclosureState::Down);
    cluster.root(RootCommand::SetEnclosure { id, state }).await;
    cluster.view.refresh().await.unwrap();
    assert_eq!(
        cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
        bytes
    );
    assert_eq!(cluster.path.metrics().hedges.get(), 0);
    assert_eq!(cluster.path.metrics().faults.get(), 0);
}

#[tokio::test]
async fn a_refusal_by_epoch_is_an_erasure_when_asking_again_does_not_help() {
    let cluster = Cluster::start(profile("2+1"), 3, |_| {}).await;
    let bytes = noise(100_000, 1);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    let volume = cluster.volume_of(&written.blob).await;
    for error in [
        ShardError::StaleEpoch {
            volume: volume.id,
            current: Epoch::new(9),
        },
        ShardError::NotHere(enfilade_placement::Generation::new(4)),
        ShardError::Busy,
    ] {
        cluster.nodes.at(2).refuse(Some(error));
        assert_eq!(
            cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
            bytes
        );
    }
}

#[tokio::test]
async fn a_shard_that_moved_is_read_where_it_is_now() {
    let cluster = Cluster::bare(profile("2+1"), 4, |_| {}).await;
    let opened = cluster.open(0, &[]).await;
    cluster.view.refresh().await.unwrap();
    let bytes = noise(100_000, 1);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    cluster
        .root(RootCommand::SealVolume {
            volume: opened.id,
            epoch: opened.epoch,
        })
        .await;
    let (volume, epoch) = (opened.id, opened.epoch.next());
    cluster
        .root(RootCommand::VolumeFenced {
            volume,
            epoch,
            member: 0,
            bytes: 1,
        })
        .await;
    cluster.view.refresh().await.unwrap();
    let sealed = cluster.view.volume(volume).await.unwrap().unwrap();
    // The second shard goes to the fourth enclosure, and the second knows that.
    let mut moved = (*sealed).clone();
    moved.epoch = epoch.next();
    moved.members[1] = cluster.nodes.topology().drives.keys().copied().nth(3);
    cluster.copy_shard(&sealed, &moved, 1, &written.blob).await;
    let current = moved.epoch;
    cluster.metadata.moved.lock().unwrap().insert(volume, moved);
    cluster
        .nodes
        .at(2)
        .refuse(Some(ShardError::StaleEpoch { volume, current }));
    assert_eq!(
        cluster.read(&content(&written), 0..u64::MAX).await.unwrap(),
        bytes
    );
    assert_eq!(cluster.path.metrics().degraded_stripes.get(), 0);
    assert_eq!(cluster.path.metrics().faults.get(), 0);
}

#[tokio::test]
async fn more_than_m_absent_is_lost_while_a_record_names_it_and_gone_after() {
    let cluster = Cluster::start(profile("4+2"), 6, |_| {}).await;
    let written = cluster.write(&noise(100_000, 1), 50_000).await.unwrap();
    let content = cluster.commit("key", &written).await;
    (1..=3).for_each(|enclosure| cluster.nodes.at(enclosure).stop());
    let error = cluster.read(&content, 0..u64::MAX).await.unwrap_err();
    let ReadError::Lost {
        blob,
        stripe: 0,
        present: 3,
        needed: 4,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(blob, written.blob.id);
    let op = KeyOp::Delete {
        version: None,
        conditions: Conditions::default(),
        modified_ms: 0,
    };
    let (bucket, key) = (cluster.key("key").bucket, "key".to_owned());
    let request = WriteRequest {
        request: RequestId::new(99),
        bucket,
        revision: 1,
        key,
        op,
    };
    cluster.metadata.write(request).await.unwrap().unwrap();
    let error = cluster.read(&content, 0..u64::MAX).await.unwrap_err();
    assert!(
        matches!(error, ReadError::Gone(id) if id == written.blob.id),
        "{error}"
    );
}

#[tokio::test]
async fn members_that_just_failed_are_asked_when_there_is_no_other_way() {
    let cluster = Cluster::start(profile("4+2"), 6, |_| {}).await;
    let bytes = noise(100_000, 1);
    let written = cluster.write(&bytes, 50_000).await.unwrap();
    let content = cluster.commit("key", &written).await;
    for round in [1, 4] {
        (round..round + 3).for_each(|enclosure| cluster.nodes.at(enclosure).stop());
        assert!(cluster.read(&content, 0..u64::MAX).await.is_err());
        (round..round + 3).for_each(|enclosure| cluster.nodes.at(enclosure).start());
        assert_eq!(cluster.read(&content, 0..u64::MAX).await.unwrap(), bytes);
    }
}
