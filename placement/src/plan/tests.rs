use super::*;
use crate::health::missing_members;
use crate::ids::EnclosureId;
use crate::profile::Profile;
use crate::simulate::World;
use crate::spread::spread;
use crate::topology::{DriveState, EnclosureState};
use proptest::prelude::{ProptestConfig, proptest};

const GIB: u64 = 1 << 30;
const DRIVE: u64 = 1 << 40;
const SHARD: u64 = 16 * GIB;

fn profile(k: u8, m: u8) -> Profile {
    Profile::new(k, m).unwrap()
}

/// Makes plans, checks what every plan must be, and carries them out until nothing is left to do:
/// where drives are nearly full, the room for some moves is made by others. Returns the sum.
fn settle(world: &mut World, what: &str) -> Summary {
    let mut sum: Option<Summary> = None;
    for round in 1.. {
        let plan = world.plan();
        let summary = plan.summary;
        let what = format!("{what}, plan {round}: {summary:?}");
        assert_eq!(summary.overflow_bytes, 0, "{what}");
        assert_eq!(summary.unplaced, 0, "{what}");
        assert_eq!(summary.unmet_bytes, 0, "{what}");
        let (moved, bound) = (summary.moved_bytes, summary.bound_bytes);
        assert!(bound <= moved && moved * 100 <= bound * 105, "{what}");
        redundancy_never_falls(world, &plan);
        every_move_finds_room(world, &plan);
        world.apply(&plan);
        let first = *sum.get_or_insert(summary);
        if plan.moves.is_empty() {
            break;
        }
        assert!(round < 4, "{what}");
        if round > 1 {
            let moved_bytes = first.moved_bytes + moved;
            sum = Some(Summary {
                moved_bytes,
                ..first
            });
        }
    }
    let lost = world.volumes.values();
    let lost = lost.filter(|v| !missing_members(&world.topology, v).is_empty());
    assert_eq!(lost.count(), 0, "{what}");
    world.forget_empty();
    sum.unwrap()
}

/// In whatever order moves are made, and however many: each volume is on as many drives as before
/// or more, and no domain has more of its members than before or after all moves.
fn redundancy_never_falls(world: &World, plan: &Plan) {
    let before = &world.volumes;
    let mut after = before.clone();
    apply(plan, &mut after);
    let mut volumes = before.clone();
    let mut moves = plan.moves.clone();
    crate::seed::SplitMix64::new(moves.len() as u64).shuffle(&mut moves);
    for step in &moves {
        let volume = volumes.get_mut(&step.volume).unwrap();
        assert_eq!(volume.members[usize::from(step.member)], step.from);
        assert!(world.topology.takes_volumes(step.to));
        assert_eq!(volume.member_of(step.to), None, "{step:?}");
        volume.members[usize::from(step.member)] = Some(step.to);
        let (first, last) = (&before[&step.volume], &after[&step.volume]);
        assert!(present(world, volume) >= present(world, first), "{step:?}");
        let ends = [domains(world, first), domains(world, last)];
        for (domain, count) in domains(world, volume) {
            let most = ends.iter().filter_map(|end| end.get(&domain)).max();
            assert!(Some(&count) <= most, "{step:?}: {domain:?}");
        }
    }
}

/// Members that are there, by enclosure and by chain.
fn domains(world: &World, volume: &Volume) -> BTreeMap<(bool, u32), usize> {
    let mut counts = BTreeMap::new();
    for (_, drive) in volume.present() {
        if let Some(enclosure) = world.topology.enclosure_of(drive)
            && world.topology.is_present(drive)
        {
            *counts.entry((false, enclosure.id.get())).or_default() += 1;
            *counts.entry((true, enclosure.chain.get())).or_default() += 1;
        }
    }
    counts
}

/// When moves are begun in a random order and wait while their target is too full (PROTOCOLS 15),
/// none waits for ever.
fn every_move_finds_room(world: &World, plan: &Plan) {
    let mut used: BTreeMap<DriveId, u64> = BTreeMap::new();
    for volume in world.volumes.values() {
        for (_, drive) in volume.present() {
            *used.entry(drive).or_default() += volume.bytes;
        }
    }
    let mut moves = plan.moves.clone();
    crate::seed::SplitMix64::new(moves.len() as u64 + 1).shuffle(&mut moves);
    while !moves.is_empty() {
        let count = moves.len();
        moves.retain(|step| {
            let capacity = world.topology.drives[&step.to].capacity;
            let held = used.entry(step.to).or_default();
            if *held + step.bytes > capacity / 100 * MOVE_LIMIT_PERCENT {
                return true;
            }
            *held += step.bytes;
            if let Some(from) = step.from {
                *used.entry(from).or_default() -= step.bytes;
            }
            false
        });
        assert!(moves.len() < count, "{count} moves wait for each other");
    }
}

