//! What the leaders of the groups do by themselves, in one loop a process: tell the time, look
//! after members, enclosures, drives, volumes and interrupted deletions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::liveness::{Observed, judge};
use enfilade_placement::{BucketId, EnclosureId, PartitionId, RequestId};

use tokio::task::JoinHandle;

use super::MetadataService;
use super::mover::{MoveKeeper, PAGE, Pages, Scene};
use super::read;
use super::volumes::VolumeKeeper;
use crate::api::command::{GroupTime, PartitionCommand, PartitionEnvelope};
use crate::api::encoding::encode;
use crate::api::error::MetadataError;
use crate::api::root::{Bucket, RootCommand, RootEnvelope, RootView};
use crate::client::in_process;
use crate::metrics::metrics;
use crate::raft::groups::Group;
use crate::root::{self, DEADLINE_MS};

/// An idle group is told the time at least so often.
const TICK_MAX: Duration = Duration::from_secs(60);
/// The longest that one command of the loop waits for its commit.
const PROPOSE_MAX: Duration = Duration::from_secs(3);

/// What the loop remembers of a group while this replica leads it.
struct Lead {
    term: u64,
    since: Duration,
    /// Up to when the group's time was told.
    told: Duration,
    /// The last entry when it was told.
    applied: u64,
}

#[derive(Default)]
struct Keeper {
    leads: BTreeMap<PartitionId, Lead>,
    volumes: VolumeKeeper,
    moves: MoveKeeper,
    volumes_at: Duration,
    /// Enclosures that the brake holds.
    braked: BTreeSet<EnclosureId>,
    /// Since when a bucket is seen in deletion or another change, at which revision.
    deletions: BTreeMap<BucketId, (u64, Duration)>,
    /// Changes of members that are under way.
    changes: BTreeMap<PartitionId, JoinHandle<Option<()>>>,
    /// What is being cleared here.
    clearing: Option<JoinHandle<Option<()>>>,
    /// Since when moves wait for replicas.
    replicas_leave: Option<Duration>,
    /// When a group was given away last.
    gave_away: Duration,
}

/// Runs until the service stops.
pub(super) async fn run(service: MetadataService) {
    let mut keeper = Keeper::default();
    let period = service.0.settings.keeper.period;
    while service.pause(period).await {
        service.gauge();
        for group in service.0.groups.all() {
            group.bound_log(&service.0.settings.raft).await;
        }
        let view = service.known_view();
        if let Some(view) = &view {
            for enclosure in view.topology.enclosures.values() {
                service.0.peers.learn(enclosure.id, &enclosure.meta_address);
            }
        }
        for group in service.0.groups.all() {
            if !keeper.lead(&service, &group) {
                continue;
            }
            keeper.tell_time(&service, &group).await;
            if view.is_some() {
                keeper.keep_members(&service, &group);
            }
        }
        if let Some(view) = &view {
            keeper.clear_leftovers(&service, view);
            keeper.even_leaders(&service, view).await;
        }
        if keeper.leads.contains_key(&PartitionId::ROOT) && view.is_some() {
            keeper.keep_root(&service).await;
        }
    }
}

impl Keeper {
    /// Notes whether this replica leads a group, and since when.
    fn lead(&mut self, service: &MetadataService, group: &Group) -> bool {
        if !group.leads() {
            if self.leads.remove(&group.id).is_some() && group.id == PartitionId::ROOT {
                metrics().replica_changes.set(0);
            }
            return false;
        }
        let (term, now) = (group.metrics().current_term, service.0.env.clock.now());
        if self
            .leads
            .get(&group.id)
            .is_none_or(|lead| lead.term != term)
        {
            let applied = *group.applied().borrow();
            self.leads.insert(
                group.id,
                Lead {
                    term,
                    since: now,
                    told: now,
                    applied,
                },
            );
            if group.id == PartitionId::ROOT {
                service.0.beats.clear();
                self.volumes = VolumeKeeper::default();
                self.moves = MoveKeeper::default();
                self.deletions.clear();
                self.replicas_leave = None;
            }
        }
        true
    }

