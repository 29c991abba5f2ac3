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
/// The longest that one step waits at a time: requests, and what operators set, are looked at in
/// between, so that a lone slow stream goes faster, too.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Waits shorter than this are none.
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// Steps that were given up owe others no more than what goes in so many seconds.
const DEBT_SECONDS: f64 = 30.0;

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
    /// Bytes of all moves.
    moves: Lane,
    /// Of these, the bytes of repair, which waits for no other moves.
    repair: Lane,
    /// The window: since when, how many requests, and what they took.
    since: Duration,
    requests: f64,
    took: f64,
}

/// Bytes that go one after another.
#[derive(Debug, Default)]
struct Lane {
    /// Bytes that were asked for since ever, and those of them that have gone at a time.
    asked: f64,
    gone: f64,
    at: Duration,
}

impl Lane {
    fn go_on(&mut self, now: Duration, rate: f64) {
        let time = now.saturating_sub(self.at).as_secs_f64();
        self.gone = (self.gone + time * rate).min(self.asked);
        self.at = self.at.max(now);
    }

    /// Asks for bytes; where among all of them they end.
    fn ask(&mut self, bytes: f64, rate: f64) -> f64 {
        self.gone = self.gone.max(self.asked - rate * DEBT_SECONDS);
        self.asked += bytes;
        self.asked
    }
}

/// The place of some bytes among all that move.
#[derive(Debug)]
pub(crate) struct Ticket {
    end: f64,
    /// The least rate of repair; none: not repair.
    least: Option<f64>,
}

impl Pacer {
    /// A client's request has been answered.
    pub(crate) fn observe(&self, took: Duration, bytes: u64) {
        let mut pacing = self.lock();
        pacing.requests += 1.0;
        pacing.took += took.as_nanos() as f64 / (1.0 + bytes as f64 / UNIT);
    }

    /// Has so many bytes wait for their turn. Bytes of all moves of the drive count together, but
    /// those that are to go at a rate of `least` bytes a second at least, whatever the floor (of
    /// repair), wait for no others.
    pub(crate) fn spend(
        &self,
        now: Duration,
        bytes: u64,
        least: Option<u64>,
        bounds: &PaceBounds,
    ) -> Ticket {
        let mut pacing = self.lock();
        let (bytes, least) = (bytes as f64, least.map(|least| least as f64));
        let rate = pacing.go_on(now, bounds);
        let mut end = pacing.moves.ask(bytes, rate);
        if let Some(least) = least {
            let rate = rate.max(least);
            pacing.repair.go_on(now, rate);
            end = pacing.repair.ask(bytes, rate);
        }
        Ticket { end, least }
    }

    /// For how long bytes wait before they ask again; none: they have gone.
    pub(crate) fn wait(
        &self,
        now: Duration,
        ticket: &Ticket,
        bounds: &PaceBounds,
    ) -> Option<Duration> {
        let mut pacing = self.lock();
        let mut rate = pacing.go_on(now, bounds);
        let gone = match ticket.least {
            Some(least) => {
                rate = rate.max(least);
                pacing.repair.go_on(now, rate);
                pacing.repair.gone
            }
            None => pacing.moves.gone,
        };
        let left = ((ticket.end - gone) / rate).clamp(0.0, PAUSE_MAX.as_secs_f64());
        let left = Duration::from_secs_f64(left);
        (left >= PAUSE_MIN).then_some(left)
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
    /// Brings everything up to a time; bytes a second from then on.
    fn go_on(&mut self, now: Duration, bounds: &PaceBounds) -> f64 {
        if self.rate > 0.0 {
            let rate = self.rate;
            self.moves.go_on(now, rate);
        }
        self.adapt(now, bounds.get());
        let rate = self.rate;
        self.moves.go_on(now, rate);
        rate
    }

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
            pacer.spend(now, 1, None, &bounds);
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

    /// How long bytes that were asked for at a time wait in all, when nobody else comes.
    fn whole(pacer: &Pacer, bounds: &PaceBounds, ticket: &Ticket, asked: Duration) -> f64 {
        let mut now = asked;
        while let Some(wait) = pacer.wait(now, ticket, bounds) {
            now += wait;
        }
        (now - asked).as_secs_f64()
    }

    fn about(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.01
    }

    fn fixed(rate: u64) -> PaceBounds {
        let bounds = PaceBounds::default();
        bounds.set(&Tuning {
            pace_floor: rate,
            pace_ceiling: rate,
            ..Tuning::default()
        });
        bounds
    }

    #[test]
    fn bytes_of_all_moves_count_together_and_repair_waits_for_no_others() {
        let (pacer, bounds) = (Pacer::default(), fixed(8 << 20));
        let now = Duration::from_secs(100);
        let least = Some(64 << 20);
        let first = pacer.spend(now, 8 << 20, None, &bounds);
        let second = pacer.spend(now, 16 << 20, None, &bounds);
        let quick = pacer.spend(now, 8 << 20, least, &bounds);
        let other = pacer.spend(now, 8 << 20, least, &bounds);
        let last = pacer.spend(now, 8 << 20, None, &bounds);
        let whole = |ticket| whole(&pacer, &bounds, ticket, now);
        let waits = [&quick, &other, &first, &second, &last].map(whole);
        // The last waits for the bytes of all.
        let expected = [0.125, 0.25, 1.0, 3.0, 6.0];
        let all = waits.iter().zip(expected).all(|(wait, e)| about(*wait, e));
        assert!(all, "{waits:?}");
    }

    #[test]
    fn what_was_given_up_at_a_tiny_rate_is_not_owed_for_ever() {
        let (pacer, bounds) = (Pacer::default(), fixed(100));
        let now = Duration::from_secs(100);
        for _ in 0..1000 {
            pacer.spend(now, 1 << 20, None, &bounds);
        }
        bounds.set(&Tuning {
            pace_floor: 1 << 20,
            pace_ceiling: 1 << 20,
            ..Tuning::default()
        });
        let ticket = pacer.spend(now, 1 << 20, None, &bounds);
        let wait = whole(&pacer, &bounds, &ticket, now);
        assert!((1.0..2.1).contains(&wait), "{wait}");
    }

    #[test]
    fn a_lone_stream_of_long_steps_goes_faster_and_faster() {
        for requests in [0, 5] {
            let (pacer, bounds) = (Pacer::default(), PaceBounds::default());
            let (mut now, end) = (Duration::from_secs(100), Duration::from_secs(160));
            while now < end {
                // Ten seconds at the floor.
                let ticket = pacer.spend(now, 80 << 20, None, &bounds);
                while let Some(wait) = pacer.wait(now, &ticket, &bounds) {
                    for _ in 0..requests {
                        pacer.observe(Duration::from_millis(2), 0);
                    }
                    now += wait;
                }
                now += Duration::from_millis(20);
            }
            assert!(pacer.rate() > FLOOR * 20.0, "{requests}: {}", pacer.rate());
        }
    }

    #[test]
    fn operators_set_the_bounds() {
        let (pacer, bounds) = (Pacer::default(), fixed(100));
        for tick in 1..10 {
            pacer.spend(WINDOW * tick, 1, None, &bounds);
        }
        assert!((pacer.rate() - 100.0).abs() < 1e-9);
    }
}
