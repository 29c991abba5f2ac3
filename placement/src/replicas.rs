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

/// What the replicas of a group are chosen by, beside the topology.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The widest `m` in use.
    pub widest_m: usize,
    /// At most so many replicas; 0: as many as `m` asks for.
    pub most: usize,
    /// Enclosures that are to be emptied: replicas leave them, and none comes.
    pub leaving: BTreeSet<EnclosureId>,
    /// Enclosures that no replica of this group may come to: they still hold one that left.
    pub barred: BTreeSet<EnclosureId>,
}

/// The replicas that a group is to have that has `current` ones, in order of their ids; the same
/// when nothing is to be changed.
///
/// One in an enclosure that was given up is replaced when another can take its place, and stays
/// (dead) when none can: fewer replicas would tolerate no more. One in an enclosure that is to be
/// emptied leaves also when that makes the group smaller, if the rest cannot have more. A group
/// grows with the enclosures, and moves replicas so that no chain of three or more holds a
/// majority. Nothing is changed in a cluster of one process (no enclosure states an address).
pub fn improve(topology: &Topology, wish: &Wish, current: &[EnclosureId]) -> Vec<EnclosureId> {
    let mut unchanged = current.to_vec();
    unchanged.sort_unstable();
    let mut all = topology.enclosures.values();
    if !all.any(|enclosure| !enclosure.meta_address.is_empty()) {
        return unchanged;
    }
    let count = wanted_count(topology, wish, current);
    let stays = |id: &EnclosureId| !wish.leaving.contains(id);
    let lost = |id: &EnclosureId| {
        let enclosure = topology.enclosures.get(id);
        enclosure.is_some_and(|enclosure| enclosure.state == EnclosureState::Out)
    };
    let mut chosen: Vec<_> = unchanged.iter().copied().filter(stays).collect();
    chosen.retain(|id| !lost(id));
    let kept = chosen.len();
    while chosen.len() < count {
        let Some(next) = candidate(topology, wish, &chosen) else {
            break;
        };
        chosen.push(next);
    }
    undo_majorities(topology, &mut chosen, kept);
    // What has no substitute stays, dead or about to leave, before the group gets smaller.
    let mut spare = unchanged.iter().filter(|id| lost(id) && stays(id));
    let mut leaving = unchanged.iter().filter(|id| !stays(id));
    while chosen.len() < count.min(unchanged.len()) {
        match spare.next().or_else(|| leaving.next()) {
            Some(old) => chosen.push(*old),
            None => break,
        }
    }
    if chosen.len() > kept && chosen.len().is_multiple_of(2) && chosen.len() > unchanged.len() {
        chosen.pop();
    }
    while chosen.len() > count || (chosen.len().is_multiple_of(2) && chosen.len() > 1) {
        let Some(worst) = worst(topology, &chosen) else {
            break;
        };
        chosen.retain(|id| *id != worst);
    }
    spread(topology, wish, &mut chosen);
    chosen.sort_unstable();
    if chosen.is_empty() { unchanged } else { chosen }
}

/// How many replicas a group is to have: what was given up counts, as it may come back, and so
/// does what has not joined yet.
fn wanted_count(topology: &Topology, wish: &Wish, current: &[EnclosureId]) -> usize {
    let unknown = |id: &&EnclosureId| !topology.enclosures.contains_key(id);
    let unknown = current.iter().filter(unknown).count();
    let hosts = topology.enclosures.values().filter(|enclosure| {
        let out = enclosure.state == EnclosureState::Out && !current.contains(&enclosure.id);
        let runs = !enclosure.meta_address.is_empty() && !out;
        runs && !wish.leaving.contains(&enclosure.id)
    });
    let mut count = replica_count(wish.widest_m, hosts.count() + unknown);
    if wish.most > 0 && count > wish.most {
        count = wish.most - usize::from(wish.most.is_multiple_of(2) && wish.most > 1);
    }
    count
}

