//! From heartbeats to the states of enclosures, with a brake on automatic `out` (PROTOCOLS 23).
//!
//! Heartbeats live in the memory of the leader; [`judge`] says which changes of state to commit.
//! A new leader counts every enclosure as heard at its election. Nothing here takes an enclosure
//! back from `out`: its drives come back by attaching again (PROTOCOLS 26).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::choose::{FILL_LIMIT_PERCENT, Fill};
use crate::ids::{ChainId, DriveId, EnclosureId};
use crate::topology::{Enclosure, EnclosureState, Topology};

/// After how much silence an enclosure is what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From here it is suspect.
    pub suspect: Duration,
    /// From here it is down. Not below `suspect`.
    pub down: Duration,
    /// From here it is out, unless braked. Not below `down`.
    pub out: Duration,
    /// The brake counts enclosures that went out by themselves no longer ago than this.
    pub window: Duration,
    /// The share of all capacity, in percent, that may go out by itself within the window. A
    /// single enclosure may whatever its share, or small clusters would never repair themselves.
    pub capacity_percent: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            suspect: Duration::from_secs(3),
            down: Duration::from_secs(10),
            out: Duration::from_secs(600),
            window: Duration::from_secs(3600),
            capacity_percent: 5,
        }
    }
}

/// What the leader has seen.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// How long ago each enclosure was last heard, or the leader was elected if that is later. An
    /// enclosure that is not named is not judged.
    pub silence: BTreeMap<EnclosureId, Duration>,
    /// Enclosures under maintenance: never out by themselves.
    pub held: BTreeSet<EnclosureId>,
    /// How long ago enclosures went out by themselves; older than the window may be left away.
    pub outs: BTreeMap<EnclosureId, Duration>,
}

/// A change of an enclosure's state, to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The enclosure.
    pub enclosure: EnclosureId,
    /// The state that it was judged from: commit only while it still holds.
    pub from: EnclosureState,
    /// Its new state.
    pub to: EnclosureState,
}

/// Why an enclosure does not go out by itself: an operator has to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum BrakeReason {
    /// All of its chain is silent, or all from some place to the tail: more likely a cut link than
    /// dead enclosures.
    #[error("chain {0} is silent as a whole or from one place to its tail")]
    ChainSilent(ChainId),
    /// More than one enclosure, and more than the allowed share of the capacity.
    #[error(
        "{enclosures} enclosures with {percent} % of the capacity would be out within the hour"
    )]
    TooMuch {
        /// How many are silent or went out by themselves within the window.
        enclosures: usize,
        /// Their share of all capacity, rounded up.
        percent: u8,
    },
    /// The rest would be filled beyond the limit for new volumes.
    #[error("the rest cannot hold the data below {FILL_LIMIT_PERCENT} % full")]
    NoRoom,
}

/// An enclosure that would be out if the brake did not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Braked {
    /// The enclosure.
    pub enclosure: EnclosureId,
    /// Why it is held.
    pub reason: BrakeReason,
}

/// What follows from the silence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Changes to commit, by enclosure; at most one for each.
    pub changes: Vec<Change>,
    /// Enclosures that the brake holds, by enclosure: raise an alert.
    pub braked: Vec<Braked>,
}

/// Judges every enclosure by its silence.
///
/// Each step is taken from a state that was committed: an enclosure goes `out` only from `down`,
/// so one that has been silent for long passes through both in two calls.
pub fn judge(
    topology: &Topology,
    fill: &Fill,
    observed: &Observed,
    settings: &Settings,
) -> Verdict {
    let brake = Brake::new(topology, fill, observed, settings);
    let mut verdict = Verdict::default();
    for enclosure in topology.enclosures.values() {
        let Some(silence) = observed.silence.get(&enclosure.id) else {
            continue;
        };
        let to = match enclosure.state {
            EnclosureState::Out => continue,
            EnclosureState::Down if *silence >= settings.out => {
                if observed.held.contains(&enclosure.id) {
                    continue;
                }
                if let Some(reason) = brake.reason(enclosure) {
                    let enclosure = enclosure.id;
                    verdict.braked.push(Braked { enclosure, reason });
                    continue;
                }
                EnclosureState::Out
            }
            _ if *silence >= settings.down => EnclosureState::Down,
            _ if *silence >= settings.suspect => EnclosureState::Suspect,
            _ => EnclosureState::Up,
        };
        if to != enclosure.state {
            verdict.changes.push(Change {
                enclosure: enclosure.id,
                from: enclosure.state,
                to,
            });
        }
    }
    verdict
}

/// What holds enclosures from going out.
struct Brake {
    /// In each chain that may be cut, the place from which all are silent to the tail.
    cuts: BTreeMap<ChainId, u32>,
    /// The reason that holds for every enclosure, if there is one.
    general: Option<BrakeReason>,
}

