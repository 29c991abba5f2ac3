//! How long members take to answer reads, and so when one is late.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::settings::PathSettings;

/// The weight of each new answer in the average.
const WEIGHT: f64 = 0.05;

/// How many times the average an answer may take before parity is asked for.
const LATE: f64 = 3.0;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
