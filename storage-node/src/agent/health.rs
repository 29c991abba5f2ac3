//! From what is measured of a drive that is served to its state, with hysteresis: pure.
//!
//! A drive becomes slow when it was late for a while, and is slow no longer when it was quick for a
//! longer one; each relapse doubles that, so that a drive that flaps gets no new volumes meanwhile.
//! It becomes full at the limit of PROTOCOLS 15, and is full no longer when there is some room.

use std::time::Duration;

use enfilade_placement::DriveState;
use enfilade_placement::choose::FILL_LIMIT_PERCENT;

use crate::api::append::APPEND_BYTES_MAX;
use crate::settings::Settings;

/// The most that relapses make a slow drive wait: so many times the usual.
const RELAPSE_MAX: u32 = 16;

/// What was measured since the last time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// When, by the clock.
    pub(super) now: Duration,
    /// The mean time of what the drive did since the last sample; none when it did nothing.
    pub(super) latency: Option<Duration>,
    /// For how long it has been at what it does now.
    pub(super) stuck: Duration,
    /// Bytes that it can hold, and bytes in use.
    pub(super) capacity: u64,
    pub(super) used: u64,
}

/// What is remembered of a drive.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    full: bool,
    slow: bool,
    /// Since when it is late without a break, while it is not slow; or quick, while it is.
    since: Option<Duration>,
    /// How often it became slow again soon after it was not.
    relapses: u32,
    /// When it was slow last.
    quick_at: Option<Duration>,
}

impl Health {
    /// Takes a sample; the state that follows, and why it is not healthy.
    pub(super) fn judge(
        &mut self,
        sample: &Sample,
        settings: &Settings,
    ) -> (DriveState, Option<String>) {
        self.judge_speed(sample, settings);
        let limit = settings.append_limit(sample.capacity);
        // Appends are refused that would not fit below it.
        let append = (APPEND_BYTES_MAX as u64).min(sample.capacity / 64);
        let some = u128::from(sample.capacity) * u128::from(FILL_LIMIT_PERCENT) / 100;
        if sample.used >= limit.saturating_sub(append) {
            self.full = true;
        } else if u128::from(sample.used) < some {
            self.full = false;
        }
        if self.full {
            let text = format!("{} of {} bytes are in use", sample.used, sample.capacity);
            return (DriveState::Full, Some(text));
        }
        if self.slow {
            let text = match sample.latency {
                _ if sample.stuck >= settings.slow_latency => {
                    format!("what it does has been under way for {:?}", sample.stuck)
                }
                Some(latency) => format!("it takes {latency:?} for what it does"),
                None => "it was late, and has not been quick for long enough".to_owned(),
            };
            return (DriveState::Slow, Some(text));
        }
        (DriveState::Healthy, None)
    }

