use std::time::Duration;

use enfilade_cluster::api::heartbeat::{DriveBeat, ScrubBeat};
use enfilade_cluster::api::root::{LedgerRange, Partition};
use enfilade_placement::{
    Chain, ChainId, Drive, DriveId, Enclosure, EnclosureId, Epoch, Generation, IntentId, Profile,
    VolumeId,
};

use super::*;

fn enclosure(id: u32) -> Enclosure {
    Enclosure {
        id: EnclosureId::new(id),
        chain: ChainId::new(1),
        position: id - 1,
        state: EnclosureState::Up,
        shard_address: String::new(),
        meta_address: String::new(),
        admin_address: format!("127.0.0.1:{id}"),
    }
}

fn drive(id: u32) -> Drive {
    Drive {
        id: DriveId::new(u128::from(id)),
        enclosure: EnclosureId::new(id),
        slot: 0,
        capacity: 1 << 30,
        state: DriveState::Healthy,
        generation: Generation::new(1),
    }
}

fn group_status(group: u32, replica: u32) -> GroupStatus {
    GroupStatus {
        group: PartitionId::new(group),
        replica: EnclosureId::new(replica),
        leader: Some(EnclosureId::new(1)),
        term: 3,
        applied: 40 + u64::from(replica),
        voters: (1..=5).map(EnclosureId::new).collect(),
        learners: Vec::new(),
        usage: Default::default(),
        epoch: Epoch::FIRST,
        votes: true,
    }
}

/// Six enclosures with a drive each, two groups of five replicas, one whole volume.
fn facts() -> Facts {
    let mut facts = Facts::default();
    let view = &mut facts.view;
    view.revision = 9;
    view.profile = Some(Profile::new(4, 2).unwrap());
    let chain = Chain {
        id: ChainId::new(1),
        closed: false,
    };
    view.topology.chains.insert(chain.id, chain);
    for id in 1..=6 {
        view.topology
            .enclosures
            .insert(EnclosureId::new(id), enclosure(id));
        view.topology.drives.insert(drive(id).id, drive(id));
    }
    let partition = Partition {
        id: PartitionId::new(1),
        epoch: Epoch::FIRST,
        start: Default::default(),
        end: None,
        replicas: (1..=5).map(EnclosureId::new).collect(),
        change: IntentId::new(0),
    };
    view.partitions.insert(partition.id, partition);
    facts.groups = (0..2)
        .flat_map(|g| (1..=5).map(move |replica| group_status(g, replica)))
        .collect();
    facts.volumes.push(Volume {
        id: VolumeId::new(1),
        profile: Profile::new(4, 2).unwrap(),
        members: (1..=6).map(|id| Some(DriveId::new(id))).collect(),
        epoch: Epoch::FIRST,
        state: VolumeState::Open,
        bytes: 1000,
        violation: false,
    });
    facts
}

fn process(id: u32, state: &str) -> model::Process {
    model::Process {
        id,
        pid: Some(100 + id),
        state: state.to_owned(),
    }
}

#[test]
fn a_whole_cluster_is_healthy() {
    let status = build(&facts(), &[process(1, "running")]);
    assert_eq!(
        (status.healthy, status.reasons, status.warnings),
        (true, vec![], vec![])
    );
    assert_eq!((status.tolerance.m, status.tolerance.f), (2, 2));
    assert_eq!(status.chains[0].enclosures, [1, 2, 3, 4, 5, 6]);
    let meta: Vec<bool> = status
        .enclosures
        .iter()
        .map(|enclosure| enclosure.meta)
        .collect();
    assert_eq!(meta, [true, true, true, true, true, false]);
    assert_eq!(status.enclosures[0].process, Some(process(1, "running")));
    assert_eq!(
        (
            status.volumes.whole,
            status.missing.shards,
            status.drives.total
        ),
        (1, 0, 6)
    );
}

#[test]
fn lost_enclosures_are_reasons_and_their_shards_are_missing() {
    let mut facts = facts();
    for id in [2, 6] {
        let enclosure = facts
            .view
            .topology
            .enclosures
            .get_mut(&EnclosureId::new(id))
            .unwrap();
        enclosure.state = EnclosureState::Down;
    }
    facts
        .groups
        .retain(|status| status.replica != EnclosureId::new(2));
    let status = build(&facts, &[]);
    assert!(!status.healthy);
    assert_eq!(
        (status.missing.shards, status.missing.shard_bytes),
        (2, 2000)
    );
    assert_eq!((status.volumes.at_risk, status.drives.absent), (1, 2));
    assert!(
        status
            .groups
            .iter()
            .all(|group| group.silent == [2] && group.leader == Some(1))
    );
    for reason in [
        "enclosure 2 is down",
        "the root group in enclosure 2 does not answer",
    ] {
        assert!(
            status.reasons.iter().any(|r| r.contains(reason)),
            "{:?}",
            status.reasons
        );
    }
}

#[test]
fn one_row_in_the_ledger_is_enough_to_be_unhealthy() {
    let mut facts = facts();
    facts.ledger.push(LedgerRow {
        volume: VolumeId::new(1),
        member: 3,
        what: LedgerRange::Whole,
    });
    let status = build(&facts, &[]);
    assert_eq!((status.healthy, status.missing.ranges), (false, 1));
}

#[test]
fn a_process_that_was_just_killed_is_a_reason_before_any_heartbeat_is_missed() {
    let ended = model::Process {
        pid: None,
        ..process(6, "exited")
    };
    let status = build(&facts(), &[ended]);
    let reasons = [
        "the process of enclosure 6 is exited",
        "1 shards of volumes are missing",
    ];
    assert_eq!(status.reasons, reasons);
    assert_eq!((status.drives.absent, status.volumes.degraded), (1, 1));
}

