//! The state of the groups of this replica, for operators and metrics.

use std::collections::BTreeMap;

use enfilade_placement::{EnclosureId, Epoch, PartitionId};

use super::MetadataService;
use crate::api::query::{GroupStatus, Usage};
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
            learners: state
                .membership_config
                .membership()
                .learner_ids()
                .filter_map(enclosure)
                .collect(),
            usage: self.usage_of(group),
            epoch,
            votes: self.0.groups.may_vote(group),
        }
    }

    /// What all buckets hold in a partition, if this replica leads it.
    fn usage_of(&self, group: &Group) -> Usage {
        let mut sum = Usage::default();
        if group.id == PartitionId::ROOT || !group.leads() {
            return sum;
        }
        let usages = group
            .with_rows(|rows| partition::read::usages(rows, group.id).map_err(super::read::failed));
        for (_, usage) in usages.unwrap_or_default() {
            sum += usage;
        }
        sum
    }

    /// What the buckets hold in the partitions that this replica leads.
    fn gauge_buckets(&self) {
        let Ok(view) = self.local_view() else { return };
        let names: BTreeMap<_, _> = view.buckets.values().map(|b| (b.id, &b.name)).collect();
        let mut sums: BTreeMap<&str, Usage> = BTreeMap::new();
        for group in self.0.groups.all() {
            if group.id == PartitionId::ROOT || !group.leads() {
                continue;
            }
            let usages = group.with_rows(|rows| {
                partition::read::usages(rows, group.id).map_err(super::read::failed)
            });
            for (bucket, usage) in usages.unwrap_or_default() {
                if let Some(name) = names.get(&bucket) {
                    *sums.entry(name).or_default() += usage;
                }
            }
        }
        // Buckets that are gone, and partitions that another leads now.
        metrics().bucket_objects.reset();
        metrics().bucket_bytes.reset();
        for (name, usage) in sums {
            let bytes = usage.bytes + usage.older_bytes + usage.part_bytes;
            let label = [name];
            let objects = metrics().bucket_objects.with_label_values(&label);
            objects.set(usage.objects);
            metrics().bucket_bytes.with_label_values(&label).set(bytes);
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
            if group.leads() {
                let members = state.membership_config.membership();
                let voters = i64::try_from(members.voter_ids().count()).unwrap_or(i64::MAX);
                metrics.group_voters.with_label_values(&label).set(voters);
            } else {
                let _ = metrics.group_voters.remove_label_values(&label);
            }
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
        self.gauge_buckets();
        if let Some(rocks) = &self.0.rocks {
            let [memtables, cache, tables] = rocks.sizes();
            metrics().memtable_bytes.set(signed(memtables));
            metrics().block_cache_bytes.set(signed(cache));
            metrics().table_bytes.set(signed(tables));
        }
    }
}
