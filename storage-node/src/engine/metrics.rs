//! Metrics of the work behind the scenes: compaction and scrub.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGaugeVec};

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
        }
    }
}

impl Upkeep {
    /// All of them, to be registered.
    pub(crate) fn all(&self) -> [Box<dyn Collector>; 7] {
        [
            Box::new(self.compactions.clone()),
            Box::new(self.compacted.clone()),
            Box::new(self.reclaimed.clone()),
            Box::new(self.scrubbed.clone()),
            Box::new(self.scrub_faults.clone()),
            Box::new(self.scrub_age.clone()),
            Box::new(self.scrub_done.clone()),
        ]
    }
}
