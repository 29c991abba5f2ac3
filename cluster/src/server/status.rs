//! The state of the groups of this replica, for operators and metrics.

use enfilade_placement::{EnclosureId, Epoch, PartitionId};

use super::MetadataService;
use crate::api::query::GroupStatus;
use crate::metrics::metrics;
use crate::partition;
use crate::raft::groups::Group;

fn enclosure(id: u64) -> Option<EnclosureId> {
    u32::try_from(id).ok().map(EnclosureId::new)
}

impl MetadataService {
    pub(super) fn statuses(&self) -> Vec<GroupStatus> {
        self.0
            .groups
            .all()
            .iter()
            .map(|group| self.status(group))
            .collect()
    }

    fn status(&self, group: &Group) -> GroupStatus {
        let state = group.metrics();
        let info = group.with_rows(|rows| Ok(partition::read::info(rows, group.id).ok().flatten()));
        let epoch = match (group.id, info) {
            (PartitionId::ROOT, _) => Epoch::FIRST,
            (_, Ok(Some(info))) => info.epoch,
            _ => Epoch::default(),
        };
        GroupStatus {
            group: group.id,
            replica: self.0.replica,
            leader: state.current_leader.and_then(enclosure),
            term: state.current_term,
            applied: state.last_applied.map_or(0, |applied| applied.index),
            voters: state
                .membership_config
                .membership()
                .voter_ids()
                .filter_map(enclosure)
                .collect(),
            epoch,
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn gauge(&self) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for group in self.0.groups.all() {
            let (id, state) = (group.id.to_string(), group.metrics());
            let label = [id.as_str()];
            let metrics = metrics();
            metrics
                .group_leader
                .with_label_values(&label)
                .set(i64::from(group.leads()));
            metrics
                .group_term
                .with_label_values(&label)
                .set(signed(state.current_term));
            let applied = state.last_applied.map_or(0, |applied| applied.index);
            metrics
                .group_applied
                .with_label_values(&label)
                .set(signed(applied));
            let last = state.last_log_index.unwrap_or(0);
            metrics
                .group_log
                .with_label_values(&label)
                .set(signed(last));
        }
        if let Some(rocks) = &self.0.rocks {
            let [memtables, cache, tables] = rocks.sizes();
            metrics().memtable_bytes.set(signed(memtables));
            metrics().block_cache_bytes.set(signed(cache));
            metrics().table_bytes.set(signed(tables));
        }
    }
}