    /// Looks after a group's members, apart: a change waits for replicas that may be slow.
    fn keep_members(&mut self, service: &MetadataService, group: &Arc<Group>) {
        if self
            .changes
            .get(&group.id)
            .is_some_and(|change| !change.is_finished())
        {
            return;
        }
        let (service, group) = (service.clone(), Arc::clone(group));
        let (id, tasks, stop) = (group.id, service.0.tasks.clone(), service.0.stop.clone());
        let change = async move { service.keep_members(&group).await };
        let change = tasks.spawn(async move { stop.run_until_cancelled(change).await });
        self.changes.insert(id, change);
    }

    /// Gives a group away when this process leads more than its share.
    async fn even_leaders(&mut self, service: &MetadataService, view: &RootView) {
        let (now, pause) = (service.0.env.clock.now(), service.0.settings.keeper.leaders);
        if now.saturating_sub(self.gave_away) < pause {
            return;
        }
        let led = self.leads.keys().copied().collect();
        for (group, to) in super::leaders::next(view, service.0.replica, &led) {
            let lead = self.leads.get(&group);
            let settled = lead.is_some_and(|lead| now.saturating_sub(lead.since) >= pause * 3);
            let Ok(group) = service.group(group) else {
                continue;
            };
            if settled && service.give_away(&group, to).await {
                self.gave_away = now;
                return;
            }
        }
    }

    /// Clears what replicas left here, apart: rows are removed, and root is told.
    fn clear_leftovers(&mut self, service: &MetadataService, view: &RootView) {
        let own = service.0.replica;
        let mut leftovers = view.replicas.leftovers.keys();
        let running = self.clearing.as_ref();
        if running.is_some_and(|clearing| !clearing.is_finished())
            || !leftovers.any(|(_, enclosure)| *enclosure == own)
        {
            return;
        }
        let service = service.clone();
        let (tasks, stop) = (service.0.tasks.clone(), service.0.stop.clone());
        let clearing = async move { service.clear_leftovers().await };
        let clearing = tasks.spawn(async move { stop.run_until_cancelled(clearing).await });
        self.clearing = Some(clearing);
    }

