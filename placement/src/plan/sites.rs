//! The topology as a plan sees it: drives, enclosures and chains by index, and what each drive is
//! good for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Input, Wait};
use crate::ids::{ChainId, DriveId, EnclosureId};
use crate::topology::{Drive, DriveState, EnclosureState, Topology};

/// No drive holds this member.
pub(crate) const VACANT: u32 = u32::MAX;

/// What a drive is to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Gives and takes shards.
    Takes,
    /// Gives shards when it holds more than its share, and takes none: it is slow or full.
    Gives,
    /// Left as it is: absent and not given up yet, or back and not reconciled yet.
    Stays,
    /// To be emptied; can be read.
    Leaves,
    /// Given up: what it held has to be rebuilt.
    Lost,
}

/// Drives, enclosures and chains by index.
#[derive(Debug, Clone)]
pub(crate) struct Sites {
    /// Ascending.
    pub(crate) drives: Vec<DriveId>,
    pub(crate) role: Vec<Role>,
    pub(crate) capacity: Vec<u64>,
    /// Bytes in use on a drive that are not shards.
    pub(crate) other: Vec<u64>,
    /// Whether a drive can be read now.
    pub(crate) readable: Vec<bool>,
    /// The same drive as one that is lost, by a drive that is waited for: what volumes have there
    /// that cannot wait.
    lost_as: Vec<u32>,
    /// Whether the wait for a drive is over.
    over: Vec<bool>,
    /// The fault that took a drive which cannot be read: an enclosure, or the drive by itself.
    fault: Vec<u64>,
    /// The enclosure of a drive.
    pub(crate) enclosure_of: Vec<u32>,
    /// The chain of an enclosure.
    pub(crate) chain_of: Vec<u32>,
    /// The drives of an enclosure.
    pub(crate) drives_in: Vec<Vec<u32>>,
    /// The enclosures of a chain.
    pub(crate) enclosures_in: Vec<Vec<u32>>,
    /// Whether a chain is closed to a ring: one cut strands nothing of it.
    pub(crate) closed: Vec<bool>,
    lookup: Lookup,
}

impl Sites {
    /// Counts what there is.
    pub(crate) fn new(input: &Input<'_>) -> Self {
        let topology = input.topology;
        let chains: BTreeMap<ChainId, u32> =
            index_of(topology.enclosures.values().map(|e| e.chain));
        let enclosures: BTreeMap<EnclosureId, u32> = index_of(topology.enclosures.keys().copied());
        let chain_of = topology.enclosures.values().map(|e| chains[&e.chain]);
        let closed = |chain: &ChainId| topology.chains.get(chain).is_some_and(|c| c.closed);
        let mut sites = Self {
            drives: Vec::new(),
            role: Vec::new(),
            capacity: Vec::new(),
            other: Vec::new(),
            readable: Vec::new(),
            lost_as: Vec::new(),
            over: Vec::new(),
            fault: Vec::new(),
            enclosure_of: Vec::new(),
            chain_of: chain_of.collect(),
            drives_in: vec![Vec::new(); enclosures.len()],
            enclosures_in: vec![Vec::new(); chains.len()],
            closed: chains.keys().map(closed).collect(),
            lookup: Lookup::default(),
        };
        for (enclosure, chain) in (0..).zip(&sites.chain_of) {
            sites.enclosures_in[*chain as usize].push(enclosure);
        }
        for drive in topology.drives.values() {
            let Some(enclosure) = enclosures.get(&drive.enclosure) else {
                continue;
            };
            let index = u32::try_from(sites.drives.len()).unwrap_or(VACANT);
            sites.drives.push(drive.id);
            sites.role.push(role(topology, drive, input));
            sites.capacity.push(drive.capacity);
            let other = input.other.get(&drive.id).copied();
            sites.other.push(other.unwrap_or(0));
            sites.readable.push(topology.is_present(drive.id));
            let answers = topology.enclosures[&drive.enclosure].state <= EnclosureState::Suspect;
            let fault = if answers { index } else { *enclosure };
            sites
                .fault
                .push(u64::from(answers) << 32 | u64::from(fault));
            let wait = input.waiting.get(&drive.id).copied();
            sites.over.push(wait == Some(Wait::Over));
            sites.enclosure_of.push(*enclosure);
            sites.drives_in[*enclosure as usize].push(index);
        }
        sites.lookup = Lookup::new(&sites.drives);
        for drive in sites.all() {
            let wait = input.waiting.get(&sites.drives[drive as usize]);
            let waits = sites.role(drive) == Role::Stays && !sites.is_readable(drive);
            let lost_as = match waits && wait != Some(&Wait::Held) {
                true => sites.add_lost(drive),
                false => VACANT,
            };
            sites.lost_as.push(lost_as);
        }
        sites
    }

    /// Adds a drive once more, as one that is lost. No enclosure has it: nothing goes there.
    fn add_lost(&mut self, drive: u32) -> u32 {
        let (lost, drive) = (self.drives.len(), drive as usize);
        self.drives.push(self.drives[drive]);
        self.role.push(Role::Lost);
        self.capacity.push(self.capacity[drive]);
        self.other.push(0);
        self.readable.push(false);
        self.enclosure_of.push(self.enclosure_of[drive]);
        u32::try_from(lost).unwrap_or(VACANT)
    }

