//! Settings of a storage node, with the reasons of their defaults.

use std::time::Duration;

use enfilade_placement::units::ByteSize;

/// What can be set. All drives of a process share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of appends that one drive takes on before it refuses more: at a GB/s, 32 ms of work.
    pub drive_queue: ByteSize,
    /// Bytes of appends that all drives of the process take on together: with what is read, the
    /// greater part of the 1 GiB that a node may use (P9).
    pub node_queue: ByteSize,
    /// Bytes of reads that are under way at once in the process.
    pub node_reads: ByteSize,
    /// Bytes of fragments that are being rebuilt at once in the process, with what they are rebuilt
    /// from: repair's share of its memory (PROTOCOLS 16).
    pub repair_memory: ByteSize,
    /// How often a node looks for what it has to repair.
    pub repair_interval: Duration,
    /// How long a shard that was moved away is kept for readers that do not know yet.
    pub move_grace: Duration,
    /// How long a blob that died on the way of its shard is kept for reads that began before: as
    /// long as garbage waits.
    pub move_dead_grace: Duration,
    /// Shards that a node makes at once for moves, and as many for repairs.
    pub moves_at_once: u32,
    /// Bytes a second that repairs of a drive take at least, however busy it is; moves for other
    /// reasons have a floor that operators set.
    pub rebuild_rate: ByteSize,
    /// How many reads a drive works on at once.
    pub drive_reads: u32,
    /// Shard logs that a drive keeps open. With 24 drives, and the files of their indexes, a
    /// process stays well under 4,096 descriptors.
    pub open_logs: u32,
    /// Files that the index of a drive keeps open.
    pub open_index_files: u16,
    /// The block cache of all indexes of the process.
    pub index_cache: ByteSize,
    /// The write buffers of all indexes of the process.
    pub index_buffers: ByteSize,
    /// A drive that is this full refuses appends (PROTOCOLS 15).
    pub full_percent: u8,
    /// Room that appends leave free whatever [`Settings::full_percent`] says, for deletes, fences
    /// and compaction; of a small drive at most a sixteenth.
    pub reserve: ByteSize,
    /// Waste that a drive tolerates, in percent of its logs, before it compacts them. At 15 the
    /// logs take about 1.2 times what is live.
    pub compact_waste_percent: u8,
    /// Bytes a second that compaction copies on one drive.
    pub compact_rate: ByteSize,
    /// The same while requests wait for the drive.
    pub compact_rate_busy: ByteSize,
    /// How often a drive looks whether compaction pays.
    pub compact_interval: Duration,
    /// Drives of the process that compact at once: bounds memory, to some 8 MiB each.
    pub compact_drives: u32,
    /// Within which every shard is scrubbed, by the time that its drive was served: bounds how long
    /// rot stays undetected (PROTOCOLS 22).
    pub scrub_period: Duration,
    /// Within which the owners of all blobs of every shard are asked whether they are still
    /// referenced, by the time that its node runs (PROTOCOLS 20).
    pub reference_period: Duration,
    /// The least and the most bytes a second that scrub reads of one drive, whatever the period
    /// asks for. It stops while requests wait.
    pub scrub_rate_min: ByteSize,
    /// As above.
    pub scrub_rate_max: ByteSize,
    /// How often a node looks whether the logs of its shards are still there.
    pub presence_interval: Duration,
    /// How long a client waits for an append, whose caller may wait less (PROTOCOLS 14).
    pub append_deadline: Duration,
    /// How long a client waits for a read or a page of an inventory.
    pub read_deadline: Duration,
    /// How long a client waits for a connection.
    pub connect_timeout: Duration,
    /// How often a node tells the root leader that it lives.
    pub heartbeat: Duration,
    /// How often a node asks the partitions for garbage.
    pub garbage_interval: Duration,
    /// How old (by the time that its drive was served) a blob without a commit mark must be before
    /// its owner is asked (PROTOCOLS 19).
    pub orphan_age: Duration,
    /// How often a node looks for such blobs.
    pub orphan_interval: Duration,
    /// How often the index is made durable: bounds the scan of the logs after a crash.
    pub checkpoint_interval: Duration,
    /// How often a drive that failed is tried again; less and less often when it fails again.
    pub reopen_interval: Duration,
    /// How often drives are looked for where they are expected, and on the shelf.
    pub rescan_interval: Duration,
    /// How often it is looked whether a drive that is served is still there, and reads.
    pub probe_interval: Duration,
    /// A drive is late when it takes this long on average for a sync or a read: a thousand times
    /// what an NVMe device takes.
    pub slow_latency: Duration,
    /// A drive that is late for so long is slow.
    pub slow_period: Duration,
    /// A drive is quick when it takes no longer than this on average.
    pub quick_latency: Duration,
    /// A slow drive that is quick for so long is slow no more; longer after relapses.
    pub quick_period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drive_queue: ByteSize::mib(32),
            node_queue: ByteSize::mib(256),
            node_reads: ByteSize::mib(128),
            repair_memory: ByteSize::mib(32),
            repair_interval: Duration::from_secs(2),
            move_grace: Duration::from_secs(60),
            move_dead_grace: Duration::from_secs(600),
            moves_at_once: 4,
            rebuild_rate: ByteSize::mib(64),
            drive_reads: 16,
            open_logs: 32,
            open_index_files: 32,
            index_cache: ByteSize::mib(64),
            index_buffers: ByteSize::mib(64),
            full_percent: 95,
            reserve: ByteSize::mib(64),
            compact_waste_percent: 15,
            compact_rate: ByteSize::mib(128),
            compact_rate_busy: ByteSize::mib(8),
            compact_interval: Duration::from_secs(10),
            compact_drives: 4,
            scrub_period: Duration::from_secs(30 * 24 * 3600),
            reference_period: Duration::from_secs(30 * 24 * 3600),
            scrub_rate_min: ByteSize::mib(1),
            scrub_rate_max: ByteSize::mib(64),
            presence_interval: Duration::from_secs(10),
            append_deadline: Duration::from_secs(12),
            read_deadline: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            garbage_interval: Duration::from_secs(5),
            orphan_age: Duration::from_secs(24 * 3600),
            orphan_interval: Duration::from_secs(600),
            checkpoint_interval: Duration::from_secs(60),
            reopen_interval: Duration::from_secs(30),
            rescan_interval: Duration::from_secs(5),
            probe_interval: Duration::from_secs(5),
            slow_latency: Duration::from_secs(2),
            slow_period: Duration::from_secs(10),
            quick_latency: Duration::from_millis(500),
            quick_period: Duration::from_secs(60),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {name}: {reason}")]