impl Brake {
    /// Counts as going out: those that have been silent long enough to be down (they are on their
    /// way, and the brake must not depend on who of them is first) and those that went out by
    /// themselves within the window.
    fn new(topology: &Topology, fill: &Fill, observed: &Observed, settings: &Settings) -> Self {
        let recent = observed.outs.iter();
        let recent = recent.filter(|(_, ago)| **ago <= settings.window);
        let recent: BTreeSet<EnclosureId> = recent.map(|(id, _)| *id).collect();
        let silent = topology.enclosures.values().filter(|enclosure| {
            let silence = observed.silence.get(&enclosure.id);
            enclosure.state != EnclosureState::Out
                && silence.is_some_and(|silence| *silence >= settings.down)
        });
        let silent: BTreeSet<EnclosureId> = silent.map(|enclosure| enclosure.id).collect();
        let gone: BTreeSet<EnclosureId> = silent.union(&recent).copied().collect();
        let taken: BTreeSet<EnclosureId> = gone.difference(&observed.held).copied().collect();
        Self {
            cuts: cuts(topology, &gone),
            general: too_much(topology, &taken, settings)
                .or_else(|| no_room(topology, fill, &gone)),
        }
    }

    fn reason(&self, enclosure: &Enclosure) -> Option<BrakeReason> {
        let cut = self.cuts.get(&enclosure.chain);
        if cut.is_some_and(|place| enclosure.position >= *place) {
            return Some(BrakeReason::ChainSilent(enclosure.chain));
        }
        self.general
    }
}

/// The place in each chain from which two or more enclosures are gone, to its tail. In a closed
/// chain one cut strands nothing: only the silence of all of it counts. Enclosures that have been
/// out for long are no part of the chain; a single silent one at the tail is its own fault.
fn cuts(topology: &Topology, gone: &BTreeSet<EnclosureId>) -> BTreeMap<ChainId, u32> {
    let mut chains: BTreeMap<ChainId, Vec<&Enclosure>> = BTreeMap::new();
    for enclosure in topology.enclosures.values() {
        if enclosure.state != EnclosureState::Out || gone.contains(&enclosure.id) {
            chains.entry(enclosure.chain).or_default().push(enclosure);
        }
    }
    let mut cuts = BTreeMap::new();
    for (id, mut enclosures) in chains {
        enclosures.sort_by_key(|enclosure| enclosure.position);
        let from_tail = enclosures.iter().rev();
        let silent = from_tail.take_while(|enclosure| gone.contains(&enclosure.id));
        let silent = silent.count();
        let closed = topology.chains.get(&id).is_some_and(|chain| chain.closed);
        if silent >= 2 && (!closed || silent == enclosures.len()) {
            cuts.insert(id, enclosures[enclosures.len() - silent].position);
        }
    }
    cuts
}

/// Whether more would be taken than may go by itself: one enclosure, or else a share of capacity.
fn too_much(
    topology: &Topology,
    taken: &BTreeSet<EnclosureId>,
    settings: &Settings,
) -> Option<BrakeReason> {
    let drives = || topology.drives.values();
    let all: u128 = drives().map(|drive| u128::from(drive.capacity)).sum();
    let part = drives().filter(|drive| taken.contains(&drive.enclosure));
    let part: u128 = part.map(|drive| u128::from(drive.capacity)).sum();
    let allowed = part * 100 <= all * u128::from(settings.capacity_percent);
    if taken.len() <= 1 || allowed {
        return None;
    }
    let percent = (part * 100).div_ceil(all.max(1));
    Some(BrakeReason::TooMuch {
        enclosures: taken.len(),
        percent: u8::try_from(percent).unwrap_or(100),
    })
}

/// Whether the drives that remain could not hold what all drives hold now, but for those that are
/// out for long and rebuilt elsewhere.
fn no_room(topology: &Topology, fill: &Fill, gone: &BTreeSet<EnclosureId>) -> Option<BrakeReason> {
    let (mut used, mut room) = (0u128, 0u128);
    for drive in topology.drives.values() {
        let lost = gone.contains(&drive.enclosure);
        let state = topology.enclosure_of(drive.id).map(|e| e.state);
        if lost || state.is_some_and(|state| state != EnclosureState::Out) {
            used += u128::from(fill.used_on(drive.id));
        }
        if !lost && topology.is_present(drive.id) {
            room += u128::from(drive.capacity);
        }
    }
    (used * 100 > room * u128::from(FILL_LIMIT_PERCENT)).then_some(BrakeReason::NoRoom)
}

/// An enclosure whose loss could not be made good: what it holds does not fit elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// The enclosure.
    pub enclosure: EnclosureId,
    /// Bytes that would find no room below the limit for new volumes.
    pub bytes: u64,
}

/// The enclosure whose loss would leave most without room in the others (PROTOCOLS 15); none: any
/// one can be lost and rebuilt. `used` says how many bytes are in use on a drive.
pub fn largest_loss(topology: &Topology, used: impl Fn(DriveId) -> u64) -> Option<Shortfall> {
    let mut held: BTreeMap<EnclosureId, (u128, u128)> = BTreeMap::new();
    for drive in topology.drives.values() {
        let (bytes, room) = held.entry(drive.enclosure).or_default();
        *bytes += u128::from(used(drive.id));
        if topology.is_present(drive.id) {
            *room += u128::from(drive.capacity) * u128::from(FILL_LIMIT_PERCENT) / 100;
        }
    }
    let (all, rooms) = held
        .values()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let lacks = held.iter().filter_map(|(id, (_, room))| {
        let bytes = all.checked_sub(rooms - room).filter(|bytes| *bytes > 0)?;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Some(Shortfall {
            enclosure: *id,
            bytes,
        })
    });
    lacks.max_by_key(|one| one.bytes)
}

#[cfg(test)]
mod tests;
