//! How fast moves go onto and from a drive: as fast as they may while nobody else uses it, and
//! otherwise so that clients hardly notice.
//!
//! What clients' requests take while moves go slowly is the measure. As long as they take little
//! more, moves go faster and faster; when they take more, moves slow down at once. A request counts
//! by its time for each 64 KiB, so that large ones do not look slow. Clients that wait for an
//! answer before they ask again get 1 / [`SLOWER`] of their throughput at the worst: 77 %, more
//! than the 70 % of promise P6.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_cluster::api::tuning::Tuning;

/// Requests are looked at so long at a time.
const WINDOW: Duration = Duration::from_millis(250);
/// Moves slow down when requests take so much longer than while moves go slowly.
const SLOWER: f64 = 1.3;
/// By how much moves go faster after a window in which requests were well, and slower else.
const UP: f64 = 1.25;
const DOWN: f64 = 0.6;
/// While moves go no faster than so many times their floor, the time of requests is the measure.
/// Above it they are themselves what requests wait for.
const CALM: f64 = 1.01;
/// How much a new measure counts beside the old.
const NEW: f64 = 0.3;
/// Bytes that take a request about as long as everything else of it.
const UNIT: f64 = 65_536.0;
/// The longest that one step waits: settings may change meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Floor and ceiling, in bytes a second, as operators set them.
#[derive(Debug)]
pub(crate) struct PaceBounds {
    floor: AtomicU64,
    ceiling: AtomicU64,
}

impl Default for PaceBounds {
    fn default() -> Self {
        let tuning = Tuning::default();
        Self {
            floor: AtomicU64::new(tuning.pace_floor),
            ceiling: AtomicU64::new(tuning.pace_ceiling),
        }
    }
}

impl PaceBounds {
    /// Follows what an operator has set.
    pub(crate) fn set(&self, tuning: &Tuning) {
        self.floor.store(tuning.pace_floor, Ordering::Relaxed);
        self.ceiling.store(tuning.pace_ceiling, Ordering::Relaxed);
    }

    fn get(&self) -> (f64, f64) {
        let floor = self.floor.load(Ordering::Relaxed).max(1) as f64;
        let ceiling = self.ceiling.load(Ordering::Relaxed) as f64;
        (floor, ceiling.max(floor))
    }
}

/// The pace of one drive.
#[derive(Debug, Default)]
pub(crate) struct Pacer(Mutex<Pacing>);

#[derive(Debug, Default)]
struct Pacing {
    /// Bytes a second; 0: not known yet.
    rate: f64,
    /// What a request takes while moves go slowly, in nanoseconds for each unit; 0: not known yet.
    calm: f64,
    /// When the next bytes may go.
    next: Duration,
    /// The window: since when, how many requests, and what they took.
    since: Duration,
    requests: f64,
    took: f64,
}

impl Pacer {
    /// A client's request has been answered.
    pub(crate) fn observe(&self, took: Duration, bytes: u64) {
        let mut pacing = self.lock();
        pacing.requests += 1.0;
        pacing.took += took.as_nanos() as f64 / (1.0 + bytes as f64 / UNIT);
    }

    /// For how long moves wait after so many bytes. Bytes of all moves of the drive count together.
    /// `least` is a rate below which these do not go, whatever the floor.
    pub(crate) fn spend(
        &self,
        now: Duration,
        bytes: u64,
        least: u64,
        bounds: &PaceBounds,
    ) -> Duration {
        let mut pacing = self.lock();
        pacing.adapt(now, bounds.get());
        let rate = pacing.rate.max(least as f64);
        pacing.next = pacing.next.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
        pacing.next.saturating_sub(now).min(PAUSE_MAX)
    }

    /// Bytes a second, as they are now; 0: nothing has moved yet.
    pub(crate) fn rate(&self) -> f64 {
        self.lock().rate
    }