    fn judge_speed(&mut self, sample: &Sample, settings: &Settings) {
        let measured = match (sample.latency, sample.stuck) {
            (None, Duration::ZERO) => return,
            (latency, stuck) => latency.unwrap_or_default().max(stuck),
        };
        // What is under way, and not late yet, says nothing.
        let known = sample.latency.is_some() || measured >= settings.slow_latency;
        if !known {
            return;
        }
        let goes_on = match self.slow {
            false => measured >= settings.slow_latency,
            true => measured <= settings.quick_latency,
        };
        if !goes_on {
            self.since = None;
            return;
        }
        let begun = *self.since.get_or_insert(sample.now);
        let lasted = sample.now.saturating_sub(begun);
        let recovery = settings.quick_period * 2u32.saturating_pow(self.relapses).min(RELAPSE_MAX);
        if !self.slow && lasted >= settings.slow_period {
            let soon = self
                .quick_at
                .is_some_and(|at| sample.now.saturating_sub(at) < recovery * 2);
            self.relapses = if soon { self.relapses + 1 } else { 0 };
            (self.slow, self.since) = (true, None);
        } else if self.slow && lasted >= recovery {
            (self.slow, self.since) = (false, None);
            self.quick_at = Some(sample.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(3);
    const QUICK: Duration = Duration::from_millis(5);
    const BETWEEN: Duration = Duration::from_secs(1);

    struct Drive {
        health: Health,
        now: u64,
    }

    impl Drive {
        fn new() -> Self {
            let (health, now) = (Health::default(), 0);
            Self { health, now }
        }

        /// So many seconds like this; the state after them.
        fn run(&mut self, seconds: u64, latency: Option<Duration>) -> DriveState {
            let mut state = DriveState::Healthy;
            for _ in 0..seconds {
                self.now += 1;
                let sample = Sample {
                    now: Duration::from_secs(self.now),
                    latency,
                    capacity: 100,
                    ..Sample::default()
                };
                state = self.health.judge(&sample, &Settings::default()).0;
            }
            state
        }
    }

    #[test]
    fn a_drive_is_slow_after_a_while_and_healthy_after_a_longer_one() {
        let mut drive = Drive::new();
        assert_eq!(drive.run(9, Some(LATE)), DriveState::Healthy);
        assert_eq!(drive.run(1, Some(QUICK)), DriveState::Healthy);
        assert_eq!(drive.run(10, Some(LATE)), DriveState::Healthy, "begun anew");
        assert_eq!(drive.run(1, Some(LATE)), DriveState::Slow);
        assert_eq!(drive.run(59, Some(QUICK)), DriveState::Slow);
        assert_eq!(drive.run(1, Some(BETWEEN)), DriveState::Slow);
        assert_eq!(drive.run(60, Some(QUICK)), DriveState::Slow, "begun anew");
        assert_eq!(drive.run(1, Some(QUICK)), DriveState::Healthy);
    }

    /// PROTOCOLS 23.
    #[test]
    fn a_drive_that_flaps_stays_slow_for_longer_and_longer() {
        let mut drive = Drive::new();
        for recovery in [60, 120, 240] {
            assert_eq!(drive.run(11, Some(LATE)), DriveState::Slow);
            assert_eq!(drive.run(recovery, Some(QUICK)), DriveState::Slow);
            assert_eq!(drive.run(1, Some(QUICK)), DriveState::Healthy);
        }
        // After a long good time it is forgiven.
        drive.run(10_000, Some(QUICK));
        assert_eq!(drive.run(11, Some(LATE)), DriveState::Slow);
        assert_eq!(drive.run(61, Some(QUICK)), DriveState::Healthy);
    }

    #[test]
    fn an_idle_drive_stays_what_it_is_and_a_hanging_one_is_slow() {
        let mut drive = Drive::new();
        assert_eq!(drive.run(100, None), DriveState::Healthy);
        let mut state = DriveState::Healthy;
        for stuck in 1..=20 {
            drive.now += 1;
            let sample = Sample {
                now: Duration::from_secs(drive.now),
                stuck: Duration::from_secs(stuck),
                capacity: 100,
                ..Sample::default()
            };
            state = drive.health.judge(&sample, &Settings::default()).0;
        }
        assert_eq!(state, DriveState::Slow);
        assert_eq!(drive.run(1000, None), DriveState::Slow);
    }

    /// PROTOCOLS 15.
    #[test]
    fn a_drive_is_full_at_one_limit_and_not_below_another() {
        let mut health = Health::default();
        let mut at = |percent: u64| {
            let sample = Sample {
                capacity: 100 << 40,
                used: percent << 40,
                ..Sample::default()
            };
            health.judge(&sample, &Settings::default()).0
        };
        let states = [94, 95, 94, 90, 89, 94].map(&mut at);
        let (full, healthy) = (DriveState::Full, DriveState::Healthy);
        assert_eq!(states, [healthy, full, full, full, healthy, healthy]);
    }

    #[test]
    fn a_small_drive_is_full_when_its_reserve_is_what_is_left() {
        let (settings, capacity) = (Settings::default(), 96u64 << 20);
        let refused_above = settings.append_limit(capacity);
        assert!(refused_above * 100 < capacity * 95);
        let at = |used| {
            let sample = Sample {
                capacity,
                used,
                ..Sample::default()
            };
            Health::default().judge(&sample, &settings).0
        };
        assert_eq!(at(refused_above - (1 << 20)), DriveState::Full);
        assert_eq!(at(refused_above - (3 << 20)), DriveState::Healthy);
    }
}
