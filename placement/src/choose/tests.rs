use std::collections::BTreeSet;

use super::*;
use crate::ids::VolumeId;
use crate::sample;
use crate::spread::{Domain, Score, achievable, score, spread};
use crate::topology::{DriveState, EnclosureState};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

fn profile(k: u8, m: u8) -> Profile {
    Profile::new(k, m).unwrap()
}

fn build(chains: &[Vec<u32>]) -> Topology {
    let slices: Vec<&[u32]> = chains.iter().map(Vec::as_slice).collect();
    sample::topology(&slices)
}

fn present(choice: &Choice) -> Vec<DriveId> {
    choice.members.iter().flatten().copied().collect()
}

/// The best score of any `count` drives out of those that take volumes.
fn best_score(topology: &Topology, count: usize) -> Score {
    let drives: Vec<DriveId> = topology.drives.keys().copied().collect();
    let subsets = 0u32..1 << drives.len();
    let subsets = subsets.filter(|set| set.count_ones() as usize == count);
    let scores = subsets.map(|set| {
        let taken = drives.iter().enumerate();
        let taken = taken.filter(|(index, _)| set >> index & 1 == 1);
        let members: Vec<_> = taken.map(|(_, drive)| Some(*drive)).collect();
        score(topology, &members)
    });
    scores.min().unwrap()
}

/// Topologies of up to ten drives.
fn small() -> impl Strategy<Value = Vec<Vec<u32>>> {
    let fits = |chains: &Vec<Vec<u32>>| (2..=10).contains(&chains.iter().flatten().sum::<u32>());
    vec(vec(0u32..4, 1..5), 1..4).prop_filter("two to ten drives", fits)
}

/// Topologies of many drives, and a number for each that may break it.
fn large() -> impl Strategy<Value = (Vec<Vec<u32>>, Vec<u8>)> {
    (vec(vec(1u32..9, 1..9), 1..5), vec(any::<u8>(), 256))
}

