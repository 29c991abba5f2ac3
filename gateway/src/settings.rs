//! What an operator may set about the gateway. Every default stands here, with its reason.

use std::time::Duration;

use enfilade_placement::Profile;

/// Settings of the data path and of the view of the cluster that it acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSettings {
    /// Bodies up to so many bytes travel with their record (PROTOCOLS 17).
    pub inline_limit: u64,
    /// Bodies up to so many bytes may use the shortened code (PROTOCOLS 17); never above the unit.
    pub small_limit: u64,
    /// Bytes that a body in the shortened code may take more, for each drive that is spared: about
    /// what a drive writes in the CPU time that it costs to have one take part (`enfilade bench
    /// small`, docs/performance.md).
    pub small_spared: u64,
    /// Bytes of fragments in one append to one member: one log record and one sync's worth.
    pub run_bytes: u64,
    /// Runs of one body that are appended at the same time.
    pub runs_in_flight: usize,
    /// The byte budget of all bodies that are written at the moment (PROTOCOLS 16).
    pub write_budget: u64,
    /// The byte budget of all reads.
    pub read_budget: u64,
    /// How long a request waits for budget before it is refused.
    pub budget_wait: Duration,
    /// A run of a slow body is appended unfinished after so long.
    pub run_fill_time: Duration,
    /// A body that has not ended by then is broken off (PROTOCOLS 19).
    pub body_time_max: Duration,
    /// A member that has not acked an append by then is late (PROTOCOLS 14), whatever is usual.
    pub append_deadline: Duration,
    /// The least that a member is given for an append, however quick they are usually.
    pub append_deadline_min: Duration,
    /// How long a body waits for a volume that takes it: until an enclosure that died is known to
    /// be down (10 s), and volumes without it are open.
    pub volume_wait: Duration,
    /// How long a volume or member that failed is passed over.
    pub shun_time: Duration,
    /// A member that has not answered a read by then counts as absent.
    pub read_deadline: Duration,
    /// Bytes of fragments that one member is asked for at once.
    pub read_bytes: u64,
    /// Groups of stripes of one read that are fetched ahead of the client.
    pub groups_ahead: usize,
    /// When parity is asked for beside a late member, before latencies are known.
    pub hedge_start: Duration,
    /// The least time after which parity is asked for.
    pub hedge_min: Duration,
    /// The most time after which parity is asked for.
    pub hedge_max: Duration,
}

impl Default for PathSettings {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            inline_limit: 16 << 10,
            small_limit: 64 << 10,
            small_spared: 16 << 10,
            run_bytes: MIB,
            runs_in_flight: 2,
            // 256 MiB a process, of which reads have a quarter, and Raft and repair an eighth.
            write_budget: 160 * MIB,
            read_budget: 64 * MIB,
            budget_wait: Duration::from_secs(10),
            run_fill_time: Duration::from_secs(1),
            body_time_max: Duration::from_secs(12 * 60 * 60),
            append_deadline: Duration::from_secs(10),
            append_deadline_min: Duration::from_secs(2),
            volume_wait: Duration::from_secs(20),
            shun_time: Duration::from_secs(5),
            read_deadline: Duration::from_secs(10),
            read_bytes: MIB / 2,
            groups_ahead: 2,
            hedge_start: Duration::from_millis(300),
            hedge_min: Duration::from_millis(100),
            hedge_max: Duration::from_secs(2),
        }
    }
}

impl PathSettings {
    /// Up to so many bytes a body is kept in one data fragment, if not inline (PROTOCOLS 17). The
    /// shortened code takes `m (k-1) / k` bytes more for each byte, and `k - 1` drives fewer.
    pub(crate) fn small_limit_of(&self, profile: Profile) -> u64 {
        let pays = self.small_spared * profile.k() as u64 / profile.m().max(1) as u64;
        self.small_limit.min(pays).min(u64::from(profile.unit()))
    }
}

/// Settings of the view of the root state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewSettings {
    /// How long one question for changes waits at the metadata service.
    pub poll: Duration,
    /// The pause after a question that failed.
    pub retry: Duration,
    /// Requests are refused when the view was not confirmed for so long (PROTOCOLS 6).
    pub lease: Duration,
    /// How many volumes that are not in the view are remembered: 64 Ki of them are about 16 MiB.
    pub volumes_max: usize,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            retry: Duration::from_millis(200),
            lease: Duration::from_secs(5),
            volumes_max: 64 << 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_the_shortened_code_follows_from_the_profile() {
        let limit = |k, m| {
            let profile = Profile::new(k, m).expect("a profile");
            PathSettings::default().small_limit_of(profile)
        };
        assert_eq!(limit(4, 2), 32 << 10);
        assert_eq!(limit(8, 3), (128 << 10) / 3);
        assert_eq!(limit(2, 2), 16 << 10);
        assert_eq!(limit(20, 4), 64 << 10);
    }
}