/// Drives that hold something of a volume and can be read.
fn present(world: &World, volume: &Volume) -> usize {
    let drives: BTreeSet<DriveId> = volume.present().map(|(_, drive)| drive).collect();
    let there = drives.iter().filter(|d| world.topology.is_present(**d));
    there.count()
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    let mut world = World::new(profile(4, 2), SHARD, 1);
    for _ in 0..6 {
        world.add(1, 8, DRIVE);
    }
    let plan = world.plan();
    assert_eq!(plan, Plan::default());
    world.fill_to(50);
    let summary = settle(&mut world, "evenly chosen");
    assert!(summary.moved_bytes * 20 < world.used(), "{summary:?}");
}

#[test]
fn an_added_enclosure_gets_its_share_and_no_more() {
    let mut world = World::new(profile(4, 2), SHARD, 2);
    for _ in 0..6 {
        world.add(1, 12, DRIVE);
    }
    world.fill_to(60);
    settle(&mut world, "before");
    world.add(1, 12, DRIVE);
    let summary = settle(&mut world, "add");
    let share = world.used() / 7;
    assert!(summary.moved_bytes <= share && summary.moved_bytes * 11 > share * 10);
}

#[test]
fn an_enclosure_of_another_size_is_filled_to_the_same_level() {
    for capacity in [DRIVE / 2, DRIVE * 3 / 2] {
        let mut world = World::new(profile(4, 2), SHARD, 3);
        for _ in 0..8 {
            world.add(1, 12, DRIVE);
        }
        world.fill_to(40);
        settle(&mut world, "before");
        world.add(1, 12, capacity);
        let summary = settle(&mut world, "add");
        let spread = summary.fullest.1 - summary.emptiest.1;
        let tolerance = SHARD * 2_000_000 / DRIVE.min(capacity);
        assert!(spread <= tolerance, "{summary:?}");
    }
}

#[test]
fn spread_heals_as_enclosures_arrive() {
    let four_two = profile(4, 2);
    let mut world = World::new(four_two, SHARD, 4);
    for _ in 0..3 {
        world.add(1, 12, DRIVE);
    }
    world.fill_to(60);
    settle(&mut world, "3");
    let mut worst = Vec::new();
    for count in 3..=6 {
        if count > 3 {
            world.add(1, 12, DRIVE);
            settle(&mut world, &count.to_string());
        }
        let most = world.volumes.values();
        let most = most.map(|v| spread(&world.topology, &v.members).enclosure);
        worst.push(most.max().unwrap());
    }
    assert_eq!(worst, [2, 2, 2, 1]);
}

#[test]
fn what_is_lost_comes_first_and_the_thinnest_volume_before_all() {
    let mut world = World::new(profile(4, 2), SHARD, 5);
    for _ in 0..8 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(40);
    settle(&mut world, "before");
    let lost: Vec<EnclosureId> = world.topology.enclosures.keys().copied().take(2).collect();
    for id in &lost {
        world.topology.enclosures.get_mut(id).unwrap().state = EnclosureState::Out;
    }
    world.add(1, 6, DRIVE);
    let plan = world.plan();
    let spare = |step: &Move| {
        let volume = &world.volumes[&step.volume];
        2 - missing_members(&world.topology, volume).len()
    };
    let repairs: Vec<usize> = plan
        .moves
        .iter()
        .take_while(|step| step.reason == Reason::Repair)
        .map(spare)
        .collect();
    assert!(repairs.is_sorted());
    assert_eq!((repairs.first(), repairs.last()), (Some(&0), Some(&1)));
    let after = plan.moves.iter().skip(repairs.len());
    assert!(after.clone().all(|step| step.reason != Reason::Repair));
    let lost_bytes: u64 = world
        .volumes
        .values()
        .map(|v| v.bytes * missing_members(&world.topology, v).len() as u64)
        .sum();
    assert_eq!(plan.summary.rebuilt_bytes, lost_bytes);
    settle(&mut world, "two lost");
}

#[test]
fn a_drained_enclosure_is_emptied_and_each_shard_moves_once() {
    let mut world = World::new(profile(4, 2), SHARD, 6);
    for _ in 0..8 {
        world.add(1, 12, DRIVE);
    }
    world.fill_to(50);
    settle(&mut world, "before");
    let gone = EnclosureId::new(3);
    let drives = world
        .topology
        .drives
        .values()
        .filter(|d| d.enclosure == gone);
    world.leaving = drives.map(|drive| drive.id).collect();
    let plan = world.plan();
    assert!(
        plan.moves
            .iter()
            .all(|step| !world.leaving.contains(&step.to))
    );
    let places: BTreeSet<_> = plan.moves.iter().map(|m| (m.volume, m.member)).collect();
    assert_eq!(places.len(), plan.moves.len());
    assert_eq!(plan.summary.rebuilt_bytes, 0);
    settle(&mut world, "drain");
    assert!(!world.topology.enclosures.contains_key(&gone));
}

