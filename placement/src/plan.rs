//! Planning moves: repair, drain, spread and evenness as one pure function (DESIGN §4 and §8).
//!
//! [`plan`] aims at the lowest level of fill that capacity and spread allow, and moves no more than
//! is needed to bring every drive near it: what must go (lost, leaving), in the order of remaining
//! redundancy; then members that are crowded in one domain; then from drives with too much to
//! drives with too little. Each shard moves at most once, and straight to where it stays. The bound
//! in its summary says how little any scheme could move.
//!
//! # For the executor
//! - Seal the volumes of [`Plan::seals`] first; only sealed volumes move (PROTOCOLS 12).
//! - Each [`Move`] is one intent: copy the shard of `from` to `to`, or rebuild it on `to` from the
//!   other members when [`Move::is_rebuild`]; verify; sync; flip by compare-and-set on the volume's
//!   epoch (PROTOCOLS 21). A copy whose source dies becomes a rebuild.
//! - Moves may be made in any order, in any part, concurrently, and be given up: the drives of a
//!   plan's moves are new to their volumes, and no domain ever holds more members of a volume than
//!   before or after all of its moves. Their order is that of urgency; of equal urgency each drive
//!   gets its first shard before any drive its second.
//! - A move waits while its target would be fuller than [`MOVE_LIMIT_PERCENT`] (PROTOCOLS 15): a
//!   drive may give shards in the same plan in which it gets some.
//! - After any change of the topology, or when the moves are done, plan again: a settled cluster
//!   has an empty plan. Moves under way count as made: give the volumes with the member at its
//!   target.

pub(crate) mod finish;
pub(crate) mod level;
mod moves;
mod passes;
mod refuse;
mod shrink;
pub(crate) mod sites;
mod spread;
mod state;
pub(crate) mod table;
pub(crate) mod tally;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use self::finish::Prices;
use self::passes::Undone;
use self::sites::{Role, Sites};
use self::state::State;
use self::table::Table;
use crate::bound::{self, Case};
use crate::ids::{DriveId, VolumeId};
use crate::topology::Topology;
use crate::volume::Volume;

pub use self::level::EVEN_PERCENT;
pub use self::refuse::Refusal;
pub use self::state::MOVE_LIMIT_PERCENT;

/// What a plan is made for, besides the volumes.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// What there is. Drives that are failing or gone and enclosures that are out are given up:
    /// what they held is rebuilt. Suspect and down enclosures are left as they are.
    pub topology: &'a Topology,
    /// Drives to be emptied; they are copied from as long as they are there.
    pub leaving: &'a BTreeSet<DriveId>,
    /// Failing or gone drives that are not given up yet. Drives in enclosures that are suspect or
    /// down are not given up anyhow; they may be named to say more.
    pub waiting: &'a BTreeMap<DriveId, Wait>,
    /// Bytes in use on drives that are not shards of volumes.
    pub other: &'a BTreeMap<DriveId, u64>,
    /// Decides between equals.
    pub seed: u64,
}

/// How an absent drive is waited for. Whatever it is, what a volume has there that has no redundant
/// shard left is not waited for when more than one fault took the others: it is rebuilt at once
/// (PROTOCOLS 23).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Somebody works on it: nothing is rebuilt.
    Held,
    /// It may be back soon.
    Usual,
    /// It should have been back, but to give it up would be an avalanche: volumes without any
    /// redundant shard are rebuilt, all others wait for an operator.
    Over,
}

/// Why a shard moves; the order is that of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is lost, and rebuilt from others.
    Repair,
    /// Its drive is to be emptied.
    Drain,
    /// Too many members of its volume are in one domain.
    Spread,
    /// Its drive holds more than its share, or another less.
    Rebalance,
}

/// One planned change of one member: an intent for the node of `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The volume.
    pub volume: VolumeId,
    /// Which of its members.
    pub member: u8,
    /// The drive that has it now, or had it before it was lost; none: the member is vacant.
    pub from: Option<DriveId>,
    /// The drive that gets it. No member of the volume is or was there.
    pub to: DriveId,
    /// Bytes of the shard.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

impl Move {
    /// Whether the shard is rebuilt from other members; else it is copied from its drive.
    pub const fn is_rebuild(&self) -> bool {
        matches!(self.reason, Reason::Repair)
    }
}

/// Volumes whose members are spread less than their profile wants, by what one fault takes
/// ([`crate::spread::wanted`]). A volume may count more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Violated {
    /// Volumes with two members on one drive.
    pub drive: usize,
    /// Volumes with two members or more in one enclosure.
    pub enclosure: usize,
    /// Volumes with too many members in one chain.
    pub chain: usize,
    /// Volumes that the loss of one enclosure makes unreadable.
    pub one_enclosure_loses: usize,
}

