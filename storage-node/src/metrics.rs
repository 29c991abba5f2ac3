//! Metrics of the drives of a process.

use enfilade_cluster::api::moves::Reason;
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use crate::api::Cause;
use crate::engine::metrics::Upkeep;
use crate::erasure::Kernel;

/// Counters of all drives and nodes of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) appended: IntCounter,
    pub(crate) appended_bytes: IntCounter,
    pub(crate) read: IntCounter,
    pub(crate) read_bytes: IntCounter,
    pub(crate) corrupt: IntCounter,
    pub(crate) refused: IntCounterVec,
    pub(crate) sync_seconds: Histogram,
    pub(crate) group_records: Histogram,
    pub(crate) capacity: IntGaugeVec,
    pub(crate) used: IntGaugeVec,
    pub(crate) dead: IntGaugeVec,
    pub(crate) state: IntGaugeVec,
    pub(crate) latency: GaugeVec,
    pub(crate) pace: GaugeVec,
    pub(crate) damaged: IntGaugeVec,
    pub(crate) orphans: IntCounter,
    pub(crate) garbage: IntCounter,
    /// Of compaction and scrub.
    pub(crate) upkeep: Upkeep,
    pub(crate) repair: RepairMetrics,
}

/// Traffic by cause, and repair.
#[derive(Debug, Clone)]
pub(crate) struct RepairMetrics {
    pub(crate) traffic: IntCounterVec,
    pub(crate) rebuilt: IntCounter,
    pub(crate) put_off: IntCounter,
    pub(crate) flipped: IntCounterVec,
}

impl Default for RepairMetrics {
    fn default() -> Self {
        let traffic = Opts::new(
            "enfilade_storage_node_traffic_bytes_total",
            "Bytes that drives read and wrote, by what for (put, get, scrub...) and by direction",
        );
        let flipped = Opts::new(
            "enfilade_storage_node_moved_bytes_total",
            "Bytes of shards that drives got by repair, drain, spread and rebalance",
        );
        Self {
            traffic: IntCounterVec::new(traffic, &["cause", "direction"])
                .expect("the name is well formed"),
            flipped: IntCounterVec::new(flipped, &["reason"]).expect("the name is well formed"),
            rebuilt: counter(
                "enfilade_storage_node_rebuilt_fragments_total",
                "Fragments that were rebuilt, synced, read back and verified",
            ),
            put_off: counter(
                "enfilade_storage_node_repairs_put_off_total",
                "Attempts to repair a shard that had to leave something in the ledger",
            ),
        }
    }
}

impl RepairMetrics {
    /// Counts a shard that became a member.
    pub(crate) fn count_flip(&self, reason: Reason, bytes: u64) {
        let labels = [reason.word()];
        self.flipped.with_label_values(&labels).inc_by(bytes);
    }
}

pub(crate) fn counter(name: &str, text: &str) -> IntCounter {
    IntCounter::new(name, text).expect("the name is well formed")
}

pub(crate) fn by_drive(name: &str, text: &str) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, text), &["drive"]).expect("the name is well formed")
}

fn state() -> IntGaugeVec {
    let options = Opts::new(
        "enfilade_storage_node_drive_state",
        "1 for the state that a drive is in",
    );
    IntGaugeVec::new(options, &["drive", "state"]).expect("the name is well formed")
}

fn latency() -> GaugeVec {
    let options = Opts::new(
        "enfilade_storage_node_drive_latency_seconds",
        "Mean time of a drive's last syncs and reads",
    );
    GaugeVec::new(options, &["drive"]).expect("the name is well formed")
}

fn pace() -> GaugeVec {
    let options = Opts::new(
        "enfilade_storage_node_drive_pace_bytes",
        "Bytes a second at which moves go onto or from a drive",
    );
    GaugeVec::new(options, &["drive"]).expect("the name is well formed")
}

/// A histogram whose buckets double, so many from the first on.
fn doubling(name: &str, text: &str, first: f64, count: usize) -> Histogram {
    let buckets = prometheus::exponential_buckets(first, 2.0, count).expect("positive, and some");
    let options = HistogramOpts::new(name, text).buckets(buckets);
    Histogram::with_opts(options).expect("the name is well formed")
}

