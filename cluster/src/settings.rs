//! What an operator or a test may set.

use std::path::PathBuf;
use std::time::Duration;

use enfilade_placement::liveness;

use crate::partition::GARBAGE_GRACE_MS;

/// Settings of the metadata service of one process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of its database.
    pub dir: PathBuf,
    /// RocksDB.
    pub storage: StorageSettings,
    /// Raft.
    pub raft: RaftSettings,
    /// Volumes and time.
    pub keeper: KeeperSettings,
    /// After how much silence an enclosure is suspect, down and out.
    pub liveness: liveness::Settings,
}

/// RocksDB: one instance a process, with one cache and one budget of write buffers.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// Bytes of the block cache; index, filter and write buffers count against it.
    pub block_cache: usize,
    /// Bytes of all write buffers together.
    pub write_buffers: usize,
    /// Bytes of one write buffer, before it is flushed.
    pub write_buffer: usize,
    /// Open files.
    pub open_files_max: i32,
    /// Whether the log is synced before an ack. Only tests may turn it off: P1 depends on it.
    pub sync: bool,
}

/// Raft.
#[derive(Debug, Clone)]
pub struct RaftSettings {
    /// The shortest silence of a leader after which a replica stands for election.
    pub election_min: Duration,
    /// The longest; also the lease of a leader.
    pub election_max: Duration,
    /// How often a leader shows itself.
    pub heartbeat: Duration,
    /// The longest wait for the answer to one message.
    pub rpc: Duration,
    /// A position is taken, up to which the log may be purged, after so many entries.
    pub snapshot_entries: u64,
    /// Entries that stay in the log behind that position, for replicas that lag a little.
    pub keep_entries: u64,
    /// Bytes of log after which a position is taken early.
    pub snapshot_bytes: u64,
    /// Bytes of recent entries that are kept in memory for each group.
    pub cache_bytes: usize,
}

/// Volumes and time.
#[derive(Debug, Clone)]
pub struct KeeperSettings {
    /// How often the leaders look after their groups.
    pub period: Duration,
    /// A replica of the root group that has applied nothing for so long asks others for the root
    /// state: more than a minute, in which its leader tells it the time.
    pub root_quiet: Duration,
    /// The longest that moves of shards wait for replicas to leave what is given up or to be
    /// emptied (PROTOCOLS 1).
    pub replicas_first: Duration,
    /// How often a process that leads more groups than its share gives one away; one that it has
    /// led for less than three times as long stays.
    pub leaders: Duration,
    /// How often a leader proposes the time that has passed.
    pub tick: Duration,
    /// How often the volumes are looked after.
    pub volumes: Duration,
    /// How long a suspended volume is left alone before it may be offered again.
    pub suspended_min: Duration,
    /// How long a suspended volume waits for its members before it is sealed (PROTOCOLS 14).
    pub suspended_max: Duration,
    /// New volumes a minute and profile, beyond the number that is to be open (PROTOCOLS 14).
    pub new_volumes_a_minute: u32,
    /// How long a bucket may be in deletion before the root leader takes it up (PROTOCOLS 6).
    pub deletion_max: Duration,
    /// How long a drive that is gone or failing is waited for before what it held is rebuilt
    /// elsewhere (PROTOCOLS 23).
    pub drive_out: Duration,
    /// The least time between two plans of moves, unless drives come or go.
    pub plans: Duration,
    /// The least time between two plans that only make drives evenly full, unless drives come or
    /// go: what is written meanwhile goes to the emptiest anyhow, and may make up for it.
    pub evenings: Duration,
    /// Moves that are under way at once, in all, and on one drive.
    pub moves_at_once: u32,
    /// As above.
    pub moves_per_drive: u32,
    /// How long a dead blob waits before members drop it (PROTOCOLS 20).
    pub garbage_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("meta"),
            storage: StorageSettings::default(),
            raft: RaftSettings::default(),
            keeper: KeeperSettings::default(),
            liveness: liveness::Settings::default(),
        }
    }
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            block_cache: 64 << 20,
            write_buffers: 64 << 20,
            write_buffer: 16 << 20,
            open_files_max: 256,
            sync: true,
        }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            election_min: Duration::from_millis(1500),
            election_max: Duration::from_millis(3000),
            heartbeat: Duration::from_millis(300),
            rpc: Duration::from_secs(2),
            snapshot_entries: 100_000,
            keep_entries: 20_000,
            snapshot_bytes: 256 << 20,
            cache_bytes: 8 << 20,
        }
    }
}

impl Default for KeeperSettings {
    fn default() -> Self {
        Self {
            period: Duration::from_millis(500),
            root_quiet: Duration::from_secs(90),
            replicas_first: Duration::from_secs(120),
            leaders: Duration::from_secs(10),
            tick: Duration::from_secs(5),
            volumes: Duration::from_secs(1),
            suspended_min: Duration::from_secs(5),
            suspended_max: Duration::from_secs(600),
            new_volumes_a_minute: 60,
            deletion_max: Duration::from_secs(30),
            drive_out: Duration::from_secs(600),
            plans: Duration::from_secs(5),
            evenings: Duration::from_secs(120),
            moves_at_once: 256,
            moves_per_drive: 2,
            garbage_grace: Duration::from_millis(GARBAGE_GRACE_MS),
        }
    }
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {name}: {reason}")]
pub struct SettingsError {
    name: &'static str,
    reason: &'static str,
}

impl Settings {
    /// Checks that the settings can work together.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let raft = &self.raft;
        let wrong = |name, reason| Err(SettingsError { name, reason });
        if raft.heartbeat.is_zero() || raft.heartbeat * 2 > raft.election_min {
            return wrong(
                "raft.heartbeat",
                "must be positive, and at most half of election_min",
            );
        }
        if raft.election_min >= raft.election_max {
            return wrong("raft.election_max", "must be longer than election_min");
        }
        if raft.rpc.is_zero() {
            return wrong("raft.rpc", "must be positive");
        }
        if raft.snapshot_entries == 0 {
            return wrong("raft.snapshot_entries", "must be positive");
        }
        if self.storage.write_buffers > self.storage.block_cache {
            return wrong(
                "storage.write_buffers",
                "count against block_cache: must not exceed it",
            );
        }
        if self.keeper.period.is_zero() || self.keeper.tick.is_zero() {
            return wrong("keeper.period", "must be positive");
        }
        if self.keeper.tick > Duration::from_secs(60) {
            return wrong("keeper.tick", "must be at most a minute");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_work() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn a_heartbeat_as_slow_as_an_election_is_refused_by_name() {
        let mut settings = Settings::default();
        settings.raft.heartbeat = settings.raft.election_min;
        let error = settings.validate().unwrap_err();
        assert!(
            error.to_string().starts_with("setting raft.heartbeat: "),
            "{error}"
        );
    }
}
