//! How full each drive should be: the lowest level that capacity and spread allow.
//!
//! Spread bounds what a domain may hold: with at most `h` members of any volume in an enclosure, it
//! can hold no more than `h` times the bytes of one shard of every volume, however large it is.
//! Below these bounds all drives are filled to the same share of their capacity. For shards of one
//! size that is possible up to less than one shard a drive: a fraction of every volume on every
//! drive, as its target says, keeps all limits, and where a flow with fractions fits, one with
//! whole numbers does (each volume is a source of its members, through its chains and enclosures,
//! each with a limit, to the drives).

use super::sites::{Role, Sites};
use super::state::MOVE_LIMIT_PERCENT;
use super::table::Table;
use crate::choose::FILL_LIMIT_PERCENT;
use crate::profile::Profile;

/// How far from its target a drive may stay, in percent of the target, where that is more than one
/// shard. Less is not worth a move, and would be undone by the next writes.
pub const EVEN_PERCENT: u64 = 2;

/// The most members of a volume in one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) enclosure: usize,
    /// Of an open chain; a closed one has no limit, because one cut strands nothing of it.
    pub(crate) chain: usize,
    /// Members of a volume.
    pub(crate) width: usize,
}

impl Limits {
    pub(crate) fn chain(&self, sites: &Sites, chain: u32) -> usize {
        match sites.closed[chain as usize] {
            true => self.width,
            false => self.chain,
        }
    }
}

/// What a plan aims at.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    /// By profile.
    pub(crate) limits: Vec<Limits>,
    /// Bytes of shards that each drive should hold.
    pub(crate) target: Vec<u64>,
    /// The least and the most that it may hold instead.
    pub(crate) low: Vec<u64>,
    pub(crate) high: Vec<u64>,
    /// Bytes that fit nowhere.
    pub(crate) overflow: u64,
}

/// Bounds of bytes by domain.
struct Caps {
    drive: Vec<u64>,
    enclosure: Vec<u64>,
    chain: Vec<u64>,
}

/// The best that can be had.
pub(crate) fn goal(sites: &Sites, table: &Table, used: &[u64], vacant: u64) -> Goal {
    let sums = table.bytes_of_profiles();
    let stays = |drive: &usize| sites.role[*drive] == Role::Stays;
    let frozen: u64 = (0..used.len()).filter(stays).map(|d| used[d]).sum();
    let total = used.iter().sum::<u64>().saturating_add(vacant) - frozen;
    let mut limits: Vec<Limits> = table.profiles.iter().map(|p| best(sites, *p)).collect();
    let whole = table.shard_bytes_all();
    let mut caps = caps(sites, used, whole, &sums, &limits);
    // Too little fits: the spread gives way, where it is what stands in the way.
    while caps.room(sites, true) < total {
        let of_chains = caps.room(sites, false) >= total;
        if !relax(&mut limits, of_chains) {
            break;
        }
        caps = self::caps(sites, used, whole, &sums, &limits);
    }
    let overflow = total.saturating_sub(caps.room(sites, true));
    let mut target = share_out(sites, &caps, total - overflow);
    for drive in (0..used.len()).filter(stays) {
        target[drive] = used[drive];
    }
    let (low, high) = tolerance(sites, table, &target);
    Goal {
        limits,
        target,
        low,
        high,
        overflow,
    }
}

/// One member more in each domain; whether anything changed.
fn relax(limits: &mut [Limits], of_chains: bool) -> bool {
    let mut changed = false;
    for limits in limits {
        let width = limits.width;
        let limit = match of_chains {
            true => &mut limits.chain,
            false => &mut limits.enclosure,
        };
        changed |= *limit < width;
        *limit = (*limit + 1).min(width);
    }
    changed
}

/// What each drive may hold at least and at most: one shard more or less than its target, or
/// [`EVEN_PERCENT`]. In whole shards, where all are of one size.
fn tolerance(sites: &Sites, table: &Table, target: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let (shard, whole) = (table.shard_bytes_max(), table.shard_bytes_all().is_some());
    let bounds = sites.all().map(|drive| {
        let target = target[drive as usize];
        match sites.role(drive) {
            Role::Stays => return (target, target),
            Role::Leaves | Role::Lost => return (0, 0),
            Role::Takes | Role::Gives => {}
        }
        let slack = shard.max(target / 100 * EVEN_PERCENT);
        let most = sites.room(drive, MOVE_LIMIT_PERCENT).max(target);
        let (low, high) = (target.saturating_sub(slack), (target + slack).min(most));
        match whole {
            true => (low.next_multiple_of(shard), high / shard * shard),
            false => (low, high),
        }
    });
    bounds.map(|(low, high)| (low.min(high), high)).unzip()
}

/// The least that the members of a volume can have in the worst enclosure and chain.
fn best(sites: &Sites, profile: Profile) -> Limits {
    let stays = |drive: &&u32| !sites.must_go(**drive);
    let count = |drives: &Vec<u32>| drives.iter().filter(stays).count();
    let free: Vec<usize> = sites.drives_in.iter().map(count).collect();
    let mut members = vec![0usize; free.len()];
    let mut in_chain = vec![0usize; sites.enclosures_in.len()];
    for _ in 0..profile.width() {
        let open = (0..free.len()).filter(|e| members[*e] < free[*e]);
        let rank = |e: &usize| (members[*e], in_chain[sites.chain_of[*e] as usize]);
        let Some(least) = open.min_by_key(rank) else {
            break;
        };
        members[least] += 1;
        let chain = sites.chain_of[least] as usize;
        in_chain[chain] += usize::from(!sites.closed[chain]);
    }
    let has_drives = |chain: &&Vec<u32>| chain.iter().any(|e| free[*e as usize] > 0);
    let chains = sites.enclosures_in.iter().filter(has_drives).count();
    let share = profile.width().div_ceil(chains.max(1)).max(profile.m());
    Limits {
        enclosure: members.iter().copied().max().unwrap_or(0).max(1),
        chain: in_chain.iter().copied().max().unwrap_or(0).max(share),
        width: profile.width(),
    }
}

