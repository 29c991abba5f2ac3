//! How quickly a drive does what it is asked, and how often it cannot read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the last look.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    done: AtomicU64,
    micros: AtomicU64,
    /// Reads that the drive failed; never reset.
    read_errors: AtomicU64,
}

impl Pulse {
    /// Something took so long.
    pub(super) fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read_failed(&self) {
        self.read_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read_errors(&self) -> u64 {
        self.read_errors.load(Ordering::Relaxed)
    }

    /// The mean time since this was asked last; none when nothing was done.
    pub(super) fn take(&self) -> Option<Duration> {
        let done = self.done.swap(0, Ordering::Relaxed);
        let micros = self.micros.swap(0, Ordering::Relaxed);
        Some(Duration::from_micros(micros.checked_div(done)?))
    }
}
