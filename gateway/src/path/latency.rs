//! How long members take to answer, and so when one is late.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::settings::PathSettings;

/// The weight of each new answer in the average.
const WEIGHT: f64 = 0.05;

/// How many times the average an answer may take before parity is asked for.
const LATE: f64 = 3.0;

/// How many times the average an append may take before it ends its extent: only a hiccup that is
/// out of all proportion is worth that.
const LATE_APPEND: f64 = 16.0;

/// A moving average over all members.
#[derive(Default)]
pub(super) struct Latency(Mutex<Option<f64>>);

impl Latency {
    /// Takes in the time of an answer.
    pub(super) fn observe(&self, time: Duration) {
        let mut average = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = time.as_secs_f64();
        *average = Some(average.map_or(new, |old| old + (new - old) * WEIGHT));
    }

    /// After which time an answer is late.
    pub(super) fn late_after(&self, settings: &PathSettings) -> Duration {
        let average = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = average.map_or(settings.hedge_start, |a| Duration::from_secs_f64(a * LATE));
        late.max(settings.hedge_min).min(settings.hedge_max)
    }

    /// After which time an append is late (PROTOCOLS 14). One that was is taken in with the time
    /// that it was given: where all are slow, none is given up before long.
    pub(super) fn append_late_after(&self, settings: &PathSettings) -> Duration {
        let average = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = average.map_or(settings.append_deadline_min, |a| {
            Duration::from_secs_f64(a * LATE_APPEND)
        });
        late.max(settings.append_deadline_min)
            .min(settings.append_deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROTOCOLS 14.
    #[test]
    fn the_append_deadline_follows_what_appends_take_between_two_and_ten_seconds() {
        let (latency, settings) = (Latency::default(), PathSettings::default());
        let after = |latency: &Latency| latency.append_late_after(&settings);
        assert_eq!(after(&latency), Duration::from_secs(2));
        for _ in 0..200 {
            latency.observe(Duration::from_millis(5));
        }
        assert_eq!(after(&latency), Duration::from_secs(2));
        for _ in 0..200 {
            latency.observe(Duration::from_millis(300));
        }
        let late = after(&latency).as_secs_f64();
        assert!((4.7..4.9).contains(&late), "{late}");
        // All drives are late: each time they are given longer.
        for _ in 0..20 {
            latency.observe(after(&latency));
        }
        assert_eq!(after(&latency), Duration::from_secs(10));
    }

    #[test]
    fn a_member_is_late_by_what_is_usual_within_limits() {
        let (latency, settings) = (Latency::default(), PathSettings::default());
        assert_eq!(latency.late_after(&settings), settings.hedge_start);
        latency.observe(Duration::from_millis(1));
        assert_eq!(latency.late_after(&settings), settings.hedge_min);
        for _ in 0..200 {
            latency.observe(Duration::from_millis(100));
        }
        let late = latency.late_after(&settings);
        assert!(
            late > Duration::from_millis(250) && late < Duration::from_millis(301),
            "{late:?}"
        );
        for _ in 0..200 {
            latency.observe(Duration::from_secs(9));
        }
        assert_eq!(latency.late_after(&settings), settings.hedge_max);
    }
}