    /// Proposes the monotonic time that has passed (PROTOCOLS 3).
    async fn tell_time(&mut self, service: &MetadataService, group: &Group) {
        let Some(lead) = self.leads.get_mut(&group.id) else {
            return;
        };
        let now = service.0.env.clock.now();
        let elapsed = now.saturating_sub(lead.told);
        let idle = *group.applied().borrow() <= lead.applied;
        if elapsed < service.0.settings.keeper.tick || (idle && elapsed < TICK_MAX) {
            return;
        }
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let request = RequestId::new(service.0.env.random.next_u128());
        let deadline = GroupTime(u64::MAX);
        let command = if group.id == PartitionId::ROOT {
            encode(&RootEnvelope {
                request,
                deadline,
                command: RootCommand::Tick { elapsed_ms },
            })
        } else {
            let command = PartitionCommand::Tick { elapsed_ms };
            let epoch = enfilade_placement::Epoch::FIRST;
            encode(&PartitionEnvelope {
                request,
                deadline,
                epoch,
                command,
            })
        };
        // Told once, whatever comes of it: the group's time may stand still, but never runs ahead.
        lead.told = now;
        let told = tokio::time::timeout(PROPOSE_MAX, group.propose(Bytes::from(command))).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(group = %group.id, "a tick was not committed");
        }
        lead.applied = *group.applied().borrow();
    }

    /// What the root leader does.
    async fn keep_root(&mut self, service: &MetadataService) {
        // A new leader first applies what the one before it committed.
        let Ok(group) = service.group(PartitionId::ROOT) else {
            return;
        };
        let current = tokio::time::timeout(PROPOSE_MAX, group.linearize()).await;
        let (Ok(Ok(())), Ok(view)) = (current, service.local_view()) else {
            return;
        };
        let view = &*view;
        for command in self.judge(service, view) {
            service.keep(command).await;
        }
        let now = service.0.env.clock.now();
        if now.saturating_sub(self.volumes_at) >= service.0.settings.keeper.volumes {
            self.volumes_at = now;
            let beats = service.0.beats.all();
            let seed = service.0.env.random.next_u64();
            let settings = &service.0.settings.keeper;
            for command in self.volumes.keep(settings, view, &beats, now, seed) {
                service.keep(command).await;
            }
            let changes = i64::try_from(view.replicas.changes.len()).unwrap_or(i64::MAX);
            metrics().replica_changes.set(changes);
            for command in super::replicas::plan(view) {
                service.keep(command).await;
            }
            self.keep_moves(service, now).await;
        }
        self.resume_changes(service, view, now);
    }

    /// Begins, cancels and plans moves, once this leader has heard what there is.
    async fn keep_moves(&mut self, service: &MetadataService, now: Duration) {
        if !self.volumes.is_settled() {
            return;
        }
        let (Ok(view), Ok(group)) = (service.local_view(), service.group(PartitionId::ROOT)) else {
            return;
        };
        let replicas_leave = self.replicas_leave(service, &view, now);
        let beats = service.0.beats.all();
        let scene = Scene {
            settings: &service.0.settings.keeper,
            view: &view,
            beats: &beats,
            braked: &self.braked,
            replicas_leave: &replicas_leave,
            now,
            seed: service.0.env.random.next_u64(),
        };
        let volume = |id| {
            let found =
                group.with_rows(|rows| root::read::volumes(rows, &[id]).map_err(read::failed));
            found.map(|mut found| found.pop())
        };
        let table = Arc::clone(&group);
        let pages: Pages = Arc::new(move |after| {
            let page = table
                .with_rows(|rows| root::read::all_volumes(rows, after, PAGE).map_err(read::failed));
            page.map_err(|error| error.to_string())
        });
        match self.moves.keep(&scene, volume, &pages).await {
            Ok(commands) => {
                for command in commands {
                    service.keep(command).await;
                }
            }
            Err(error) => tracing::warn!(%error, "moves are not planned"),
        }
    }

    /// Enclosures that replicas have yet to leave: their shards are moved away after that
    /// (PROTOCOLS 1), unless it takes too long. What is lost is rebuilt at once, whatever replicas
    /// do.
    fn replicas_leave(
        &mut self,
        service: &MetadataService,
        view: &RootView,
        now: Duration,
    ) -> BTreeSet<EnclosureId> {
        let left = super::replicas::left(view);
        if left.is_empty() {
            self.replicas_leave = None;
            return left;
        }
        let since = *self.replicas_leave.get_or_insert(now);
        if now.saturating_sub(since) < service.0.settings.keeper.replicas_first {
            return left;
        }
        tracing::warn!("replicas cannot leave an enclosure; shards are moved all the same");
        BTreeSet::new()
    }

    /// Changes of enclosures and drives that follow from heartbeats and their absence.
    fn judge(&mut self, service: &MetadataService, view: &RootView) -> Vec<RootCommand> {
        let Some(lead) = self.leads.get(&PartitionId::ROOT) else {
            return Vec::new();
        };
        let now = service.0.env.clock.now();
        let beats = service.0.beats.all();
        let silence = view.topology.enclosures.keys().map(|id| {
            let heard = beats
                .get(id)
                .map_or(lead.since, |(at, _)| (*at).max(lead.since));
            (*id, now.saturating_sub(heard))
        });
        // By the group's time, which every leader knows; while nobody leads it stands still.
        let time = service.root_time().unwrap_or(view.time);
        let ago = |at: &GroupTime| Duration::from_millis(time.0.saturating_sub(at.0));
        let outs = view.outs.iter().map(|(id, at)| (*id, ago(at)));
        let observed = Observed {
            silence: silence.collect(),
            outs: outs.collect(),
            held: view.maintenance.keys().copied().collect(),
        };
        let fill = super::planner::fill(view, &beats);
        let verdict = judge(
            &view.topology,
            &fill,
            &observed,
            &service.0.settings.liveness,
        );
        metrics()
            .braked_enclosures
            .set(i64::try_from(verdict.braked.len()).unwrap_or(i64::MAX));
        let maintained = i64::try_from(view.maintenance.len()).unwrap_or(i64::MAX);
        metrics().maintained.set(maintained);
        self.braked = verdict.braked.iter().map(|one| one.enclosure).collect();
        let mut commands = super::planner::drive_changes(view, &beats);
        commands.extend(ended_maintenance(service, view));
        for change in verdict.changes {
            tracing::info!(enclosure = %change.enclosure, from = ?change.from, to = ?change.to,
                "an enclosure changes its state");
            commands.push(RootCommand::JudgeEnclosure {
                id: change.enclosure,
                from: change.from,
                to: change.to,
            });
        }
        commands
    }

    /// Takes up changes of buckets that somebody began and did not end (PROTOCOLS 6).
    fn resume_changes(&mut self, service: &MetadataService, view: &RootView, now: Duration) {
        let changing = |bucket: &&Bucket| bucket.deleting || bucket.pending.is_some();
        let changing = view.buckets.values().filter(changing);
        let changing: BTreeMap<_, _> = changing.map(|bucket| (bucket.id, bucket)).collect();
        self.deletions.retain(|id, (revision, _)| {
            changing
                .get(id)
                .is_some_and(|bucket| bucket.revision == *revision)
        });
        for bucket in changing.into_values() {
            let (_, since) = self
                .deletions
                .entry(bucket.id)
                .or_insert((bucket.revision, now));
            if now.saturating_sub(*since) < service.0.settings.keeper.deletion_max {
                continue;
            }
            // Not again before the same time has passed.
            *since = now;
            let (client, bucket) = (in_process::client(service), bucket.clone());
            let stop = service.0.stop.clone();
            service.0.tasks.spawn(async move {
                let resume = async {
                    match bucket.deleting {
                        true => client.resume_deletion(&bucket).await,
                        false => client.resume_versioning(&bucket).await,
                    }
                };
                match stop.run_until_cancelled(resume).await {
                    Some(Ok(outcome)) => {
                        tracing::info!(bucket = bucket.name, ?outcome, "a change was ended");
                    }
                    Some(Err(error)) => {
                        tracing::warn!(bucket = bucket.name, %error, "a change is stuck");
                    }
                    None => {}
                }
            });
        }
    }
}

