//! Keeps shards where they should be: what the root leader remembers of moves between two plans.
//!
//! A plan ([`enfilade_placement::plan`]) is made of the whole table of volumes, apart from the
//! leader's loop, and is then begun piece by piece: so many moves at once a drive, and in all. When
//! what it was made for changes (a drive is given up, added or to be emptied), the rest of it is
//! thrown away. When drives are only away, or back, it goes on with what can be moved, and the next
//! plan does not wait for its end. Nothing of this is durable: intents are, and another leader
//! plans again.

mod basis;
mod survey;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::plan::{self, Move, Plan};
use enfilade_placement::{
    DriveId, DriveState, EnclosureId, EnclosureState, IntentId, Volume, VolumeId,
};
use tokio::task::JoinHandle;

use self::basis::{Absent, Basis};
use self::survey::{Ground, Survey};
pub(super) use self::survey::{PAGE, Pages};

use super::planner::HeardBeats;
use crate::api::moves::{Intent, MoveOrder, PlanNote, Reason, Stage};
use crate::api::root::{RootCommand, RootView};
use crate::metrics::metrics;
use crate::settings::KeeperSettings;

/// While moves are under way, so many times the usual time is between two plans.
const PAUSES_UNDER_WAY: u32 = 6;

/// What the root leader remembers of moves; forgotten when another one leads.
#[derive(Default)]
pub(super) struct MoveKeeper {
    absent: Absent,
    /// A plan that is being made, and what for.
    planning: Option<(Basis, JoinHandle<Result<Survey, String>>)>,
    /// What the last plan was made for.
    basis: Option<Basis>,
    /// Its moves that were not begun yet.
    queue: VecDeque<Move>,
    /// Whether anything was missing from a volume, in whatever state.
    incomplete: bool,
    /// When a plan was taken up last that made drives evenly full; none: for other drives, if ever.
    evened: Option<Duration>,
    /// Whether the last plan would have done more of that, and was put off.
    put_off: bool,
    /// When it was asked for, and at which revision of the root state.
    planned: Option<(Duration, u64)>,
}

/// What a turn of the keeper sees.
pub(super) struct Scene<'a> {
    pub(super) settings: &'a KeeperSettings,
    pub(super) view: &'a Arc<RootView>,
    pub(super) beats: &'a HeardBeats,
    /// Enclosures that would be out, were it no avalanche.
    pub(super) braked: &'a BTreeSet<EnclosureId>,
    /// Enclosures that replicas have yet to leave: only what is lost is made elsewhere before
    /// (PROTOCOLS 1).
    pub(super) replicas_leave: &'a BTreeSet<EnclosureId>,
    /// By the leader's clock.
    pub(super) now: Duration,
    /// Decides between equals.
    pub(super) seed: u64,
}

impl Scene<'_> {
    /// Whether a move cannot begin yet. One of a volume that was open when it was planned is moved
    /// when that is sealed (PROTOCOLS 12); what is lost waits for nothing else.
    fn holds(&self, step: &Move) -> bool {
        let unsealed = self.view.volumes.contains_key(&step.volume);
        let of = |drive: DriveId| {
            let enclosure = self.view.topology.enclosure_of(drive);
            enclosure.is_some_and(|one| self.replicas_leave.contains(&one.id))
        };
        let waits = self.view.moves.paused || step.from.is_some_and(of);
        unsealed || (waits && !step.is_rebuild())
    }
}

impl MoveKeeper {
    /// The next commands. `volume` finds one volume; `pages` all of them, for a plan that is due.
    pub(super) async fn keep<E>(
        &mut self,
        scene: &Scene<'_>,
        volume: impl Fn(VolumeId) -> Result<Option<Volume>, E>,
        pages: &Pages,
    ) -> Result<Vec<RootCommand>, E> {
        let basis = self.absent.basis(scene);
        let ended = useless(scene.view, &basis);
        let mut commands = Vec::new();
        let made_for = self.basis.as_ref();
        if !made_for.is_some_and(|made_for| made_for.is_as(&basis)) {
            self.queue.clear();
            self.evened = None;
        }
        if self
            .planning
            .as_ref()
            .is_some_and(|(_, plan)| plan.is_finished())
            && let Some((made_for, plan)) = self.planning.take()
        {
            match plan.await {
                Ok(Err(error)) => tracing::warn!(error, "the volumes cannot be read for a plan"),
                // What it was made for is another by now.
                Ok(Ok(_)) if !made_for.is_as(&basis) => {}
                Ok(Ok(survey)) => {
                    survey.show();
                    self.incomplete = survey.incomplete;
                    commands.extend(self.take_up(scene, made_for, survey.plan));
                }
                Err(error) => tracing::error!(%error, "the planner stopped: a defect"),
            }
        }
        if self.is_due(scene, &basis) {
            self.planned = Some((scene.now, scene.view.revision));
            let goes_on = |one: &Intent| !ended.contains(&one.id);
            let ground = Ground::new(scene, basis.clone(), goes_on);
            let pages = Arc::clone(pages);
            let plan = tokio::task::spawn_blocking(move || ground.survey(&pages));
            self.planning = Some((basis.clone(), plan));
        }
        if !ended.is_empty() {
            // What they were planned for is not done.
            self.evened = None;
            commands.push(RootCommand::CancelMoves(ended.into_iter().collect()));
        }
        commands.extend(self.begin_moves(scene, &basis, volume)?);
        if commands.is_empty() {
            commands.extend(self.finish(scene));
        }
        gauge(scene.view, &self.queue);
        Ok(commands)
    }