pub struct SettingsError {
    /// Which.
    pub name: &'static str,
    /// Why not.
    pub reason: &'static str,
}

impl Settings {
    /// How full a drive of that capacity may become by appends (PROTOCOLS 15).
    pub fn append_limit(&self, capacity: u64) -> u64 {
        let percent = u128::from(capacity) * u128::from(self.full_percent) / 100;
        let reserve = self.reserve.get().min(capacity / 16);
        u64::try_from(percent)
            .unwrap_or(u64::MAX)
            .min(capacity - reserve)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first one that cannot work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let largest = crate::api::append::APPEND_BYTES_MAX as u64;
        let fits = |size: ByteSize| (largest..=1 << 40).contains(&size.get());
        let whole_append = "must be 4 MiB (the largest append) to 1 TiB";
        let rules = [
            (fits(self.drive_queue), "drive_queue", whole_append),
            (fits(self.node_queue), "node_queue", whole_append),
            (fits(self.node_reads), "node_reads", whole_append),
            (fits(self.repair_memory), "repair_memory", whole_append),
            (self.drive_reads > 0, "drive_reads", "must not be 0"),
            (self.open_logs > 0, "open_logs", "must not be 0"),
            (
                self.open_index_files >= 8,
                "open_index_files",
                "must be 8 or more",
            ),
            (
                (1..=99).contains(&self.full_percent),
                "full_percent",
                "must be 1 to 99",
            ),
            (
                (1..=90).contains(&self.compact_waste_percent),
                "compact_waste_percent",
                "must be 1 to 90",
            ),
            (self.compact_rate.get() > 0, "compact_rate", "must not be 0"),
            (
                self.compact_rate_busy.get() > 0,
                "compact_rate_busy",
                "must not be 0",
            ),
            (
                !self.compact_interval.is_zero(),
                "compact_interval",
                "must not be 0",
            ),
            (
                !self.scrub_period.is_zero(),
                "scrub_period",
                "must not be 0",
            ),
            (
                (1..=self.scrub_rate_max.get()).contains(&self.scrub_rate_min.get()),
                "scrub_rate_min",
                "must be 1 to scrub_rate_max",
            ),
            (self.compact_drives > 0, "compact_drives", "must not be 0"),
            (
                !self.append_deadline.is_zero(),
                "append_deadline",
                "must not be 0",
            ),
            (
                !self.read_deadline.is_zero(),
                "read_deadline",
                "must not be 0",
            ),
            (!self.heartbeat.is_zero(), "heartbeat", "must not be 0"),
            (
                self.quick_latency < self.slow_latency,
                "quick_latency",
                "must be below slow_latency",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, name, reason)) => Err(SettingsError { name, reason }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_nonsense_is_named() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let error = Settings {
            full_percent: 100,
            ..Settings::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(error.to_string(), "setting full_percent: must be 1 to 99");
    }
}
