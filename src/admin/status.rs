//! How the cluster is: pure, from what was gathered. Never a green lie: what is not known to be
//! well is a reason (promise P10).

mod verdict;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use enfilade_cluster::api::heartbeat::DriveReport;
use enfilade_cluster::api::key::RowPrefix;
use enfilade_cluster::api::query::{GroupStatus, Usage};
use enfilade_cluster::api::root::{LedgerRow, RootView};
use enfilade_placement::health::{Survival, health, survival};
use enfilade_placement::replicas::tolerates;
use enfilade_placement::{
    Drive, DriveState, EnclosureId, EnclosureState, PartitionId, Volume, VolumeState,
};

use self::verdict::{process_reason, reasons, warnings};
use crate::admin::drives::Said;
use crate::admin::{model, safety};

/// Everything that the metadata service said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The root state.
    pub(crate) view: RootView,
    /// All volumes.
    pub(crate) volumes: Vec<Volume>,
    /// Rows of the ledger.
    pub(crate) ledger: Vec<LedgerRow>,
    /// What replicas say of their groups.
    pub(crate) groups: Vec<GroupStatus>,
    /// What nodes say of their drives.
    pub(crate) reports: Vec<DriveReport>,
}

/// The status while the metadata service does not answer.
pub(crate) fn unknown(cause: &str, processes: &[model::Process]) -> model::Status {
    let mut status = model::Status {
        reasons: vec![format!("the metadata service does not answer: {cause}")],
        ..model::Status::default()
    };
    status
        .reasons
        .extend(processes.iter().filter_map(process_reason));
    status
}

/// The status that follows from facts.
///
/// What is known of processes goes before missed heartbeats: shards of an enclosure whose process
/// has ended are missing from that moment.
pub(crate) fn build(facts: &Facts, processes: &[model::Process]) -> model::Status {
    let (groups, said) = (groups(facts), Said::of(facts));
    let sober = without_ended(facts, processes);
    let mut status = model::Status {
        metadata: true,
        cluster: facts.view.cluster.to_string(),
        incarnation: facts.view.incarnation.get(),
        profile: facts
            .view
            .profile
            .map(|profile| profile.to_string())
            .unwrap_or_default(),
        tolerance: model::Tolerance {
            m: facts.view.profile.map_or(0, enfilade_placement::Profile::m),
            f: groups
                .iter()
                .map(|group| group.tolerates)
                .min()
                .unwrap_or(0),
        },
        chains: chains(&facts.view),
        enclosures: enclosures(facts, processes),
        drives: drives(&sober.view, &said),
        volumes: volumes(&sober),
        missing: missing(&sober),
        durability: safety::durability(&sober.view, &sober.view.topology, &sober.volumes),
        groups,
        ..model::Status::default()
    };
    status.reasons = reasons(&status, &facts.view, &said, processes);
    status.warnings = warnings(&status, facts, &said);
    status.healthy = status.reasons.is_empty();
    status
}

/// The facts, with enclosures whose process has ended taken for down.
fn without_ended<'a>(facts: &'a Facts, processes: &[model::Process]) -> Cow<'a, Facts> {
    let ended = |process: &&model::Process| process.pid.is_none();
    let mut facts = Cow::Borrowed(facts);
    for process in processes.iter().filter(ended) {
        let topology = &mut facts.to_mut().view.topology;
        let enclosure = topology.enclosures.get_mut(&EnclosureId::new(process.id));
        if let Some(enclosure) = enclosure.filter(|e| e.state < EnclosureState::Down) {
            enclosure.state = EnclosureState::Down;
        }
    }
    facts
}

/// A word of ours in the form that JSON and people see.
pub(crate) fn word(state: impl Debug) -> String {
    format!("{state:?}").to_lowercase()
}

fn chains(view: &RootView) -> Vec<model::Chain> {
    let of = |chain: &enfilade_placement::Chain| {
        let enclosures = view.topology.enclosures.values();
        let mut inside: Vec<_> = enclosures.filter(|e| e.chain == chain.id).collect();
        inside.sort_by_key(|enclosure| enclosure.position);
        let enclosures = inside.iter().map(|enclosure| enclosure.id.get()).collect();
        model::Chain {
            id: chain.id.get(),
            closed: chain.closed,
            enclosures,
        }
    };
    view.topology.chains.values().map(of).collect()
}

