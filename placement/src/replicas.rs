//! Where the replicas of a metadata group live (PROTOCOLS 1).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ChainId, EnclosureId};
use crate::topology::{Enclosure, EnclosureState, Topology};

/// No group has more replicas than this.
pub const REPLICAS_MAX: usize = 7;

/// How many replicas a group has: `2m + 1` for the widest `m` in use, at most [`REPLICAS_MAX`] and
/// at most the largest odd number of enclosures; 0 without enclosures.
pub const fn replica_count(widest_m: usize, enclosures: usize) -> usize {
    let mut count = if widest_m < REPLICAS_MAX / 2 {
        2 * widest_m + 1
    } else {
        REPLICAS_MAX
    };
    if count > enclosures {
        count = enclosures;
    }
    if count > 0 && count.is_multiple_of(2) {
        count -= 1;
    }
    count
}

/// How many of its replicas a group can lose and still answer.
pub const fn tolerates(replicas: usize) -> usize {
    replicas.saturating_sub(1) / 2
}

/// The enclosures for the replicas of a new group: each in its own, spread over the chains, heads
/// before tails (a cut strands the tail), in the order chosen.
///
/// Fewer than `count`, but still an odd number, when there are too few enclosures that are up and
/// run the metadata service, or when a chain would hold a majority although there are three or
/// more. No enclosure states a metadata address in a cluster of one process; then any will do.
pub fn choose_replicas(topology: &Topology, count: usize) -> Vec<EnclosureId> {
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let Some(next) = next_replica(topology, &chosen) else {
            break;
        };
        chosen.push(next);
    }
    let chains = candidates(topology).map(|enclosure| enclosure.chain);
    let chains = chains.collect::<BTreeSet<_>>().len();
    while !chosen.is_empty()
        && (chosen.len().is_multiple_of(2) || (chains >= 3 && has_majority(topology, &chosen)))
    {
        chosen.pop();
    }
    chosen
}

/// The enclosure for one more replica beside `present` ones, as when a dead one is replaced: in
/// the chain that has fewest, nearest to its head. None when every enclosure that could has one.
pub fn next_replica(topology: &Topology, present: &[EnclosureId]) -> Option<EnclosureId> {
    let in_chain = per_chain(topology, present);
    candidates(topology)
        .filter(|enclosure| !present.contains(&enclosure.id))
        .min_by_key(|enclosure| {
            let held = in_chain.get(&enclosure.chain).copied().unwrap_or(0);
            (held, enclosure.position, enclosure.id)
        })
        .map(|enclosure| enclosure.id)
}

/// Whether one chain holds most of the replicas: its loss stops the group.
pub fn has_majority(topology: &Topology, replicas: &[EnclosureId]) -> bool {
    let in_chain = per_chain(topology, replicas);
    in_chain.values().any(|held| held * 2 > replicas.len())
}

fn candidates(topology: &Topology) -> impl Iterator<Item = &Enclosure> {
    let up = |enclosure: &&Enclosure| enclosure.state == EnclosureState::Up;
    let mut all = topology.enclosures.values();
    let stated = all.any(|enclosure| !enclosure.meta_address.is_empty());
    let enclosures = topology.enclosures.values().filter(up);
    enclosures.filter(move |enclosure| !stated || !enclosure.meta_address.is_empty())
}

fn per_chain(topology: &Topology, replicas: &[EnclosureId]) -> BTreeMap<ChainId, usize> {
    let mut held = BTreeMap::new();
    for enclosure in replicas.iter().filter_map(|id| topology.enclosures.get(id)) {
        *held.entry(enclosure.chain).or_default() += 1;
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn the_count_follows_m_and_the_enclosures() {
        let cases = [
            (2, 6, 5),
            (2, 5, 5),
            (2, 4, 3),
            (1, 6, 3),
            (3, 100, 7),
            (4, 100, 7),
            (16, 100, 7),
            (usize::MAX, 100, 7),
            (2, 2, 1),
            (2, 1, 1),
            (2, 0, 0),
        ];
        for (m, enclosures, count) in cases {
            assert_eq!(
                replica_count(m, enclosures),
                count,
                "m {m}, {enclosures} enclosures"
            );
        }
    }

    #[test]
    fn a_minority_may_be_lost() {
        let lost: Vec<usize> = (0..8).map(tolerates).collect();
        assert_eq!(lost, [0, 0, 0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn fewer_replicas_are_better_than_a_chain_with_a_majority() {
        let topology = sample::topology(&[&[1, 1, 1, 1, 1], &[1], &[1]]);
        let chosen: Vec<u32> = choose_replicas(&topology, 5)
            .iter()
            .map(|id| id.get())
            .collect();
        assert_eq!(chosen, [1, 6, 7]);
    }

    #[test]
    fn enclosures_that_are_down_or_run_no_metadata_service_hold_no_replica() {
        let mut topology = sample::topology(&[&[1, 1, 1, 1, 1]]);
        for enclosure in topology.enclosures.values_mut() {
            enclosure.meta_address = "127.0.0.1:1".to_owned();
        }
        let mut enclosures = topology.enclosures.values_mut();
        enclosures.next().unwrap().state = EnclosureState::Down;
        enclosures.next().unwrap().meta_address.clear();
        let chosen: Vec<u32> = choose_replicas(&topology, 5)
            .iter()
            .map(|id| id.get())
            .collect();
        assert_eq!(chosen, [3, 4, 5]);
    }

    #[test]
    fn a_dead_replica_is_replaced_by_another_enclosure_of_a_chain_with_few() {
        let mut topology = sample::topology(&[&[1, 1, 1], &[1, 1, 1], &[1, 1, 1]]);
        let mut chosen = choose_replicas(&topology, 5);
        let dead = chosen.remove(1);
        topology.enclosures.get_mut(&dead).unwrap().state = EnclosureState::Out;
        let next = next_replica(&topology, &chosen).unwrap();
        assert!(!chosen.contains(&next) && next != dead);
        chosen.push(next);
        assert!(!has_majority(&topology, &chosen), "{chosen:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn replicas_are_odd_distinct_and_never_a_majority_in_one_of_three_chains(
            chains in vec(0usize..6, 1..6),
            m in 1usize..5,
        ) {
            let enclosures: Vec<Vec<u32>> = chains.iter().map(|n| vec![1; *n]).collect();
            let slices: Vec<&[u32]> = enclosures.iter().map(Vec::as_slice).collect();
            let topology = sample::topology(&slices);
            let count = replica_count(m, topology.enclosures.len());
            let chosen = choose_replicas(&topology, count);
            let distinct: BTreeSet<_> = chosen.iter().collect();
            prop_assert_eq!(distinct.len(), chosen.len());
            prop_assert!(chosen.len() <= count);
            prop_assert_eq!(chosen.len() % 2 == 1, !topology.enclosures.is_empty());
            let used = chains.iter().filter(|n| **n > 0).count();
            if used >= 3 {
                prop_assert!(!has_majority(&topology, &chosen));
                prop_assert!(chosen.len() >= 3);
            } else {
                prop_assert_eq!(chosen.len(), count);
            }
        }
    }
}