fn candidate(topology: &Topology, wish: &Wish, chosen: &[EnclosureId]) -> Option<EnclosureId> {
    let in_chain = per_chain(topology, chosen);
    let fit = |enclosure: &&Enclosure| {
        let id = &enclosure.id;
        !chosen.contains(id) && !wish.leaving.contains(id) && !wish.barred.contains(id)
    };
    let best = candidates(topology).filter(fit).min_by_key(|enclosure| {
        let held = in_chain.get(&enclosure.chain).copied().unwrap_or(0);
        (held, enclosure.position, enclosure.id)
    });
    best.map(|enclosure| enclosure.id)
}

/// The replica that is missed least: of the chain that has most, the farthest from its head.
fn worst(topology: &Topology, chosen: &[EnclosureId]) -> Option<EnclosureId> {
    let in_chain = per_chain(topology, chosen);
    let cost = |id: &&EnclosureId| {
        let enclosure = topology.enclosures.get(id);
        enclosure.map(|enclosure| {
            let well = enclosure.state != EnclosureState::Out;
            let held = in_chain.get(&enclosure.chain).copied().unwrap_or(0);
            (!well, held, enclosure.position, enclosure.id)
        })
    };
    chosen.iter().max_by_key(cost).copied()
}

/// Takes additions back that would give one of three or more chains a majority.
fn undo_majorities(topology: &Topology, chosen: &mut Vec<EnclosureId>, kept: usize) {
    if chains(topology) < 3 {
        return;
    }
    while chosen.len() > kept.max(1) && has_majority(topology, chosen) {
        chosen.pop();
    }
}

/// Moves replicas out of a chain that has a majority, when there are three or more chains.
fn spread(topology: &Topology, wish: &Wish, chosen: &mut Vec<EnclosureId>) {
    while chains(topology) >= 3 && chosen.len() > 1 && has_majority(topology, chosen) {
        let Some(from) = worst(topology, chosen) else {
            return;
        };
        let mut moved: Vec<_> = chosen.iter().copied().filter(|id| *id != from).collect();
        let Some(to) = candidate(topology, wish, &moved) else {
            return;
        };
        let chain = |id| topology.enclosures.get(id).map(|enclosure| enclosure.chain);
        if chain(&to) == chain(&from) {
            return;
        }
        moved.push(to);
        *chosen = moved;
    }
}

