//! Orders of operators: drains, removals, maintenance, pauses; and plans of what they would do.

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::moves::{Reason, Stage, Subject};
use enfilade_cluster::api::root::{RootCommand, RootRefusal};
use enfilade_cluster::api::tuning::Tuning;
use enfilade_cluster::env::Env;
use enfilade_placement::health::survival;
use enfilade_placement::{
    ChainId, DriveId, DriveState, EnclosureId, EnclosureState, RequestId, VolumeState,
};
use hyper::StatusCode;

use crate::admin::model;
use crate::admin::plans::{Change, Failure, subject, what_if};
use crate::admin::status::Facts;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    PlanAdd,
    PlanDrain,
    PlanFail,
    PlanRemove,
    Pause,
    Resume,
    Cancel,
    Drain(Subject),
    Out(EnclosureId),
    Maintain(EnclosureId),
    Fail(DriveId),
    Remove(Subject),
}

impl Asked {
    /// What a path asks for.
    pub(crate) fn of(segments: &[&str]) -> Option<Self> {
        Some(match segments {
            ["plan", "add"] => Self::PlanAdd,
            ["plan", "drain"] => Self::PlanDrain,
            ["plan", "fail"] => Self::PlanFail,
            ["plan", "remove"] => Self::PlanRemove,
            ["moves", "pause"] => Self::Pause,
            ["moves", "resume"] => Self::Resume,
            ["moves", "cancel"] => Self::Cancel,
            ["drives", id, "drain"] => Self::Drain(Subject::Drive(id.parse().ok()?)),
            ["drives", id, "fail"] => Self::Fail(id.parse().ok()?),
            ["drives", id, "remove"] => Self::Remove(Subject::Drive(id.parse().ok()?)),
            ["enclosures", id, "drain"] => Self::Drain(Subject::Enclosure(id.parse().ok()?)),
            ["enclosures", id, "out"] => Self::Out(id.parse().ok()?),
            ["enclosures", id, "maintenance"] => Self::Maintain(id.parse().ok()?),
            ["enclosures", id, "remove"] => Self::Remove(Subject::Enclosure(id.parse().ok()?)),
            _ => return None,
        })
    }

    /// The enclosure that is no part of the cluster any more when this was done.
    pub(crate) const fn removes(self) -> Option<EnclosureId> {
        match self {
            Self::Remove(Subject::Enclosure(id)) => Some(id),
            _ => None,
        }
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
        Asked::PlanAdd | Asked::PlanDrain | Asked::PlanFail | Asked::PlanRemove => {
            let planned = what_if(facts, &change(asked, &how)?).await?;
            let mut shown = planned.shown;
            if asked == Asked::PlanRemove {
                shown.refusals = in_the_way(facts, subject(&how)?);
            }
            if matches!(asked, Asked::PlanDrain | Asked::PlanRemove) {
                let refusal = planned.plan.allowed().err();
                shown.refusals.extend(refusal.map(|why| why.to_string()));
            }
            answer.plan = Some(shown);
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
                return Err(conflict("the enclosure is up: drain it, or stop it first"));
            }
            let lost = Change::Fail(Subject::Enclosure(id));
            answer.plan = Some(what_if(facts, &lost).await?.shown);
            let state = EnclosureState::Out;
            order(metadata, RootCommand::SetEnclosure { id, state }).await?;
        }
        Asked::Maintain(id) => {
            let for_ms = if how.undo {
                0
            } else {
                let wrong = "say for how many seconds: for_seconds";
                let seconds = how.for_seconds.filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or((StatusCode::BAD_REQUEST, wrong.to_owned()))?;
                seconds.saturating_mul(1000)
            };
            order(metadata, RootCommand::Maintain { id, for_ms }).await?;
        }
        Asked::Fail(id) => answer.plan = Some(fail(metadata, facts, id, how.force).await?),
        Asked::Remove(subject) => {
            if let Some(reason) = in_the_way(facts, subject).into_iter().next() {
                return Err(conflict(&reason));
            }
            order(metadata, RootCommand::Remove(subject)).await?;
        }
        Asked::Drain(subject) => {
            let on = !how.undo;
            if on {
                let planned = what_if(facts, &Change::Drain(subject)).await?;
                if let Some(reason) = planned.plan.allowed().err().filter(|_| !how.force) {
                    return Err(conflict(&format!("{reason}, or say --force")));
                }
                answer.plan = Some(planned.shown);
            }
            order(metadata, RootCommand::Drain { subject, on }).await?;
        }
    }
    Ok(answer)
}

/// Sets the figures that operators may set.
///
/// # Errors
/// Why not.
pub(crate) async fn tune(
    metadata: &dyn MetadataClient,
    facts: &Facts,
    wanted: &model::Tuning,
) -> Result<model::Tuning, Failure> {
    let tuning = wanted.over(facts.view.tuning);
    tuning
        .check()
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    order(metadata, RootCommand::Tune(tuning)).await?;
    Ok(tuning.into())
}