    fn lock(&self) -> MutexGuard<'_, Pacing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pacing {
    /// Looks at the window, when it is over.
    fn adapt(&mut self, now: Duration, (floor, ceiling): (f64, f64)) {
        if self.rate == 0.0 {
            self.rate = floor;
        }
        self.rate = self.rate.clamp(floor, ceiling);
        let over = now.saturating_sub(self.since);
        if over < WINDOW {
            return;
        }
        // Requests of long ago say nothing of how it is while something moves.
        let stale = over > WINDOW * 8;
        let (requests, took) = (self.requests, self.took);
        (self.since, self.requests, self.took) = (now, 0.0, 0.0);
        if stale {
            return;
        }
        if requests == 0.0 {
            self.rate = (self.rate * 2.0).min(ceiling);
            return;
        }
        let mean = took / requests;
        if self.calm == 0.0 {
            // Moves may have been fast so far, because nobody was there.
            if self.rate > floor * CALM {
                self.rate = floor;
                return;
            }
            self.calm = mean;
        }
        if mean > self.calm * SLOWER {
            self.rate = (self.rate * DOWN).max(floor);
        } else {
            self.rate = (self.rate * UP).min(ceiling);
        }
        if self.rate <= floor * CALM {
            self.calm += (mean - self.calm) * NEW;
        } else {
            self.calm = self.calm.min(mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: f64 = (8 << 20) as f64;
    const CEILING: f64 = (1u64 << 30) as f64;

    /// Moves on a drive whose requests take `alone` milliseconds by themselves, and longer by what
    /// moves take of `most` bytes a second; the mean rate and slow-down of the last ten seconds.
    fn run(requests: u32, alone: f64, most: f64, seconds: u32) -> (f64, f64) {
        let (pacer, bounds) = (Pacer::default(), PaceBounds::default());
        let (mut rates, mut slow) = (Vec::new(), Vec::new());
        for tick in 1..=seconds * 4 {
            let now = WINDOW * tick;
            let rate = pacer.rate();
            let longer = 1.0 / (1.0 - (rate / most).min(0.9));
            for _ in 0..requests {
                let took = Duration::from_secs_f64(alone * longer / 1000.0);
                pacer.observe(took, 0);
            }
            pacer.spend(now, 1, 1, &bounds);
            if tick > (seconds - 10) * 4 {
                rates.push(rate);
                slow.push(longer);
            }
        }
        let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
        (mean(&rates), mean(&slow))
    }

    #[test]
    fn an_idle_drive_is_used_up_to_the_ceiling() {
        let (rate, _) = run(0, 1.0, 1e9, 30);
        assert!(rate > CEILING * 0.99, "{rate}");
    }

    #[test]
    fn clients_keep_more_than_seventy_percent_and_moves_get_most_of_the_rest() {
        for most in [100e6, 1e9] {
            let (rate, slow) = run(50, 2.0, most, 60);
            assert!(slow < 1.0 / 0.7, "{most}: {slow}");
            assert!(rate > most * 0.08 && rate > FLOOR, "{most}: {rate}");
        }
    }

    #[test]
    fn a_drive_that_is_busy_by_itself_is_not_left_alone_for_ever() {
        // All moves there can be take too much: the floor stays.
        let (rate, _) = run(50, 20.0, 10e6, 60);
        assert!((FLOOR * 0.99..FLOOR * 1.5).contains(&rate), "{rate}");
    }

    #[test]
    fn bytes_of_all_moves_count_together_and_repair_has_a_floor_of_its_own() {
        let (pacer, bounds) = (Pacer::default(), PaceBounds::default());
        let now = Duration::from_secs(100);
        let first = pacer.spend(now, 8 << 20, 1, &bounds);
        assert_eq!(first, Duration::from_secs(1));
        let second = pacer.spend(now, 8 << 20, 1, &bounds);
        assert_eq!(second, Duration::from_secs(2));
        let quick = Pacer::default().spend(now, 8 << 20, 64 << 20, &bounds);
        assert_eq!(quick, Duration::from_millis(125));
    }

    #[test]
    fn operators_set_the_bounds() {
        let (pacer, bounds) = (Pacer::default(), PaceBounds::default());
        bounds.set(&Tuning {
            pace_floor: 100,
            pace_ceiling: 100,
            ..Tuning::default()
        });
        for tick in 1..10 {
            pacer.spend(WINDOW * tick, 1, 1, &bounds);
        }
        assert!((pacer.rate() - 100.0).abs() < 1e-9);
    }
}
