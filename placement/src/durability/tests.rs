use super::*;
use crate::ids::{DriveId, Epoch, VolumeId};
use crate::sample;
use crate::topology::DriveState;

fn profile(k: u8, m: u8) -> Profile {
    Profile::new(k, m).unwrap()
}

/// Failures often enough for a simulation to see many losses.
const OFTEN: Rates = Rates {
    drive_a_year: 2.0,
    enclosure_a_year: 0.5,
    repair_hours: 300.0,
};

const USUAL: Rates = Rates {
    drive_a_year: 0.01,
    enclosure_a_year: 0.001,
    repair_hours: 6.0,
};

#[test]
fn simulation_and_markov_chain_agree_within_ten_percent() {
    let layouts = [
        Layout::new(profile(2, 1), [(1, 0); 3]),
        Layout::new(profile(4, 2), [(1, 0); 6]),
        Layout::new(profile(4, 2), [(2, 0); 3]),
        Layout::new(profile(4, 2), [(2, 0), (2, 0), (1, 0), (1, 0)]),
        Layout::new(profile(8, 3), [(3, 0), (3, 0), (3, 0), (2, 0)]),
        Layout::new(profile(10, 4), [(1, 0); 14]),
    ];
    for (seed, layout) in (1..).zip(layouts) {
        let exact = years_to_loss(&layout, OFTEN);
        let simulated = simulated_years_to_loss(&layout, OFTEN, 4_000, seed);
        let ratio = simulated / exact;
        assert!(
            (0.9..1.1).contains(&ratio),
            "{layout:?}: {exact} and {simulated}"
        );
    }
}

#[test]
fn one_member_an_enclosure_is_the_birth_and_death_chain_of_the_books() {
    // Mean time from i to i + 1 lost: 1 / b(i) + d(i) / b(i) * time from i - 1 to i.
    let (members, spare) = (6.0, 2u8);
    let rate = USUAL.drive_a_year + USUAL.enclosure_a_year;
    let mend = HOURS_A_YEAR / USUAL.repair_hours;
    let (mut years, mut step) = (0.0, 0.0);
    for lost in 0..=spare {
        let fails = (members - f64::from(lost)) * rate;
        step = 1.0 / fails + f64::from(lost) * mend / fails * step;
        years += step;
    }
    let found = years_to_loss(&Layout::new(profile(4, 2), [(1, 0); 6]), USUAL);
    assert!((found / years - 1.0).abs() < 1e-9, "{found} and {years}");
    assert!(
        (9.0..13.0).contains(&nines(1.0 / found)),
        "{}",
        nines(1.0 / found)
    );
}

#[test]
fn spread_and_fast_repair_add_nines_and_losses_take_them() {
    let four_two = profile(4, 2);
    let loss = |groups: &[(u8, u8)], rates: Rates| {
        annual_loss(&Layout::new(four_two, groups.iter().copied()), rates)
    };
    let wide = loss(&[(1, 0); 6], USUAL);
    let narrow = loss(&[(2, 0); 3], USUAL);
    let one_box = loss(&[(6, 0)], USUAL);
    assert!(wide < narrow && narrow < one_box);
    assert!(
        (one_box / USUAL.enclosure_a_year - 1.0).abs() < 0.01,
        "{one_box}"
    );
    let slow = Rates {
        repair_hours: 60.0,
        ..USUAL
    };
    assert!(loss(&[(1, 0); 6], slow) > wide * 50.0);
    let lost_one = loss(&[(1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 1)], USUAL);
    let lost_two = loss(&[(1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (1, 1)], USUAL);
    assert!(wide < lost_one && lost_one < lost_two && lost_two < 1.0);
    assert_eq!(
        loss(&[(1, 1), (1, 1), (1, 1), (1, 0), (1, 0), (1, 0)], USUAL),
        1.0
    );
}

#[test]
fn a_profile_with_many_states_is_told_too() {
    let wide = profile(84, 16);
    let groups = (0..20).map(|index| (3 + index % 5, 0));
    let loss = annual_loss(&Layout::new(wide, groups), USUAL);
    assert!(loss > 0.0 && loss < 1e-10, "{loss}");
}

#[test]
fn a_cluster_is_the_mean_of_its_volumes_and_a_lost_drive_shows() {
    let mut topology = sample::topology(&[&[2, 2, 2, 2, 2, 2]]);
    let volume = |id: u64, first: u128| Volume {
        id: VolumeId::new(id),
        profile: profile(4, 2),
        members: (0..6).map(|n| Some(DriveId::new(first + 2 * n))).collect(),
        epoch: Epoch::FIRST,
        state: VolumeState::Sealed,
        bytes: 1 << 30,
        violation: false,
    };
    let volumes = [volume(1, 1), volume(2, 2)];
    let whole = durability(&topology, &volumes, USUAL);
    assert_eq!(whole.annual_loss, whole.worst_volume);
    let drive = topology.drives.get_mut(&DriveId::new(1)).unwrap();
    drive.state = DriveState::Failing;
    let hurt = durability(&topology, &volumes, USUAL);
    assert!(hurt.worst_volume > whole.worst_volume && hurt.nines() < whole.nines());
    let mean = (hurt.worst_volume + whole.worst_volume) / 2.0;
    assert!((hurt.annual_loss / mean - 1.0).abs() < 1e-9);
    assert_eq!(durability(&topology, &[], USUAL).nines(), 99.0);
}

#[test]
fn hours_of_repair_are_the_wait_and_the_bytes() {
    let hours = Rates::repair_hours(3_600_000_000_000, 1e9, 0.5);
    assert!((hours - 1.5).abs() < 1e-9);
}
