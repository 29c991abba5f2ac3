//! What follows from heartbeats and the root state for drives and volumes: pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use enfilade_placement::choose::{Choice, Fill, choose};
use enfilade_placement::{
    Drive, DriveState, EnclosureId, EnclosureState, Profile, Topology, Volume, VolumeId,
    VolumeState,
};

use crate::api::heartbeat::Heartbeat;
use crate::api::root::{RootCommand, RootView};

/// Heartbeats, and when they came.
pub(super) type HeardBeats = BTreeMap<EnclosureId, (Duration, Heartbeat)>;

/// How full and busy the drives are.
pub(super) fn fill(view: &RootView, beats: &HeardBeats) -> Fill {
    let mut fill = Fill::default();
    for (_, beat) in beats.values() {
        fill.used
            .extend(beat.drives.iter().map(|drive| (drive.drive, drive.used)));
    }
    for volume in view.volumes.values() {
        fill.count(volume);
    }
    fill
}

/// Drives whose state is another than their node says. A returned drive stays so until it is
/// reconciled, and one that was given up stays that, whatever its node thinks of it
/// (PROTOCOLS 26).
pub(super) fn drive_changes(view: &RootView, beats: &HeardBeats) -> Vec<RootCommand> {
    let mut changes = Vec::new();
    for (_, beat) in beats.values() {
        for heard in &beat.drives {
            let Some(drive) = view.topology.drives.get(&heard.drive) else {
                continue;
            };
            let decided = drive.state == DriveState::Replaced
                || drive.state == DriveState::Returned && heard.state.is_served();
            let own = drive.enclosure == beat.enclosure && !decided;
            if own && drive.state != heard.state {
                changes.push(RootCommand::SetDrive {
                    drive: drive.id,
                    state: heard.state,
                });
            }
        }
    }
    changes
}

/// What planning volumes needs beside the root state.
pub(super) struct Situation<'a> {
    /// Heartbeats.
    pub(super) beats: &'a HeardBeats,
    /// How long volumes have been seen suspended.
    pub(super) suspended: &'a BTreeMap<VolumeId, Duration>,
    /// A suspended volume is not offered again before this.
    pub(super) suspended_min: Duration,
    /// A suspended volume is sealed after this.
    pub(super) suspended_max: Duration,
    /// How many volumes may be opened now.
    pub(super) new_max: u32,
    /// For the choice of members.
    pub(super) seed: u64,
}

/// Commands that bring the volumes to where they should be (PROTOCOLS 12 and 14).
pub(super) fn plan(view: &RootView, situation: &Situation<'_>) -> Vec<RootCommand> {
    let others = others_suffice(view, situation);
    let mut commands: Vec<RootCommand> = view
        .volumes
        .values()
        .filter_map(|volume| change(view, situation, others, volume))
        .collect();
    let leaving = |command: &RootCommand| match command {
        RootCommand::SuspendVolume { volume, .. } | RootCommand::SealVolume { volume, .. } => {
            Some(*volume)
        }
        _ => None,
    };
    let leaving: Vec<VolumeId> = commands.iter().filter_map(leaving).collect();
    commands.extend(openings(view, situation, &leaving));
    commands
}

/// What there is for new volumes: a drive that is to be emptied takes no more than a full one.
fn fit(view: &RootView) -> Cow<'_, Topology> {
    let mut topology = Cow::Borrowed(&view.topology);
    for id in view.moves.leaving(&view.topology) {
        if let Some(drive) = topology.to_mut().drives.get_mut(&id) {
            drive.state = DriveState::Full;
        }
    }
    topology
}

/// Whether a whole volume can be opened on drives that are well: then one with a slow member is
/// not needed. When all drives are late, what is open stays so.
fn others_suffice(view: &RootView, situation: &Situation<'_>) -> bool {
    let slow = |drive: &Drive| drive.state == DriveState::Slow;
    if !view.topology.drives.values().any(slow) {
        return true;
    }
    let fill = fill(view, situation.beats);
    let choice = view
        .profile
        .map(|profile| choose(&fit(view), &fill, profile, situation.seed));
    matches!(choice, Some(Ok(choice)) if choice.members.iter().all(Option::is_some))
}

/// The next step of one volume.
fn change(
    view: &RootView,
    situation: &Situation<'_>,
    others: bool,
    volume: &Volume,
) -> Option<RootCommand> {
    let (id, epoch) = (volume.id, volume.epoch);
    let seal = RootCommand::SealVolume { volume: id, epoch };
    let any = |wanted: DriveState| {
        let state = |drive| view.topology.drives.get(&drive).map(|drive| drive.state);
        let mut present = volume.present();
        present.any(|(_, drive)| state(drive) == Some(wanted))
    };
    match volume.state {
        VolumeState::Open => {
            let absent = volume
                .present()
                .any(|(_, drive)| !view.topology.is_present(drive));
            if absent || (others && any(DriveState::Slow)) {
                return Some(RootCommand::SuspendVolume { volume: id, epoch });
            }
            // It could take nothing more: every member has to (PROTOCOLS 11 and 15).
            if any(DriveState::Full) {
                return Some(seal);
            }
            (bytes(volume, situation.beats) >= view.volume_target).then_some(seal)
        }
        VolumeState::Suspended => {
            let waited = situation.suspended.get(&id).copied().unwrap_or_default();
            let lost = is_lost(view, volume) || any(DriveState::Full);
            if waited >= situation.suspended_max || lost {
                return Some(seal);
            }
            let back = waited >= situation.suspended_min
                && is_back(view, situation.beats, volume)
                && !(others && any(DriveState::Slow));
            back.then_some(RootCommand::ResumeVolume { volume: id, epoch })
        }
        VolumeState::Sealing | VolumeState::Sealed | VolumeState::Retired => None,
    }
}

