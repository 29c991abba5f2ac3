//! How fast work behind the scenes may go: it gives way to requests.

use std::time::Duration;

use super::Engine;

/// Work that gives way does so for this long at a time, and looks so often: it still ends.
const WAY: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// How moves go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paced {
    /// At the drive's pace.
    Moves,
    /// So many bytes a second at least, and without waiting for other moves.
    Repair(u64),
}

/// Bytes a second: while requests wait, and else. The default is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Throttle {
    /// While requests wait; none: not limited.
    pub(crate) busy: Option<u64>,
    /// Else.
    pub(crate) idle: Option<u64>,
    /// Whether it stops while requests wait, instead of going on at another rate.
    pub(crate) gives_way: bool,
    /// Whether it goes at the pace of moves instead.
    pub(crate) paced: Option<Paced>,
}

impl Throttle {
    /// For how long to wait after so many bytes.
    pub(crate) fn pause(&self, bytes: u64, busy: bool) -> Duration {
        let rate = if busy { self.busy } else { self.idle };
        let Some(rate) = rate else {
            return Duration::ZERO;
        };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Waits after so many bytes.
    pub(crate) async fn spend(&self, engine: &Engine, bytes: u64) {
        if let Some(paced) = self.paced {
            return engine.spend(bytes, paced, Duration::MAX).await;
        }
        let mut pause = self.pause(bytes, engine.is_busy());
        let clock = &engine.host().env.clock;
        if self.gives_way && engine.is_busy() {
            let begun = clock.now();
            while engine.is_busy() && clock.now().saturating_sub(begun) < WAY {
                clock.sleep(LOOK).await;
            }
            pause = self.pause(bytes, false);
        }
        if !pause.is_zero() {
            clock.sleep(pause).await;
        }
    }
}

impl Engine {
    /// Waits for so many bytes of moves, as long as the drive's pace asks for, but not longer than
    /// `most`, and not when the drive has failed.
    pub(crate) async fn spend(&self, bytes: u64, paced: Paced, most: Duration) {
        let least = match paced {
            Paced::Moves => None,
            Paced::Repair(least) => Some(least),
        };
        let (clock, bounds) = (&self.host.env.clock, &self.host.pace);
        let begun = clock.now();
        let ticket = self.pacer.spend(begun, bytes, least, bounds);
        while let Some(pause) = self.pacer.wait(clock.now(), &ticket, bounds) {
            let rest = most.saturating_sub(clock.now().saturating_sub(begun));
            if rest.is_zero() {
                return;
            }
            tokio::select! {
                () = clock.sleep(pause.min(rest)) => {}
                () = self.ended() => return,
            }
        }
    }

    /// A client's request has been answered: what it took decides on the pace of moves.
    pub(crate) fn observe(&self, began: Duration, bytes: u64) {
        let took = self.host.env.clock.now().saturating_sub(began);
        self.pacer.observe(took, bytes);
    }

    /// Bytes a second at which moves go onto or from this drive; 0: none has yet.
    pub(crate) fn pace(&self) -> f64 {
        self.pacer.rate()
    }

    /// Whether requests wait for the drive, so that other work should give way.
    pub(crate) fn is_busy(&self) -> bool {
        let reads = self.reads.available_permits();
        let most = self.host.settings.drive_reads as usize;
        reads < most.div_ceil(2) || self.appends.is_loaded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_from_the_rate() {
        let throttle = Throttle {
            busy: Some(1000),
            idle: Some(10_000),
            gives_way: false,
            paced: None,
        };
        assert_eq!(throttle.pause(500, true), Duration::from_millis(500));
        assert_eq!(throttle.pause(500, false), Duration::from_millis(50));
        assert_eq!(Throttle::default().pause(500, true), Duration::ZERO);
    }
}