#[test]
fn a_replaced_drive_is_rebuilt_onto_the_cluster() {
    let mut world = World::new(profile(8, 3), SHARD, 7);
    for _ in 0..12 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(50);
    settle(&mut world, "before");
    world.fail_drive().unwrap();
    let enclosure = world.add(1, 1, DRIVE);
    let summary = settle(&mut world, "replace");
    assert!(summary.rebuilt_bytes > 0 && world.topology.enclosures.contains_key(&enclosure));
}

#[test]
fn a_drive_that_grew_takes_more() {
    let mut world = World::new(profile(4, 2), SHARD, 8);
    for _ in 0..7 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(60);
    settle(&mut world, "before");
    for drive in world.topology.drives.values_mut() {
        if drive.enclosure == EnclosureId::new(1) {
            drive.capacity *= 2;
        }
    }
    assert!(settle(&mut world, "resize").moved_bytes > 0);
}

#[test]
fn absent_enclosures_that_are_not_given_up_are_left_alone() {
    let mut world = World::new(profile(4, 2), SHARD, 9);
    for _ in 0..8 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(50);
    settle(&mut world, "before");
    let down = world
        .topology
        .enclosures
        .get_mut(&EnclosureId::new(2))
        .unwrap();
    down.state = EnclosureState::Down;
    let away = |drive: DriveId| world.topology.drives[&drive].enclosure != EnclosureId::new(2);
    let plan = world.plan();
    assert!(
        plan.moves
            .iter()
            .all(|step| away(step.to) && away(step.from.unwrap()))
    );
    assert!(plan.summary.moved_bytes * 20 < world.used());
}

#[test]
fn an_enclosure_of_great_size_gets_one_member_of_each_volume() {
    let mut world = World::new(profile(4, 2), SHARD, 14);
    for _ in 0..6 {
        world.add(1, 12, DRIVE);
    }
    world.fill_to(60);
    settle(&mut world, "before");
    let great = world.add(1, 12, DRIVE * 10);
    settle(&mut world, "add");
    let there = |drive: DriveId| world.topology.drives[&drive].enclosure == great;
    let held = world.volumes.values();
    let held = held
        .filter(|v| v.present().any(|(_, drive)| there(drive)))
        .count();
    assert!(
        held + 12 >= world.volumes.len(),
        "{held} of {}",
        world.volumes.len()
    );
}

#[test]
fn open_volumes_are_sealed_before_they_move() {
    let mut world = World::new(profile(4, 2), SHARD, 10);
    for _ in 0..6 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(60);
    settle(&mut world, "before");
    for volume in world.volumes.values_mut() {
        volume.state = crate::volume::VolumeState::Open;
    }
    world.add(1, 6, DRIVE);
    let plan = world.plan();
    let moved: BTreeSet<VolumeId> = plan.moves.iter().map(|step| step.volume).collect();
    assert!(!moved.is_empty());
    assert_eq!(plan.seals.iter().copied().collect::<BTreeSet<_>>(), moved);
}

/// PROTOCOLS 15: no moves onto a drive over 92 %.
#[test]
fn too_little_room_is_told_and_not_overfilled() {
    let mut world = World::new(profile(4, 2), SHARD, 11);
    for _ in 0..6 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(85);
    let drives = world
        .topology
        .drives
        .values()
        .filter(|d| d.enclosure == EnclosureId::new(1));
    world.leaving = drives.map(|drive| drive.id).collect();
    let plan = world.plan();
    assert!(plan.summary.overflow_bytes > 0);
    world.apply(&plan);
    assert!(plan.summary.fullest.1 <= MOVE_LIMIT_PERCENT * 10_000);
}

/// P6: growth by one enclosure at a time, of different sizes, with drives that fail on the way.
fn growth(profile: Profile, steps: u32, chains: u32, seed: u64, shard: u64) {
    let mut world = World::new(profile, shard, seed);
    let mut random = crate::seed::SplitMix64::new(seed ^ 1);
    for step in 1..=steps {
        let drives = 6 + u32::try_from(random.below(3)).unwrap() * 3;
        let capacity = DRIVE / 2 * (1 + u64::try_from(random.below(3)).unwrap());
        world.add(1 + step % chains, drives, capacity);
        let what = format!("{profile}, seed {seed}, step {step}");
        // On few drives of different sizes a volume is on nearly all: the smallest decide.
        if world.topology.drives.len() < 2 * profile.width() {
            continue;
        }
        settle(&mut world, &what);
        world.fill_to(55);
        settle(&mut world, &format!("{what}, filled"));
        if random.below(3) == 0 {
            world.fail_drive();
            settle(&mut world, &format!("{what}, a drive lost"));
        }
    }
}