/// Ends maintenance whose time is over.
fn ended_maintenance(service: &MetadataService, view: &RootView) -> Vec<RootCommand> {
    let Ok(time) = service.root_time() else {
        return Vec::new();
    };
    let over = view.maintenance.iter().filter(|(_, until)| **until <= time);
    let end = |(id, until): (&EnclosureId, &GroupTime)| RootCommand::EndMaintenance {
        id: *id,
        until: *until,
    };
    over.map(end).collect()
}

impl MetadataService {
    /// Proposes a command of the loop. What fails is found again at the next turn.
    async fn keep(&self, command: RootCommand) {
        let Ok(time) = self.root_time() else { return };
        let request = RequestId::new(self.0.env.random.next_u128());
        let deadline = GroupTime(time.0.saturating_add(DEADLINE_MS));
        let envelope = RootEnvelope {
            request,
            deadline,
            command,
        };
        let outcome = tokio::time::timeout(PROPOSE_MAX, self.propose_root(&envelope)).await;
        let command = &envelope.command;
        match outcome {
            Ok(Ok(Ok(_))) => tracing::debug!(?command, "committed"),
            Ok(Ok(Err(refusal))) => tracing::warn!(?command, %refusal, "refused"),
            Ok(Err(MetadataError::NotLeader { .. })) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(?command, %error, "not committed"),
        }
    }
}
