//! Metrics of the metadata service.

use std::sync::OnceLock;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// All metrics of this crate.
pub struct Metrics {
    /// Seconds to answer a call, by its name.
    pub call_seconds: HistogramVec,
    /// Calls that were answered with an error, by name and kind of error.
    pub call_errors: IntCounterVec,
    /// Seconds to write and sync one batch of the log.
    pub log_sync_seconds: Histogram,
    /// Writes to the log that shared one sync.
    pub log_batch_writes: Histogram,
    /// Entries applied at once, with one commit of rows.
    pub apply_entries: Histogram,
    /// Whether this replica leads the group: 1 or 0.
    pub group_leader: IntGaugeVec,
    /// Whether this replica has stopped because of an error: 1 or 0. A human must look.
    pub group_stopped: IntGaugeVec,
    /// The term of a group, as this replica knows it.
    pub group_term: IntGaugeVec,
    /// The index of the last entry of a group that this replica applied.
    pub group_applied: IntGaugeVec,
    /// The index of the last entry in a group's log.
    pub group_log: IntGaugeVec,
    /// Bytes of memory in write buffers.
    pub memtable_bytes: IntGauge,
    /// Bytes of memory in the block cache.
    pub block_cache_bytes: IntGauge,
    /// Bytes of table files.
    pub table_bytes: IntGauge,
    /// Enclosures that the brake holds from going out (PROTOCOLS 23), as the root leader sees it.
    pub braked_enclosures: IntGauge,
    /// Volumes by state, as the root leader sees it.
    pub volumes: IntGaugeVec,
    registry: Registry,
}

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::new().expect("names and labels are valid and differ"))
}

/// The registry to gather from.
pub fn registry() -> &'static Registry {
    &metrics().registry
}

/// Bounds from 50 microseconds to 25 seconds.
fn seconds() -> Vec<f64> {
    prometheus::exponential_buckets(0.000_05, 2.5, 15).unwrap_or_default()
}

fn counts() -> Vec<f64> {
    prometheus::exponential_buckets(1.0, 2.0, 12).unwrap_or_default()
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, buckets| {
            let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let options = HistogramOpts::new("enfilade_cluster_call_seconds", "time to answer a call");
        let call_seconds = HistogramVec::new(options.buckets(seconds()), &["call"])?;
        registry.register(Box::new(call_seconds.clone()))?;
        let options = Opts::new(
            "enfilade_cluster_call_errors_total",
            "calls without an answer",
        );
        let call_errors = IntCounterVec::new(options, &["call", "error"])?;
        registry.register(Box::new(call_errors.clone()))?;
        Ok(Self {
            call_seconds,
            call_errors,
            log_sync_seconds: histogram(
                "enfilade_cluster_log_sync_seconds",
                "time of a log sync",
                seconds(),
            )?,
            log_batch_writes: histogram(
                "enfilade_cluster_log_batch_writes",
                "writes that share a sync",
                counts(),
            )?,
            apply_entries: histogram(
                "enfilade_cluster_apply_entries",
                "entries applied in one batch",
                counts(),
            )?,
            group_leader: gauges(
                "enfilade_cluster_group_leader",
                "1 where the group's leader is",
                &["group"],
            )?,
            group_stopped: gauges("group_stopped", "1 where the replica failed", &["group"])?,
            group_term: gauges(
                "enfilade_cluster_group_term",
                "raft term of the group",
                &["group"],
            )?,
            group_applied: gauges(
                "enfilade_cluster_group_applied_index",
                "last applied entry",
                &["group"],
            )?,
            group_log: gauges(
                "enfilade_cluster_group_log_index",
                "last entry of the log",
                &["group"],
            )?,
            memtable_bytes: gauge("enfilade_cluster_memtable_bytes", "memory in write buffers")?,
            block_cache_bytes: gauge(
                "enfilade_cluster_block_cache_bytes",
                "memory in the block cache",
            )?,
            table_bytes: gauge("enfilade_cluster_table_bytes", "bytes of table files")?,
            braked_enclosures: gauge(
                "enfilade_cluster_braked_enclosures",
                "held from going out by the brake",
            )?,
            volumes: gauges("enfilade_cluster_volumes", "volumes by state", &["state"])?,
            registry,
        })
    }
}
