//! Spread of members over failure domains: drive, enclosure, chain.
//!
//! A chain is daisy-linked, so that a fault of its head strands all of it: the whole chain is the
//! outer domain. The order of aims is that of DESIGN §4: distinct drives, then as few members as
//! possible on any one enclosure (what lets a volume survive any m enclosures), then on any one
//! chain. Evenness over enclosures is never given up for evenness over chains.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ChainId, DriveId, EnclosureId};
use crate::profile::Profile;
use crate::topology::{EnclosureState, Topology};

/// What one fault can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// One drive.
    Drive,
    /// One enclosure with all its drives.
    Enclosure,
    /// One chain with all its enclosures.
    Chain,
}

/// The most members of one volume in any single domain of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// Members on the drive that has most.
    pub drive: usize,
    /// Members in the enclosure that has most.
    pub enclosure: usize,
    /// Members in the open chain that has most; a cut of a closed one strands nothing.
    pub chain: usize,
}

/// A domain holds more members of a volume than its profile wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Violation {
    /// The kind of domain.
    pub domain: Domain,
    /// Members in the domain that has most.
    pub worst: usize,
    /// The most that the profile wants there.
    pub wanted: usize,
}

impl Violation {
    /// Whether one fault of that kind makes data unreadable, not just thinner than wanted.
    pub const fn one_fault_loses_data(&self, profile: Profile) -> bool {
        self.worst > profile.m()
    }
}

/// How well a list of members is spread: less is better, and the first field that differs decides.
/// Comparable among lists with equally many members that are not vacant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Score {
    /// Members that share a drive with an earlier one.
    pub doubled: usize,
    /// Sum of the squares of members per enclosure.
    pub enclosures: usize,
    /// Sum of the squares of members per chain.
    pub chains: usize,
}

/// Members counted per domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    drives: BTreeMap<DriveId, usize>,
    enclosures: BTreeMap<EnclosureId, usize>,
    chains: BTreeMap<ChainId, usize>,
}

impl Tally {
    /// Counts the members; one whose drive is not in the topology counts for the drive alone.
    fn of(topology: &Topology, members: &[Option<DriveId>]) -> Self {
        let mut tally = Self::default();
        for drive in members.iter().flatten() {
            *tally.drives.entry(*drive).or_default() += 1;
            if let Some(enclosure) = topology.enclosure_of(*drive) {
                tally.add(enclosure.id, enclosure.chain);
            }
        }
        tally
    }

    /// Counts one more member in an enclosure and its chain.
    pub(crate) fn add(&mut self, enclosure: EnclosureId, chain: ChainId) {
        *self.enclosures.entry(enclosure).or_default() += 1;
        *self.chains.entry(chain).or_default() += 1;
    }

    /// What is there already: taking the least rank each time gives the best spread, because each
    /// domain's count costs more the higher it is, and a chain gets to choose only among its
    /// enclosures of the lowest count.
    pub(crate) fn rank(&self, enclosure: EnclosureId, chain: ChainId) -> (usize, usize) {
        let count = |number: Option<&usize>| number.copied().unwrap_or(0);
        (
            count(self.enclosures.get(&enclosure)),
            count(self.chains.get(&chain)),
        )
    }

    /// A closed chain is no failure domain: one cut strands nothing of it.
    fn spread(&self, topology: &Topology) -> Spread {
        let closed = |chain: &ChainId| topology.chains.get(chain).is_some_and(|c| c.closed);
        let open = self.chains.iter().filter(|(chain, _)| !closed(chain));
        Spread {
            drive: self.drives.values().copied().max().unwrap_or(0),
            enclosure: self.enclosures.values().copied().max().unwrap_or(0),
            chain: open.map(|(_, count)| *count).max().unwrap_or(0),
        }
    }
}

/// How a volume's members lie: the most in any one domain.
pub fn spread(topology: &Topology, members: &[Option<DriveId>]) -> Spread {
    Tally::of(topology, members).spread(topology)
}

/// How well members are spread; see [`Score`].
pub fn score(topology: &Topology, members: &[Option<DriveId>]) -> Score {
    let tally = Tally::of(topology, members);
    Score {
        doubled: tally.drives.values().map(|count| count - 1).sum(),
        enclosures: tally.enclosures.values().map(|count| count * count).sum(),
        chains: tally.chains.values().map(|count| count * count).sum(),
    }
}

/// What a profile wants: one member a drive and an enclosure (so that any m enclosures may go,
/// promise P4), and at most m members a chain.
///
/// With too few chains for the latter an even share is wanted, so that a cluster of one chain is
/// not in violation for ever. Enclosures that are out do not count as there.
pub fn wanted(topology: &Topology, profile: Profile) -> Spread {
    let enclosures = topology.enclosures.values();
    let chains: BTreeSet<ChainId> = enclosures
        .filter(|enclosure| enclosure.state != EnclosureState::Out)
        .map(|enclosure| enclosure.chain)
        .collect();
    let share = profile.width().div_ceil(chains.len().max(1));
    Spread {
        drive: 1,
        enclosure: 1,
        chain: share.max(profile.m()),
    }
}

