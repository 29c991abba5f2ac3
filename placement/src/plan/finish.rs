//! What direct moves leave to be done: the shortest ways over other drives.
//!
//! A plan is a flow: each volume sends its members through its chains and enclosures, which have
//! limits, to drives, which have bounds. Moving a shard costs one, sending one on that moves anyhow
//! nothing, and leaving one after all where it was gains one. A flow costs the least if and only if
//! no cycle of changes has negative cost; here such cycles are looked for (Bellman and Ford) among
//! drives, and made, until there are none. The distances then prove it: as prices of drives they
//! make [`crate::bound`] equal to what is moved, where all shards are of one size.
//!
//! Large clusters are finished on a part of their drives, and without the proof.

use super::sites::{Role, VACANT};
use super::state::{MOVE_LIMIT_PERCENT, Rule, State};
use crate::seed::SplitMix64;

/// Drives among which ways are looked for.
const DRIVES: usize = 1024;

/// Places of a drive that are looked at, where there are more drives.
const PLACES: usize = 96;

/// Cycles made at most, and per drive.
const CYCLES: usize = 256;

/// How often ways that could not be made are looked for again.
const AGAIN: usize = 8;

const NONE: i32 = i32::MAX / 4;

/// What it costs to leave a drive with more or less than it may have: more than any way.
const UNEVEN: i32 = 10_000;

/// What it costs to leave one member more than there may be in a domain: spread comes first.
const CROWDED: i32 = 20 * UNEVEN;

/// What it costs to fill a drive beyond all limits: nothing is worth it.
const FULL: i32 = 20 * CROWDED;

/// A change of one volume: from a drive to another.
#[derive(Debug, Clone, Copy)]
struct Arc {
    cost: i32,
    volume: u32,
}

/// The changes between some drives; the node after the last drive stands for the bounds of all.
struct Ways {
    drives: Vec<u32>,
    node: Vec<u32>,
    arcs: Vec<Arc>,
    whole: bool,
}

/// Prices of drives.
pub(crate) type Prices = Vec<i64>;

/// Makes all changes that bring drives within their bounds or save moves; returns the prices that
/// prove that there are no more of them, or come close to it.
pub(crate) fn finish(state: &mut State<'_>, seed: u64) -> Prices {
    let mut ways = Ways::new(state, seed);
    let rows = ways.drives.clone();
    ways.fill(state, &rows);
    let mut distance = Vec::new();
    let mut left = match ways.whole {
        true => CYCLES + 4 * ways.drives.len(),
        false => CYCLES,
    };
    for _ in 0..AGAIN {
        let mut forgotten = false;
        while let Some(cycle) = ways.negative_cycle(state, &mut distance) {
            if left == 0 {
                break;
            }
            left -= 1;
            forgotten |= !ways.make(state, &cycle);
        }
        if !forgotten || left == 0 {
            break;
        }
        // What could not be made then may be possible now.
        ways.fill(state, &rows);
    }
    ways.prices(state, &distance)
}

impl Ways {
    fn new(state: &State<'_>, seed: u64) -> Self {
        let even = |drive: &u32| matches!(state.sites.role(*drive), Role::Takes | Role::Gives);
        let mut drives: Vec<u32> = state.sites.all().filter(even).collect();
        let whole = drives.len() <= DRIVES;
        if !whole {
            let mut others = drives;
            SplitMix64::new(seed).shuffle(&mut others);
            drives = state.uneven();
            drives.truncate(DRIVES / 2);
            // Drives that get something come before those that do not.
            others.sort_by_key(|drive| state.arrived(*drive).is_empty());
            others.retain(|drive| !drives.contains(drive));
            others.truncate(DRIVES - drives.len());
            drives.extend(others);
        }
        let mut node = vec![VACANT; state.sites.len()];
        for (index, drive) in (0..).zip(&drives) {
            node[*drive as usize] = index;
        }
        let none = Arc {
            cost: NONE,
            volume: 0,
        };
        Self {
            arcs: vec![none; drives.len() * drives.len()],
            drives,
            node,
            whole,
        }
    }

