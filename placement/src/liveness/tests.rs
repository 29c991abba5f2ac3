//! PROTOCOLS 23: silence, the brake and its reasons; PROTOCOLS 15: what could not be rebuilt.

use super::*;
use crate::ids::DriveId;
use crate::sample;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

/// A cluster, and how many seconds each of its enclosures has been silent.
struct Case {
    topology: Topology,
    fill: Fill,
    observed: Observed,
}

impl Case {
    fn new(chains: &[&[u32]]) -> Self {
        let topology = sample::topology(chains);
        let silence = topology.enclosures.keys().map(|id| (*id, Duration::ZERO));
        let observed = Observed {
            silence: silence.collect(),
            ..Observed::default()
        };
        Self {
            topology,
            fill: Fill::default(),
            observed,
        }
    }

    fn silent(mut self, enclosures: &[u32], seconds: u64) -> Self {
        for number in enclosures {
            let id = EnclosureId::new(*number);
            let silence = Duration::from_secs(seconds);
            self.observed.silence.insert(id, silence);
        }
        self
    }

    fn judge(&self) -> Verdict {
        let settings = Settings::default();
        judge(&self.topology, &self.fill, &self.observed, &settings)
    }

    /// Judges and commits, as often as anything changes.
    fn settle(&mut self) -> Verdict {
        loop {
            let verdict = self.judge();
            if verdict.changes.is_empty() {
                return verdict;
            }
            for change in verdict.changes {
                let enclosure = self.topology.enclosures.get_mut(&change.enclosure);
                let enclosure = enclosure.unwrap();
                assert_eq!(enclosure.state, change.from);
                enclosure.state = change.to;
                if change.to == EnclosureState::Out {
                    self.observed.outs.insert(change.enclosure, Duration::ZERO);
                }
            }
        }
    }

    fn state(&self, enclosure: u32) -> EnclosureState {
        self.topology.enclosures[&EnclosureId::new(enclosure)].state
    }

    fn outs(&self) -> usize {
        let states = self.topology.enclosures.values().map(|e| e.state);
        states.filter(|s| *s == EnclosureState::Out).count()
    }
}

const SIX: &[&[u32]] = &[&[4, 4, 4, 4, 4, 4]];

#[test]
fn silence_makes_suspect_then_down_then_out() {
    use EnclosureState::{Down, Out, Suspect, Up};
    let cases = [
        (0, Up),
        (2, Up),
        (3, Suspect),
        (9, Suspect),
        (10, Down),
        (599, Down),
        (600, Out),
    ];
    for (seconds, state) in cases {
        let mut case = Case::new(SIX).silent(&[2], seconds);
        assert_eq!(case.settle().braked, [], "{seconds} s");
        assert_eq!(case.state(2), state, "{seconds} s");
        assert_eq!(case.state(1), Up);
    }
}

#[test]
fn an_enclosure_that_is_heard_again_is_up_unless_it_was_out() {
    for (state, after) in [
        (EnclosureState::Suspect, EnclosureState::Up),
        (EnclosureState::Down, EnclosureState::Up),
        (EnclosureState::Out, EnclosureState::Out),
    ] {
        let mut case = Case::new(SIX);
        let id = EnclosureId::new(3);
        case.topology.enclosures.get_mut(&id).unwrap().state = state;
        case.settle();
        assert_eq!(case.state(3), after);
    }
}

#[test]
fn nothing_goes_out_that_was_not_down_before() {
    let verdict = Case::new(SIX).silent(&[2], 10_000).judge();
    let change = Change {
        enclosure: EnclosureId::new(2),
        from: EnclosureState::Up,
        to: EnclosureState::Down,
    };
    assert_eq!(verdict.changes, [change]);
}

#[test]
fn two_silent_enclosures_wait_for_an_operator() {
    let mut case = Case::new(SIX).silent(&[2], 700).silent(&[4], 30);
    let braked = Braked {
        enclosure: EnclosureId::new(2),
        reason: BrakeReason::TooMuch {
            enclosures: 2,
            percent: 34,
        },
    };
    assert_eq!(case.settle().braked, [braked]);
    assert_eq!(
        (case.state(2), case.state(4)),
        (EnclosureState::Down, EnclosureState::Down)
    );
}

#[test]
fn a_second_enclosure_waits_for_the_hour_to_pass() {
    let mut case = Case::new(SIX).silent(&[2], 700);
    case.settle();
    assert_eq!(case.state(2), EnclosureState::Out);
    let mut case = case.silent(&[4], 700);
    assert_eq!(case.settle().braked.len(), 1);
    let hour_ago = Duration::from_secs(3601);
    case.observed.outs.insert(EnclosureId::new(2), hour_ago);
    case.settle();
    assert_eq!(case.state(4), EnclosureState::Out);
}