/// The best spread that a new volume can have on the drives that take volumes now. With fewer of
/// them than the profile is wide, all are taken to be members.
pub fn achievable(topology: &Topology, profile: Profile) -> Spread {
    let drives = topology.drives.keys();
    let mut places: Vec<(EnclosureId, ChainId)> = drives
        .filter(|drive| topology.takes_volumes(**drive))
        .filter_map(|drive| topology.enclosure_of(*drive))
        .map(|enclosure| (enclosure.id, enclosure.chain))
        .collect();
    let mut tally = Tally::default();
    for _ in 0..profile.width() {
        let ranks = places.iter().enumerate();
        let Some((index, _)) = ranks.min_by_key(|(_, place)| tally.rank(place.0, place.1)) else {
            break;
        };
        let (enclosure, chain) = places.swap_remove(index);
        tally.add(enclosure, chain);
    }
    let spread = tally.spread(topology);
    Spread {
        drive: spread.enclosure.min(1),
        ..spread
    }
}

/// Every way in which members are spread less than the profile wants, innermost domain first.
pub fn violations(
    topology: &Topology,
    profile: Profile,
    members: &[Option<DriveId>],
) -> Vec<Violation> {
    let (have, want) = (spread(topology, members), wanted(topology, profile));
    let domains = [
        (Domain::Drive, have.drive, want.drive),
        (Domain::Enclosure, have.enclosure, want.enclosure),
        (Domain::Chain, have.chain, want.chain),
    ];
    let violated = domains.iter().filter(|(_, worst, wanted)| worst > wanted);
    violated
        .map(|&(domain, worst, wanted)| Violation {
            domain,
            worst,
            wanted,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn members(drives: &[u128]) -> Vec<Option<DriveId>> {
        drives.iter().map(|d| Some(DriveId::new(*d))).collect()
    }

    fn four_two() -> Profile {
        Profile::new(4, 2).unwrap()
    }

    #[test]
    fn one_member_an_enclosure_in_one_chain_is_no_violation() {
        let topology = sample::topology(&[&[1, 1, 1, 1, 1, 1]]);
        let members = members(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(violations(&topology, four_two(), &members), []);
    }

    #[test]
    fn fewer_enclosures_than_members_are_a_violation_that_names_the_worst() {
        let topology = sample::topology(&[&[2, 2, 2]]);
        let found = violations(&topology, four_two(), &members(&[1, 2, 3, 4, 5, 6]));
        let violation = Violation {
            domain: Domain::Enclosure,
            worst: 2,
            wanted: 1,
        };
        assert_eq!(found, [violation]);
        assert!(!violation.one_fault_loses_data(four_two()));
    }

    #[test]
    fn a_chain_with_more_than_m_members_is_a_violation_where_chains_suffice() {
        let topology = sample::topology(&[&[1, 1, 1, 1], &[1, 1], &[1]]);
        let found = violations(&topology, four_two(), &members(&[1, 2, 3, 5, 6, 7]));
        let violation = Violation {
            domain: Domain::Chain,
            worst: 3,
            wanted: 2,
        };
        assert_eq!(found, [violation]);
        assert!(violation.one_fault_loses_data(four_two()));
    }

    #[test]
    fn a_closed_chain_may_hold_all_members() {
        let mut topology = sample::topology(&[&[1, 1, 1, 1], &[1, 1], &[1]]);
        let members = members(&[1, 2, 3, 5, 6, 7]);
        assert_eq!(violations(&topology, four_two(), &members).len(), 1);
        topology.chains.get_mut(&ChainId::new(1)).unwrap().closed = true;
        assert_eq!(violations(&topology, four_two(), &members), []);
        assert_eq!(spread(&topology, &members).chain, 2);
    }

    #[test]
    fn a_drive_twice_is_the_first_violation() {
        let topology = sample::topology(&[&[2, 2, 2, 2, 2, 2]]);
        let found = violations(&topology, four_two(), &members(&[1, 1, 3, 5, 7, 9]));
        assert_eq!((found[0].domain, found[0].worst), (Domain::Drive, 2));
    }

    #[test]
    fn what_is_achievable_counts_only_drives_that_take_volumes() {
        let mut topology = sample::topology(&[&[4, 4, 4], &[4, 4, 4]]);
        let full = Spread {
            drive: 1,
            enclosure: 1,
            chain: 3,
        };
        assert_eq!(achievable(&topology, four_two()), full);
        let lost = topology.enclosures.get_mut(&EnclosureId::new(1)).unwrap();
        lost.state = EnclosureState::Suspect;
        let thinner = Spread {
            enclosure: 2,
            ..full
        };
        assert_eq!(achievable(&topology, four_two()), thinner);
        assert_eq!(
            achievable(&Topology::default(), four_two()),
            Spread::default()
        );
    }
}
