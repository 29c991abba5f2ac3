//! Where shards differ in size, smaller ones may do.
//!
//! Ways are looked for by the number of moves ([`super::finish`]), which is all there is to it
//! where all shards are of one size. Here each shard that moves off a drive that it need not leave
//! stays after all, if no drive is out of its bounds then, or if others can move in its place that
//! are smaller together.

use super::sites::{Role, VACANT};
use super::state::{Rule, State};

/// Drives beyond which it is not tried: there the sizes of single shards matter little.
const DRIVES: usize = 256;

/// Rounds at most; each looks at all moves, of which there may be so many.
const ROUNDS: usize = 4;
const MOVES: usize = 512;

/// Moves that are tried together, and sets of them.
const STEPS: usize = 96;
const SETS: usize = 192;

/// A shard that could move: its bytes, its place, and where to.
type Step = (u64, u32, u32);

/// Makes a plan smaller, and nothing else worse.
pub(crate) fn shrink(state: &mut State<'_>) {
    let alike = state.table.shard_bytes_all().is_some();
    if alike || state.sites.len() > DRIVES {
        return;
    }
    for _ in 0..ROUNDS {
        let drives: Vec<u32> = taking(state);
        let mut moves: Vec<(u64, u32)> = Vec::new();
        for drive in drives {
            let arrived = state.arrived(drive).into_iter();
            moves.extend(arrived.map(|place| (bytes(state, place), place)));
        }
        moves.sort_unstable_by(|a, b| b.cmp(a));
        moves.truncate(MOVES);
        let mut changed = false;
        for (_, place) in moves {
            changed |= state.table.is_moving(place) && replace(state, place);
        }
        if !changed {
            return;
        }
    }
}

fn taking(state: &State<'_>) -> Vec<u32> {
    let takes = |drive: &u32| state.sites.role(*drive) == Role::Takes;
    state.sites.all().filter(takes).collect()
}

fn bytes(state: &State<'_>, place: u32) -> u64 {
    state.table.bytes[state.table.at(place).0]
}

/// What has to go from one drive, and to come to another, in the place of a shard that stays.
struct Gap {
    place: u32,
    from: u32,
    to: u32,
    over: u64,
    under: u64,
    moved: u64,
}

/// Lets a shard stay, and has less go in its place; whether that was possible.
fn replace(state: &mut State<'_>, place: u32) -> bool {
    let (from, to) = (state.table.origin(place), state.table.drive(place));
    let moved = bytes(state, place);
    if from == VACANT || moved == 0 || state.sites.must_go(from) {
        return false;
    }
    let volume = state.table.at(place).0;
    let taken = state.table.members(volume).contains(&from);
    let crowds = |more: i32| more > 0;
    if taken || state.crowding(place, from).is_none_or(crowds) {
        return false;
    }
    let (used, goal) = (&state.used, state.goal);
    let at = |drive: u32| drive as usize;
    let low = goal.low[at(to)].min(used[at(to)]);
    let gap = Gap {
        place,
        from,
        to,
        over: (used[at(from)] + moved).saturating_sub(goal.high[at(from)]),
        under: (low + moved).saturating_sub(used[at(to)]),
        moved,
    };
    if gap.over.max(gap.under) >= moved {
        return false;
    }
    state.put(place, from);
    let Some(steps) = instead(state, &gap) else {
        state.put(place, to);
        return false;
    };
    for (_, other, to) in steps {
        state.put(other, to);
    }
    true
}

/// The least that can move instead.
fn instead(state: &mut State<'_>, gap: &Gap) -> Option<Vec<Step>> {
    let need = gap.over.max(gap.under);
    if need == 0 {
        return Some(Vec::new());
    }
    let mut steps = match (gap.over, gap.under) {
        (0, _) => comes(state, gap),
        (_, 0) => goes(state, gap),
        _ => passes(state, gap),
    };
    steps.sort_unstable();
    // From a small one that is enough by itself on, all are too large.
    let enough = steps.iter().position(|step| step.0 >= need);
    steps.truncate(enough.map_or(STEPS, |index| index + 1));
    let mut best: Option<(u64, Vec<Step>)> = None;
    let mut sets: Vec<(u64, Vec<Step>)> = vec![(0, Vec::new())];
    for step in steps.iter().rev().take(STEPS) {
        let mut more = Vec::new();
        for (sum, set) in &sets {
            let sum = sum + step.0;
            let smaller = best.as_ref().is_none_or(|(least, _)| sum < *least);
            if sum >= gap.moved || !smaller || !fits(state, gap, set, *step) {
                continue;
            }
            let set: Vec<Step> = set.iter().copied().chain([*step]).collect();
            match sum >= need {
                true => best = Some((sum, set)),
                false => more.push((sum, set)),
            }
        }
        sets.extend(more);
        sets.sort_by_key(|(sum, set)| (*sum, set.len()));
        sets.dedup_by_key(|(sum, _)| *sum);
        // Those that are nearly enough are worth most.
        let surplus = sets.len().saturating_sub(SETS);
        sets.drain(1..=surplus);
    }
    best.map(|(_, steps)| steps)
}

