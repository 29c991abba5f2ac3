//! What whole shards add to the bound: a drive gives and gets no parts of them.
//!
//! Prices know only bytes. A drive that has a megabyte too much, and nothing but shards of a
//! hundred, gives a hundred. So, where sizes differ, two more bounds are counted drive by drive:
//! what must leave those that hold too much, each by the cheapest choice of its own shards that is
//! enough, beside what leaves its drive anyhow; and what must enter those that hold too little, by
//! the cheapest choice of shards that they lack. A shard leaves one drive and enters one, so that
//! each of the two is a bound by itself.

use super::Case;
use crate::plan::sites::Role;

/// Drives, shards to choose from, and sums of them, beyond which only bytes are counted: there
/// whole shards make no difference to speak of.
const DRIVES: usize = 1024;
const SHARDS: usize = 64;
const SUMS: usize = 4096;

impl Case<'_> {
    /// The larger of both bounds.
    pub(super) fn whole(&self) -> u64 {
        if self.sites.len() > DRIVES || self.table.shard_bytes_all().is_some() {
            return 0;
        }
        self.leave().max(self.enter())
    }

    /// The least that leaves drives.
    fn leave(&self) -> u64 {
        let mut shards: Vec<Vec<u64>> = vec![Vec::new(); self.sites.len()];
        let even = |drive: u32| matches!(self.sites.role(drive), Role::Takes | Role::Gives);
        let over = |drive: u32| {
            let index = drive as usize;
            index < self.before.len() && even(drive) && self.before[index] > self.high(drive)
        };
        let mut sum = 0u64;
        for volume in 0..self.table.len() {
            let bytes = self.table.bytes[volume];
            let origins = self.table.origins(volume);
            let mut from_full = 0;
            for drive in origins.iter().filter(|drive| over(**drive)) {
                shards[*drive as usize].push(bytes);
                from_full += 1;
            }
            // What goes anyhow may be from those drives, unless its own is lost or to be emptied.
            let (lost, crowded) = self.goes_anyhow(volume);
            let more = lost + crowded.saturating_sub(from_full);
            sum = sum.saturating_add(bytes.saturating_mul(more as u64));
        }
        for (drive, shards) in (0u32..).zip(&mut shards) {
            if over(drive) {
                let need = self.before[drive as usize] - self.high(drive);
                sum = sum.saturating_add(least_sum(shards, need));
            }
        }
        sum
    }

    /// Members that get a place for one that they cannot keep, and those that are too many
    /// somewhere.
    fn goes_anyhow(&self, volume: usize) -> (usize, usize) {
        if self.can_stay[volume] {
            return (0, 0);
        }
        let stay = |drive: &&u32| !self.sites.must_go(**drive);
        let placed = self.table.members(volume).iter().filter(stay).count();
        let stays = self.table.origins(volume).iter().filter(stay).count();
        let kept = self.kept(volume);
        (
            placed.saturating_sub(stays),
            stays.min(placed).saturating_sub(kept),
        )
    }

    /// The least that enters drives.
    fn enter(&self) -> u64 {
        let takes = |drive: &u32| self.sites.role(*drive) == Role::Takes;
        let mut sum = 0u64;
        for drive in self.sites.all().filter(takes) {
            let low = self.low(drive);
            let need = low.saturating_sub(self.before[drive as usize]);
            if need == 0 {
                continue;
            }
            let lacks = |volume: &usize| !self.table.origins(*volume).contains(&drive);
            let volumes = (0..self.table.len()).filter(lacks);
            let volumes = volumes.take(SHARDS + 1);
            let mut shards: Vec<u64> = volumes.map(|one| self.table.bytes[one]).collect();
            sum = sum.saturating_add(least_sum(&mut shards, need));
        }
        sum
    }
}

/// The least sum of some of these shards that is no less than what is needed; what is needed itself
/// when there are too many to say, and their sum when that is not enough.
fn least_sum(shards: &mut [u64], need: u64) -> u64 {
    if shards.len() > SHARDS {
        return need;
    }
    // Small ones last: by then most sums are known to be too small to matter.
    shards.sort_unstable_by(|a, b| b.cmp(a));
    let mut best = u64::MAX;
    let mut sums = vec![0u64];
    for shard in shards.iter().filter(|shard| **shard > 0) {
        let mut more = Vec::new();
        for sum in &sums {
            let sum = sum.saturating_add(*shard);
            if sum >= need {
                best = best.min(sum);
            } else {
                more.push(sum);
            }
        }
        sums.extend(more);
        sums.sort_unstable();
        sums.dedup();
        if sums.len() > SUMS {
            return need;
        }
    }
    match best {
        u64::MAX => need,
        best => best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_sum_of_whole_shards_is_found() {
        for (shards, need, least) in [
            (vec![96, 96, 96], 12, 96),
            (vec![96, 5, 5, 5], 12, 15),
            (vec![96, 5, 5], 12, 96),
            (vec![7, 6, 5], 12, 12),
            (vec![7, 6, 5], 13, 13),
            (vec![7, 6, 5], 14, 18),
            (vec![3; 65], 4, 4),
            (vec![3], 4, 4),
        ] {
            assert_eq!(least_sum(&mut shards.clone(), need), least, "{shards:?}");
        }
    }
}