    /// A plan is due when what the last was made for is another, or it is done and something has
    /// changed since. What is lost does not wait for the rest of a plan, nor for one that is held
    /// up: volumes may have been sealed since, and repairs refused or given up.
    fn is_due(&self, scene: &Scene<'_>, basis: &Basis) -> bool {
        if self.planning.is_some() {
            return false;
        }
        let Some((at, revision)) = self.planned else {
            return true;
        };
        let Some(made_for) = self.basis.as_ref().filter(|one| one.is_as(basis)) else {
            return true;
        };
        let pause = scene.settings.plans;
        let since = scene.now.saturating_sub(at);
        // What is away may leave volumes without any redundant shard.
        if !made_for.is_just_as(basis) {
            return since >= pause;
        }
        if scene.view.revision == revision && !(self.put_off && self.may_even(scene)) {
            return false;
        }
        let moves = &scene.view.moves;
        let done = moves.intents.is_empty();
        let only_held = done && self.queue.iter().all(|step| scene.holds(step));
        if !self.queue.is_empty() && !only_held && !self.incomplete {
            return false;
        }
        // Some that cannot be carried out do not hold up all others.
        let pauses = match done && (self.queue.is_empty() || self.incomplete) {
            true => 1,
            false => PAUSES_UNDER_WAY,
        };
        since >= pause * pauses
    }

    /// Ends a plan of which nothing is left. Its shards may have become smaller until they were
    /// moved, or moves been refused: then bytes seem to be left for ever.
    fn finish(&self, scene: &Scene<'_>) -> Option<RootCommand> {
        let moves = &scene.view.moves;
        let makes = moves.intents.iter().any(|one| one.stage == Stage::Make);
        let left = makes || !self.queue.is_empty() || self.planning.is_some();
        let over = !left && self.basis.is_some() && moves.backlog_bytes() > 0;
        over.then_some(RootCommand::NotePlan(PlanNote {
            bytes: 0,
            bound_bytes: 0,
            done_before: 0,
            ..moves.plan
        }))
    }

    /// Whether all that a plan does may as well be done later.
    fn can_wait(&self, scene: &Scene<'_>, plan: &Plan) -> bool {
        let only_evens = plan.moves.iter().all(evens);
        only_evens && !plan.moves.is_empty() && !self.may_even(scene)
    }

    /// Whether drives were not made evenly full just now.
    fn may_even(&self, scene: &Scene<'_>) -> bool {
        let pause = scene.settings.evenings;
        let recent = |at: Duration| scene.now.saturating_sub(at) < pause;
        !self.evened.is_some_and(recent)
    }

    /// Takes a plan up; the commands that go before its moves.
    fn take_up(&mut self, scene: &Scene<'_>, basis: Basis, mut plan: Plan) -> Vec<RootCommand> {
        self.put_off = self.can_wait(scene, &plan);
        if self.put_off {
            plan.moves.clear();
            plan.seals.clear();
            (plan.summary.moved_bytes, plan.summary.bound_bytes) = (0, 0);
        }
        if plan.moves.iter().any(evens) {
            self.evened = Some(scene.now);
        }
        let summary = &plan.summary;
        if !plan.moves.is_empty() {
            tracing::info!(
                moves = plan.moves.len(),
                bytes = summary.moved_bytes,
                bound = summary.bound_bytes,
                rebuilt = summary.rebuilt_bytes,
                unplaced = summary.unplaced,
                "a plan is made"
            );
        }
        let note = PlanNote {
            bytes: summary.moved_bytes,
            bound_bytes: summary.bound_bytes,
            unplaced: summary.unplaced as u64,
            unreadable: summary.unreadable as u64,
            done_before: 0,
        };
        let noted = scene.view.moves.plan;
        let mut commands = Vec::new();
        let stuck = |note: &PlanNote| (note.unplaced, note.unreadable);
        if note.bytes > 0 || noted.bytes > 0 || stuck(&noted) != stuck(&note) {
            commands.push(RootCommand::NotePlan(note));
        }
        let seal = |id: &VolumeId| {
            let volume = scene.view.volumes.get(id)?;
            let (volume, epoch) = (volume.id, volume.epoch);
            Some(RootCommand::SealVolume { volume, epoch })
        };
        commands.extend(plan.seals.iter().filter_map(seal));
        self.queue = plan.moves.into();
        self.basis = Some(basis);
        commands
    }

