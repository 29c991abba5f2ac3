//! A plan in the making: who holds what after the moves so far, and where a shard can go.

use std::collections::BTreeSet;

use super::level::{Goal, Limits};
use super::sites::{Role, Sites, VACANT};
use super::table::Table;
use super::tally::{Tally, is_doubled};

/// No drive is fuller than this in percent after the moves onto it (PROTOCOLS 15).
pub const MOVE_LIMIT_PERCENT: u64 = 92;

/// How a move may change the spread of its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The target's enclosure, or its chain at as many in the enclosure, gets fewer members than
    /// the source's has.
    Better,
    /// As [`Rule::Better`], or the spread stays as good as it is.
    Keep,
    /// The limits hold, and the target's enclosure has at most so many already.
    Near(usize),
    /// The limits hold.
    Limits,
    /// Anything, on a drive of its own.
    Any,
}

/// What a member has to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Drive,
    Enclosure(u32),
    Chain(u32),
}

/// Places by drive, of members that were there at first.
struct Held {
    start: Vec<u32>,
    places: Vec<u32>,
}

impl Held {
    fn of(drives: usize, origins: &[u32]) -> Self {
        let mut start = vec![0u32; drives + 1];
        for drive in origins.iter().filter(|drive| **drive != VACANT) {
            start[*drive as usize + 1] += 1;
        }
        for drive in 0..drives {
            start[drive + 1] += start[drive];
        }
        let mut places = vec![0u32; start[drives] as usize];
        let mut next = start.clone();
        for (place, drive) in (0..).zip(origins) {
            if *drive != VACANT {
                places[next[*drive as usize] as usize] = place;
                next[*drive as usize] += 1;
            }
        }
        Self { start, places }
    }

    fn on(&self, drive: u32) -> &[u32] {
        let drive = drive as usize;
        &self.places[self.start[drive] as usize..self.start[drive + 1] as usize]
    }
}

/// Who holds what.
pub(crate) struct State<'a> {
    pub(crate) sites: &'a Sites,
    pub(crate) goal: &'a Goal,
    pub(crate) table: Table,
    pub(crate) used: Vec<u64>,
    /// Bytes of the largest shard.
    pub(crate) shard: u64,
    /// Whether it makes no difference which of its shards a drive gives: all are of one size, and
    /// sealed.
    pub(crate) alike: bool,
    held: Option<Held>,
    /// Places that a drive got, also such as left again.
    arrived: Vec<Vec<u32>>,
    /// What the drive of an enclosure lacks that lacks most, and the enclosure; those without any
    /// drive that takes shards are not in it.
    order: BTreeSet<(i64, u32)>,
    lacks_most: Vec<Option<i64>>,
}

impl<'a> State<'a> {
    pub(crate) fn new(sites: &'a Sites, goal: &'a Goal, table: Table, used: Vec<u64>) -> Self {
        let mut state = Self {
            sites,
            goal,
            shard: table.shard_bytes_max(),
            alike: table.is_alike(),
            table,
            held: None,
            arrived: vec![Vec::new(); used.len()],
            used,
            order: BTreeSet::new(),
            lacks_most: vec![None; sites.drives_in.len()],
        };
        for enclosure in (0..).take(sites.drives_in.len()) {
            state.sort(enclosure);
        }
        state
    }

    /// Bytes that a drive lacks of its target; negative: has too much.
    pub(crate) fn lacks(&self, drive: u32) -> i64 {
        let target = i64::try_from(self.goal.target[drive as usize]).unwrap_or(i64::MAX);
        target.saturating_sub_unsigned(self.used[drive as usize])
    }

    /// Bytes by which a drive has more than it may.
    pub(crate) fn surplus(&self, drive: u32) -> u64 {
        self.used[drive as usize].saturating_sub(self.goal.high[drive as usize])
    }

    /// Bytes by which a drive has less than it may.
    pub(crate) fn deficit(&self, drive: u32) -> u64 {
        self.goal.low[drive as usize].saturating_sub(self.used[drive as usize])
    }

    /// Drives that hold too much or too little.
    pub(crate) fn uneven(&self) -> Vec<u32> {
        let drives = self.sites.all();
        let even = |drive: &u32| self.surplus(*drive) > 0 || self.deficit(*drive) > 0;
        drives
            .filter(|drive| matches!(self.sites.role(*drive), Role::Takes | Role::Gives))
            .filter(even)
            .collect()
    }

