//! Moves in the admin API: how far they are, and what a change would move.

use std::collections::BTreeMap;

use enfilade_cluster::api::moves::Subject;
use enfilade_placement::plan::{self, Input, Summary, Violated, Wait};
use enfilade_placement::{
    ChainId, Drive, DriveId, DriveState, Enclosure, EnclosureId, EnclosureState, Generation,
    Topology, Volume, VolumeState,
};
use hyper::StatusCode;

use crate::admin::status::{Facts, word};
use crate::admin::{model, safety};

/// A failure, with the status of the answer.
pub(crate) type Failure = (StatusCode, String);

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
        repair_rate: moves.repair_rate,
        unplaced: moves.plan.unplaced,
        unreadable: moves.plan.unreadable,
        rebuilt_bytes_total: moves.rebuilt_bytes,
        moved_bytes_total: moves.moved_bytes,
        under_way: moves.intents.iter().map(show).collect(),
        drains: moves.drains.iter().map(drain).collect(),
    }
}

/// A change of the cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Add {
        drives: u32,
        capacity: Option<u64>,
        chain: Option<ChainId>,
    },
    Drain(Subject),
    Fail(Subject),
}

/// The drive or enclosure that a request names.
///
/// # Errors
/// When it names none, or both.
pub(crate) fn subject(how: &model::MoveAsk) -> Result<Subject, Failure> {
    let wrong = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
    Ok(match (&how.drive, how.enclosure) {
        (Some(drive), None) => {
            let id = drive
                .parse()
                .map_err(|_| wrong("the drive's id is no UUID"))?;
            Subject::Drive(id)
        }
        (None, Some(id)) => Subject::Enclosure(EnclosureId::new(id)),
        _ => return Err(wrong("name a drive or an enclosure")),
    })
}

/// A plan, and what it comes to for people.
pub(crate) struct WhatIf {
    pub(crate) plan: plan::Plan,
    pub(crate) shown: model::Plan,
}

/// What a change would move, and how safe data is before and after. Changes nothing.
///
/// # Errors
/// When there is nothing to be changed.
pub(crate) async fn what_if(facts: &Facts, change: &Change) -> Result<WhatIf, Failure> {
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
    let waiting: BTreeMap<DriveId, Wait> = match change {
        Change::Fail(_) => BTreeMap::new(),
        Change::Add { .. } | Change::Drain(_) => {
            let absent = facts.view.topology.drives.keys().filter(|id| !there(id));
            let kept = absent.filter(|id| !leaving.contains(id));
            kept.map(|id| (*id, Wait::Usual)).collect()
        }
    };
    let (view, volumes) = (facts.view.clone(), facts.volumes.clone());
    let none = BTreeMap::new();
    let planned = tokio::task::spawn_blocking(move || {
        let input = Input {
            topology: &topology,
            leaving: &leaving,
            waiting: &waiting,
            other: &none,
            seed: 1,
        };
        let live = volumes.iter();
        let plan = plan::plan(&input, live.filter(|one| one.state != VolumeState::Retired));
        let mut shown = shown(&plan, view.moves.rate);
        shown.before.durability = safety::durability(&view, &view.topology, &volumes);
        let mut after = volumes.into_iter().map(|one| (one.id, one)).collect();
        plan::apply(&plan, &mut after);
        let after: Vec<Volume> = after.into_values().collect();
        shown.after.durability = safety::durability(&view, &topology, &after);
        WhatIf { plan, shown }
    });
    planned.await.map_err(|_| {
        let text = "the planner stopped".to_owned();
        (StatusCode::INTERNAL_SERVER_ERROR, text)
    })
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
        durability: model::Durability::default(),
    };
    model::Plan {
        moves: plan.moves.len(),
        bytes: moved_bytes,
        rebuilt_bytes,
        bound_bytes,
        rate,
        seconds: moved_bytes.checked_div(rate),
        seals: plan.seals.len(),
        before: side(violations.0, fullest.0, emptiest.0),
        after: side(violations.1, fullest.1, emptiest.1),
        unplaced,
        unreadable,
        overflow_bytes,
        refusals: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