/// Whether one more can move with others: of another volume, and within the bounds of the drives at
/// the far ends.
fn fits(state: &State<'_>, gap: &Gap, set: &[Step], step: Step) -> bool {
    let volume = |step: &Step| state.table.at(step.1).0;
    if set.iter().any(|other| volume(other) == volume(&step)) {
        return false;
    }
    let from = |step: &Step| state.table.drive(step.1);
    let at = |drive: u32| drive as usize;
    let given = set.iter().filter(|other| from(other) == from(&step));
    let given: u64 = given.map(|other| other.0).sum::<u64>() + step.0;
    let got = set.iter().filter(|other| other.2 == step.2);
    let got: u64 = got.map(|other| other.0).sum::<u64>() + step.0;
    let near = (from(&step) == gap.from, step.2 == gap.to);
    let (used, goal) = (&state.used, state.goal);
    let gives = used[at(from(&step))].saturating_sub(goal.low[at(from(&step))]);
    let takes = goal.high[at(step.2)].saturating_sub(used[at(step.2)]);
    (near.0 || given <= gives) && (near.1 || got <= takes)
}

/// Whether the shard at a place may move for another: a smaller one of a volume that need not be
/// sealed for it, which stays so far.
fn may_replace(state: &State<'_>, gap: &Gap, place: u32, to: u32) -> bool {
    let open = |place: u32| state.table.is_open(state.table.at(place).0);
    let size = bytes(state, place);
    size > 0
        && size < gap.moved
        && place != gap.place
        && (open(gap.place) || !open(place))
        && state.is_stay(place)
        && state.may_go(place, to, Rule::Limits)
}

/// Shards that can go the same way.
fn passes(state: &mut State<'_>, gap: &Gap) -> Vec<Step> {
    let mut steps = Vec::new();
    for place in state.stayed(gap.from) {
        if may_replace(state, gap, place, gap.to) {
            steps.push((bytes(state, place), place, gap.to));
        }
    }
    steps
}

/// Shards that can come to the same drive, from any that can spare them.
fn comes(state: &mut State<'_>, gap: &Gap) -> Vec<Step> {
    let gives = |drive: &u32| matches!(state.sites.role(*drive), Role::Takes | Role::Gives);
    let drives: Vec<u32> = state.sites.all().filter(gives).collect();
    let mut steps = Vec::new();
    for drive in drives.into_iter().filter(|drive| *drive != gap.to) {
        let low = state.goal.low[drive as usize];
        let spare = state.used[drive as usize].saturating_sub(low);
        for place in state.stayed(drive) {
            let size = bytes(state, place);
            if size <= spare && may_replace(state, gap, place, gap.to) {
                steps.push((size, place, gap.to));
            }
        }
    }
    steps
}

/// Shards of the same drive that can go anywhere where there is room.
fn goes(state: &mut State<'_>, gap: &Gap) -> Vec<Step> {
    let drives = taking(state);
    let mut steps = Vec::new();
    for place in state.stayed(gap.from) {
        let size = bytes(state, place);
        let fits = |drive: &u32| {
            let index = *drive as usize;
            state.used[index] + size <= state.goal.high[index]
                && may_replace(state, gap, place, *drive)
        };
        // The emptiest, so that two find different ones more often than not.
        let targets = drives.iter().copied().filter(fits);
        let best = targets.max_by_key(|drive| (state.lacks(*drive), *drive));
        steps.extend(best.map(|drive| (size, place, drive)));
    }
    steps
}
