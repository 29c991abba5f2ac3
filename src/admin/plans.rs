//! Moves in the admin API: how far they are, what a change would move, and orders.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::moves::{Reason, Stage, Subject};
use enfilade_cluster::api::root::{RootCommand, RootRefusal};
use enfilade_cluster::env::Env;
use enfilade_placement::plan::{self, Input, Summary, Violated};
use enfilade_placement::{
    ChainId, Drive, DriveId, DriveState, Enclosure, EnclosureId, EnclosureState, Generation,
    RequestId, Topology, Volume, VolumeState,
};
use hyper::StatusCode;

use crate::admin::model;
use crate::admin::status::{Facts, word};

/// A failure, with the status of the answer.
type Failure = (StatusCode, String);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    PlanAdd,
    PlanDrain,
    PlanFail,
    Pause,
    Resume,
    Cancel,
    Drain(Subject),
    Out(EnclosureId),
}

impl Asked {
    /// What a path asks for.
    pub(crate) fn of(segments: &[&str]) -> Option<Self> {
        Some(match segments {
            ["plan", "add"] => Self::PlanAdd,
            ["plan", "drain"] => Self::PlanDrain,
            ["plan", "fail"] => Self::PlanFail,
            ["moves", "pause"] => Self::Pause,
            ["moves", "resume"] => Self::Resume,
            ["moves", "cancel"] => Self::Cancel,
            ["drives", id, "drain"] => Self::Drain(Subject::Drive(id.parse().ok()?)),
            ["enclosures", id, "drain"] => Self::Drain(Subject::Enclosure(id.parse().ok()?)),
            ["enclosures", id, "out"] => Self::Out(id.parse().ok()?),
            _ => return None,
        })
    }
}

/// How far moves are.
pub(crate) fn moves(facts: &Facts) -> model::Moves {
    let (moves, topology) = (&facts.view.moves, &facts.view.topology);
    let show = |intent: &enfilade_cluster::api::moves::Intent| model::Move {
        volume: intent.volume.get(),
        member: intent.member,
        from: intent.from.map(|drive| drive.to_string()),
        to: intent.to.to_string(),
        reason: intent.reason.word().to_owned(),
        stage: word(intent.stage),
    };
    let holds = |drive: DriveId, subject: Subject| match subject {
        Subject::Drive(id) => id == drive,
        Subject::Enclosure(id) => {
            let enclosure = topology.drives.get(&drive).map(|drive| drive.enclosure);
            enclosure == Some(id)
        }
    };
    let shards = |subject: Subject| {
        let volumes = facts.volumes.iter();
        let present = volumes
            .filter(|volume| volume.state != VolumeState::Retired)
            .flat_map(Volume::present);
        present.filter(|(_, drive)| holds(*drive, subject)).count()
    };
    let drain = |subject: &Subject| {
        let shards = shards(*subject);
        let (drive, enclosure) = match subject {
            Subject::Drive(id) => (Some(id.to_string()), None),
            Subject::Enclosure(id) => (None, Some(id.get())),
        };
        model::Drain {
            drive,
            enclosure,
            shards,
        }
    };
    model::Moves {
        paused: moves.paused,
        plan_bytes: moves.plan.bytes,
        bound_bytes: moves.plan.bound_bytes,
        moved_bytes: moves.done_bytes().min(moves.plan.bytes),
        backlog_bytes: moves.backlog_bytes(),
        rate: moves.rate,
        unplaced: moves.plan.unplaced,
        unreadable: moves.plan.unreadable,
        rebuilt_bytes_total: moves.rebuilt_bytes,
        moved_bytes_total: moves.moved_bytes,
        under_way: moves.intents.iter().map(show).collect(),
        drains: moves.drains.iter().map(drain).collect(),
    }
}