#[test]
fn a_group_that_nobody_speaks_for_has_no_leader_and_silent_replicas() {
    let mut facts = facts();
    facts
        .groups
        .retain(|status| status.group == PartitionId::ROOT);
    let status = build(&facts, &[]);
    assert_eq!(status.groups[1].silent, [1, 2, 3, 4, 5]);
    assert!(
        status
            .reasons
            .contains(&"partition 1 has no leader".to_owned())
    );
}

#[test]
fn a_single_replica_is_warned_about_and_silence_is_never_green() {
    let mut facts = facts();
    facts
        .groups
        .retain(|status| status.replica == EnclosureId::new(1));
    for status in &mut facts.groups {
        status.voters = vec![EnclosureId::new(1)];
    }
    let status = build(&facts, &[]);
    assert!(status.healthy && status.warnings[0].contains("survives the loss of 0"));
    let silent = unknown("nobody there", &[process(1, "running")]);
    assert!(!silent.healthy && silent.reasons[0].contains("nobody there"));
}

#[test]
fn a_drive_that_was_given_up_is_no_reason_but_what_was_on_it_is() {
    let mut facts = facts();
    let drive = DriveId::new(2);
    facts.view.topology.drives.get_mut(&drive).unwrap().state = DriveState::Replaced;
    let status = build(&facts, &[]);
    assert_eq!(status.reasons, ["1 shards of volumes are missing"]);
    assert_eq!((status.drives.total, status.drives.absent), (5, 0));
    let drives = crate::admin::drives::list(&facts);
    assert_eq!((drives.len(), drives[1].state.as_str()), (6, "replaced"));
    assert_eq!((drives[1].present, drives[1].shards), (false, 1));
    for (state, word) in [
        (DriveState::Foreign, "foreign"),
        (DriveState::Gone, "gone"),
        (DriveState::Slow, "slow"),
    ] {
        facts.view.topology.drives.get_mut(&drive).unwrap().state = state;
        let status = build(&facts, &[]);
        let reason = format!("(slot 0 of enclosure 2) is {word}");
        assert!(status.reasons[0].ends_with(&reason), "{:?}", status.reasons);
    }
}

fn report(facts: &mut Facts, enclosure: u32, beat: DriveBeat) {
    facts.reports.push(DriveReport {
        enclosure: EnclosureId::new(enclosure),
        age: Duration::from_secs(1),
        beat,
    });
}

#[test]
fn a_reason_is_told_with_the_state_that_it_is_for() {
    let mut facts = facts();
    let (id, reason) = (DriveId::new(2), "sync of a log: i/o error".to_owned());
    let beat = DriveBeat {
        reason: reason.clone(),
        ..DriveBeat::new(id, DriveState::Failing, 1 << 30, 0)
    };
    report(&mut facts, 2, beat);
    // The state is not committed yet.
    assert!(build(&facts, &[]).healthy);
    facts.view.topology.drives.get_mut(&id).unwrap().state = DriveState::Failing;
    let status = build(&facts, &[]);
    let told = format!("is failing: {reason}");
    assert!(status.reasons[0].ends_with(&told), "{:?}", status.reasons);
    assert_eq!(crate::admin::drives::list(&facts)[1].reason, reason);
    // What it said before it became another.
    facts.view.topology.drives.get_mut(&id).unwrap().state = DriveState::Gone;
    let status = build(&facts, &[]);
    assert!(
        status.reasons[0].ends_with("is gone"),
        "{:?}",
        status.reasons
    );
}

#[test]
fn two_drives_with_one_uuid_are_an_alarm_for_as_long_as_somebody_says_so() {
    let mut facts = facts();
    let twin = DriveBeat {
        twin: "found in a and b".to_owned(),
        ..DriveBeat::new(DriveId::new(2), DriveState::Foreign, 0, 0)
    };
    report(&mut facts, 5, twin);
    let status = build(&facts, &[]);
    let drive = DriveId::new(2);
    let alarm = format!("ALARM: two drives have the UUID {drive}: enclosure 5: found in a and b");
    assert_eq!(status.reasons, [alarm]);
    let drives = crate::admin::drives::list(&facts);
    assert_eq!(drives[1].twins, ["enclosure 5: found in a and b"]);
    // Where it is attached nothing is wrong with it.
    assert_eq!(
        (drives[1].state.as_str(), drives[1].reason.as_str()),
        ("healthy", "")
    );
    facts.reports[0].age = Duration::from_secs(3600);
    assert!(build(&facts, &[]).healthy);
}

#[test]
fn scrub_that_is_late_by_two_periods_is_warned_of() {
    let mut facts = facts();
    for (drive, oldest_s) in [(1, 20), (2, 250)] {
        let scrub = ScrubBeat {
            period_s: 100,
            complete_s: None,
            oldest_s,
            percent: 40,
        };
        let id = DriveId::new(u128::from(drive));
        let beat = DriveBeat {
            scrub: Some(scrub),
            ..DriveBeat::new(id, DriveState::Healthy, 1 << 30, 0)
        };
        report(&mut facts, drive, beat);
    }
    let status = build(&facts, &[]);
    assert!(status.healthy);
    let late = "was not scrubbed for 4 min; the period is 1 min";
    assert_eq!(status.warnings.len(), 1);
    assert!(status.warnings[0].ends_with(late), "{:?}", status.warnings);
    assert_eq!(status.drives.scrub.unwrap().oldest, 250);
}

#[test]
fn times_are_told_in_their_two_largest_units() {
    let told = [5, 65, 3_700, 90_000, 2_592_000].map(duration);
    assert_eq!(told, ["5 s", "1 min", "1 h 1 min", "1 d 1 h", "30 d 0 h"]);
}