fn break_some(topology: &mut Topology, faults: &[u8]) {
    for (drive, fault) in topology.drives.values_mut().zip(faults) {
        if fault % 8 == 0 {
            drive.state = DriveState::Failing;
        }
    }
    for (enclosure, fault) in topology.enclosures.values_mut().zip(faults.iter().rev()) {
        if fault % 8 == 0 {
            enclosure.state = EnclosureState::Suspect;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_other_choice_of_drives_is_spread_better(
        chains in small(),
        k in 1u8..6,
        m in 1u8..4,
        seed in any::<u64>(),
    ) {
        let (topology, profile) = (build(&chains), profile(k, m));
        let Ok(choice) = choose(&topology, &Fill::default(), profile, seed) else {
            prop_assert!(topology.drives.len() < profile.ack_floor());
            return Ok(());
        };
        let count = present(&choice).len();
        prop_assert_eq!(count, profile.width().min(topology.drives.len()));
        prop_assert_eq!(score(&topology, &choice.members), best_score(&topology, count));
        prop_assert_eq!(spread(&topology, &choice.members), achievable(&topology, profile));
    }

    #[test]
    fn members_are_distinct_usable_and_no_more_than_m_an_enclosure_where_that_can_be(
        (chains, faults) in large(),
        k in 1u8..9,
        m in 1u8..4,
        seed in any::<u64>(),
    ) {
        let (mut topology, profile) = (build(&chains), profile(k, m));
        break_some(&mut topology, &faults);
        let usable: Vec<DriveId> = topology.drives.keys().copied()
            .filter(|drive| topology.takes_volumes(*drive)).collect();
        let result = choose(&topology, &Fill::default(), profile, seed);
        if usable.len() < profile.ack_floor() {
            let needed = profile.ack_floor();
            let error = ChooseError::TooFewDrives { usable: usable.len(), needed };
            prop_assert_eq!(result, Err(error));
            return Ok(());
        }
        let choice = result.unwrap();
        prop_assert_eq!(choice.members.len(), profile.width());
        let members = present(&choice);
        prop_assert!(members.len() > profile.k());
        prop_assert!(members.iter().all(|drive| usable.contains(drive)));
        let distinct: BTreeSet<_> = members.iter().collect();
        prop_assert_eq!(distinct.len(), members.len());

        let mut room = BTreeMap::new();
        for drive in &usable {
            *room.entry(topology.drives[drive].enclosure).or_insert(0) += 1;
        }
        let fits: usize = room.values().map(|drives: &usize| (*drives).min(profile.m())).sum();
        let have = spread(&topology, &choice.members);
        prop_assert!(fits < members.len() || have.enclosure <= profile.m());
        prop_assert_eq!(have, achievable(&topology, profile));
        let used: BTreeSet<_> = members.iter().map(|d| topology.drives[d].enclosure).collect();
        prop_assert!(have.enclosure == 1 || used.len() == room.len());
    }

    #[test]
    fn the_same_seed_gives_the_same_choice(
        (chains, faults) in large(),
        used in vec(0u64..sample::CAPACITY, 64),
        seed in any::<u64>(),
    ) {
        let mut topology = build(&chains);
        break_some(&mut topology, &faults);
        let mut fill = Fill::default();
        fill.used.extend(topology.drives.keys().copied().zip(used));
        let once = choose(&topology, &fill, profile(4, 2), seed);
        prop_assert_eq!(once, choose(&topology, &fill, profile(4, 2), seed));
    }

    #[test]
    fn a_drive_over_its_fill_limit_is_never_chosen(
        percent in vec(80u64..100, 48),
        seed in any::<u64>(),
    ) {
        let topology = sample::topology(&[&[6, 6, 6, 6], &[6, 6, 6, 6]]);
        let mut fill = Fill::default();
        for (drive, percent) in topology.drives.keys().zip(percent) {
            fill.used.insert(*drive, sample::CAPACITY * percent / 100);
        }
        if let Ok(choice) = choose(&topology, &fill, profile(4, 2), seed) {
            for drive in present(&choice) {
                prop_assert!(fill.used_on(drive) <= sample::CAPACITY * 9 / 10);
            }
        }
    }
}

/// A choice that is part of the contract: another answer would break the replay of recorded runs.
#[test]
fn a_choice_replays_across_versions() {
    let topology = sample::topology(&[&[4, 4, 4, 4, 4, 4]]);
    let choice = choose(&topology, &Fill::default(), profile(4, 2), 42).unwrap();
    let members: Vec<u128> = present(&choice).iter().map(|d| d.get()).collect();
    assert_eq!(members, [16, 4, 11, 7, 23, 17]);
}

#[test]
fn six_enclosures_hold_one_member_each_without_violation() {
    let topology = sample::topology(&[&[4, 4, 4, 4, 4, 4]]);
    let choice = choose(&topology, &Fill::default(), profile(4, 2), 1).unwrap();
    assert_eq!(spread(&topology, &choice.members).enclosure, 1);
    assert_eq!(choice.violation, None);
}

#[test]
fn three_enclosures_hold_two_each_and_that_is_recorded() {
    let topology = sample::topology(&[&[4, 4, 4]]);
    let choice = choose(&topology, &Fill::default(), profile(4, 2), 1).unwrap();
    let violation = choice.violation.unwrap();
    assert_eq!(
        (violation.domain, violation.worst, violation.wanted),
        (Domain::Enclosure, 2, 1)
    );
}

#[test]
fn missing_members_are_parity_and_never_more_than_m_less_one() {
    let topology = sample::topology(&[&[1, 1, 1, 1, 1]]);
    let choice = choose(&topology, &Fill::default(), profile(4, 2), 1).unwrap();
    assert!(choice.members[..5].iter().all(Option::is_some));
    assert_eq!(choice.members[5], None);
    let error = choose(&topology, &Fill::default(), profile(5, 2), 1).unwrap_err();
    let expected = "5 drives can take a volume, 6 are needed";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn every_drive_shares_volumes_with_most_others_and_holds_every_index() {
    let topology = sample::topology(&[&[4, 4, 4, 4, 4, 4]]);
    let mut partners: BTreeMap<DriveId, BTreeSet<DriveId>> = BTreeMap::new();
    let mut indices: BTreeMap<DriveId, BTreeSet<usize>> = BTreeMap::new();
    for seed in 0..200 {
        let choice = choose(&topology, &Fill::default(), profile(4, 2), seed).unwrap();
        let members = present(&choice);
        for (index, drive) in members.iter().enumerate() {
            let others = members.iter().filter(|other| *other != drive);
            partners.entry(*drive).or_default().extend(others);
            indices.entry(*drive).or_default().insert(index);
        }
    }
    // 20 drives are in other enclosures; the four of one enclosure never share a volume.
    assert_eq!(partners.len(), 24);
    for (drive, others) in &partners {
        assert!(others.len() >= 19, "{drive}: {} others", others.len());
        assert_eq!(indices[drive].len(), 6);
    }
}

#[test]
fn open_volumes_spread_over_idle_drives_before_any_grows() {
    let topology = sample::topology(&[&[4, 4, 4, 4, 4, 4]]);
    let mut fill = Fill::default();
    for seed in 0..40 {
        let choice = choose(&topology, &fill, profile(4, 2), seed).unwrap();
        fill.count(&Volume {
            id: VolumeId::new(seed),
            profile: profile(4, 2),
            members: choice.members,
            epoch: crate::ids::Epoch::FIRST,
            state: VolumeState::Open,
            bytes: 0,
            violation: false,
        });
    }
    let loads: Vec<u32> = topology.drives.keys().map(|d| fill.load_on(*d)).collect();
    assert!(
        loads.iter().all(|load| (9..=11).contains(load)),
        "{loads:?}"
    );
}

/// Fills a cluster with volumes of one size until `percent` of its capacity is used.
fn fill_up(topology: &Topology, fill: &mut Fill, shard: u64, percent: u128) {
    let all: u128 = topology
        .drives
        .values()
        .map(|d| u128::from(d.capacity))
        .sum();
    let mut used: u128 = fill.used.values().map(|used| u128::from(*used)).sum();
    let mut seed = 0;
    while used * 100 < all * percent {
        seed += 1;
        let choice = choose(topology, fill, profile(4, 2), seed).unwrap();
        for drive in present(&choice) {
            *fill.used.entry(drive).or_default() += shard;
            used += u128::from(shard);
        }
    }
}

fn percent_used(topology: &Topology, fill: &Fill) -> Vec<u64> {
    let drives = topology.drives.values();
    drives
        .map(|drive| fill.used_on(drive.id) * 100 / drive.capacity)
        .collect()
}

#[test]
fn drives_of_unequal_size_fill_evenly() {
    let mut topology = sample::topology(&[&[4, 8, 6, 4, 4, 8], &[6, 6, 4, 8, 4, 6]]);
    for (index, drive) in topology.drives.values_mut().enumerate() {
        drive.capacity = sample::CAPACITY * [1, 2, 3, 2, 4][index % 5];
    }
    let mut fill = Fill::default();
    fill_up(&topology, &mut fill, sample::CAPACITY / 100, 60);
    let percents = percent_used(&topology, &fill);
    assert!(
        percents.iter().all(|p| (57..=63).contains(p)),
        "{percents:?}"
    );
}

#[test]
fn a_new_enclosure_catches_up_without_taking_every_volume() {
    let topology = sample::topology(&[&[4; 12]]);
    let mut fill = Fill::default();
    fill_up(&topology, &mut fill, sample::CAPACITY / 200, 50);
    let topology = sample::topology(&[&[4; 13]]);
    let mut members = 0;
    for seed in 0..200 {
        let choice = choose(&topology, &fill, profile(4, 2), seed).unwrap();
        let drives = present(&choice);
        let new = |drive: &&DriveId| topology.drives[*drive].enclosure.get() == 13;
        members += drives.iter().filter(new).count();
    }
    // An even share would be 200 * 6 / 13 = 92.
    assert!((130..=198).contains(&members), "{members} of 200");
}

/// PROTOCOLS 15: no new volumes on a drive over 90 %.
#[test]
fn a_drive_over_its_fill_limit_gets_no_new_volume() {
    let topology = build(&[vec![1; 8]]);
    let mut fill = Fill::default();
    for (number, drive) in topology.drives.keys().enumerate() {
        let percent = if number < 2 {
            FILL_LIMIT_PERCENT + 1
        } else {
            50
        };
        fill.used.insert(*drive, sample::CAPACITY / 100 * percent);
    }
    let full: Vec<DriveId> = topology.drives.keys().take(2).copied().collect();
    for seed in 0..50 {
        let choice = choose(&topology, &fill, profile(4, 2), seed).unwrap();
        assert!(
            full.iter()
                .all(|drive| !choice.members.contains(&Some(*drive))),
            "{seed}"
        );
    }
}