fn enclosures(facts: &Facts, processes: &[model::Process]) -> Vec<model::Enclosure> {
    let topology = &facts.view.topology;
    let mut shards: BTreeMap<_, usize> = BTreeMap::new();
    for volume in facts
        .volumes
        .iter()
        .filter(|v| v.state != VolumeState::Retired)
    {
        for (_, drive) in volume.present() {
            if let Some(enclosure) = topology.enclosure_of(drive) {
                *shards.entry(enclosure.id).or_default() += 1;
            }
        }
    }
    let voters: BTreeSet<_> = facts
        .groups
        .iter()
        .flat_map(|group| &group.voters)
        .collect();
    let of = |enclosure: &enfilade_placement::Enclosure| {
        let drives: Vec<_> = topology
            .drives
            .values()
            .filter(|drive| drive.enclosure == enclosure.id)
            .filter(|drive| drive.state != DriveState::Replaced)
            .collect();
        let healthy = drives
            .iter()
            .filter(|drive| drive.state == DriveState::Healthy);
        model::Enclosure {
            id: enclosure.id.get(),
            chain: enclosure.chain.get(),
            position: enclosure.position,
            state: word(enclosure.state),
            drives: drives.len(),
            drives_healthy: healthy.count(),
            capacity: drives.iter().map(|drive| drive.capacity).sum(),
            shards: shards.get(&enclosure.id).copied().unwrap_or(0),
            maintenance_seconds: maintained(&facts.view, enclosure.id),
            meta: voters.contains(&enclosure.id),
            admin: enclosure.admin_address.clone(),
            process: processes
                .iter()
                .find(|p| p.id == enclosure.id.get())
                .cloned(),
        }
    };
    topology.enclosures.values().map(of).collect()
}

/// For how many more seconds an enclosure's `out` is held off.
fn maintained(view: &RootView, id: EnclosureId) -> Option<u64> {
    let until = view.maintenance.get(&id)?;
    let left = until.0.checked_sub(view.time.0)?;
    (left > 0).then(|| left.div_ceil(1000))
}

fn drives(view: &RootView, said: &Said<'_>) -> model::Drives {
    let mut drives = model::Drives {
        scrub: said.last_scrubbed(view),
        ..model::Drives::default()
    };
    // What was given up counts no more; what was on it is missing until it is rebuilt.
    let counts = |drive: &&Drive| drive.state != DriveState::Replaced;
    for drive in view.topology.drives.values().filter(counts) {
        drives.total += 1;
        drives.capacity += drive.capacity;
        *drives.by_state.entry(word(drive.state)).or_default() += 1;
        drives.absent += usize::from(!view.topology.is_present(drive.id));
    }
    drives
}

fn volumes(facts: &Facts) -> model::Volumes {
    let count = health(&facts.view.topology, &facts.volumes);
    let mut volumes = model::Volumes {
        whole: count.whole,
        degraded: count.degraded,
        at_risk: count.at_risk,
        unreadable: count.unreadable,
        ..model::Volumes::default()
    };
    for volume in &facts.volumes {
        *volumes.by_state.entry(word(volume.state)).or_default() += 1;
        if volume.state != VolumeState::Retired {
            volumes.total += 1;
            volumes.violations += usize::from(volume.violation);
        }
    }
    volumes
}

fn missing(facts: &Facts) -> model::Missing {
    let mut missing = model::Missing::default();
    for volume in facts
        .volumes
        .iter()
        .filter(|v| v.state != VolumeState::Retired)
    {
        let lost = survival(&facts.view.topology, volume).missing.len();
        missing.shards += lost;
        missing.shard_bytes += volume.bytes * lost as u64;
    }
    missing.ranges = facts.view.ledger_rows.max(facts.ledger.len() as u64);
    missing
}

