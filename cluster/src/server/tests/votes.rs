//! Who votes, and what is cleared: replicas that come back with less than they acked, or with an
//! old view of the root state (PROTOCOLS 1).

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{
    ChainId, ClusterId, DriveId, EnclosureId, EnclosureState, Generation, Incarnation, IntentId,
    PartitionId,
};

use super::harness::{Cluster, FIRST, put};
use super::replicas::{GROUPS, WAIT_MAX, Writer, ids, started, tune, view};
use crate::api::MetadataClient as _;
use crate::api::heartbeat::Heartbeat;
use crate::api::root::{Addresses, RootCommand};
use crate::partition;
use crate::server::read;

/// Until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + WAIT_MAX;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_view_keeps_nobody_from_being_elected() {
    let (mut cluster, client, bucket) = started(3).await;
    let leader = cluster.leader(PartitionId::ROOT).await;
    let left: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();
    for (id, other) in [(left[0], left[1]), (left[1], left[0])] {
        let mut old = view(&client).await;
        old.revision = u64::MAX;
        for group in GROUPS {
            let left = (group, EnclosureId::new(other));
            old.replicas.leftovers.insert(left, IntentId::new(9));
        }
        cluster.service(id).hear(old);
    }
    cluster.kill(leader).await;
    for group in GROUPS {
        cluster.leader(group).await;
    }
    let outcome = put(&*client, bucket, "key", 1, bytes::Bytes::new()).await;
    assert!(outcome.unwrap().is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_an_old_view_calls_left_over_is_not_cleared() {
    let (cluster, client, _) = started(3).await;
    let mut old = view(&client).await;
    old.revision = u64::MAX;
    let left = (FIRST, EnclosureId::new(2));
    old.replicas.leftovers.insert(left, IntentId::new(9));
    cluster.service(2).hear(old);
    cluster.service(2).clear_leftovers().await;
    let groups = cluster.service(2).groups();
    assert!(groups.get(FIRST).is_some());
    // Nor what a newer view than root's answer calls a member.
    assert!(!groups.leave(FIRST, || false).await.unwrap());
    assert!(groups.get(FIRST).is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_has_nothing_to_do_is_noted_in_the_log_before_it_ends() {
    let (cluster, client, _) = started(1).await;
    let same = RootCommand::BeginReplicas {
        group: FIRST,
        from: ids(&[1]),
        to: ids(&[1]),
        replaces: None,
    };
    cluster.root(same).await;
    until("it does not end", async || {
        view(&client).await.replicas.changes.is_empty()
    })
    .await;
    let group = cluster.service(1).groups().get(FIRST).unwrap();
    let noted = group
        .with_rows(|rows| partition::read::replica_change(rows, FIRST).map_err(read::failed))
        .unwrap();
    assert_eq!(noted, view(&client).await.partitions[&FIRST].change);
    assert_ne!(noted, IntentId::new(0));
    drop(group);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_made_empty_does_not_vote() {
    let (mut cluster, _client, _) = started(1).await;
    cluster.add(2).await;
    let service = cluster.service(2);
    assert!(service.groups().get(FIRST).is_none());
    let held = service.groups().hold(FIRST).await.unwrap();
    assert!(held.is_young());
    assert!(service.voter(FIRST).is_err());
    drop(held);
    // Nor after it was started again.
    cluster.kill(2).await;
    cluster.revive(2).await;
    assert!(cluster.service(2).groups().get(FIRST).is_some());
    assert!(cluster.service(2).voter(FIRST).is_err());
    // As a new one it is made a member when it would vote.
    cluster.add(3).await;
    until("it does not grow", async || {
        cluster.service(2).voter(FIRST).is_ok() && cluster.service(3).voter(FIRST).is_ok()
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_folder_votes_when_it_was_given_all_again() {
    let (mut cluster, client, bucket) = started(3).await;
    let writer = Writer::start(Arc::clone(&client), bucket);
    for number in 1..=200u128 {
        let outcome = put(
            &*client,
            bucket,
            "before",
            number << 64,
            bytes::Bytes::new(),
        )
        .await;
        assert!(outcome.unwrap().is_ok());
    }
    let leader = cluster.leader(FIRST).await;
    let lost = if leader == 3 { 2 } else { 3 };
    cluster.kill(lost).await;
    cluster.wipe(lost);
    cluster.revive(lost).await;
    until("it is not given its log", async || {
        let service = cluster.service(lost);
        let votes = |group| match service.groups().get(group) {
            Some(held) => {
                let young = held.is_young();
                !young && service.voter(group).is_ok()
            }
            None => {
                assert!(service.voter(group).is_err());
                false
            }
        };
        GROUPS.map(votes) == [true, true]
    })
    .await;
    // It makes a majority with one other.
    cluster.kill(leader).await;
    let outcome = put(&*client, bucket, "after", u128::MAX, bytes::Bytes::new()).await;
    assert!(outcome.unwrap().is_ok());
    writer.end(&client, bucket).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_leads_all_groups_and_writes_go_on_while_another_takes_over() {
    let cluster = Cluster::start_tuned(3, |settings| {
        tune(settings);
        settings.keeper.leaders = Duration::from_millis(50);
    })
    .await;
    for id in 1..=3 {
        cluster.enter(id).await;
    }
    let client = cluster.client();
    let bucket = super::harness::bucket(&*client, "bucket").await;
    let writer = Writer::start(Arc::clone(&client), bucket);
    for _ in 0..3 {
        until("one leads all", async || {
            let [root, first] = GROUPS;
            cluster.leader(root).await != cluster.leader(first).await
        })
        .await;
        // Whoever leads the root group is given the other, too.
        let term = |group: &crate::raft::groups::Group| group.metrics().current_term;
        let mut before = None;
        until("it is not given away", async || {
            let leader = cluster.leader(FIRST).await;
            let to = EnclosureId::new(cluster.leader(PartitionId::ROOT).await);
            let Some(group) = cluster.service(leader).groups().get(FIRST) else {
                return false;
            };
            if term(&group) > *before.get_or_insert(term(&group)) {
                return true;
            }
            cluster.service(leader).give_away(&group, to).await;
            false
        })
        .await;
    }
    writer.end(&client, bucket).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_in_order_has_others_lead_at_once() {
    // An election would take longer than the test waits for anything.
    let mut cluster = Cluster::start_tuned(3, |settings| {
        tune(settings);
        settings.raft.election_min = WAIT_MAX * 2;
        settings.raft.election_max = WAIT_MAX * 3;
    })
    .await;
    for id in 1..=3 {
        cluster.enter(id).await;
    }
    let client = cluster.client();
    let bucket = super::harness::bucket(&*client, "bucket").await;
    let leader = cluster.leader(FIRST).await;
    cluster.shut_down(leader).await;
    assert_ne!(cluster.leader(FIRST).await, leader);
    cluster.leader(PartitionId::ROOT).await;
    let outcome = put(&*client, bucket, "key", 1, bytes::Bytes::new()).await;
    assert!(outcome.unwrap().is_ok());
    cluster.stop().await;
}

fn beat(id: u32) -> Heartbeat {
    Heartbeat {
        cluster: ClusterId::new(7),
        incarnation: Incarnation::new(1),
        enclosure: EnclosureId::new(id),
        drives: Vec::new(),
        shards: Vec::new(),
    }
}

/// Enters an enclosure with a drive; all but the first have no process.
async fn enclosure(cluster: &Cluster, id: u32) {
    if id > 1 {
        let join = RootCommand::JoinEnclosure {
            id: Some(EnclosureId::new(id)),
            // None is the tail of another's chain.
            chain: ChainId::new(id),
            addresses: Addresses::default(),
        };
        cluster.root(join).await;
    }
    let attach = RootCommand::AttachDrive {
        drive: DriveId::new(u128::from(id)),
        enclosure: EnclosureId::new(id),
        slot: 0,
        capacity: 1 << 40,
        generation: Generation::default(),
    };
    cluster.root(attach).await;
}

/// PROTOCOLS 23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leader_knows_what_went_out_by_itself() {
    let mut cluster = Cluster::start_tuned(1, |settings| {
        tune(settings);
        settings.liveness.suspect = Duration::from_millis(100);
        settings.liveness.down = Duration::from_millis(300);
        settings.liveness.out = Duration::from_millis(600);
    })
    .await;
    cluster.enter(1).await;
    for id in 1..=4 {
        enclosure(&cluster, id).await;
    }
    let client = cluster.client();
    let state = async |id: u32| {
        let view = view(&client).await;
        view.topology.enclosures[&EnclosureId::new(id)].state
    };
    until("the silent one stays", async || {
        for id in [1, 2, 3] {
            let _ = client.heartbeat(beat(id)).await;
        }
        state(4).await == EnclosureState::Out
    })
    .await;
    cluster.kill(1).await;
    cluster.revive(1).await;
    cluster.leader(PartitionId::ROOT).await;
    let out = Duration::from_millis(600);
    let mut down_since = None;
    until("it does not go down", async || {
        for id in [1, 2] {
            let _ = client.heartbeat(beat(id)).await;
        }
        let now = tokio::time::Instant::now();
        match state(3).await {
            EnclosureState::Down => now - *down_since.get_or_insert(now) > 3 * out,
            EnclosureState::Out => panic!("a second one went out by itself"),
            _ => false,
        }
    })
    .await;
    cluster.stop().await;
}
