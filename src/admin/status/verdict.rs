//! What an operator has to know: why the cluster is not healthy, and what else there is to say.

use enfilade_cluster::api::root::RootView;
use enfilade_placement::units::ByteSize;
use enfilade_placement::{Drive, DriveState, EnclosureState};

use crate::admin::drives::Said;
use crate::admin::status::{Facts, duration, group_name, word};
use crate::admin::{model, safety};

/// Why the cluster is not healthy.
pub(super) fn reasons(
    status: &model::Status,
    view: &RootView,
    said: &Said<'_>,
    processes: &[model::Process],
) -> Vec<String> {
    let mut reasons: Vec<String> = processes.iter().filter_map(process_reason).collect();
    for enclosure in view.topology.enclosures.values() {
        if enclosure.state != EnclosureState::Up {
            reasons.push(format!(
                "enclosure {} is {}",
                enclosure.id,
                word(enclosure.state)
            ));
        }
    }
    for drive in view.topology.drives.values() {
        reasons.extend(drive_reasons(drive, said));
    }
    for group in &status.groups {
        let name = group_name(group.id);
        if group.leader.is_none() {
            reasons.push(format!("{name} has no leader"));
        }
        for silent in &group.silent {
            reasons.push(format!(
                "the replica of {name} in enclosure {silent} does not answer"
            ));
        }
    }
    let volumes = &status.volumes;
    if volumes.unreadable > 0 {
        reasons.push(format!("{} volumes are unreadable", volumes.unreadable));
    }
    if volumes.at_risk > 0 {
        reasons.push(format!(
            "{} volumes can lose no more members",
            volumes.at_risk
        ));
    }
    if status.missing.shards > 0 {
        reasons.push(format!(
            "{} shards of volumes are missing",
            status.missing.shards
        ));
    }
    if status.missing.ranges > 0 {
        let ranges = status.missing.ranges;
        reasons.push(format!(
            "{ranges} ranges of fragments are missing or corrupt"
        ));
    }
    let suspended = volumes.by_state.get("suspended").copied().unwrap_or(0);
    if suspended > 0 {
        reasons.push(format!("{suspended} volumes are suspended"));
    }
    reasons
}

/// What is wrong with a drive.
fn drive_reasons(drive: &Drive, said: &Said<'_>) -> Vec<String> {
    let (id, slot) = (drive.id, drive.slot);
    let place = format!("slot {slot} of enclosure {}", drive.enclosure);
    let mut reasons = Vec::new();
    if !matches!(drive.state, DriveState::Healthy | DriveState::Replaced) {
        let mut reason = format!("drive {id} ({place}) is {}", word(drive.state));
        let why = said.reason(drive);
        if !why.is_empty() {
            reason = format!("{reason}: {why}");
        }
        reasons.push(reason);
    }
    for twin in said.twins(id) {
        reasons.push(format!("ALARM: two drives have the UUID {id}: {twin}"));
    }
    reasons
}

/// What is wrong with a process.
pub(super) fn process_reason(process: &model::Process) -> Option<String> {
    let running = process.state == "running";
    (!running).then(|| {
        format!(
            "the process of enclosure {} is {}",
            process.id, process.state
        )
    })
}

/// A drive that was not scrubbed for so many periods is warned of.
const SCRUB_LATE: u64 = 2;

/// What an operator should know although it is healthy.
pub(super) fn warnings(status: &model::Status, facts: &Facts, said: &Said<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for drive in facts.view.topology.drives.values() {
        let scrub = said.scrub(drive);
        let late = scrub.filter(|scrub| scrub.oldest > scrub.period.saturating_mul(SCRUB_LATE));
        if let Some(scrub) = late {
            warnings.push(format!(
                "drive {} holds what was not scrubbed for {}; the period is {}",
                drive.id,
                duration(scrub.oldest),
                duration(scrub.period)
            ));
        }
    }
    let model::Tolerance { m, f } = status.tolerance;
    if f < m {
        warnings.push(format!(
            "metadata survives the loss of {f} enclosures, data that of {m}: promise P4 holds for \
             {f} only"
        ));
    }
    for group in &status.groups {
        if !group.moving_to.is_empty() {
            let name = group_name(group.id);
            warnings.push(format!("the replicas of {name} are being changed"));
        }
    }
    if status.volumes.violations > 0 {
        let count = status.volumes.violations;
        warnings.push(format!(
            "{count} volumes are spread less than their profile wants"
        ));
    }
    if let Some(short) = safety::shortfall(&facts.view.topology, &facts.volumes) {
        let (id, bytes) = (short.enclosure, ByteSize::bytes(short.bytes));
        warnings.push(format!(
            "the loss of enclosure {id} could not be made good: {bytes} of it would find no room \
             in the others"
        ));
    }
    for enclosure in &status.enclosures {
        if let Some(seconds) = enclosure.maintenance_seconds {
            let (id, minutes) = (enclosure.id, seconds.div_ceil(60));
            warnings.push(format!(
                "enclosure {id} is under maintenance for {minutes} more minutes: it is not given up"
            ));
        }
    }
    warnings
}
