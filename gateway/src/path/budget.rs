//! The byte budget: what all bodies or all reads together may hold in memory (PROTOCOLS 16).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_cluster::env::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::within;

/// A number of bytes that leases are taken from.
pub(super) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
    peak: AtomicU64,
}

/// Bytes taken from a budget; given back when dropped.
pub(super) struct Lease(Mutex<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of at most 4 GiB.
    pub(super) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
            peak: AtomicU64::new(0),
        }
    }

    /// Bytes that are leased.
    pub(super) fn used(&self) -> u64 {
        let free = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        u64::from(self.total).saturating_sub(free)
    }

    /// The most bytes that were ever leased at the same time.
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
        Lease(Mutex::new(permit))
    }
}

impl Lease {
    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&self, bytes: u64) {
        let mut permit = self.lock();
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX);
        let excess = permit.num_permits().saturating_sub(keep);
        drop(permit.split(excess));
    }

    /// Gives back `bytes`, as far as they are held.
    pub(super) fn release(&self, bytes: usize) {
        let mut permit = self.lock();
        let bytes = bytes.min(permit.num_permits());
        drop(permit.split(bytes));
    }

    /// Splits off `bytes`, as far as they are held, into a lease of their own.
    pub(super) fn split(&self, bytes: u64) -> Option<Self> {
        let mut permit = self.lock();
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(permit.num_permits());
        permit.split(bytes).map(|permit| Self(Mutex::new(permit)))
    }

    fn lock(&self) -> MutexGuard<'_, OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