    /// Bytes by which drives hold too much or too little.
    pub(crate) fn unmet(&self) -> u64 {
        let off = |drive: &u32| self.surplus(*drive) + self.deficit(*drive);
        self.uneven().iter().map(off).sum()
    }

    /// Bytes that move.
    pub(crate) fn moved(&self) -> u64 {
        let drives = self.sites.all();
        let arrived = drives.flat_map(|drive| self.arrived(drive));
        arrived
            .map(|place| self.table.bytes[self.table.at(place).0])
            .sum()
    }

    /// Volumes that have too many members somewhere.
    pub(crate) fn crowded(&self) -> Vec<usize> {
        let mut tally = Tally::new(self.sites);
        let mut is_crowded = |volume: &usize| {
            let limits = self.limits(*volume);
            let members = self.table.members(*volume);
            let worst = tally.worst(members, |drive| !self.sites.must_go(drive));
            let doubled = worst.enclosure > 1 && is_doubled(members);
            doubled || worst.enclosure > limits.enclosure || worst.chain > limits.chain
        };
        (0..self.table.len())
            .filter(|volume| is_crowded(volume))
            .collect()
    }

    fn sort(&mut self, enclosure: u32) {
        let drives = self.sites.drives_in[enclosure as usize].iter();
        let takes = drives.filter(|drive| self.sites.role(**drive) == Role::Takes);
        let most = takes.map(|drive| self.lacks(*drive)).max();
        let known = &mut self.lacks_most[enclosure as usize];
        if *known != most {
            if let Some(before) = known {
                self.order.remove(&(*before, enclosure));
            }
            *known = most;
            self.order.extend(most.map(|most| (most, enclosure)));
        }
    }

    pub(crate) fn limits(&self, volume: usize) -> Limits {
        self.goal.limits[self.table.profile(volume)]
    }

    /// Members of a volume that stay, except one.
    fn staying(&self, volume: usize, except: u32) -> impl Iterator<Item = u32> {
        let members = self.table.members(volume).iter().copied();
        let there = members.filter(move |drive| *drive != VACANT && *drive != except);
        there.filter(|drive| !self.sites.must_go(*drive))
    }

    /// Members of a volume in the enclosure of a drive and in its chain, without the drive.
    pub(crate) fn company(&self, volume: usize, drive: u32, except: u32) -> (usize, usize) {
        let enclosure = self.sites.enclosure(drive);
        let chain = self.sites.chain(enclosure);
        let (mut near, mut far) = (0, 0);
        for other in self.staying(volume, except).filter(|other| *other != drive) {
            let there = self.sites.enclosure(other);
            near += usize::from(there == enclosure);
            far += usize::from(self.sites.chain(there) == chain);
        }
        (near, far)
    }

    /// Whether the member at a place may go to a drive, as far as its volume goes.
    pub(crate) fn may_go(&self, place: u32, to: u32, rule: Rule) -> bool {
        let (volume, _) = self.table.at(place);
        let members = self.table.members(volume);
        let free = self.sites.role(to) == Role::Takes && !members.contains(&to);
        free && self.keeps(place, to, rule)
    }

    /// Whether a drive has room for the shard at a place.
    pub(crate) fn has_room(&self, place: u32, to: u32) -> bool {
        let bytes = self.table.bytes[self.table.at(place).0];
        let full = self.sites.room(to, MOVE_LIMIT_PERCENT);
        self.used[to as usize].saturating_add(bytes) <= full
    }

    /// Whether a move keeps a rule of spread.
    pub(crate) fn keeps(&self, place: u32, to: u32, rule: Rule) -> bool {
        let (volume, _) = self.table.at(place);
        let from = self.table.drive(place);
        if rule == Rule::Any {
            return true;
        }
        let limits = self.limits(volume);
        let there = self.company(volume, to, from);
        let chain = self.sites.chain(self.sites.enclosure(to));
        if there.0 >= limits.enclosure || there.1 >= limits.chain(self.sites, chain) {
            // Within a domain that has too many it is no worse.
            return self.crowding(place, to).is_some();
        }
        match rule {
            Rule::Limits | Rule::Any => true,
            Rule::Near(most) => there.0 <= most,
            Rule::Keep => !self.is_stay(place) || there <= self.company(volume, from, from),
            Rule::Better => self.is_stay(place) && there < self.company(volume, from, from),
        }
    }

