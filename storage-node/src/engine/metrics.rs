//! Metrics of the work behind the scenes: compaction and scrub.

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts};

use crate::metrics::{by_drive, counter};

/// Counters of compaction and scrub.
#[derive(Debug, Clone)]
pub(crate) struct Upkeep {
    pub(crate) compactions: IntCounter,
    pub(crate) compacted: IntCounter,
    pub(crate) reclaimed: IntCounter,
    pub(crate) scrubbed: IntCounter,
    pub(crate) scrub_faults: IntCounter,
    pub(crate) scrub_age: IntGaugeVec,
    pub(crate) scrub_done: IntGaugeVec,
    pub(crate) scrub_progress: GaugeVec,
    pub(crate) scrub_period: IntGauge,
}

fn progress() -> GaugeVec {
    let options = Opts::new(
        "enfilade_storage_node_scrub_progress_ratio",
        "How much of what a drive holds is not due for scrub",
    );
    GaugeVec::new(options, &["drive"]).expect("the name is well formed")
}

fn period() -> IntGauge {
    let name = "enfilade_storage_node_scrub_period_seconds";
    let text = "Within which every shard is to be scrubbed";
    IntGauge::new(name, text).expect("the name is well formed")
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            compactions: counter(
                "enfilade_storage_node_compactions_total",
                "Shard logs that were compacted",
            ),
            compacted: counter(
                "enfilade_storage_node_compacted_bytes_total",
                "Bytes that compaction copied",
            ),
            reclaimed: counter(
                "enfilade_storage_node_compaction_reclaimed_bytes_total",
                "Bytes that compaction gave back",
            ),
            scrubbed: counter(
                "enfilade_storage_node_scrubbed_bytes_total",
                "Bytes that scrub read and verified",
            ),
            scrub_faults: counter(
                "enfilade_storage_node_scrub_faults_total",
                "Corrupt fragments and damaged places that scrub found",
            ),
            scrub_age: by_drive(
                "enfilade_storage_node_scrub_oldest_seconds",
                "Time since the shard of a drive that was not scrubbed for longest was",
            ),
            scrub_done: by_drive(
                "enfilade_storage_node_scrub_round_age_seconds",
                "Time since every shard of a drive was scrubbed; -1 before the first time",
            ),
            scrub_progress: progress(),
            scrub_period: period(),
        }
    }
}

impl Upkeep {
    /// All of them, to be registered.
    pub(crate) fn all(&self) -> [Box<dyn Collector>; 9] {
        [
            Box::new(self.compactions.clone()),
            Box::new(self.compacted.clone()),
            Box::new(self.reclaimed.clone()),
            Box::new(self.scrubbed.clone()),
            Box::new(self.scrub_faults.clone()),
            Box::new(self.scrub_age.clone()),
            Box::new(self.scrub_done.clone()),
            Box::new(self.scrub_progress.clone()),
            Box::new(self.scrub_period.clone()),
        ]
    }
}
