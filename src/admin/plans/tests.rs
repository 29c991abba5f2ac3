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

async fn drain(facts: &Facts, enclosure: u32) -> model::Plan {
    let subject = Subject::Enclosure(EnclosureId::new(enclosure));
    what_if(facts, &Change::Drain(subject)).await.unwrap()
}

#[tokio::test]
async fn a_drain_that_leaves_everything_as_safe_as_it_was_is_accepted() {
    let facts = facts(7, 40);
    let plan = drain(&facts, 2).await;
    assert_eq!(breaks(&plan), None);
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
    let plan = drain(&facts, 2).await;
    let reason = breaks(&plan).unwrap();
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
    let grown = what_if(&facts, &add).await.unwrap();
    assert!(
        grown.bytes > 20 * SHARD && grown.rebuilt_bytes == 0,
        "{grown:?}"
    );
    assert!(grown.after.fullest < grown.before.fullest);
    let fail = Change::Fail(Subject::Drive(drive_of(&facts, 1, 0)));
    let lost = what_if(&facts, &fail).await.unwrap();
    assert_eq!(lost.rebuilt_bytes, 10 * SHARD);
    assert_eq!(facts.view.topology.enclosures.len(), 6);
    let unknown = Change::Fail(Subject::Drive(DriveId::new(999)));
    assert_eq!(
        what_if(&facts, &unknown).await.unwrap_err().0,
        StatusCode::NOT_FOUND
    );
}

#[test]
fn paths_name_what_is_asked_for() {
    let drain = Asked::of(&["enclosures", "3", "drain"]);
    assert_eq!(
        drain,
        Some(Asked::Drain(Subject::Enclosure(EnclosureId::new(3))))
    );
    assert_eq!(Asked::of(&["plan", "add"]), Some(Asked::PlanAdd));
    assert_eq!(Asked::of(&["enclosures", "x", "drain"]), None);
    assert_eq!(Asked::of(&["plan"]), None);
}