/// Answers what is asked for.
///
/// # Errors
/// Why not.
pub(crate) async fn answer(
    metadata: &dyn MetadataClient,
    facts: &Facts,
    asked: Asked,
    how: model::MoveAsk,
) -> Result<model::MoveAnswer, Failure> {
    let mut answer = model::MoveAnswer::default();
    match asked {
        Asked::PlanAdd | Asked::PlanDrain | Asked::PlanFail => {
            let change = change(asked, &how)?;
            answer.plan = Some(what_if(facts, &change).await?);
        }
        Asked::Pause => order(metadata, RootCommand::PauseMoves(true)).await?,
        Asked::Resume => order(metadata, RootCommand::PauseMoves(false)).await?,
        Asked::Cancel => {
            order(metadata, RootCommand::PauseMoves(true)).await?;
            let intents = facts.view.moves.intents.iter();
            let ended = intents
                .filter(|one| one.stage == Stage::Make && one.reason != Reason::Repair)
                .map(|one| one.id);
            let ended: Vec<_> = ended.collect();
            answer.cancelled = ended.len();
            order(metadata, RootCommand::CancelMoves(ended)).await?;
        }
        Asked::Out(id) => {
            let enclosure = facts.view.topology.enclosures.get(&id);
            if enclosure.is_some_and(|one| one.state == EnclosureState::Up) {
                let text = "the enclosure is up: drain it, or stop it first".to_owned();
                return Err((StatusCode::CONFLICT, text));
            }
            let lost = Change::Fail(Subject::Enclosure(id));
            answer.plan = Some(what_if(facts, &lost).await?);
            let state = EnclosureState::Out;
            order(metadata, RootCommand::SetEnclosure { id, state }).await?;
        }
        Asked::Drain(subject) => {
            let on = !how.undo;
            if on {
                let plan = what_if(facts, &Change::Drain(subject)).await?;
                if let Some(reason) = breaks(&plan).filter(|_| !how.force) {
                    return Err((StatusCode::CONFLICT, reason));
                }
                answer.plan = Some(plan);
            }
            order(metadata, RootCommand::Drain { subject, on }).await?;
        }
    }
    Ok(answer)
}

async fn order(metadata: &dyn MetadataClient, command: RootCommand) -> Result<(), Failure> {
    let request = RequestId::new(Env::real().random.next_u128());
    match metadata.root(request, command).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refusal @ RootRefusal::NotFound(_))) => {
            Err((StatusCode::NOT_FOUND, refusal.to_string()))
        }
        Ok(Err(refusal)) => Err((StatusCode::CONFLICT, refusal.to_string())),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// The promise that a plan would break, if it would.
fn breaks(plan: &model::Plan) -> Option<String> {
    if plan.unplaced > 0 {
        let text = format!(
            "{} shards would have nowhere to go: add drives, or say --force to move the others",
            plan.unplaced
        );
        return Some(text);
    }
    if plan.overflow_bytes > 0 {
        let text = format!(
            "{} bytes would not fit below the fill limit: add drives, or say --force",
            plan.overflow_bytes
        );
        return Some(text);
    }
    let (before, after) = (
        plan.before.one_enclosure_loses,
        plan.after.one_enclosure_loses,
    );
    (after > before).then(|| {
        format!(
            "the loss of one enclosure would make {after} volumes unreadable ({before} now): add \
             enclosures, or say --force"
        )
    })
}

/// A change of the cluster.
enum Change {
    Add {
        drives: u32,
        capacity: Option<u64>,
        chain: Option<ChainId>,
    },
    Drain(Subject),
    Fail(Subject),
}

fn change(asked: Asked, how: &model::MoveAsk) -> Result<Change, Failure> {
    let wrong = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
    if asked == Asked::PlanAdd {
        return Ok(Change::Add {
            drives: how.drives.unwrap_or(24).clamp(1, 1000),
            capacity: how.capacity,
            chain: how.chain.map(ChainId::new),
        });
    }
    let subject = match (&how.drive, how.enclosure) {
        (Some(drive), None) => {
            let id = drive
                .parse()
                .map_err(|_| wrong("the drive's id is no UUID"))?;
            Subject::Drive(id)
        }
        (None, Some(id)) => Subject::Enclosure(EnclosureId::new(id)),
        _ => return Err(wrong("name a drive or an enclosure")),
    };
    Ok(match asked {
        Asked::PlanFail => Change::Fail(subject),
        _ => Change::Drain(subject),
    })
}

