//! The byte budget: what all bodies or all reads together may hold in memory (PROTOCOLS 16).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_cluster::env::Clock;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::within;

/// A number of bytes that leases are taken from.
pub(super) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
    peak: AtomicU64,
    gauge: IntGauge,
}

/// Bytes taken from a budget; given back when dropped.
pub(super) struct Lease {
    permit: Mutex<OwnedSemaphorePermit>,
    gauge: IntGauge,
}

impl Budget {
    /// A budget of at most 4 GiB, and where to show how much of it is leased.
    pub(super) fn new(bytes: u64, gauge: IntGauge) -> Self {
        let total = u32::try_from(bytes).unwrap_or(u32::MAX);
        let free = Arc::new(Semaphore::new(total as usize));
        Self {
            free,
            total,
            peak: AtomicU64::new(0),
            gauge,
        }
    }

    /// Bytes that are leased.
    pub(super) fn used(&self) -> u64 {
        let free = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        u64::from(self.total).saturating_sub(free)
    }

    /// The most bytes that were ever leased at the same time.
    #[cfg(test)]
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// All bytes.
    pub(super) fn total(&self) -> u64 {
        u64::from(self.total)
    }

    /// A lease, when that leaves a quarter of the budget to others: for more than the least.
    pub(super) fn lease_ample(&self, bytes: u64) -> Option<Lease> {
        let ample = self.used().saturating_add(bytes) <= self.total() / 4 * 3;
        if ample { self.lease_now(bytes) } else { None }
    }

    /// A lease, when there is room.
    pub(super) fn lease_now(&self, bytes: u64) -> Option<Lease> {
        let permit = Arc::clone(&self.free)
            .try_acquire_many_owned(self.clamp(bytes))
            .ok()?;
        Some(self.leased(permit))
    }

    /// A lease; waits its turn for room. The caller must hold no lease that depends on this one.
    pub(super) async fn lease(
        &self,
        clock: &dyn Clock,
        bytes: u64,
        wait: Duration,
    ) -> Option<Lease> {
        let acquire = Arc::clone(&self.free).acquire_many_owned(self.clamp(bytes));
        let permit = within(clock, wait, acquire).await?.ok()?;
        Some(self.leased(permit))
    }

    /// What is larger than the whole budget gets all of it.
    fn clamp(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total)
    }

    fn leased(&self, permit: OwnedSemaphorePermit) -> Lease {
        self.peak.fetch_max(self.used(), Ordering::Relaxed);
        Lease::new(permit, self.gauge.clone())
    }
}

impl Lease {
    fn new(permit: OwnedSemaphorePermit, gauge: IntGauge) -> Self {
        gauge.add(count(permit.num_permits()));
        Self {
            permit: Mutex::new(permit),
            gauge,
        }
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&self, bytes: u64) {
        let held = self.lock().num_permits();
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.release(held.saturating_sub(keep));
    }

    /// Gives back `bytes`, as far as they are held.
    pub(super) fn release(&self, bytes: usize) {
        drop(self.split(bytes as u64));
    }

    /// Splits off `bytes`, as far as they are held, into a lease of their own.
    pub(super) fn split(&self, bytes: u64) -> Option<Self> {
        let mut permit = self.lock();
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(permit.num_permits());
        let part = permit.split(bytes)?;
        self.gauge.sub(count(bytes));
        Some(Self::new(part, self.gauge.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, OwnedSemaphorePermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let held = self.lock().num_permits();
        self.gauge.sub(count(held));
    }
}

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