    /// Looks for all changes from drives.
    fn fill(&mut self, state: &mut State<'_>, rows: &[u32]) {
        let count = self.drives.len();
        for drive in rows {
            let node = self.node[*drive as usize];
            if node == VACANT {
                continue;
            }
            let row = node as usize * count;
            for arc in &mut self.arcs[row..row + count] {
                arc.cost = NONE;
            }
            let mut places = state.places(*drive);
            if !self.whole {
                places.truncate(PLACES);
            }
            for place in places {
                self.reach(state, row, place);
            }
        }
    }

    /// Enters where the member at a place can go.
    fn reach(&mut self, state: &State<'_>, row: usize, place: u32) {
        let (volume, _) = state.table.at(place);
        if state.table.bytes[volume] == 0 {
            return;
        }
        let origins = state.table.origins(volume);
        let back = -i32::from(!origins.contains(&state.table.drive(place)));
        for drives in &state.sites.drives_in {
            let members = state.table.members(volume);
            let free = |d: &&u32| self.node[**d as usize] != VACANT && !members.contains(*d);
            let there = drives.iter().find(free);
            let Some(crowding) = there.and_then(|drive| state.crowding(place, *drive)) else {
                continue;
            };
            for drive in drives {
                let node = self.node[*drive as usize];
                if node == VACANT || !state.may_go(place, *drive, Rule::Any) {
                    continue;
                }
                let cost = back + i32::from(!origins.contains(drive)) + crowding * CROWDED;
                let arc = &mut self.arcs[row + node as usize];
                let larger = state.table.bytes[volume] > state.table.bytes[arc.volume as usize];
                if cost < arc.cost || (cost == arc.cost && larger) {
                    *arc = Arc {
                        cost,
                        volume: u32::try_from(volume).unwrap_or(u32::MAX),
                    };
                }
            }
        }
    }

    /// What it costs to leave one more shard on a drive, and one less.
    fn ends(state: &State<'_>, drive: u32) -> (i32, i32) {
        let shard = state.shard;
        let index = drive as usize;
        let (used, low, high) = (
            state.used[index],
            state.goal.low[index],
            state.goal.high[index],
        );
        let full = state.sites.room(drive, MOVE_LIMIT_PERCENT);
        let more = match () {
            () if used < low => -UNEVEN,
            () if used + shard <= high => 0,
            () if used + shard <= full => UNEVEN,
            () => FULL,
        };
        let less = match () {
            () if used > full => -FULL,
            () if used > high => -UNEVEN,
            () if used >= low + shard => 0,
            () => UNEVEN,
        };
        (more, less)
    }

    /// A cycle of nodes with negative cost; none: the distances are final.
    fn negative_cycle(&self, state: &State<'_>, distance: &mut Vec<i32>) -> Option<Vec<usize>> {
        let count = self.drives.len();
        let ends: Vec<(i32, i32)> = self.drives.iter().map(|d| Self::ends(state, *d)).collect();
        distance.clear();
        distance.resize(count + 1, 0);
        let mut parent = vec![usize::MAX; count + 1];
        for _ in 0..=count + 1 {
            let mut changed = false;
            for from in 0..count {
                let start = distance[from];
                for (to, arc) in self.arcs[from * count..][..count].iter().enumerate() {
                    if start + arc.cost < distance[to] {
                        distance[to] = start + arc.cost;
                        parent[to] = from;
                        changed = true;
                    }
                }
                if start + ends[from].0 < distance[count] {
                    distance[count] = start + ends[from].0;
                    parent[count] = from;
                    changed = true;
                }
            }
            for (to, (_, less)) in ends.iter().enumerate() {
                if distance[count] + less < distance[to] {
                    distance[to] = distance[count] + less;
                    parent[to] = count;
                    changed = true;
                }
            }
            if !changed {
                return None;
            }
            if let Some(cycle) = cycle_of(&parent) {
                return Some(self.shortest(&cycle, &ends));
            }
        }
        None
    }