impl Default for Metrics {
    fn default() -> Self {
        let refused = Opts::new(
            "enfilade_storage_node_refused_total",
            "Requests that a node refused, by reason",
        );
        Self {
            repair: RepairMetrics::default(),
            appended: counter(
                "enfilade_storage_node_appended_fragments_total",
                "Fragments that were synced",
            ),
            appended_bytes: counter(
                "enfilade_storage_node_appended_bytes_total",
                "Bytes of fragments that were synced",
            ),
            read: counter(
                "enfilade_storage_node_read_ranges_total",
                "Ranges of fragments that were read and verified",
            ),
            read_bytes: counter(
                "enfilade_storage_node_read_bytes_total",
                "Bytes of fragments that were read and verified",
            ),
            corrupt: counter(
                "enfilade_storage_node_corrupt_fragments_total",
                "Fragments that were found corrupt",
            ),
            refused: IntCounterVec::new(refused, &["reason"]).expect("the name is well formed"),
            sync_seconds: doubling(
                "enfilade_storage_node_sync_seconds",
                "Time to sync the logs of a commit group",
                0.000_1,
                16,
            ),
            group_records: doubling(
                "enfilade_storage_node_group_records",
                "Records in a commit group",
                1.0,
                11,
            ),
            capacity: by_drive(
                "enfilade_storage_node_drive_capacity_bytes",
                "Bytes that a drive can hold",
            ),
            used: by_drive(
                "enfilade_storage_node_drive_used_bytes",
                "Bytes in use on a drive",
            ),
            dead: by_drive(
                "enfilade_storage_node_drive_dead_bytes",
                "Bytes of dropped fragments that still take room on a drive",
            ),
            state: state(),
            latency: latency(),
            pace: pace(),
            damaged: by_drive(
                "enfilade_storage_node_drive_damaged_places",
                "Places in a drive's logs where synced records cannot be read",
            ),
            orphans: counter(
                "enfilade_storage_node_orphans_dropped_total",
                "Condemned blobs that were dropped",
            ),
            garbage: counter(
                "enfilade_storage_node_garbage_dropped_total",
                "Dead blobs that were dropped",
            ),
            upkeep: Upkeep::default(),
        }
    }
}

impl Metrics {
    /// Bytes so far.
    #[cfg(test)]
    pub(crate) fn traffic(&self, cause: Cause, direction: &str) -> u64 {
        let labels = [cause.word(), direction];
        self.repair.traffic.with_label_values(&labels).get()
    }

    /// Counts bytes that drives read.
    pub(crate) fn count_read(&self, cause: Cause, bytes: u64) {
        let labels = [cause.word(), "read"];
        self.repair.traffic.with_label_values(&labels).inc_by(bytes);
    }

    /// Counts bytes that drives wrote.
    pub(crate) fn count_write(&self, cause: Cause, bytes: u64) {
        let labels = [cause.word(), "write"];
        self.repair.traffic.with_label_values(&labels).inc_by(bytes);
    }

    /// Enters them into a registry; once a process.
    ///
    /// # Errors
    /// When they are there already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let all: Vec<Box<dyn Collector>> = vec![
            Box::new(self.appended.clone()),
            Box::new(self.appended_bytes.clone()),
            Box::new(self.read.clone()),
            Box::new(self.read_bytes.clone()),
            Box::new(self.corrupt.clone()),
            Box::new(self.refused.clone()),
            Box::new(self.sync_seconds.clone()),
            Box::new(self.group_records.clone()),
            Box::new(self.capacity.clone()),
            Box::new(self.used.clone()),
            Box::new(self.dead.clone()),
            Box::new(self.state.clone()),
            Box::new(self.latency.clone()),
            Box::new(self.pace.clone()),
            Box::new(self.damaged.clone()),
            Box::new(self.orphans.clone()),
            Box::new(self.garbage.clone()),
            Box::new(self.repair.traffic.clone()),
            Box::new(self.repair.rebuilt.clone()),
            Box::new(self.repair.put_off.clone()),
            Box::new(self.repair.flipped.clone()),
        ];
        all.into_iter()
            .chain(self.upkeep.all())
            .try_for_each(|collector| registry.register(collector))
    }
}

/// Enters the kernel of the erasure codec, which the process has chosen by then.
///
/// # Errors
/// When it is there already.
pub fn register_codec(registry: &Registry) -> Result<(), prometheus::Error> {
    let options = Opts::new(
        "enfilade_codec_info",
        "1 for the kernel that the erasure codec of the process uses",
    );
    let info = IntGaugeVec::new(options, &["kernel"])?;
    info.with_label_values(&[Kernel::in_use().name()]).set(1);
    registry.register(Box::new(info))
}

/// A number of bytes as a gauge holds it.
pub(crate) fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_register_once() {
        let registry = Registry::new();
        let metrics = Metrics::default();
        metrics.register(&registry).unwrap();
        assert!(metrics.register(&registry).is_err());
    }

    #[test]
    fn the_kernel_in_use_is_a_label() {
        let registry = Registry::new();
        register_codec(&registry).unwrap();
        let families = registry.gather();
        let metric = &families[0].get_metric()[0];
        assert_eq!(families[0].name(), "enfilade_codec_info");
        assert_eq!(metric.get_label()[0].value(), Kernel::in_use().name());
        assert_eq!(metric.get_gauge().get_value(), 1.0);
        assert!(register_codec(&registry).is_err());
    }
}