    /// Begins as many moves as there is room for. Repairs do not wait for other moves, nor for a
    /// drive that is lost. What cannot be made as it was planned is left to the next plan.
    fn begin_moves<E>(
        &mut self,
        scene: &Scene<'_>,
        basis: &Basis,
        volume: impl Fn(VolumeId) -> Result<Option<Volume>, E>,
    ) -> Result<Option<RootCommand>, E> {
        let (settings, moves) = (scene.settings, &scene.view.moves);
        let (mut repairs, mut others) = (Slots::default(), Slots::default());
        for intent in moves.intents.iter().filter(|one| one.stage == Stage::Make) {
            match intent.reason {
                Reason::Repair => repairs.take(&[intent.to]),
                _ => others.take(&ends(intent.from, intent.to)),
            }
        }
        let (mut orders, mut left) = (Vec::new(), VecDeque::new());
        while let Some(step) = self.queue.pop_front() {
            if !can_be_made(basis, &step) {
                self.evened = None;
                continue;
            }
            let (slots, drives) = if step.is_rebuild() {
                (&mut repairs, vec![step.to])
            } else {
                (&mut others, ends(step.from, step.to))
            };
            if scene.holds(&step) || !slots.have_room(&drives, settings) {
                left.push_back(step);
                continue;
            }
            if volume(step.volume)?.is_none() {
                continue;
            }
            slots.take(&drives);
            orders.push(MoveOrder {
                volume: step.volume,
                member: step.member,
                from: step.from,
                to: step.to,
                reason: reason(step.reason),
            });
        }
        self.queue = left;
        Ok((!orders.is_empty()).then_some(RootCommand::BeginMoves(orders)))
    }
}

fn evens(step: &Move) -> bool {
    step.reason == plan::Reason::Rebalance
}

/// Moves under way, in all and by drive.
#[derive(Default)]
struct Slots {
    all: u32,
    by_drive: BTreeMap<DriveId, u32>,
}

impl Slots {
    fn take(&mut self, drives: &[DriveId]) {
        self.all += 1;
        for drive in drives {
            *self.by_drive.entry(*drive).or_default() += 1;
        }
    }

    fn have_room(&self, drives: &[DriveId], settings: &KeeperSettings) -> bool {
        let most = settings.moves_per_drive;
        let busy = |drive: &DriveId| self.by_drive.get(drive).is_some_and(|n| *n >= most);
        self.all < settings.moves_at_once && !drives.iter().any(busy)
    }
}

fn ends(from: Option<DriveId>, to: DriveId) -> Vec<DriveId> {
    from.into_iter().chain([to]).collect()
}

/// Whether a move can be made as things are: its target takes shards, and its source is there, or
/// lost.
fn can_be_made(basis: &Basis, step: &Move) -> bool {
    let own = |drive: &DriveId| {
        let state = basis.topology().drives.get(drive).map(|drive| drive.state);
        basis.is_there(*drive) && state != Some(DriveState::Returned)
    };
    let source = match step.is_rebuild() {
        true => !step.from.as_ref().is_some_and(own),
        false => step.from.is_none_or(|drive| basis.is_there(drive)),
    };
    source && basis.takes(step.to)
}

/// Intents that are of no use any more: their target is lost or cannot be reached, or what they
/// rebuild came back. As long as they go on, no plan has anything else for their shards: a target
/// that is away, maybe for the time of a maintenance, must not keep a volume thin.
fn useless(view: &RootView, basis: &Basis) -> BTreeSet<IntentId> {
    let lost = |drive: &DriveId| {
        let there = basis.topology().drives.get(drive);
        let away = basis
            .topology()
            .enclosure_of(*drive)
            .is_none_or(|enclosure| enclosure.state >= EnclosureState::Down);
        away || there.is_none_or(|drive| !drive.state.is_served())
    };
    let back = |intent: &Intent| {
        let own = |drive: DriveId| {
            let state = basis.topology().drives.get(&drive).map(|drive| drive.state);
            basis.topology().is_present(drive) && state != Some(DriveState::Returned)
        };
        let making = intent.stage == Stage::Make && intent.reason == Reason::Repair;
        making && intent.from.is_some_and(own)
    };
    let ended =
        |intent: &&Intent| (intent.stage == Stage::Make && lost(&intent.to)) || back(intent);
    let intents = view.moves.intents.iter();
    intents.filter(ended).map(|one| one.id).collect()
}

const fn reason(reason: plan::Reason) -> Reason {
    match reason {
        plan::Reason::Repair => Reason::Repair,
        plan::Reason::Drain => Reason::Drain,
        plan::Reason::Spread => Reason::Spread,
        plan::Reason::Rebalance => Reason::Rebalance,
    }
}

fn gauge(view: &RootView, queue: &VecDeque<Move>) {
    let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    metrics().moves_begun.set(signed(view.moves.intents.len()));
    metrics().moves_queued.set(signed(queue.len()));
    let backlog = view.moves.backlog_bytes();
    metrics()
        .backlog
        .set(i64::try_from(backlog).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests;