/// Bounds of bytes; of a drive in whole shards, where all are of one size.
fn caps(sites: &Sites, used: &[u64], whole: Option<u64>, sums: &[u64], limits: &[Limits]) -> Caps {
    let all = sums
        .iter()
        .fold(0, |sum: u64, one| sum.saturating_add(*one));
    let drive = |drive: u32| {
        let room = sites.room(drive, FILL_LIMIT_PERCENT).min(all);
        let room = whole.map_or(room, |shard| room / shard * shard);
        match sites.role(drive) {
            Role::Takes => room,
            Role::Gives => room.min(used[drive as usize]),
            Role::Stays | Role::Leaves | Role::Lost => 0,
        }
    };
    let frozen = |enclosure: usize| -> u64 {
        let drives = sites.drives_in[enclosure].iter();
        let frozen = drives.filter(|drive| sites.role(**drive) == Role::Stays);
        frozen.map(|drive| used[*drive as usize]).sum()
    };
    // Members of one volume that fit into an enclosure.
    let fit = |enclosure: usize, limits: &Limits| {
        let drives = sites.drives_in[enclosure].iter();
        let there = drives.filter(|drive| !sites.must_go(**drive)).count();
        there.min(limits.enclosure)
    };
    let in_all = |fit: &dyn Fn(&Limits) -> usize| -> u64 {
        let parts = sums.iter().zip(limits);
        let bytes = parts.map(|(sum, limits)| sum.saturating_mul(fit(limits) as u64));
        bytes.fold(0, u64::saturating_add)
    };
    let enclosure = |e: usize| in_all(&|limits| fit(e, limits)).saturating_sub(frozen(e));
    let chain = |c: u32| {
        let enclosures = || sites.enclosures_in[c as usize].iter().map(|e| *e as usize);
        let most = |limits: &Limits| -> usize {
            let sum: usize = enclosures().map(|e| fit(e, limits)).sum();
            sum.min(limits.chain(sites, c))
        };
        in_all(&most).saturating_sub(enclosures().map(frozen).sum())
    };
    Caps {
        drive: sites.all().map(drive).collect(),
        enclosure: (0..sites.drives_in.len()).map(enclosure).collect(),
        chain: (0..).take(sites.enclosures_in.len()).map(chain).collect(),
    }
}

impl Caps {
    /// Bytes that fit in all.
    fn room(&self, sites: &Sites, chains: bool) -> u64 {
        let enclosure = |e: &u32| {
            let drives = sites.drives_in[*e as usize].iter();
            let sum: u64 = drives.map(|d| self.drive[*d as usize]).sum();
            sum.min(self.enclosure[*e as usize])
        };
        let chain = |(c, enclosures): (usize, &Vec<u32>)| {
            let sum: u64 = enclosures.iter().map(enclosure).sum();
            if chains { sum.min(self.chain[c]) } else { sum }
        };
        sites.enclosures_in.iter().enumerate().map(chain).sum()
    }
}

/// Fills drives, enclosures and chains to one level, as far as their bounds allow.
fn share_out(sites: &Sites, caps: &Caps, total: u64) -> Vec<u64> {
    let mut target = vec![0u64; caps.drive.len()];
    let fill = |drives: &[u32], level: u64| -> u64 {
        drives.iter().map(|d| at(sites, caps, *d, level)).sum()
    };
    let enclosure = |e: u32, level: u64| {
        let sum = fill(&sites.drives_in[e as usize], level);
        sum.min(caps.enclosure[e as usize])
    };
    let chain = |c: usize, level: u64| -> u64 {
        let enclosures = sites.enclosures_in[c].iter();
        let sum: u64 = enclosures.map(|e| enclosure(*e, level)).sum();
        sum.min(caps.chain[c])
    };
    let chains = 0..sites.enclosures_in.len();
    let top = level_for(total, |level| chains.clone().map(|c| chain(c, level)).sum());
    for c in chains.clone() {
        let enclosures = &sites.enclosures_in[c];
        let in_chain = level_for(chain(c, top), |level| {
            enclosures.iter().map(|e| enclosure(*e, level)).sum()
        });
        for e in enclosures {
            let drives = &sites.drives_in[*e as usize];
            let inner = level_for(enclosure(*e, in_chain), |level| fill(drives, level));
            for drive in drives {
                target[*drive as usize] = at(sites, caps, *drive, inner);
            }
        }
    }
    target
}

/// A full drive; levels are whole numbers below it.
const FULL: u32 = 40;

/// Bytes of shards on a drive that is filled to a level.
fn at(sites: &Sites, caps: &Caps, drive: u32, level: u64) -> u64 {
    let drive = drive as usize;
    let bytes = (u128::from(sites.capacity[drive]) * u128::from(level)) >> FULL;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    bytes
        .saturating_sub(sites.other[drive])
        .min(caps.drive[drive])
}

/// The lowest level at which `bytes` reaches a total, by bisection; full when none does.
fn level_for(total: u64, bytes: impl Fn(u64) -> u64) -> u64 {
    let (mut low, mut high) = (0u64, 1 << FULL);
    while low < high {
        let middle = low.midpoint(high);
        match bytes(middle) < total {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    high
}