/// What a change would move. Changes nothing.
async fn what_if(facts: &Facts, change: &Change) -> Result<model::Plan, Failure> {
    let mut topology = facts.view.topology.clone();
    let mut leaving = facts.view.moves.leaving(&topology);
    match change {
        Change::Add {
            drives,
            capacity,
            chain,
        } => add(&mut topology, *drives, *capacity, *chain),
        Change::Drain(subject) => leaving.extend(drives_of(&topology, *subject)?),
        Change::Fail(subject) => {
            for id in drives_of(&topology, *subject)? {
                if let Some(drive) = topology.drives.get_mut(&id) {
                    drive.state = DriveState::Gone;
                }
            }
        }
    }
    // What is absent and not given up is not part of the change.
    let there = |id: &DriveId| facts.view.topology.is_present(*id);
    let waiting: BTreeSet<DriveId> = match change {
        Change::Fail(_) => BTreeSet::new(),
        Change::Add { .. } | Change::Drain(_) => {
            let absent = facts.view.topology.drives.keys().filter(|id| !there(id));
            absent.filter(|id| !leaving.contains(id)).copied().collect()
        }
    };
    let (volumes, other) = (facts.volumes.clone(), BTreeMap::new());
    let planned = tokio::task::spawn_blocking(move || {
        let input = Input {
            topology: &topology,
            leaving: &leaving,
            waiting: &waiting,
            other: &other,
            seed: 1,
        };
        let live = volumes
            .into_iter()
            .filter(|one| one.state != VolumeState::Retired);
        plan::plan(&input, live)
    });
    let plan = planned.await.map_err(|_| {
        let text = "the planner stopped".to_owned();
        (StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(shown(&plan, facts.view.moves.rate))
}

fn drives_of(topology: &Topology, subject: Subject) -> Result<Vec<DriveId>, Failure> {
    let drives = topology.drives.values();
    let found: Vec<DriveId> = match subject {
        Subject::Drive(id) => drives
            .filter(|one| one.id == id)
            .map(|one| one.id)
            .collect(),
        Subject::Enclosure(id) => drives
            .filter(|one| one.enclosure == id)
            .map(|one| one.id)
            .collect(),
    };
    if found.is_empty() {
        let text = "there is no such drive, or the enclosure has none".to_owned();
        return Err((StatusCode::NOT_FOUND, text));
    }
    Ok(found)
}

/// Adds an enclosure that is not there.
fn add(topology: &mut Topology, drives: u32, capacity: Option<u64>, chain: Option<ChainId>) {
    let length = |id: ChainId| {
        topology
            .enclosures
            .values()
            .filter(|e| e.chain == id)
            .count()
    };
    let shortest = topology
        .chains
        .keys()
        .copied()
        .min_by_key(|id| (length(*id), *id));
    let chain = chain.or(shortest).unwrap_or(ChainId::new(1));
    let position = u32::try_from(length(chain)).unwrap_or(u32::MAX);
    let last = topology.enclosures.keys().next_back();
    let id = last.map_or(EnclosureId::new(1), |id| id.next());
    topology.enclosures.insert(
        id,
        Enclosure {
            id,
            chain,
            position,
            state: EnclosureState::Up,
            shard_address: String::new(),
            meta_address: String::new(),
            admin_address: String::new(),
        },
    );
    let largest = topology.drives.values().map(|drive| drive.capacity).max();
    let capacity = capacity.or(largest).unwrap_or(0);
    for slot in 0..drives {
        // Ids of drives are random; these are of no drive that there is.
        let number = (u128::from(id.get()) << 32) | u128::from(slot);
        let drive = DriveId::new(u128::MAX - number);
        topology.drives.insert(
            drive,
            Drive {
                id: drive,
                enclosure: id,
                slot,
                capacity,
                state: DriveState::Healthy,
                generation: Generation::new(1),
            },
        );
    }
}

fn shown(plan: &plan::Plan, rate: u64) -> model::Plan {
    let Summary {
        moved_bytes,
        bound_bytes,
        rebuilt_bytes,
        violations,
        fullest,
        emptiest,
        unplaced,
        unreadable,
        overflow_bytes,
        ..
    } = plan.summary;
    let side = |violated: Violated, fullest, emptiest| model::PlanSide {
        drive_violations: violated.drive,
        enclosure_violations: violated.enclosure,
        chain_violations: violated.chain,
        one_enclosure_loses: violated.one_enclosure_loses,
        fullest,
        emptiest,
    };
    model::Plan {
        moves: plan.moves.len(),
        bytes: moved_bytes,
        rebuilt_bytes,
        bound_bytes,
        seconds: moved_bytes.checked_div(rate),
        seals: plan.seals.len(),
        before: side(violations.0, fullest.0, emptiest.0),
        after: side(violations.1, fullest.1, emptiest.1),
        unplaced,
        unreadable,
        overflow_bytes,
    }
}

#[cfg(test)]
mod tests;
