//! What all drives and nodes of one process share: budgets, committers, metrics.

use std::sync::Arc;

use enfilade_cluster::env::Env;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::commit::Committers;
use crate::engine::index::rocks::IndexMemory;
use crate::engine::pacer::PaceBounds;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// Budgets are counted in units of this many bytes.
const BUDGET_UNIT: u64 = 4096;

/// What the drives of a process share. Clones are the same.
#[derive(Clone)]
pub struct Host {
    pub(crate) env: Env,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Metrics,
    pub(crate) committers: Arc<Committers>,
    pub(crate) index_memory: IndexMemory,
    pub(crate) appends: Budget,
    pub(crate) reads: Budget,
    pub(crate) repairs: Budget,
    pub(crate) pace: Arc<PaceBounds>,
}

impl Host {
    /// Makes one of validated settings.
    pub fn new(env: Env, settings: Settings) -> Self {
        let bytes = |size: enfilade_placement::units::ByteSize| {
            usize::try_from(size.get()).unwrap_or(usize::MAX)
        };
        Self {
            metrics: Metrics::default(),
            committers: Arc::new(Committers::new(env.clone())),
            index_memory: IndexMemory::new(
                bytes(settings.index_cache),
                bytes(settings.index_buffers),
                settings.open_index_files,
            ),
            appends: Budget::new(settings.node_queue.get()),
            reads: Budget::new(settings.node_reads.get()),
            repairs: Budget::new(settings.repair_memory.get()),
            pace: Arc::default(),
            settings: Arc::new(settings),
            env,
        }
    }

    /// The metrics of the drives and nodes, to be registered.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A number of bytes that may be in memory at once.
#[derive(Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

/// Bytes leased from a budget, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    _units: OwnedSemaphorePermit,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / BUDGET_UNIT)
            .unwrap_or(u32::MAX)
            .max(1);
        Self {
            units: Arc::new(Semaphore::new(all as usize)),
            all,
        }
    }

    fn units_of(&self, bytes: u64) -> u32 {
        // More than there is counts as all of it: it goes alone.
        u32::try_from(bytes.div_ceil(BUDGET_UNIT))
            .unwrap_or(u32::MAX)
            .clamp(1, self.all)
    }

    /// Bytes that are leased now.
    pub(crate) fn leased(&self) -> u64 {
        let free = u32::try_from(self.units.available_permits()).unwrap_or(u32::MAX);
        u64::from(self.all.saturating_sub(free)) * BUDGET_UNIT
    }

    /// Whether an eighth of it is leased: more than what is just passing through.
    pub(crate) fn is_loaded(&self) -> bool {
        self.leased() * 8 >= u64::from(self.all) * BUDGET_UNIT
    }

    /// Leases at once, or not at all.
    pub(crate) fn try_lease(&self, bytes: u64) -> Option<Lease> {
        let units = Arc::clone(&self.units).try_acquire_many_owned(self.units_of(bytes));
        units.ok().map(|units| Lease { _units: units })
    }

    /// Waits for its turn.
    pub(crate) async fn lease(&self, bytes: u64) -> Lease {
        let units = Arc::clone(&self.units)
            .acquire_many_owned(self.units_of(bytes))
            .await;
        Lease {
            _units: units.expect("the semaphore is never closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_what_it_does_not_have_and_gets_it_back() {
        let budget = Budget::new(64 * 1024);
        let half = budget.try_lease(32 * 1024).unwrap();
        assert!(budget.try_lease(33 * 1024).is_none());
        assert_eq!(budget.leased(), 32 * 1024);
        assert!(budget.is_loaded());
        drop(half);
        assert!(!budget.is_loaded());
        assert!(budget.try_lease(1 << 40).is_some());
    }
}