    /// Takes what a volume has on drives that are waited for as lost, when it cannot wait: it has
    /// no redundant shard left, and more than one fault took them or the wait is over.
    pub(crate) fn count_urgent(&self, members: &mut [u32], k: usize) {
        let away = |drive: &u32| !self.is_readable(*drive);
        if members.iter().filter(|drive| !away(drive)).count() != k {
            return;
        }
        let fault = |(place, drive): (usize, &u32)| match self.fault.get(*drive as usize) {
            Some(fault) => *fault,
            None => u64::MAX - place as u64,
        };
        let faults = members.iter().enumerate().filter(|(_, drive)| away(drive));
        let faults: BTreeSet<u64> = faults.map(fault).collect();
        for drive in members.iter_mut().filter(|drive| away(drive)) {
            let Some(lost_as) = self.lost_as.get(*drive as usize).filter(|d| **d != VACANT) else {
                continue;
            };
            if faults.len() > 1 || self.over[*drive as usize] {
                *drive = *lost_as;
            }
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.drives.len()
    }

    /// The index of a drive; none when it is not in the topology.
    pub(crate) fn index(&self, drive: DriveId) -> Option<u32> {
        self.lookup.find(&self.drives, drive)
    }

    pub(crate) fn role(&self, drive: u32) -> Role {
        match self.role.get(drive as usize) {
            Some(role) => *role,
            None => Role::Lost,
        }
    }

    pub(crate) fn enclosure(&self, drive: u32) -> u32 {
        self.enclosure_of[drive as usize]
    }

    pub(crate) fn chain(&self, enclosure: u32) -> u32 {
        self.chain_of[enclosure as usize]
    }

    pub(crate) fn is_readable(&self, drive: u32) -> bool {
        self.readable
            .get(drive as usize)
            .is_some_and(|there| *there)
    }

    /// Whether the shard on a drive has to go elsewhere.
    pub(crate) fn must_go(&self, drive: u32) -> bool {
        matches!(self.role(drive), Role::Leaves | Role::Lost)
    }

    /// Bytes that may be used on a drive up to a limit in percent, less what is no shard.
    pub(crate) fn room(&self, drive: u32, percent: u64) -> u64 {
        let drive = drive as usize;
        let bytes = u128::from(self.capacity[drive]) * u128::from(percent) / 100;
        u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.other[drive])
    }

    /// The indices of all drives.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).take(self.len())
    }
}

fn index_of<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, u32> {
    let items: BTreeSet<T> = items.collect();
    items.into_iter().zip(0..).collect()
}

fn role(topology: &Topology, drive: &Drive, input: &Input<'_>) -> Role {
    let enclosure = topology.enclosures.get(&drive.enclosure).map(|e| e.state);
    let gone = !drive.state.is_served();
    match (enclosure, drive.state) {
        (None | Some(EnclosureState::Out), _) => Role::Lost,
        _ if gone && input.waiting.contains_key(&drive.id) => Role::Stays,
        _ if gone => Role::Lost,
        // What it holds is neither readable nor given up.
        (Some(EnclosureState::Suspect | EnclosureState::Down), _) => Role::Stays,
        _ if input.leaving.contains(&drive.id) => Role::Leaves,
        // A source until its shards are reconciled (PROTOCOLS 26): what is its own stays.
        (Some(EnclosureState::Up), DriveState::Returned) => Role::Stays,
        (Some(EnclosureState::Up), DriveState::Healthy) if drive.capacity > 0 => Role::Takes,
        (Some(EnclosureState::Up), _) => Role::Gives,
    }
}

/// From the id of a drive to its index: open addressing, some nanoseconds a look-up, of which a
/// plan makes one for each member of each volume.
#[derive(Debug, Clone, Default)]
struct Lookup(Vec<u32>);

impl Lookup {
    fn new(drives: &[DriveId]) -> Self {
        let mut lookup = Self(vec![VACANT; (drives.len() * 2 + 1).next_power_of_two()]);
        for (index, drive) in (0..).zip(drives) {
            let mut slot = lookup.slot(*drive);
            while lookup.0[slot] != VACANT {
                slot = (slot + 1) % lookup.0.len();
            }
            lookup.0[slot] = index;
        }
        lookup
    }

    fn slot(&self, drive: DriveId) -> usize {
        let bytes = drive.get();
        let folded = (bytes ^ (bytes >> 64)) & u128::from(u64::MAX);
        let mixed = (folded * 0x9e37_79b9_7f4a_7c15) >> 32;
        let mask = (self.0.len() - 1) as u128;
        usize::try_from(mixed & mask).expect("masked to the length of a vector")
    }

    fn find(&self, drives: &[DriveId], drive: DriveId) -> Option<u32> {
        if self.0.is_empty() {
            return None;
        }
        let mut slot = self.slot(drive);
        loop {
            let index = self.0[slot];
            if *drives.get(index as usize)? == drive {
                return Some(index);
            }
            slot = (slot + 1) % self.0.len();
        }
    }
}
