//! Metrics of the metadata service.

use std::sync::OnceLock;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
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
    /// Seconds to have removed rows of a range forgotten.
    pub forget_seconds: Histogram,
    /// Keys with an object in a bucket, in the partitions that this replica leads.
    pub bucket_objects: IntGaugeVec,
    /// Bytes of objects, older versions and parts in a bucket, in the partitions that this replica
    /// leads.
    pub bucket_bytes: IntGaugeVec,
    /// Entries applied at once, with one commit of rows.
    pub apply_entries: Histogram,
    /// Whether this replica leads the group: 1 or 0.
    pub group_leader: IntGaugeVec,
    /// Whether this replica has stopped because of an error: 1 or 0. A human must look.
    pub group_stopped: IntGaugeVec,
    /// The voters of a group, while this replica leads it.
    pub group_voters: IntGaugeVec,
    /// Changes of replicas under way, while this replica leads the root group.
    pub replica_changes: IntGauge,
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
    /// Drives that do not work and are waited for, as the root leader sees it.
    pub waiting_drives: IntGauge,
    /// Moves and rebuilds under way.
    pub moves_begun: IntGauge,
    /// Moves and rebuilds that are planned and not begun.
    pub moves_queued: IntGauge,
    /// Bytes of the last plan that are still to be moved or rebuilt.
    pub backlog: IntGauge,
    /// Nines of the share of data that is there after a year, as the root leader reckons.
    pub durability: Gauge,
    /// Volumes that hold anything, and as how many they could be (PROTOCOLS 14).
    pub table_volumes: IntGauge,
    /// As above.
    pub ideal_volumes: IntGauge,
    /// Bytes of an enclosure that would find no room if it was lost (PROTOCOLS 15).
    pub shortfall: IntGauge,
    /// Enclosures under maintenance.
    pub maintained: IntGauge,
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

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> prometheus::Result<Histogram> {
        self.register(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(buckets),
        )?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), &[label])?)
    }
}

impl Metrics {
    /// Shows nothing of a group any more: its replica has left.
    pub(crate) fn forget_group(&self, group: &str) {
        for gauge in [
            &self.group_leader,
            &self.group_stopped,
            &self.group_voters,
            &self.group_term,
            &self.group_applied,
            &self.group_log,
        ] {
            // It may never have been shown.
            let _ = gauge.remove_label_values(&[group]);
        }
    }

    fn new() -> prometheus::Result<Self> {
        let maker = Maker(Registry::new());
        let call_seconds = HistogramOpts::new("enfilade_cluster_call_seconds", "time of a call");
        let call_seconds = HistogramVec::new(call_seconds.buckets(seconds()), &["call"])?;
        let call_errors = Opts::new("enfilade_cluster_call_errors_total", "calls not answered");
        let call_errors = IntCounterVec::new(call_errors, &["call", "error"])?;
        let group = |name: &str, help: &str| maker.gauges(name, help, "group");
        let counted = |name: &str, help: &str| maker.histogram(name, help, counts());
        let held = "enclosures held from going out by the brake";
        Ok(Self {
            call_seconds: maker.register(call_seconds)?,
            call_errors: maker.register(call_errors)?,
            log_sync_seconds: maker.histogram(
                "enfilade_cluster_log_sync_seconds",
                "time to write and sync one batch of the log",
                seconds(),
            )?,
            forget_seconds: maker.histogram(
                "enfilade_cluster_forget_seconds",
                "time to compact a range with many removed rows",
                seconds(),
            )?,
            bucket_objects: maker.gauges(
                "enfilade_cluster_bucket_objects",
                "keys with an object, in partitions led here",
                "bucket",
            )?,
            bucket_bytes: maker.gauges(
                "enfilade_cluster_bucket_bytes",
                "bytes of objects, older versions and parts, in partitions led here",
                "bucket",
            )?,
            log_batch_writes: counted("enfilade_cluster_log_batch_writes", "writes a sync")?,
            apply_entries: counted("enfilade_cluster_apply_entries", "entries a commit of rows")?,
            group_stopped: group("enfilade_cluster_group_stopped", "1: the replica failed")?,
            group_leader: group("enfilade_cluster_group_leader", "1: the replica leads")?,
            group_voters: group(
                "enfilade_cluster_group_voters",
                "voters of a group led here",
            )?,
            replica_changes: maker.gauge("enfilade_cluster_replica_changes", "under way")?,
            group_term: group("enfilade_cluster_group_term", "raft term")?,
            group_applied: group("enfilade_cluster_group_applied_index", "last applied entry")?,
            group_log: group("enfilade_cluster_group_log_index", "last entry of the log")?,
            memtable_bytes: maker.gauge("enfilade_cluster_memtable_bytes", "write buffers")?,
            block_cache_bytes: maker.gauge("enfilade_cluster_block_cache_bytes", "block cache")?,
            table_bytes: maker.gauge("enfilade_cluster_table_bytes", "table files")?,
            braked_enclosures: maker.gauge("enfilade_cluster_braked_enclosures", held)?,
            volumes: maker.gauges("enfilade_cluster_volumes", "volumes by state", "state")?,
            waiting_drives: maker.gauge("enfilade_cluster_waiting_drives", "waited for")?,
            moves_begun: maker.gauge("enfilade_cluster_moves_begun", "moves under way")?,
            moves_queued: maker.gauge("enfilade_cluster_moves_queued", "moves not begun")?,
            backlog: maker.gauge("enfilade_cluster_moves_backlog_bytes", "bytes to move")?,
            durability: maker.register(Gauge::new(
                "enfilade_cluster_durability_nines",
                "nines of data that is there after a year",
            )?)?,
            table_volumes: maker.gauge("enfilade_cluster_table_volumes", "volumes in the table")?,
            ideal_volumes: maker.gauge("enfilade_cluster_ideal_volumes", "if all were full")?,
            shortfall: maker.gauge("enfilade_cluster_shortfall_bytes", "not to be rebuilt")?,
            maintained: maker.gauge("enfilade_cluster_maintained_enclosures", "not given up")?,
            registry: maker.0,
        })
    }
}
