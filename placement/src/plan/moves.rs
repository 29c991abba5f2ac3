//! From where volumes end up to an ordered list of moves.
//!
//! A plan decides which drives hold a volume. Which member goes to which of its new drives is
//! decided here: within an enclosure where that is possible, else within a chain. Then an enclosure
//! either loses members of the volume or gets some, never both, so that whatever part of the moves
//! is made, in whatever order, no domain has more members than it has before or after all of them.

use super::sites::{Role, Sites, VACANT};
use super::table::Table;
use super::{Move, Reason};

/// The moves, most urgent first; of equal urgency each drive gets its first before any its second.
pub(crate) fn of(sites: &Sites, table: &Table) -> Vec<Move> {
    let mut moves: Vec<(Reason, usize, u32, Move)> = Vec::new();
    let mut turn = vec![0u32; sites.len()];
    for volume in 0..table.len() {
        let width = table.members(volume).len();
        let moving = |member: &usize| table.is_moving(table.place(volume, *member));
        if !(0..width).any(|member| moving(&member)) {
            continue;
        }
        let pairs = pairs(sites, table, volume, (0..width).filter(moving).collect());
        let lost = table
            .origins(volume)
            .iter()
            .filter(|d| sites.role(**d) == Role::Lost);
        let spare = table.profile_of(volume).m().saturating_sub(lost.count());
        for (member, to) in pairs {
            let reason = reason(sites, table, volume, member, to);
            let turns = &mut turn[to as usize];
            *turns += 1;
            let from = table.origins(volume)[member];
            let step = Move {
                volume: table.ids[volume],
                member: u8::try_from(member).unwrap_or(u8::MAX),
                from: (from != VACANT).then(|| sites.drives[from as usize]),
                to: sites.drives[to as usize],
                bytes: table.bytes[volume],
                reason,
            };
            let spare = if reason == Reason::Repair { spare } else { 0 };
            moves.push((reason, spare, *turns, step));
        }
    }
    moves.sort_by_key(|(reason, spare, turn, _)| (*reason, *spare, *turn));
    moves.into_iter().map(|(.., step)| step).collect()
}

/// Which member goes to which drive.
fn pairs(
    sites: &Sites,
    table: &Table,
    volume: usize,
    mut members: Vec<usize>,
) -> Vec<(usize, u32)> {
    let mut drives: Vec<u32> = members.iter().map(|m| table.members(volume)[*m]).collect();
    let origin = |member: usize| {
        let drive = table.origins(volume)[member];
        (sites.role(drive) != Role::Lost).then(|| sites.enclosure(drive))
    };
    let chain = |enclosure: u32| sites.chain(enclosure);
    let mut pairs = Vec::with_capacity(members.len());
    for level in 0..3 {
        members.retain(|member| {
            let found = drives.iter().position(|to| {
                let (from, to) = (origin(*member), sites.enclosure(*to));
                match level {
                    0 => from == Some(to),
                    1 => from.map(chain) == Some(chain(to)),
                    _ => true,
                }
            });
            let Some(index) = found else { return true };
            pairs.push((*member, drives.swap_remove(index)));
            false
        });
    }
    pairs
}

fn reason(sites: &Sites, table: &Table, volume: usize, member: usize, to: u32) -> Reason {
    let from = table.origins(volume)[member];
    match sites.role(from) {
        Role::Lost => return Reason::Repair,
        Role::Leaves => return Reason::Drain,
        Role::Takes | Role::Gives | Role::Stays => {}
    }
    let count = |drives: &[u32], of: &dyn Fn(u32) -> u32, domain: u32| {
        let there = drives.iter().filter(|d| sites.role(**d) != Role::Lost);
        there.filter(|drive| of(**drive) == domain).count()
    };
    let (before, after) = (table.origins(volume), table.members(volume));
    let enclosure = |drive: u32| sites.enclosure(drive);
    let chain = |drive: u32| sites.chain(sites.enclosure(drive));
    let left = |of: &dyn Fn(u32) -> u32| count(before, of, of(from));
    let joined = |of: &dyn Fn(u32) -> u32| count(after, of, of(to));
    match joined(&enclosure) < left(&enclosure) || joined(&chain) < left(&chain) {
        true => Reason::Spread,
        false => Reason::Rebalance,
    }
}