fn groups(facts: &Facts) -> Vec<model::Group> {
    let mut ids: BTreeSet<PartitionId> = facts.view.partitions.keys().copied().collect();
    ids.insert(PartitionId::ROOT);
    ids.extend(facts.groups.iter().map(|group| group.group));
    ids.into_iter().map(|id| group(id, facts)).collect()
}

fn group(id: PartitionId, facts: &Facts) -> model::Group {
    let mut said: Vec<&GroupStatus> = facts.groups.iter().filter(|g| g.group == id).collect();
    said.sort_by_key(|status| status.replica);
    let newest = said
        .iter()
        .max_by_key(|status| (status.term, status.applied));
    let planned = facts.view.replicas_of(id);
    let voters = newest.map_or(planned, |status| status.voters.as_slice());
    let usage = said.iter().map(|status| status.usage);
    let usage = usage.fold(Usage::default(), |mut sum, usage| {
        sum += usage;
        sum
    });
    let partition = facts.view.partitions.get(&id);
    let numbers = |ids: &[EnclosureId]| ids.iter().map(|id| id.get()).collect();
    let change = facts.view.replicas.changes.get(&id);
    let answers = |voter: &&enfilade_placement::EnclosureId| {
        said.iter().any(|status| status.replica == **voter)
    };
    model::Group {
        id: id.get(),
        leader: newest
            .and_then(|status| status.leader)
            .map(|leader| leader.get()),
        term: newest.map_or(0, |status| status.term),
        voters: voters.iter().map(|voter| voter.get()).collect(),
        silent: voters
            .iter()
            .filter(|voter| !answers(voter))
            .map(|voter| voter.get())
            .collect(),
        learners: newest.map_or(Vec::new(), |status| numbers(&status.learners)),
        moving_to: change.map_or(Vec::new(), |change| numbers(&change.to)),
        range: partition.map_or_else(Default::default, |partition| {
            let name = |row: &RowPrefix| key_name(&facts.view, row);
            let end = partition.end.as_ref();
            (name(&partition.start), end.map(name).unwrap_or_default())
        }),
        epoch: partition.map_or(0, |partition| partition.epoch.get()),
        objects: usage.objects + usage.older,
        bytes: usage.bytes + usage.older_bytes + usage.part_bytes,
        tolerates: tolerates(voters.len()),
        replicas: said
            .iter()
            .map(|status| model::Replica {
                enclosure: status.replica.get(),
                leader: status.leader.map(|leader| leader.get()),
                term: status.term,
                applied: status.applied,
            })
            .collect(),
    }
}

/// A time for people, in the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (..) => format!("{days} d {hours} h"),
    }
}

/// A place in the key space in words, `BUCKET/KEY`.
fn key_name(view: &RootView, row: &RowPrefix) -> String {
    let Some((bucket, key)) = row.parts() else {
        return String::new();
    };
    let named = view.buckets.values().find(|one| one.id == bucket);
    let bucket = named.map_or_else(|| bucket.to_string(), |one| one.name.clone());
    format!("{bucket}/{key}")
}

/// What people call a group.
pub(crate) fn group_name(id: u32) -> String {
    if id == PartitionId::ROOT.get() {
        "the root group".to_owned()
    } else {
        format!("partition {id}")
    }
}

/// A volume, as the API shows it.
pub(crate) fn volume(view: &RootView, volume: &Volume) -> model::Volume {
    let Survival { missing, .. } = survival(&view.topology, volume);
    let member = |drive: &Option<enfilade_placement::DriveId>| {
        drive.map(|drive| model::Member {
            drive: drive.to_string(),
            enclosure: view
                .topology
                .enclosure_of(drive)
                .map(|enclosure| enclosure.id.get()),
        })
    };
    model::Volume {
        id: volume.id.get(),
        state: word(volume.state),
        profile: volume.profile.to_string(),
        epoch: volume.epoch.get(),
        bytes: volume.bytes,
        violation: volume.violation,
        missing,
        members: volume.members.iter().map(member).collect(),
    }
}

#[cfg(test)]
mod tests;
