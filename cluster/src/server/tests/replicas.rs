//! Replicas that come and go (PROTOCOLS 1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{BucketId, EnclosureId, EnclosureState, PartitionId};
use tokio::task::JoinHandle;

use super::harness::{Cluster, FIRST, bucket, get, put};
use crate::api::MetadataClient;
use crate::api::command::{GroupTime, KeyReply, PartitionCommand, PartitionEnvelope};
use crate::api::moves::Subject;
use crate::api::root::{RootCommand, RootView};
use crate::client::Remote;
use crate::settings::Settings;

pub(super) const GROUPS: [PartitionId; 2] = [PartitionId::ROOT, FIRST];

/// Nobody sends heartbeats here; enclosures are what the test says.
pub(super) fn tune(settings: &mut Settings) {
    let hour = Duration::from_secs(3600);
    (settings.liveness.suspect, settings.liveness.down) = (hour, hour);
    settings.keeper.volumes = Duration::from_millis(100);
    settings.keeper.root_quiet = Duration::from_millis(500);
    // New replicas are sent snapshots.
    settings.raft.snapshot_entries = 50;
    settings.raft.keep_entries = 5;
}

pub(super) fn ids(numbers: &[u32]) -> Vec<EnclosureId> {
    numbers.iter().copied().map(EnclosureId::new).collect()
}

/// Puts until it is told to stop; answers how many it put.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u128>,
}

impl Writer {
    pub(super) fn start(client: Arc<Remote>, bucket: BucketId) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut number = 0u128;
            while !stopped.load(Ordering::Relaxed) {
                let (key, bytes) = (format!("key-{number}"), Bytes::from(number.to_string()));
                let outcome = put(&*client, bucket, &key, number + 1, bytes).await;
                let outcome = outcome.unwrap();
                assert!(matches!(outcome, Ok(KeyReply::Put { .. })), "{outcome:?}");
                number += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            number
        });
        Self { stop, task }
    }

    /// All that was acked is there.
    pub(super) async fn end(self, client: &Remote, bucket: BucketId) {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.task.await.unwrap();
        assert!(count > 0);
        for number in 0..count {
            let bytes = get(client, bucket, &format!("key-{number}")).await;
            assert_eq!(bytes, Some(Bytes::from(number.to_string())), "of {count}");
        }
    }
}

pub(super) async fn view(client: &Remote) -> RootView {
    client.watch(0, Duration::ZERO).await.unwrap()
}