#[test]
fn a_large_cluster_may_lose_five_percent() {
    let chain: &[u32] = &[1; 20];
    let chains = [chain; 3];
    let mut case = Case::new(&chains).silent(&[2, 25, 50], 700);
    assert_eq!(case.settle().braked, []);
    assert_eq!(case.outs(), 3);
    let mut case = Case::new(&chains).silent(&[2, 25, 50, 55], 700);
    assert_eq!(case.settle().braked.len(), 4);
    assert_eq!(case.outs(), 0);
}

#[test]
fn a_silent_tail_or_chain_is_a_cut_unless_it_is_closed() {
    let chain: &[u32] = &[1; 50];
    let two: &[u32] = &[1; 2];
    let chains = [chain, chain, two];
    let reason = |verdict: &Verdict| verdict.braked.first().map(|b| b.reason);
    let cut = |chain| Some(BrakeReason::ChainSilent(ChainId::new(chain)));

    let mut tail = Case::new(&chains).silent(&[49, 50], 700);
    assert_eq!(reason(&tail.settle()), cut(1));
    let mut whole = Case::new(&chains).silent(&[101, 102], 700);
    assert_eq!(reason(&whole.settle()), cut(3));
    let mut last = Case::new(&chains).silent(&[50], 700);
    assert_eq!(reason(&last.settle()), None);
    assert_eq!(last.outs(), 1);

    let mut closed = Case::new(&chains).silent(&[49, 50, 101, 102], 700);
    for chain in closed.topology.chains.values_mut() {
        chain.closed = true;
    }
    let braked = closed.settle().braked;
    assert!(braked.iter().all(|b| Some(b.reason) == cut(3)));
    assert_eq!((braked.len(), closed.outs()), (2, 2));
}

#[test]
fn maintenance_holds_an_enclosure_and_does_not_brake_others() {
    let mut case = Case::new(SIX).silent(&[2, 4], 700);
    case.observed.held.insert(EnclosureId::new(2));
    assert_eq!(case.settle().braked, []);
    assert_eq!(case.state(2), EnclosureState::Down);
    assert_eq!(case.state(4), EnclosureState::Out);
}

#[test]
fn nothing_goes_out_when_the_rest_has_no_room() {
    let mut case = Case::new(SIX).silent(&[2], 700);
    let used = |percent: u64| {
        let drives = (1..=24).map(move |n| (DriveId::new(n), sample::CAPACITY / 100 * percent));
        drives.collect()
    };
    case.fill.used = used(76);
    let braked = case.settle().braked;
    assert_eq!(braked.first().unwrap().reason, BrakeReason::NoRoom);
    case.fill.used = used(74);
    assert_eq!(case.settle().braked, []);
    assert_eq!(case.state(2), EnclosureState::Out);
}

#[test]
fn an_enclosure_that_was_never_observed_is_left_alone() {
    let mut case = Case::new(SIX).silent(&[2], 700);
    case.observed.silence.remove(&EnclosureId::new(2));
    assert_eq!(case.settle(), Verdict::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_more_goes_out_within_an_hour_than_the_brake_allows(
        sizes in vec(1usize..12, 1..5),
        seconds in vec(0u64..1000, 48),
        rounds in 1u64..4,
    ) {
        let chains: Vec<Vec<u32>> = sizes.iter().map(|n| vec![2; *n]).collect();
        let chains: Vec<&[u32]> = chains.iter().map(Vec::as_slice).collect();
        let mut case = Case::new(&chains);
        for round in 0..rounds {
            for (number, seconds) in (1u32..).zip(&seconds).take(sizes.iter().sum()) {
                case = case.silent(&[number], seconds * (round + 1) / rounds);
            }
            let braked = case.settle().braked;
            for braked in braked {
                let down = case.topology.enclosures[&braked.enclosure].state;
                prop_assert_eq!(down, EnclosureState::Down);
            }
        }
        let (outs, all) = (case.outs(), case.topology.enclosures.len());
        prop_assert!(outs <= 1 || outs * 100 <= all * 5, "{outs} of {all}");
    }
}

/// PROTOCOLS 15.
#[test]
fn an_enclosure_whose_data_would_find_no_room_is_told_with_what_is_missing() {
    let mut topology = sample::topology(&[&[2, 2, 2, 4]]);
    let full = |percent: u64| move |_: DriveId| sample::CAPACITY / 100 * percent;
    // The largest holds 4 of 10 drives: the six others take 5.4 drives' worth.
    assert_eq!(largest_loss(&topology, full(53)), None);
    let short = largest_loss(&topology, full(60)).unwrap();
    assert_eq!(short.enclosure, EnclosureId::new(4));
    let (lacks, drive) = (u128::from(short.bytes), u128::from(sample::CAPACITY));
    assert!((lacks * 100).abs_diff(drive * 60) < drive, "{short:?}");
    // A drive that is gone holds nothing, and what it held needs room.
    for drive in topology.drives.values_mut().take(2) {
        drive.state = crate::topology::DriveState::Gone;
    }
    assert!(largest_loss(&topology, full(53)).is_some());
}