fn chains(topology: &Topology) -> usize {
    let chains = candidates(topology).map(|enclosure| enclosure.chain);
    chains.collect::<BTreeSet<_>>().len()
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

    /// Enclosures that state addresses, so many on each chain.
    fn stated(chains: &[usize]) -> Topology {
        let enclosures: Vec<Vec<u32>> = chains.iter().map(|n| vec![1; *n]).collect();
        let slices: Vec<&[u32]> = enclosures.iter().map(Vec::as_slice).collect();
        let mut topology = sample::topology(&slices);
        for enclosure in topology.enclosures.values_mut() {
            enclosure.meta_address = "127.0.0.1:1".to_owned();
        }
        topology
    }

    fn ids(numbers: &[u32]) -> Vec<EnclosureId> {
        numbers.iter().copied().map(EnclosureId::new).collect()
    }

    fn set(topology: &mut Topology, id: u32, state: EnclosureState) {
        let enclosure = topology.enclosures.get_mut(&EnclosureId::new(id));
        enclosure.unwrap().state = state;
    }

    fn wish(leaving: &[u32]) -> Wish {
        Wish {
            widest_m: 2,
            leaving: ids(leaving).into_iter().collect(),
            ..Wish::default()
        }
    }

    #[test]
    fn a_group_grows_with_the_enclosures_by_odd_steps() {
        let mut replicas = ids(&[1]);
        for (enclosures, expect) in [
            (1, vec![1]),
            (2, vec![1]),
            (3, vec![1, 2, 3]),
            (4, vec![1, 2, 3]),
            (6, vec![1, 2, 3, 4, 5]),
        ] {
            replicas = improve(&stated(&[enclosures]), &wish(&[]), &replicas);
            assert_eq!(replicas, ids(&expect), "{enclosures} enclosures");
        }
        let wider = Wish {
            widest_m: 3,
            ..wish(&[])
        };
        assert_eq!(improve(&stated(&[9]), &wider, &replicas).len(), 7);
    }

    #[test]
    fn what_was_given_up_is_replaced_or_stays_when_nothing_can_take_its_place() {
        let mut topology = stated(&[4]);
        set(&mut topology, 2, EnclosureState::Out);
        let three = ids(&[1, 2, 3]);
        assert_eq!(improve(&topology, &wish(&[]), &three), ids(&[1, 3, 4]));
        set(&mut topology, 4, EnclosureState::Down);
        assert_eq!(improve(&topology, &wish(&[]), &three), three);
        let barred = Wish {
            barred: ids(&[4]).into_iter().collect(),
            ..wish(&[])
        };
        set(&mut topology, 4, EnclosureState::Up);
        assert_eq!(improve(&topology, &barred, &three), three);
        // All of three: still three, of which one is dead.
        let mut all = stated(&[3]);
        set(&mut all, 3, EnclosureState::Out);
        assert_eq!(improve(&all, &wish(&[]), &three), three);
    }

    #[test]
    fn replicas_leave_what_is_to_be_emptied_also_for_a_smaller_group() {
        let three = ids(&[1, 2, 3]);
        assert_eq!(improve(&stated(&[4]), &wish(&[1]), &three), ids(&[2, 3, 4]));
        assert_eq!(improve(&stated(&[3]), &wish(&[2]), &three), ids(&[1]));
        let five = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(improve(&stated(&[5]), &wish(&[2]), &five), ids(&[1, 3, 4]));
        let mut waits = stated(&[4]);
        set(&mut waits, 4, EnclosureState::Suspect);
        assert_eq!(
            improve(&waits, &wish(&[1]), &three),
            three,
            "4 will be up soon"
        );
    }

    #[test]
    fn a_limit_makes_a_group_smaller_and_its_end_larger_again() {
        let five = ids(&[1, 2, 3, 4, 5]);
        let limited = Wish {
            most: 3,
            ..wish(&[])
        };
        let three = improve(&stated(&[6]), &limited, &five);
        assert_eq!(three, ids(&[1, 2, 3]));
        assert_eq!(improve(&stated(&[6]), &wish(&[]), &three), five);
    }

    #[test]
    fn founders_that_have_not_joined_yet_are_left_alone_and_so_is_one_process() {
        let founders = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(improve(&stated(&[2]), &wish(&[]), &founders), founders);
        assert_eq!(improve(&stated(&[6]), &wish(&[]), &founders), founders);
        let one_process = sample::topology(&[&[1, 1, 1, 1, 1, 1]]);
        assert_eq!(improve(&one_process, &wish(&[1]), &ids(&[1])), ids(&[1]));
    }

    #[test]
    fn replicas_move_when_a_third_chain_comes() {
        // Enclosures 1 to 3 on the first chain, one each on two others.
        let topology = stated(&[3, 1, 1]);
        let moved = improve(&topology, &wish(&[]), &ids(&[1, 2, 3]));
        assert!(!has_majority(&topology, &moved), "{moved:?}");
        assert_eq!(moved.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn what_was_improved_is_odd_needs_no_more_and_holds_nothing_that_leaves(
            chains in vec(1usize..5, 1..5),
            states in vec(0u8..6, 20),
            m in 1usize..4,
            begin in 0usize..8,
            drained in 0u32..20,
        ) {
            let mut topology = stated(&chains);
            let mut replicas = choose_replicas(&topology, begin);
            for (enclosure, state) in topology.enclosures.values_mut().zip(states) {
                enclosure.state = match state {
                    0 => EnclosureState::Out,
                    1 => EnclosureState::Down,
                    _ => EnclosureState::Up,
                };
            }
            let wish = Wish { widest_m: m, ..wish(&[drained]) };
            let before = replicas.clone();
            replicas = improve(&topology, &wish, &replicas);
            prop_assert!(replicas.len() % 2 == 1 || before.is_empty());
            prop_assert_eq!(improve(&topology, &wish, &replicas), replicas.clone());
            for new in replicas.iter().filter(|id| !before.contains(id)) {
                prop_assert_eq!(topology.enclosures[new].state, EnclosureState::Up);
                prop_assert!(new.get() != drained);
            }
        }
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
