//! The order in which a plan takes up work: what must go, what is spread badly, what is uneven.
//!
//! Every move here goes straight from a drive that must or should give to one that should take;
//! where that is not enough, [`super::finish`] finds longer ways.

use std::collections::BTreeSet;

use super::sites::Role;
use super::state::{Leave, Rule, State};
use crate::seed::SplitMix64;

/// Sources tried for a shard before a drive is left to longer ways.
const SOURCES: usize = 256;

/// What could not be done about members that must go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Undone {
    /// Members for which there is no drive.
    pub(crate) unplaced: usize,
    /// Volumes of which too little can be read to rebuild what is lost.
    pub(crate) unreadable: usize,
}

/// Gives a place to members without a drive that can be kept: vacant, lost, or to be emptied.
/// Volumes that can afford to lose the fewest come first.
pub(crate) fn must_go(state: &mut State<'_>) -> Undone {
    let mut work: Vec<(i64, usize)> = Vec::new();
    let mut undone = Undone::default();
    for volume in 0..state.table.len() {
        let members = state.table.members(volume);
        let goes = |role: Role| {
            members
                .iter()
                .filter(|d| state.sites.role(**d) == role)
                .count()
        };
        let (lost, leaves) = (goes(Role::Lost), goes(Role::Leaves));
        if lost + leaves == 0 {
            continue;
        }
        let readable = members.iter().filter(|d| state.sites.is_readable(**d));
        let spare = signed(readable.count()) - signed(state.table.profile_of(volume).k());
        undone.unreadable += usize::from(lost > 0 && spare < 0);
        work.push((spare, volume));
    }
    work.sort_unstable();
    for (spare, volume) in work {
        // What is lost before what only leaves: redundancy first.
        for role in [Role::Lost, Role::Leaves] {
            if role == Role::Lost && spare < 0 {
                continue;
            }
            for member in 0..state.table.members(volume).len() {
                let drive = state.table.members(volume)[member];
                if state.sites.role(drive) != role {
                    continue;
                }
                let place = state.table.place(volume, member);
                match anywhere(state, volume, place) {
                    Some(to) => state.put(place, to),
                    None => undone.unplaced += 1,
                }
            }
        }
    }
    undone
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The best place that there is for a member that has none: on a drive that still lacks something
/// of its share before one that does not; then in the least company.
fn anywhere(state: &State<'_>, volume: usize, place: u32) -> Option<u32> {
    let most = state.limits(volume).enclosure;
    for lacks in [1, i64::MIN] {
        for near in 0..most {
            let found = state.target(place, lacks, Rule::Near(near), Leave::Drive);
            if found.is_some() {
                return found;
            }
        }
    }
    state.target(place, i64::MIN, Rule::Any, Leave::Drive)
}

/// Moves members of which there are too many on one drive, in one enclosure or in one chain.
pub(crate) fn spread(state: &mut State<'_>) {
    for volume in state.crowded() {
        // Each round moves one member.
        for _ in 0..state.table.members(volume).len() {
            let crowd = crowd(state, volume);
            let Some((place, to)) = out_of(state, crowd) else {
                break;
            };
            state.put(place, to);
        }
    }
}

/// Members that are too many somewhere, with what they have to leave: first the one whose drive has
/// most beyond its share.
fn crowd(state: &State<'_>, volume: usize) -> Vec<(u32, Leave)> {
    let sites = state.sites;
    let limits = state.limits(volume);
    let members = state.table.members(volume);
    let mut crowd: Vec<(u32, Leave)> = Vec::new();
    for (member, drive) in members.iter().enumerate() {
        if !matches!(sites.role(*drive), Role::Takes | Role::Gives) {
            continue;
        }
        let enclosure = sites.enclosure(*drive);
        let chain = sites.chain(enclosure);
        let (near, far) = state.company(volume, *drive, *drive);
        let doubled = members.iter().filter(|other| *other == drive).count() > 1;
        let leave = match () {
            () if far >= limits.chain(sites, chain) => Leave::Chain(chain),
            () if near >= limits.enclosure => Leave::Enclosure(enclosure),
            () if doubled => Leave::Drive,
            () => continue,
        };
        crowd.push((state.table.place(volume, member), leave));
    }
    crowd.sort_unstable_by_key(|(place, _)| {
        // One that moves already moves on for nothing.
        let stays = !state.table.is_moving(*place);
        (stays, state.lacks(state.table.drive(*place)), *place)
    });
    crowd
}

/// The first of a crowd that can leave, and where to.
fn out_of(state: &State<'_>, crowd: Vec<(u32, Leave)>) -> Option<(u32, u32)> {
    crowd.into_iter().find_map(|(place, leave)| {
        let to = state.target(place, i64::MIN, Rule::Limits, leave)?;
        Some((place, to))
    })
}

/// Moves from drives that have too much, then to drives that have too little.
pub(crate) fn even(state: &mut State<'_>, seed: u64) {
    let mut random = SplitMix64::new(seed);
    let mut uneven = state.uneven();
    uneven.sort_by_key(|drive| std::cmp::Reverse(state.surplus(*drive)));
    for rule in rules(state) {
        for drive in &uneven {
            push(state, *drive, *rule, &mut random);
        }
    }
    pull_all(state, &uneven, &mut random);
}

/// The places of a drive in the order in which they are given away: what moves anyhow, sealed
/// volumes (an open one has to be sealed for it), large shards.
fn places(state: &mut State<'_>, drive: u32, random: &mut SplitMix64) -> Vec<u32> {
    let moving = state.arrived(drive);
    let mut places = state.stayed(drive);
    let start = random.index(places.len());
    places.rotate_left(start);
    places.splice(0..0, moving);
    if !state.alike {
        let table = &state.table;
        places.retain(|place| table.bytes[table.at(*place).0] > 0);
        places.sort_by_key(|place| {
            let volume = table.at(*place).0;
            let stays = !table.is_moving(*place);
            let bytes = std::cmp::Reverse(table.bytes[volume]);
            (stays, table.is_open(volume), bytes)
        });
    }
    places
}

/// What rules to try in turn: where each enclosure may have one member of a volume, none is better
/// than another.
fn rules(state: &State<'_>) -> &'static [Rule] {
    let limits = state.goal.limits.iter();
    match limits.map(|limits| limits.enclosure).max() {
        Some(2..) => &[Rule::Better, Rule::Keep, Rule::Limits],
        _ => &[Rule::Limits],
    }
}

/// Gives away what a drive has too much.
fn push(state: &mut State<'_>, drive: u32, rule: Rule, random: &mut SplitMix64) {
    if state.surplus(drive) == 0 {
        return;
    }
    let places = places(state, drive, random);
    let bytes = |state: &State<'_>, place: u32| state.table.bytes[state.table.at(place).0];
    // First what is not too large, then, from the smallest, what is.
    for place in &places {
        if bytes(state, *place) <= state.surplus(drive) {
            push_one(state, drive, *place, rule);
        }
    }
    for place in places.iter().rev() {
        if state.surplus(drive) == 0 {
            return;
        }
        push_one(state, drive, *place, rule);
    }
}

fn push_one(state: &mut State<'_>, drive: u32, place: u32, rule: Rule) {
    if state.table.drive(place) == drive
        && let Some(to) = state.target(place, 1, rule, Leave::Drive)
    {
        state.put(place, to);
    }
}

/// Gets what drives have too little, from those that have most beyond their share.
fn pull_all(state: &mut State<'_>, uneven: &[u32], random: &mut SplitMix64) {
    let lacking = |state: &State<'_>| {
        let drives = uneven.iter().copied();
        let most = drives.max_by_key(|drive| (state.deficit(*drive), *drive));
        most.filter(|drive| state.deficit(*drive) > 0)
    };
    if lacking(state).is_none() {
        return;
    }
    let gives = |drive: &u32| matches!(state.sites.role(*drive), Role::Takes | Role::Gives);
    let drives = state.sites.all().filter(gives);
    let mut givers: BTreeSet<(i64, u32)> = drives.map(|d| (state.lacks(d), d)).collect();
    for rule in rules(state) {
        let mut left: Vec<u32> = uneven.to_vec();
        left.retain(|drive| state.deficit(*drive) > 0);
        left.sort_by_key(|drive| (state.deficit(*drive), *drive));
        // By turns, so that none takes all the best sources.
        while !left.is_empty() {
            left.retain(|drive| {
                state.deficit(*drive) > 0 && pull(state, *drive, *rule, &mut givers, random)
            });
        }
    }
}

/// Moves one shard to a drive; whether there was one.
fn pull(
    state: &mut State<'_>,
    to: u32,
    rule: Rule,
    givers: &mut BTreeSet<(i64, u32)>,
    random: &mut SplitMix64,
) -> bool {
    let sources: Vec<u32> = givers
        .iter()
        .take(SOURCES)
        .map(|(_, drive)| *drive)
        .collect();
    for from in sources {
        if from == to || state.used[from as usize] <= state.goal.low[from as usize] {
            continue;
        }
        let spare = state.used[from as usize] - state.goal.low[from as usize];
        let places = places(state, from, random);
        let fits = |place: &&u32| {
            state.table.bytes[state.table.at(**place).0] <= spare
                && state.has_room(**place, to)
                && state.may_go(**place, to, rule)
        };
        let Some(place) = places.iter().find(fits).copied() else {
            continue;
        };
        for drive in [from, to] {
            givers.remove(&(state.lacks(drive), drive));
        }
        state.put(place, to);
        for drive in [from, to] {
            givers.insert((state.lacks(drive), drive));
        }
        return true;
    }
    false
}