    /// By how many members more domains are above their limits after a move; none where any
    /// enclosure or chain gets above its own that is not.
    pub(crate) fn crowding(&self, place: u32, to: u32) -> Option<i32> {
        let (volume, _) = self.table.at(place);
        let from = self.table.drive(place);
        if !self.is_stay(place) {
            return None;
        }
        let limits = self.limits(volume);
        let (old, new) = (self.sites.enclosure(from), self.sites.enclosure(to));
        if old == new {
            return Some(0);
        }
        let (there, here) = (
            self.company(volume, to, from),
            self.company(volume, from, from),
        );
        let more = |there: bool, here: bool| i32::from(there) - i32::from(here);
        let near = more(there.0 >= limits.enclosure, here.0 >= limits.enclosure);
        let (left, joined) = (self.sites.chain(old), self.sites.chain(new));
        let far = match left == joined {
            true => 0,
            false => more(
                there.1 >= limits.chain(self.sites, joined),
                here.1 >= limits.chain(self.sites, left),
            ),
        };
        (near <= 0 && far <= 0).then_some(near + far)
    }

    /// Whether the member at a place is on a drive that it need not leave.
    pub(crate) fn is_stay(&self, place: u32) -> bool {
        let drive = self.table.drive(place);
        drive != VACANT && !self.sites.must_go(drive)
    }

    /// Where a member can go: the enclosure whose emptiest drive lacks most, of those that fit,
    /// lack at least so much, and are outside of what the member has to leave.
    pub(crate) fn target(&self, place: u32, lacks: i64, rule: Rule, leave: Leave) -> Option<u32> {
        let outside = |enclosure: u32| match leave {
            Leave::Drive => true,
            Leave::Enclosure(left) => left != enclosure,
            Leave::Chain(left) => left != self.sites.chain(enclosure),
        };
        let enclosures = self.order.iter().rev();
        let lacking = enclosures.take_while(|(most, _)| *most >= lacks);
        let mut outside = lacking.filter(|(_, enclosure)| outside(*enclosure));
        outside.find_map(|(_, enclosure)| self.drive_in(place, *enclosure, lacks, rule))
    }

    fn drive_in(&self, place: u32, enclosure: u32, lacks: i64, rule: Rule) -> Option<u32> {
        let volume = self.table.at(place).0;
        let members = self.table.members(volume);
        let drives = self.sites.drives_in[enclosure as usize].iter().copied();
        let free = drives.filter(|drive| {
            self.sites.role(*drive) == Role::Takes
                && self.lacks(*drive) >= lacks
                && self.has_room(place, *drive)
                && !members.contains(drive)
        });
        let best = free.max_by_key(|drive| (self.lacks(*drive), std::cmp::Reverse(*drive)));
        // To the spread all drives of an enclosure are the same.
        best.filter(|drive| self.keeps(place, *drive, rule))
    }

    /// Makes a move.
    pub(crate) fn put(&mut self, place: u32, to: u32) {
        let (volume, _) = self.table.at(place);
        let bytes = self.table.bytes[volume];
        let from = self.table.drive(place);
        if from != VACANT {
            self.used[from as usize] -= bytes;
            self.sort(self.sites.enclosure(from));
        }
        self.used[to as usize] += bytes;
        self.sort(self.sites.enclosure(to));
        for changed in self.table.put(place, to).into_iter().flatten() {
            let drive = self.table.drive(changed);
            if drive != VACANT && self.table.is_moving(changed) {
                self.arrived[drive as usize].push(changed);
            }
        }
    }

    /// The places that moved to a drive.
    pub(crate) fn arrived(&self, drive: u32) -> Vec<u32> {
        let places = self.arrived[drive as usize].iter().copied();
        let there = |place: &u32| self.table.drive(*place) == drive && self.table.is_moving(*place);
        let mut places: Vec<u32> = places.filter(there).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The places on a drive that were there at first.
    pub(crate) fn stayed(&mut self, drive: u32) -> Vec<u32> {
        let held = match self.held.take() {
            Some(held) => held,
            None => Held::of(self.sites.len(), self.table.origins_of_all()),
        };
        let places = held.on(drive).iter().copied();
        let there = places.filter(|place| self.table.drive(*place) == drive);
        let places = there.collect();
        self.held = Some(held);
        places
    }

    /// The places on a drive: those that moved there, then those that were there at first.
    pub(crate) fn places(&mut self, drive: u32) -> Vec<u32> {
        let mut places = self.arrived(drive);
        places.extend(self.stayed(drive));
        places
    }
}
