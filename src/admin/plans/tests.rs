use enfilade_placement::{Chain, Epoch, Profile, VolumeId};

use super::*;

const SHARD: u64 = 1 << 30;

/// 4+2 on enclosures of four drives, with volumes spread over the first six of them.
fn facts(enclosures: usize, volumes: u64) -> Facts {
    let mut facts = Facts::default();
    let (id, closed) = (ChainId::new(1), false);
    facts.view.topology.chains.insert(id, Chain { id, closed });
    for _ in 0..enclosures {
        add(&mut facts.view.topology, 4, Some(1 << 40), None);
    }
    for id in 1..=volumes {
        let drive = |at: u64| Some(drive_of(&facts, at + 1, id % 4));
        facts.volumes.push(Volume {
            id: VolumeId::new(id),
            profile: Profile::new(4, 2).unwrap(),
            members: (0..6).map(drive).collect(),
            epoch: Epoch::FIRST,
            state: VolumeState::Sealed,
            bytes: SHARD,
            violation: false,
        });
    }
    facts
}

/// The drive in a slot of an enclosure.
fn drive_of(facts: &Facts, enclosure: u64, slot: u64) -> DriveId {
    let here = |drive: &&Drive| {
        (u64::from(drive.enclosure.get()), u64::from(drive.slot)) == (enclosure, slot)
    };
    facts.view.topology.drives.values().find(here).unwrap().id
}

async fn drain(facts: &Facts, enclosure: u32) -> WhatIf {
    let subject = Subject::Enclosure(EnclosureId::new(enclosure));
    what_if(facts, &Change::Drain(subject)).await.unwrap()
}

#[tokio::test]
async fn a_drain_that_leaves_everything_as_safe_as_it_was_is_accepted() {
    let facts = facts(7, 40);
    let WhatIf { plan, shown } = drain(&facts, 2).await;
    assert_eq!(plan.allowed(), Ok(()));
    let plan = shown;
    assert!(
        plan.bytes >= 40 * SHARD && plan.bound_bytes <= plan.bytes,
        "{plan:?}"
    );
    assert_eq!((plan.rebuilt_bytes, plan.unplaced), (0, 0));
}

#[tokio::test]
async fn a_drain_for_which_there_is_no_room_is_refused_with_the_reason() {
    let mut facts = facts(6, 40);
    for drive in facts.view.topology.drives.values_mut() {
        drive.capacity = 11 * SHARD;
    }
    let plan = drain(&facts, 2).await.plan;
    let reason = plan.allowed().unwrap_err().to_string();
    assert!(reason.contains("add drives"), "{reason}");
}

#[tokio::test]
async fn adding_and_failing_are_planned_without_being_done() {
    let facts = facts(6, 40);
    let add = Change::Add {
        drives: 4,
        capacity: None,
        chain: None,
    };
    let grown = what_if(&facts, &add).await.unwrap().shown;
    assert!(
        grown.bytes > 20 * SHARD && grown.rebuilt_bytes == 0,
        "{grown:?}"
    );
    assert!(grown.after.fullest < grown.before.fullest);
    let fail = Change::Fail(Subject::Drive(drive_of(&facts, 1, 0)));
    let lost = what_if(&facts, &fail).await.unwrap().shown;
    assert_eq!(lost.rebuilt_bytes, 10 * SHARD);
    assert_eq!(facts.view.topology.enclosures.len(), 6);
    let unknown = Change::Fail(Subject::Drive(DriveId::new(999)));
    let refused = what_if(&facts, &unknown).await.err().map(|error| error.0);
    assert_eq!(refused, Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn a_plan_tells_how_long_it_takes_and_how_safe_data_is_before_and_after() {
    let mut facts = facts(6, 40);
    let add = Change::Add {
        drives: 4,
        capacity: None,
        chain: None,
    };
    let unknown = what_if(&facts, &add).await.unwrap().shown;
    assert_eq!((unknown.rate, unknown.seconds), (0, None));
    facts.view.moves.rate = SHARD;
    let known = what_if(&facts, &add).await.unwrap().shown;
    assert_eq!(known.seconds, Some(known.bytes / SHARD));
    let (before, after) = (&known.before.durability, &known.after.durability);
    assert!(before.nines > 3.0 && after.nines > 3.0, "{known:?}");
    assert!(!before.repair_measured);
    // What is lost, until it is rebuilt, is not as safe; afterwards it is.
    let id = drive_of(&facts, 1, 0);
    let fail = Change::Fail(Subject::Drive(id));
    let lost = what_if(&facts, &fail).await.unwrap().shown;
    facts.view.topology.drives.get_mut(&id).unwrap().state = DriveState::Gone;
    let now = safety::durability(&facts.view, &facts.view.topology, &facts.volumes);
    assert!(now.nines < lost.after.durability.nines, "{now:?} {lost:?}");
    // A measured rate of repair goes before the assumed one.
    facts.view.moves.repair_rate = 1000;
    let slow = safety::durability(&facts.view, &facts.view.topology, &facts.volumes);
    assert!(
        slow.repair_measured && slow.nines < now.nines,
        "{slow:?} {now:?}"
    );
}