/// What a plan is in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Bytes that the plan moves or rebuilds.
    pub moved_bytes: u64,
    /// The least that any scheme must to get as far; never more than `moved_bytes`.
    pub bound_bytes: u64,
    /// Bytes of `moved_bytes` that are rebuilt from other members.
    pub rebuilt_bytes: u64,
    /// Volumes that are spread less than their profile wants, before and after.
    pub violations: (Violated, Violated),
    /// Fill of the fullest drive that takes shards, in millionths, before and after.
    pub fullest: (u64, u64),
    /// The same of the emptiest.
    pub emptiest: (u64, u64),
    /// Bytes by which drives stay further from the optimum than they should: one shard, or
    /// [`EVEN_PERCENT`].
    pub unmet_bytes: u64,
    /// Members that must go, and for which there is no drive with room.
    pub unplaced: usize,
    /// Volumes of which too little can be read to rebuild what is lost.
    pub unreadable: usize,
    /// Bytes that do not fit below the fill limit (PROTOCOLS 15).
    pub overflow_bytes: u64,
}

/// Ordered moves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Open volumes to be sealed before their members move.
    pub seals: Vec<VolumeId>,
    /// Most urgent first.
    pub moves: Vec<Move>,
    /// What it comes to.
    pub summary: Summary,
}

/// Plans what is to be moved and rebuilt. The answer depends on nothing but the arguments.
///
/// Volumes come in any order, each once; owned ones are not kept, so that a large table need not
/// be in memory at once. A million volumes on 24,000 drives take some seconds and less than
/// 512 MiB.
pub fn plan<V: Borrow<Volume>>(input: &Input<'_>, volumes: impl IntoIterator<Item = V>) -> Plan {
    let sites = Sites::new(input);
    let table = Table::new(&sites, volumes);
    let (used, vacant) = table.used(&sites);
    let goal = level::goal(&sites, &table, &used, vacant);
    let before = Look::of(&sites, &table, &used, true);

    let mut state = State::new(&sites, &goal, table, used.clone());
    let undone = passes::must_go(&mut state);
    passes::spread(&mut state);
    passes::even(&mut state, input.seed);
    let mut bound_bytes = least(&state, &used, None);
    if state.moved() > bound_bytes || !state.uneven().is_empty() || !state.crowded().is_empty() {
        let prices = finish::finish(&mut state, input.seed);
        shrink::shrink(&mut state);
        bound_bytes = least(&state, &used, Some(&prices));
    }

    let unmet_bytes = state.unmet();
    let State {
        table, used: after, ..
    } = state;
    let look = Look::of(&sites, &table, &after, false);
    let moves = moves::of(&sites, &table);
    let bytes = |rebuilt: bool| -> u64 {
        let counted = moves.iter().filter(|step| !rebuilt || step.is_rebuild());
        counted.map(|step| step.bytes).sum()
    };
    let Undone {
        unplaced,
        unreadable,
    } = undone;
    let summary = Summary {
        moved_bytes: bytes(false),
        bound_bytes,
        rebuilt_bytes: bytes(true),
        violations: (before.violated, look.violated),
        fullest: (before.fullest, look.fullest),
        emptiest: (before.emptiest, look.emptiest),
        unmet_bytes,
        unplaced,
        unreadable,
        overflow_bytes: goal.overflow,
    };
    Plan {
        seals: seals(&table),
        moves,
        summary,
    }
}

fn least(state: &State<'_>, before: &[u64], prices: Option<&Prices>) -> u64 {
    let case = Case {
        sites: state.sites,
        goal: state.goal,
        table: &state.table,
        before,
        after: &state.used,
        can_stay: Vec::new(),
    };
    bound::least(case, prices)
}

fn seals(table: &Table) -> Vec<VolumeId> {
    let moves = |volume: &usize| table.members(*volume) != table.origins(*volume);
    let volumes = (0..table.len()).filter(|volume| table.is_open(*volume));
    volumes
        .filter(moves)
        .map(|volume| table.ids[volume])
        .collect()
}

/// The state of things, for the summary.
struct Look {
    violated: Violated,
    fullest: u64,
    emptiest: u64,
}

impl Look {
    fn of(sites: &Sites, table: &Table, used: &[u64], first: bool) -> Self {
        let takes = sites.all().filter(|d| sites.role(*d) == Role::Takes);
        let fill = |drive: u32| {
            let drive = drive as usize;
            let bytes = u128::from(used[drive]) + u128::from(sites.other[drive]);
            u64::try_from(bytes * 1_000_000 / u128::from(sites.capacity[drive])).unwrap_or(u64::MAX)
        };
        let fills: Vec<u64> = takes.map(fill).collect();
        Self {
            violated: spread::violated(sites, table, first),
            fullest: fills.iter().copied().max().unwrap_or(0),
            emptiest: fills.iter().copied().min().unwrap_or(0),
        }
    }
}

/// Makes a plan's moves on the volumes that it was made for: each moved member is at its new drive,
/// and each volume's epoch is as many higher.
pub fn apply(plan: &Plan, volumes: &mut BTreeMap<VolumeId, Volume>) {
    for step in &plan.moves {
        if let Some(volume) = volumes.get_mut(&step.volume) {
            volume.members[usize::from(step.member)] = Some(step.to);
            volume.epoch = volume.epoch.next();
        }
    }
}

#[cfg(test)]
mod tests;