    /// The shortest part of a negative cycle that, closed, is negative itself. Where two changes of
    /// a cycle are of one volume and exclude each other, there is such a part without one of them.
    fn shortest(&self, cycle: &[usize], ends: &[(i32, i32)]) -> Vec<usize> {
        let count = self.drives.len();
        let cost = |from: usize, to: usize| match (from == count, to == count) {
            (true, _) => ends[to].1,
            (_, true) => ends[from].0,
            _ => self.arcs[from * count + to].cost,
        };
        let at = |index: usize| cycle[index % cycle.len()];
        for length in 2..cycle.len() {
            for start in 0..cycle.len() {
                let path = (start..start + length - 1).map(|index| cost(at(index), at(index + 1)));
                if path.sum::<i32>() + cost(at(start + length - 1), at(start)) < 0 {
                    return (start..start + length).map(at).collect();
                }
            }
        }
        cycle.to_vec()
    }

    /// Makes the changes of a cycle, or none, and forgets the one that cannot be made; whether they
    /// were made.
    fn make(&mut self, state: &mut State<'_>, cycle: &[usize]) -> bool {
        let count = self.drives.len();
        let steps = (0..cycle.len()).map(|at| (cycle[at], cycle[(at + 1) % cycle.len()]));
        let steps: Vec<(usize, usize)> = steps
            .filter(|(from, to)| *from < count && *to < count)
            .collect();
        let mut made: Vec<(usize, u32, u32)> = Vec::new();
        let mut touched: Vec<u32> = Vec::new();
        for (from, to) in steps.into_iter().rev() {
            let (source, target) = (self.drives[from], self.drives[to]);
            let arc = self.arcs[from * count + to];
            let Some(volume) = volume_for(state, arc, source, target) else {
                for (volume, source, target) in made.into_iter().rev() {
                    change(state, volume, target, source);
                }
                self.arcs[from * count + to].cost = NONE;
                return false;
            };
            touched.extend(state.table.members(volume));
            touched.push(target);
            change(state, volume, source, target);
            made.push((volume, source, target));
        }
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|drive| *drive != VACANT);
        self.fill(state, &touched);
        true
    }

    /// What a shard on each drive is worth: the less it costs to get rid of one, the less.
    fn prices(&self, state: &State<'_>, distance: &[i32]) -> Prices {
        let count = self.drives.len();
        let mut prices = vec![0; state.sites.len()];
        for (node, drive) in self.drives.iter().enumerate() {
            prices[*drive as usize] = i64::from(distance[count]) - i64::from(distance[node]);
        }
        prices
    }
}

/// The volume of an arc, or another that can make the same change at no more cost, because an
/// earlier change of the cycle was in the way.
fn volume_for(state: &mut State<'_>, arc: Arc, from: u32, to: u32) -> Option<usize> {
    let fits = |state: &State<'_>, place: u32| {
        let (volume, _) = state.table.at(place);
        let new = |drive: u32| i32::from(!state.table.origins(volume).contains(&drive));
        state.table.drive(place) == from
            && state.table.bytes[volume] > 0
            && state.may_go(place, to, Rule::Any)
            && state
                .crowding(place, to)
                .is_some_and(|crowding| new(to) - new(from) + crowding * CROWDED <= arc.cost)
    };
    let volume = arc.volume as usize;
    let members = state.table.members(volume);
    let known = members.iter().position(|drive| *drive == from);
    let known = known.map(|member| state.table.place(volume, member));
    if known.is_some_and(|place| fits(state, place)) {
        return Some(volume);
    }
    let places = state.places(from);
    let place = places.into_iter().find(|place| fits(state, *place))?;
    Some(state.table.at(place).0)
}

/// Moves a member of a volume from one drive to another.
fn change(state: &mut State<'_>, volume: usize, from: u32, to: u32) {
    let member = state.table.members(volume).iter().position(|d| *d == from);
    if let Some(member) = member {
        state.put(state.table.place(volume, member), to);
    }
}

/// A cycle of parents, in the direction of the arcs.
fn cycle_of(parent: &[usize]) -> Option<Vec<usize>> {
    let mut seen = vec![usize::MAX; parent.len()];
    for start in 0..parent.len() {
        let mut at = start;
        while at != usize::MAX && seen[at] == usize::MAX {
            seen[at] = start;
            at = parent[at];
        }
        if at != usize::MAX && seen[at] == start {
            let mut cycle = vec![at];
            let mut next = parent[at];
            while next != at {
                cycle.push(next);
                next = parent[next];
            }
            cycle.reverse();
            return Some(cycle);
        }
    }
    None
}
