//! Shards of mixed sizes, as sealing volumes before they are full makes them.

use super::*;
use crate::seed::SplitMix64;

/// The dual bound is below the least where sizes are mixed (an exhaustive search of small cases
/// finds it 3 % below, and plans 1 % above the least). How much of the 8 % here is the bound's, and
/// how much the plan's, is not known: more than the 5 % that are promised for shards of one size.
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
        assert!(
            moved <= (bound / 100 * 108).max(bound + SHARD),
            "{seed}: {moved}, {bound}"
        );
        assert_eq!(plan.summary.unmet_bytes, 0, "{seed}");
        world.apply(&plan);
        assert_eq!(world.plan().moves, [], "{seed}");
    }
}