#[test]
fn growth_to_many_enclosures_stays_within_the_bound() {
    let shard = match std::env::var_os("ENFILADE_SOAK") {
        Some(_) => SHARD,
        None => 4 * SHARD,
    };
    growth(profile(4, 2), 200, 1, 12, shard);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(12)
    })]
    #[test]
    fn growth_of_any_profile_stays_within_the_bound(
        k in 2u8..=20, m in 1u8..=4, chains in 1u32..4, seed in 0u64..1000,
    ) {
        growth(profile(k, m), 12, chains, seed, SHARD);
        }
}

#[test]
fn growth_of_the_usual_profiles_on_chains_and_rings_stays_within_the_bound() {
    let profiles = [(2, 1), (4, 2), (8, 3), (10, 4), (20, 4)];
    for (chains, (k, m)) in (1..).zip(profiles) {
        growth(profile(k, m), 20, chains % 4 + 1, 20, 2 * SHARD);
    }
}

#[test]
fn volumes_on_enough_chains_survive_any_cut_and_on_a_ring_too() {
    for (chains, closed) in [(3, false), (1, true), (1, false)] {
        let mut world = World::new(profile(4, 2), SHARD, 15);
        for enclosure in 0..9 {
            world.add(1 + enclosure % chains, 6, DRIVE);
        }
        if closed {
            world.close();
        }
        world.fill_to(40);
        world.add(1, 6, DRIVE);
        world.fail_drive();
        settle(&mut world, "chains");
        let mut volumes = world.volumes.values();
        let survive = volumes.all(|v| crate::reach::survives_any_cut(&world.topology, v));
        assert_eq!(survive, chains == 3 || closed);
    }
}

#[test]
fn a_new_chain_takes_members_until_no_cut_loses_data() {
    let mut world = World::new(profile(4, 2), SHARD, 16);
    for _ in 0..8 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(40);
    settle(&mut world, "one chain");
    let mut violated = Vec::new();
    for chain in [2, 2, 2, 3, 3, 3] {
        world.add(chain, 6, DRIVE);
        violated.push(settle(&mut world, "more").violations.1.chain);
    }
    assert_eq!(violated.last(), Some(&0), "{violated:?}");
    let mut volumes = world.volumes.values();
    assert!(volumes.all(|v| crate::reach::survives_any_cut(&world.topology, v)));
}

#[test]
fn a_drain_that_breaks_a_promise_is_refused_with_the_reason() {
    let drain = |enclosures: u32, drives: u32, percent: u64| {
        let mut world = World::new(profile(4, 2), SHARD, 17);
        for _ in 0..enclosures {
            world.add(1, drives, DRIVE);
        }
        world.fill_to(percent);
        settle(&mut world, "before");
        let gone = EnclosureId::new(1);
        let drives = world.topology.drives.values();
        world.leaving = drives
            .filter(|d| d.enclosure == gone)
            .map(|d| d.id)
            .collect();
        world.plan().allowed()
    };
    assert_eq!(drain(8, 4, 50), Ok(()));
    // Two members an enclosure still survive the loss of one.
    assert_eq!(drain(4, 8, 50), Ok(()));
    assert!(matches!(drain(3, 8, 50), Err(Refusal::OneEnclosureLoses { volumes }) if volumes > 0));
    assert!(matches!(drain(8, 4, 84), Err(Refusal::NoRoom { bytes }) if bytes > 0));
    assert!(matches!(
        drain(6, 1, 30),
        Err(Refusal::TooFewDrives { .. } | Refusal::NoRoom { .. })
    ));
}

#[test]
fn a_gone_drive_waits_when_it_is_said_to() {
    let mut world = World::new(profile(4, 2), SHARD, 13);
    for _ in 0..8 {
        world.add(1, 6, DRIVE);
    }
    world.fill_to(50);
    settle(&mut world, "before");
    let drive = world.fail_drive().unwrap();
    world.topology.drives.get_mut(&drive).unwrap().state = DriveState::Gone;
    let waiting = BTreeMap::from([(drive, Wait::Usual)]);
    let input = Input {
        topology: &world.topology,
        leaving: &BTreeSet::new(),
        waiting: &waiting,
        other: &BTreeMap::new(),
        seed: 7,
    };
    assert_eq!(plan(&input, world.volumes.values()).moves, []);
    assert!(!world.plan().moves.is_empty());
}

mod mixed;
mod urgent;
