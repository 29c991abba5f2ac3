//! Time and randomness: the only place that reads a clock or the system's random source.
//!
//! Everything else takes an [`Env`], so that a simulation can replay a run from its seed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A source of time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time since some fixed moment before the process's first call.
    fn now(&self) -> Duration;

    /// Wall time, in milliseconds of Unix time. For `LastModified` and logs only (PROTOCOLS 3).
    fn wall_ms(&self) -> u64;

    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// A source of random bits.
pub trait Random: Send + Sync + 'static {
    /// 64 random bits.
    fn next_u64(&self) -> u64;

    /// 128 random bits.
    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// Time and randomness together, as every component gets them.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The machine's own clock and a generator seeded by the operating system.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(MachineClock {
                start: Instant::now(),
            }),
            random: Arc::new(Generator(Mutex::new(StdRng::from_os_rng()))),
        }
    }

    /// The machine's clock, and random bits that follow from a seed.
    pub fn seeded(seed: u64) -> Self {
        let random = Arc::new(Generator(Mutex::new(StdRng::seed_from_u64(seed))));
        Self {
            random,
            ..Self::real()
        }
    }
}

struct MachineClock {
    start: Instant,
}

#[async_trait]
impl Clock for MachineClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

struct Generator(Mutex<StdRng>);

impl Random for Generator {
    fn next_u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }
}