/// The longest that anything is waited for: whatever goes wrong is told, and does not hang.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Waits until both groups have these replicas, and nothing is under way.
pub(super) async fn until(cluster: &Cluster, client: &Remote, replicas: &[u32]) {
    let wanted = ids(replicas);
    let end = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let view = view(client).await;
        assert!(
            tokio::time::Instant::now() < end,
            "{}",
            told(cluster, &view)
        );
        let there = |group: PartitionId| view.replicas_of(group) == wanted;
        if GROUPS.into_iter().all(there) && view.replicas.changes.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the replicas know, for a test that failed.
fn told(cluster: &Cluster, view: &RootView) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{:#?}", view.replicas);
    for (id, service) in cluster.services() {
        let known = service.known_view().map(|view| view.revision);
        let _ = write!(text, "\nprocess {id} knows revision {known:?}");
        for group in service.groups().all() {
            let _ = write!(text, "\n  group {}: {}", group.id, group.metrics());
        }
    }
    text
}

pub(super) async fn set(cluster: &Cluster, id: u32, state: EnclosureState) {
    let id = EnclosureId::new(id);
    cluster.root(RootCommand::SetEnclosure { id, state }).await;
}

async fn drain(cluster: &Cluster, id: u32, on: bool) {
    let subject = Subject::Enclosure(EnclosureId::new(id));
    cluster.root(RootCommand::Drain { subject, on }).await;
}

/// Waits until a process holds no replica, and root has been told.
async fn until_cleared(cluster: &Cluster, client: &Remote, id: u32) {
    let enclosure = EnclosureId::new(id);
    let end = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let view = view(client).await;
        assert!(
            tokio::time::Instant::now() < end,
            "{}",
            told(cluster, &view)
        );
        let left = &view.replicas.leftovers;
        let held = cluster.service(id).groups().all().len();
        if held == 0 && !left.keys().any(|(_, at)| *at == enclosure) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn started(replicas: u32) -> (Cluster, Arc<Remote>, BucketId) {
    let cluster = Cluster::start_tuned(replicas, tune).await;
    for id in 1..=replicas {
        cluster.enter(id).await;
    }
    let client = cluster.client();
    let bucket = bucket(&*client, "bucket").await;
    (cluster, client, bucket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_is_replaced_and_then_another_may_die() {
    let (mut cluster, client, bucket) = started(3).await;
    let writer = Writer::start(Arc::clone(&client), bucket);
    cluster.add(4).await;
    let dead = cluster.leader(FIRST).await;
    cluster.kill(dead).await;
    set(&cluster, dead, EnclosureState::Out).await;
    let left: Vec<u32> = (1..=4).filter(|id| *id != dead).collect();
    until(&cluster, &client, &left).await;
    let another = cluster.leader(PartitionId::ROOT).await;
    cluster.kill(another).await;
    let next = put(&*client, bucket, "after", u128::MAX, Bytes::new()).await;
    assert!(next.unwrap().is_ok());
    writer.end(&client, bucket).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_grows_to_five_replicas_and_shrinks_again_under_writes() {
    let (mut cluster, client, bucket) = started(1).await;
    let writer = Writer::start(Arc::clone(&client), bucket);
    cluster.add(2).await;
    cluster.add(3).await;
    until(&cluster, &client, &[1, 2, 3]).await;
    cluster.add(4).await;
    cluster.add(5).await;
    until(&cluster, &client, &[1, 2, 3, 4, 5]).await;
    let leader = cluster.leader(FIRST).await;
    drain(&cluster, leader, true).await;
    until_cleared(&cluster, &client, leader).await;
    assert_eq!(view(&client).await.replicas_of(FIRST).len(), 3);
    drain(&cluster, leader, false).await;
    until(&cluster, &client, &[1, 2, 3, 4, 5]).await;
    // By command: to one, and back.
    cluster.root(RootCommand::SetReplicas { most: 1 }).await;
    until(&cluster, &client, &[1]).await;
    for id in 2..=5 {
        until_cleared(&cluster, &client, id).await;
    }
    cluster.root(RootCommand::SetReplicas { most: 3 }).await;
    until(&cluster, &client, &[1, 2, 3]).await;
    writer.end(&client, bucket).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_carried_on_whatever_leader_stops_in_it() {
    let (mut cluster, client, bucket) = started(3).await;
    cluster.add(4).await;
    cluster.add(5).await;
    let writer = Writer::start(Arc::clone(&client), bucket);
    for (most, replicas) in [(5, &[1, 2, 3, 4, 5][..]), (3, &[1, 2, 3])] {
        cluster.root(RootCommand::SetReplicas { most }).await;
        let mut seen = BTreeSet::new();
        let end = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let leader = cluster.leader(FIRST).await;
            // Not held any longer than needed: it holds the database.
            let members = cluster.service(leader).groups().get(FIRST).map(|group| {
                let members = group.metrics().membership_config;
                members.log_id().map(|id| id.index)
            });
            // Each membership that is seen costs its leader its life, up to a limit.
            if seen.len() < 6 && seen.insert(members) {
                cluster.kill(leader).await;
                cluster.revive(leader).await;
            }
            let view = view(&client).await;
            assert!(
                tokio::time::Instant::now() < end,
                "{}",
                told(&cluster, &view)
            );
            let done = view.replicas_of(FIRST) == ids(replicas);
            if done && view.replicas.changes.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until(&cluster, &client, replicas).await;
    }
    writer.end(&client, bucket).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_replaced_disturbs_nobody_and_may_come_back_empty() {
    let (mut cluster, client, bucket) = started(3).await;
    cluster.add(4).await;
    let writer = Writer::start(Arc::clone(&client), bucket);
    let old = cluster.leader(FIRST).await;
    cluster.kill(old).await;
    set(&cluster, old, EnclosureState::Out).await;
    let left: Vec<u32> = (1..=4).filter(|id| *id != old).collect();
    until(&cluster, &client, &left).await;
    let term = |cluster: &Cluster, id: u32, group| {
        let group = cluster.service(id).groups().get(group).unwrap();
        group.metrics().current_term
    };
    let before = GROUPS.map(|group| term(&cluster, left[0], group));
    cluster.revive(old).await;
    until_cleared(&cluster, &client, old).await;
    let after = GROUPS.map(|group| term(&cluster, left[0], group));
    assert_eq!(before, after, "nobody had to stand for election again");
    // It is as good as new.
    set(&cluster, old, EnclosureState::Up).await;
    cluster.kill(4).await;
    set(&cluster, 4, EnclosureState::Out).await;
    until(&cluster, &client, &[1, 2, 3]).await;
    let another = left[0];
    cluster.kill(another).await;
    writer.end(&client, bucket).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_leader_acts_on_a_change_that_is_older_than_one_acted_on() {
    let (mut cluster, client, _) = started(1).await;
    let change = enfilade_placement::IntentId::new(1_000_000);
    let later = PartitionEnvelope {
        request: enfilade_placement::RequestId::new(1),
        deadline: GroupTime(u64::MAX),
        epoch: enfilade_placement::Epoch::FIRST,
        command: PartitionCommand::Replicas { change },
    };
    let group = cluster.service(1).groups().get(FIRST).unwrap();
    let bytes = Bytes::from(crate::api::encoding::encode(&later));
    group.propose(bytes).await.unwrap();
    cluster.add(2).await;
    cluster.add(3).await;
    loop {
        let view = view(&client).await;
        if view.replicas_of(PartitionId::ROOT).len() == 3 {
            assert!(view.replicas.changes.contains_key(&FIRST));
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let members = group.metrics().membership_config.membership().clone();
    assert_eq!(members.nodes().count(), 1, "{members:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_answer_gets_no_vote_however_short_the_log_is() {
    let (mut cluster, client, bucket) = started(3).await;
    cluster.add(4).await;
    cluster.kill(4).await;
    let change = RootCommand::BeginReplicas {
        group: FIRST,
        from: ids(&[1, 2, 3]),
        to: ids(&[1, 2, 4]),
        replaces: None,
    };
    cluster.root(change).await;
    let leader = cluster.leader(FIRST).await;
    let group = cluster.service(leader).groups().get(FIRST).unwrap();
    let members = || group.metrics().membership_config.membership().clone();
    while members().learner_ids().next().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Long enough for many steps: it learns, and that is all.
    for number in 1..=50u128 {
        let outcome = put(&*client, bucket, "key", number, Bytes::new()).await;
        assert!(outcome.unwrap().is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(members().voter_ids().eq([1, 2, 3]), "{:?}", members());
    drop(group);
    cluster.stop().await;
}
