//! What is rebuilt although its drives are waited for (PROTOCOLS 23).

use super::*;
use crate::topology::EnclosureState;

/// 4+2 on eight enclosures of six drives, settled.
fn world() -> World {
    let mut world = World::new(profile(4, 2), SHARD, 21);
    for _ in 0..8 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(40);
    settle(&mut world, "before");
    world
}

fn planned(world: &World, waiting: &BTreeMap<DriveId, Wait>) -> Plan {
    let input = Input {
        topology: &world.topology,
        leaving: &BTreeSet::new(),
        waiting,
        other: &BTreeMap::new(),
        seed: 7,
    };
    plan(&input, world.volumes.values())
}

fn down(world: &mut World, enclosures: &[u32]) {
    for id in enclosures {
        let enclosure = world.topology.enclosures.get_mut(&EnclosureId::new(*id));
        enclosure.unwrap().state = EnclosureState::Down;
    }
}

/// Every drive of some enclosures, with how it is waited for.
fn drives_of(world: &World, enclosures: &[u32], wait: Wait) -> BTreeMap<DriveId, Wait> {
    let drives = world.topology.drives.values();
    let there = drives.filter(|drive| enclosures.contains(&drive.enclosure.get()));
    there.map(|drive| (drive.id, wait)).collect()
}

/// Members of volumes without a redundant shard that are on absent drives.
fn bare(world: &World) -> usize {
    let volumes = world.volumes.values();
    let left = volumes.map(|volume| crate::health::survival(&world.topology, volume));
    left.filter(|left| left.spare == Some(0))
        .map(|left| left.missing.len())
        .sum()
}

#[test]
fn volumes_with_no_redundant_shard_left_are_rebuilt_at_once_and_no_others() {
    let mut world = world();
    down(&mut world, &[1]);
    assert_eq!(
        planned(&world, &BTreeMap::new()).moves,
        [],
        "it may be back soon"
    );
    down(&mut world, &[2]);
    let wanted = bare(&world);
    let plan = planned(&world, &BTreeMap::new());
    assert!(wanted > 10);
    let rebuilds = plan.moves.iter().filter(|step| step.is_rebuild());
    assert_eq!(rebuilds.clone().count(), wanted);
    assert_eq!(plan.summary.unreadable, 0);
    for step in rebuilds {
        let from = step
            .from
            .and_then(|drive| world.topology.enclosure_of(drive));
        assert!(from.unwrap().id <= EnclosureId::new(2), "{step:?}");
        assert!(world.topology.is_present(step.to), "{step:?}");
    }
    world.apply(&plan);
    assert_eq!(bare(&world), 0);
    let mut again = planned(&world, &BTreeMap::new()).moves.into_iter();
    assert!(!again.any(|step| step.is_rebuild()));
}

#[test]
fn what_is_under_maintenance_is_not_rebuilt_even_so() {
    let mut world = world();
    down(&mut world, &[1, 2]);
    let held = drives_of(&world, &[1], Wait::Held);
    let plan = planned(&world, &held);
    assert!(!plan.moves.is_empty());
    let from = |step: &Move| world.topology.enclosure_of(step.from.unwrap()).unwrap().id;
    assert!(
        plan.moves
            .iter()
            .all(|step| from(step) == EnclosureId::new(2))
    );
}

#[test]
fn one_fault_that_takes_all_redundancy_is_waited_for_until_the_wait_is_over() {
    let mut world = World::new(profile(4, 2), SHARD, 22);
    for _ in 0..4 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(40);
    settle(&mut world, "two members an enclosure");
    down(&mut world, &[1]);
    assert!(bare(&world) > 0);
    assert_eq!(planned(&world, &BTreeMap::new()).moves, [], "a restart");
    let usual = drives_of(&world, &[1], Wait::Usual);
    assert_eq!(planned(&world, &usual).moves, []);
    let over = drives_of(&world, &[1], Wait::Over);
    assert!(planned(&world, &over).moves.iter().all(Move::is_rebuild));
    assert_eq!(planned(&world, &over).moves.len(), bare(&world));
}

#[test]
fn a_vacant_member_and_a_lost_one_are_two_faults() {
    let mut world = world();
    let volume = world.volumes.values_mut().next().unwrap();
    let (id, lost) = (volume.id, volume.members[1].unwrap());
    volume.members[0] = None;
    world.topology.drives.get_mut(&lost).unwrap().state = DriveState::Gone;
    let waiting = BTreeMap::from([(lost, Wait::Usual)]);
    let plan = planned(&world, &waiting);
    let moved: Vec<(VolumeId, u8)> = plan.moves.iter().map(|m| (m.volume, m.member)).collect();
    assert_eq!(
        moved.iter().filter(|(volume, _)| *volume == id).count(),
        2,
        "{moved:?}"
    );
    assert!(moved.iter().all(|(volume, _)| *volume == id), "{moved:?}");
}
