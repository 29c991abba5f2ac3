//! Shards of mixed sizes, as sealing volumes before they are full makes them.

use super::*;
use crate::ids::EnclosureId;
use crate::seed::SplitMix64;
use crate::topology::EnclosureState;

#[test]
fn growth_with_shards_of_mixed_sizes_moves_little_more_than_the_bound_and_only_once() {
    for seed in 0..40 {
        let mut random = SplitMix64::new(seed);
        let mut world = World::new(profile(2, 1), SHARD, seed);
        for _ in 0..4 {
            world.add(1, 2, DRIVE);
        }
        world.fill_to(30);
        for volume in world.volumes.values_mut() {
            volume.bytes = SHARD / 10 * (1 + random.index(10) as u64);
        }
        let first = world.plan();
        world.apply(&first);
        world.add(1, 4, DRIVE);
        let plan = world.plan();
        let (moved, bound) = (plan.summary.moved_bytes, plan.summary.bound_bytes);
        assert!(moved <= bound / 100 * 105, "{seed}: {moved}, {bound}");
        assert_eq!(plan.summary.unmet_bytes, 0, "{seed}");
        world.apply(&plan);
        assert_eq!(world.plan().moves, [], "{seed}");
    }
}

/// What happens to a cluster of a few enclosures of unequal size, step by step.
fn step(world: &mut World, step: u32) {
    match step {
        1..=4 => drop(world.add(1, [2, 4, 3, 6][step as usize - 1], DRIVE)),
        5 => {
            let drives = world.topology.drives.values();
            let last = drives.filter(|drive| drive.enclosure.get() >= 6);
            world.leaving = last.map(|drive| drive.id).collect();
        }
        6 => drop(world.fail_drive()),
        7 => {
            for drive in world.topology.drives.values_mut() {
                drive.state = DriveState::Healthy;
            }
        }
        8 => {
            let lost = EnclosureId::new(4);
            let lost = world.topology.enclosures.get_mut(&lost);
            lost.unwrap().state = EnclosureState::Out;
        }
        _ => {}
    }
}

/// A few volumes, from nearly empty to full. A single one that is moved may be more than what is
/// proven to be necessary; over all changes plans are within the promise.
#[test]
fn with_few_volumes_of_any_sizes_plans_are_near_the_bound_and_made_once() {
    let mut random = SplitMix64::new(77);
    let (mut moved, mut bound) = (0, 0);
    for seed in 0..40 {
        let mut world = World::new(profile(4, 2), SHARD, seed);
        for drives in [3, 3, 3, 5] {
            world.add(1, drives, DRIVE);
        }
        world.fill_to(2 + random.index(20) as u64);
        for volume in world.volumes.values_mut() {
            let scale = [1, 10, 100, 1000][random.index(4)];
            volume.bytes = SHARD / 1000 * (scale + random.index(100) as u64);
        }
        for number in 0..9 {
            step(&mut world, number);
            let plan = world.plan();
            moved += plan.summary.moved_bytes;
            bound += plan.summary.bound_bytes;
            world.apply(&plan);
            assert_eq!(world.plan().moves, [], "seed {seed}, step {number}");
        }
    }
    assert!(moved / 103 * 100 <= bound, "{moved}, {bound}");
}