/// Gives a drive up at once, whether it works or not: what it holds is rebuilt.
async fn fail(
    metadata: &dyn MetadataClient,
    facts: &Facts,
    id: DriveId,
    force: bool,
) -> Result<model::Plan, Failure> {
    let lost = Change::Fail(Subject::Drive(id));
    let shown = what_if(facts, &lost).await?.shown;
    let mut topology = facts.view.topology.clone();
    if let Some(drive) = topology.drives.get_mut(&id) {
        drive.state = DriveState::Replaced;
    }
    let present = facts.view.topology.is_present(id);
    let live = facts.volumes.iter();
    let live = live.filter(|one| one.state != VolumeState::Retired && one.member_of(id).is_some());
    let (mut unreadable, mut bare) = (0usize, 0usize);
    for volume in live.filter(|_| present) {
        match survival(&topology, volume).spare {
            None => unreadable += 1,
            Some(0) => bare += 1,
            Some(_) => {}
        }
    }
    if unreadable > 0 {
        let text = format!("{unreadable} volumes would be unreadable without this drive");
        return Err(conflict(&format!("{text}: drain it instead")));
    }
    if bare > 0 && !force {
        let text = format!("{bare} volumes could lose no more members until they are rebuilt");
        return Err(conflict(&format!(
            "{text}: drain the drive instead, or say --force"
        )));
    }
    let state = DriveState::Replaced;
    order(metadata, RootCommand::SetDrive { drive: id, state }).await?;
    Ok(shown)
}

/// Why something cannot be removed now, in words.
fn in_the_way(facts: &Facts, subject: Subject) -> Vec<String> {
    let topology = &facts.view.topology;
    let ours = |drive: DriveId| match subject {
        Subject::Drive(id) => id == drive,
        Subject::Enclosure(id) => topology.drives.get(&drive).map(|one| one.enclosure) == Some(id),
    };
    let mut reasons = Vec::new();
    if let Subject::Enclosure(id) = subject {
        let votes = facts
            .groups
            .iter()
            .filter(|group| group.voters.contains(&id));
        let placed = facts.view.partitions.values();
        let placed = placed.filter(|partition| partition.replicas.contains(&id));
        let mut groups: Vec<u32> = votes.map(|group| group.group.get()).collect();
        groups.extend(placed.map(|partition| partition.id.get()));
        groups.sort_unstable();
        groups.dedup();
        if !groups.is_empty() {
            let count = groups.len();
            reasons.push(format!(
                "enclosure {id} has metadata replicas of {count} groups: they must be placed \
                 elsewhere first"
            ));
        }
    }
    let live = facts.volumes.iter();
    let live = live.filter(|volume| volume.state != VolumeState::Retired);
    let shards = live.flat_map(|volume| volume.present());
    let shards = shards.filter(|(_, drive)| ours(*drive)).count();
    if shards > 0 {
        reasons.push(format!(
            "it still holds {shards} shards of volumes: drain it first"
        ));
    }
    reasons
}

fn change(asked: Asked, how: &model::MoveAsk) -> Result<Change, Failure> {
    Ok(match asked {
        Asked::PlanAdd => Change::Add {
            drives: how.drives.unwrap_or(24).clamp(1, 1000),
            capacity: how.capacity,
            chain: how.chain.map(ChainId::new),
        },
        Asked::PlanFail => Change::Fail(subject(how)?),
        _ => Change::Drain(subject(how)?),
    })
}

fn conflict(text: &str) -> Failure {
    (StatusCode::CONFLICT, text.to_owned())
}

/// Has the root group carry out a command; what it refuses is told as it says it.
pub(super) async fn order(
    metadata: &dyn MetadataClient,
    command: RootCommand,
) -> Result<(), Failure> {
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

impl model::Tuning {
    /// What is asked for, and the rest as it is.
    fn over(&self, now: Tuning) -> Tuning {
        Tuning {
            drive_failures: self.drive_failures_ppm.unwrap_or(now.drive_failures),
            enclosure_losses: self.enclosure_losses_ppm.unwrap_or(now.enclosure_losses),
            repair_rate: self.repair_rate.unwrap_or(now.repair_rate),
            pace_floor: self.pace_floor.unwrap_or(now.pace_floor),
            pace_ceiling: self.pace_ceiling.unwrap_or(now.pace_ceiling),
        }
    }
}

impl From<Tuning> for model::Tuning {
    fn from(tuning: Tuning) -> Self {
        Self {
            drive_failures_ppm: Some(tuning.drive_failures),
            enclosure_losses_ppm: Some(tuning.enclosure_losses),
            repair_rate: Some(tuning.repair_rate),
            pace_floor: Some(tuning.pace_floor),
            pace_ceiling: Some(tuning.pace_ceiling),
        }
    }
}

#[cfg(test)]
mod tests;
