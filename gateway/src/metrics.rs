//! Metrics of the gateway: declared here, counted where it happens.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Metrics of the data path.
#[derive(Clone)]
pub struct PathMetrics {
    pub(crate) written_bytes: IntCounter,
    pub(crate) read_bytes: IntCounter,
    pub(crate) appended_bytes: IntCounter,
    pub(crate) thin_bytes: IntCounter,
    pub(crate) extents_ended: IntCounter,
    pub(crate) degraded_stripes: IntCounter,
    pub(crate) hedges: IntCounter,
    pub(crate) faults: IntCounter,
    pub(crate) mismatches: IntCounter,
    pub(crate) write_budget: IntGauge,
    pub(crate) read_budget: IntGauge,
    pub(crate) member_read: Histogram,
}

impl PathMetrics {
    /// Metrics that stand at zero.
    pub fn new() -> Self {
        Self {
            written_bytes: counter(
                "enfilade_gateway_written_bytes_total",
                "bytes of bodies that became blobs",
            ),
            read_bytes: counter(
                "enfilade_gateway_read_bytes_total",
                "bytes of objects given to readers",
            ),
            appended_bytes: counter(
                "enfilade_gateway_appended_bytes_total",
                "bytes of fragments, parity included, that members acked",
            ),
            thin_bytes: counter(
                "enfilade_gateway_thin_bytes_total",
                "bytes of fragments that were not stored because the member is vacant",
            ),
            extents_ended: counter(
                "enfilade_gateway_extents_ended_total",
                "runs that failed in one volume and went to another",
            ),
            degraded_stripes: counter(
                "enfilade_gateway_degraded_stripes_total",
                "stripes that were decoded because a data fragment was absent or late",
            ),
            hedges: counter(
                "enfilade_gateway_hedges_total",
                "times that parity was asked for because a member was late",
            ),
            faults: counter(
                "enfilade_gateway_fragment_faults_total",
                "reads of fragments that failed",
            ),
            mismatches: counter(
                "enfilade_gateway_blob_mismatches_total",
                "whole reads that did not match the CRC-64 of their record",
            ),
            write_budget: gauge(
                "enfilade_gateway_write_budget_bytes",
                "bytes leased by bodies under way",
            ),
            read_budget: gauge(
                "enfilade_gateway_read_budget_bytes",
                "bytes leased by reads under way",
            ),
            member_read: histogram(
                "enfilade_gateway_member_read_seconds",
                "time that a member takes to answer a read",
            ),
        }
    }

    /// Shows them in a registry.
    ///
    /// # Errors
    /// When metrics of these names are in it already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 12] = [
            Box::new(self.written_bytes.clone()),
            Box::new(self.read_bytes.clone()),
            Box::new(self.appended_bytes.clone()),
            Box::new(self.thin_bytes.clone()),
            Box::new(self.extents_ended.clone()),
            Box::new(self.degraded_stripes.clone()),
            Box::new(self.hedges.clone()),
            Box::new(self.faults.clone()),
            Box::new(self.mismatches.clone()),
            Box::new(self.write_budget.clone()),
            Box::new(self.read_budget.clone()),
            Box::new(self.member_read.clone()),
        ];
        all.into_iter()
            .try_for_each(|metric| registry.register(metric))
    }

    /// Counts an acked run: `stripe_bytes` of one fragment each, over the members present.
    pub(crate) fn appended(&self, member_bytes: u64, stored: usize, present: usize) {
        self.appended_bytes.inc_by(member_bytes * present as u64);
        self.thin_bytes
            .inc_by(member_bytes * stored.saturating_sub(present) as u64);
    }
}

impl Default for PathMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("a constant name is a valid one")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("a constant name is a valid one")
}

fn histogram(name: &str, help: &str) -> Histogram {
    let buckets = vec![
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0,
    ];
    let options = HistogramOpts::new(name, help).buckets(buckets);
    Histogram::with_opts(options).expect("a constant name is a valid one")
}