/// Bytes of the fullest shard, as last heard.
pub(super) fn bytes(volume: &Volume, beats: &HeardBeats) -> u64 {
    let shards = beats.values().flat_map(|(_, beat)| &beat.shards);
    let heard = shards
        .filter(|shard| shard.volume == volume.id)
        .map(|shard| shard.bytes)
        .max();
    heard.unwrap_or(0).max(volume.bytes)
}

/// Whether a member will not be back: its drive failed, or its enclosure was given up.
fn is_lost(view: &RootView, volume: &Volume) -> bool {
    volume.present().any(|(_, drive)| {
        let state = view.topology.drives.get(&drive).map(|drive| drive.state);
        let enclosure = view
            .topology
            .enclosure_of(drive)
            .map(|enclosure| enclosure.state);
        let may_be_back = match state {
            Some(DriveState::Healthy | DriveState::Slow | DriveState::Full) => true,
            // Somebody may plug it in again.
            Some(DriveState::Gone | DriveState::Foreign) => true,
            Some(DriveState::Failing | DriveState::Returned | DriveState::Replaced) | None => false,
        };
        !may_be_back || matches!(enclosure, None | Some(EnclosureState::Out))
    })
}

/// Whether all members are there again, and accept the volume's epoch as far as they said.
fn is_back(view: &RootView, beats: &HeardBeats, volume: &Volume) -> bool {
    volume.present().all(|(_, drive)| {
        let Some(enclosure) = view.topology.enclosure_of(drive) else {
            return false;
        };
        let Some((_, beat)) = beats.get(&enclosure.id) else {
            return false;
        };
        let shards = beat.shards.iter().filter(|shard| {
            let member = volume.members.get(usize::from(shard.member));
            shard.volume == volume.id && member == Some(&Some(drive))
        });
        let epochs_agree = shards.into_iter().all(|shard| shard.epoch <= volume.epoch);
        enclosure.state == EnclosureState::Up && view.topology.is_present(drive) && epochs_agree
    })
}

/// How many choices are looked at in one turn for one that takes in an idle enclosure. Most do: an
/// idle enclosure's drives carry no load.
const IDLE_TRIES: u64 = 4;

/// New volumes, so that as many are open as should be, and that every enclosure takes part: one
/// that was added gets new volumes at once, not only when an open one is full.
fn openings(view: &RootView, situation: &Situation<'_>, leaving: &[VolumeId]) -> Vec<RootCommand> {
    let Some(profile) = view.profile else {
        return Vec::new();
    };
    let takes_appends = |volume: &&Volume| {
        let open = volume.state == VolumeState::Open && !leaving.contains(&volume.id);
        open && volume.profile == profile
    };
    let open: Vec<&Volume> = view.volumes.values().filter(takes_appends).collect();
    let missing = view
        .open_volumes
        .saturating_sub(u32::try_from(open.len()).unwrap_or(u32::MAX))
        .min(situation.new_max);
    let mut fill = fill(view, situation.beats);
    let topology = fit(view);
    let mut commands = Vec::new();
    for turn in 0..missing {
        let seed = situation.seed.wrapping_add(u64::from(turn));
        let choice = match choose(&topology, &fill, profile, seed) {
            Ok(choice) => choice,
            Err(error) => {
                tracing::debug!(%error, "no volume can be opened");
                break;
            }
        };
        for drive in choice.members.iter().flatten() {
            *fill.load.entry(*drive).or_default() += 1;
        }
        commands.push(opening(profile, choice));
    }
    let idle = idle_enclosures(view);
    if commands.is_empty() && situation.new_max > 0 && !idle.is_empty() {
        let choices = (0..IDLE_TRIES).filter_map(|turn| {
            let seed = situation.seed.wrapping_add(turn);
            choose(&topology, &fill, profile, seed).ok()
        });
        let takes_in = |choice: &Choice| {
            let mut drives = choice.members.iter().flatten();
            drives.any(|drive| {
                let enclosure = view.topology.enclosure_of(*drive);
                enclosure.is_some_and(|enclosure| idle.contains(&enclosure.id))
            })
        };
        commands.extend(
            choices
                .into_iter()
                .find(takes_in)
                .map(|choice| opening(profile, choice)),
        );
    }
    commands
}

fn opening(profile: Profile, choice: Choice) -> RootCommand {
    RootCommand::OpenVolume {
        profile,
        members: choice.members,
        violation: choice.violation.is_some(),
    }
}

/// Enclosures that could take part in a volume, and take part in none that is open or may be again.
/// Each volume that is opened for one leaves one less, so that there are never more than that many
/// beyond those that should be open.
fn idle_enclosures(view: &RootView) -> BTreeSet<EnclosureId> {
    let topology = fit(view);
    let takes = |drive: &&Drive| topology.takes_volumes(drive.id);
    let drives = topology.drives.values().filter(takes);
    let mut idle: BTreeSet<EnclosureId> = drives.map(|drive| drive.enclosure).collect();
    for volume in view.volumes.values() {
        if !matches!(volume.state, VolumeState::Open | VolumeState::Suspended) {
            continue;
        }
        for (_, drive) in volume.present() {
            if let Some(enclosure) = view.topology.enclosure_of(drive) {
                idle.remove(&enclosure.id);
            }
        }
    }
    idle
}

#[cfg(test)]
mod tests;
