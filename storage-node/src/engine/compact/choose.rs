//! Which log is compacted next: the one that gives back most for what it costs, once that pays.

use crate::engine::{Fill, ShardKey, ShardStats};

/// Gaining less is not worth the files that are made and synced.
const GAIN_MIN: u64 = 64 * 1024;
/// On a drive without room, everything that frees a block is.
const GAIN_MIN_FULL: u64 = 4096;
/// A drive this close to its limit, in percent of its capacity, counts as without room.
const NEARLY_FULL_PERCENT: u8 = 3;
/// Waste in percent of a log: below it is left alone; above it pays for itself, however much waste
/// the drive has in all.
const WORTHLESS_PERCENT: u128 = 5;
const PAYS_PERCENT: u128 = 50;
/// A log so many times longer than what it takes is mostly holes: each costs the file system, and
/// whoever walks through the log.
const HOLES: u64 = 8;
const HOLES_MIN: u64 = 1024 * 1024;

/// Chooses the shard to compact next; none when the waste does not pay for it. `waste_percent`:
/// what a drive tolerates, of all its logs; `full_percent`: where appends are refused.
pub(crate) fn choose(
    shards: impl Iterator<Item = ShardStats>,
    fill: &Fill,
    (waste_percent, full_percent): (u8, u8),
) -> Option<ShardKey> {
    let shards: Vec<ShardStats> = shards.filter(|shard| shard.damaged == 0).collect();
    let allocated: u128 = shards.iter().map(|s| u128::from(s.allocated())).sum();
    let waste: u128 = shards.iter().map(|s| u128::from(s.waste)).sum();
    let limit = full_percent.saturating_sub(NEARLY_FULL_PERCENT);
    let full = is_above(fill.used.into(), fill.capacity.into(), limit.into());
    let wasteful = is_above(waste, allocated, waste_percent.into());
    let pays = |shard: &&ShardStats| {
        let above = |percent| is_above(shard.waste.into(), shard.allocated().into(), percent);
        let holes = shard.log_bytes > HOLES * (shard.allocated() + HOLES_MIN);
        match full {
            true => shard.waste >= GAIN_MIN_FULL,
            false => {
                let enough = shard.waste >= GAIN_MIN;
                holes || enough && (above(PAYS_PERCENT) || wasteful && above(WORTHLESS_PERCENT))
            }
        }
    };
    let worth = |shard: &&ShardStats| {
        let cost = u128::from(shard.allocated().saturating_sub(shard.waste)) + 4096;
        u128::from(shard.waste) * 1_000_000 / cost
    };
    let fits = |shard: &&ShardStats| {
        let cost = shard.allocated().saturating_sub(shard.waste);
        fill.capacity.saturating_sub(fill.used) > cost
    };
    let best = shards.iter().filter(pays).filter(fits).max_by_key(worth);
    best.map(|shard| shard.key)
}

fn is_above(part: u128, whole: u128, percent: u128) -> bool {
    part * 100 > whole * percent
}

#[cfg(test)]
mod tests {
    use enfilade_placement::{Epoch, VolumeId};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn shard(volume: u64, log_bytes: u64, waste: u64) -> ShardStats {
        ShardStats {
            key: ShardKey {
                volume: VolumeId::new(volume),
                member: 0,
            },
            epoch: Epoch::FIRST,
            fence: Epoch::FIRST,
            log_bytes,
            live: log_bytes - waste,
            dead: 0,
            punched: 0,
            waste,
            damaged: 0,
        }
    }

    fn chosen(shards: &[ShardStats], used: u64) -> Option<u64> {
        let fill = Fill {
            capacity: 1000 * MIB,
            used: used * MIB,
            logs: 0,
            dead: 0,
        };
        let key = choose(shards.iter().copied(), &fill, (15, 95));
        key.map(|key| key.volume.get())
    }

    #[test]
    fn the_log_that_gives_back_most_for_its_cost_is_chosen_once_there_is_much_waste() {
        let little = [shard(1, 100 * MIB, 10 * MIB), shard(2, 100 * MIB, 19 * MIB)];
        assert_eq!(chosen(&little, 200), None);
        let much = [shard(1, 100 * MIB, 12 * MIB), shard(2, 100 * MIB, 30 * MIB)];
        assert_eq!(chosen(&much, 200), Some(2));
    }

    #[test]
    fn a_log_that_is_mostly_waste_or_holes_is_chosen_by_itself() {
        let mut shards = vec![shard(1, 900 * MIB, 0), shard(2, 10 * MIB, 6 * MIB)];
        assert_eq!(chosen(&shards, 910), Some(2));
        shards[1] = shard(2, MIB / 32, MIB / 64);
        assert_eq!(chosen(&shards, 900), None);
        shards[1] = ShardStats {
            live: MIB,
            punched: 99 * MIB,
            ..shard(2, 100 * MIB, 0)
        };
        assert_eq!(chosen(&shards, 900), Some(2));
    }

    #[test]
    fn on_a_full_drive_every_block_counts_and_the_copy_has_to_fit() {
        let shards = [shard(1, 900 * MIB, 40 * MIB), shard(2, 30 * MIB, MIB / 64)];
        assert_eq!(chosen(&shards, 930), Some(2));
        assert_eq!(chosen(&shards, 990), None);
        let damaged = ShardStats {
            damaged: 1,
            ..shards[1]
        };
        assert_eq!(chosen(&[damaged], 930), None);
    }
}
