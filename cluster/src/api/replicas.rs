//! Replicas of the groups: where they are, and where they are on their way to (PROTOCOLS 1).

use std::collections::{BTreeMap, BTreeSet};

use enfilade_placement::{EnclosureId, IntentId, PartitionId};
use serde::{Deserialize, Serialize};

use super::root::RootView;

/// A durable order to the leader of a group: bring its voters to `to`. It may be carried out in
/// part, and again, by any leader, until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaChange {
    /// Its id, never given again; later ones are greater.
    pub id: IntentId,
    /// The group.
    pub group: PartitionId,
    /// The replicas before, in order of their ids.
    pub from: Vec<EnclosureId>,
    /// The replicas afterwards, in order of their ids.
    pub to: Vec<EnclosureId>,
    /// All enclosures where this change, or one that it took the place of, may have made something.
    pub touched: BTreeSet<EnclosureId>,
}

/// The replicas of all groups, beside those that partitions name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replicas {
    /// Those of the root group, in order of their ids.
    pub root: Vec<EnclosureId>,
    /// The last change of the root group's.
    pub root_change: IntentId,
    /// Changes that are under way.
    pub changes: BTreeMap<PartitionId, ReplicaChange>,
    /// Replicas that have left their group, and whose process has yet to clear what they held. None
    /// of that group comes to their enclosure before. With the change by which they left.
    pub leftovers: BTreeMap<(PartitionId, EnclosureId), IntentId>,
    /// No group is to have more than this; 0: as many as the profile asks for.
    pub most: u32,
}

impl RootView {
    /// The replicas of a group, but for a change that is under way; none of a group that is not
    /// known.
    pub fn replicas_of(&self, group: PartitionId) -> &[EnclosureId] {
        if group == PartitionId::ROOT {
            return &self.replicas.root;
        }
        let partition = self.partitions.get(&group);
        partition.map_or(&[], |partition| partition.replicas.as_slice())
    }

    /// The replicas that a group has or is to have, and the last change that says so.
    pub fn placed(&self, group: PartitionId) -> (&[EnclosureId], IntentId) {
        if let Some(change) = self.replicas.changes.get(&group) {
            return (&change.to, change.id);
        }
        let partition = self.partitions.get(&group);
        let last = match group {
            PartitionId::ROOT => self.replicas.root_change,
            _ => partition.map_or(IntentId::new(0), |partition| partition.change),
        };
        (self.replicas_of(group), last)
    }

    /// All groups: the root group, and the partitions.
    pub fn groups(&self) -> impl Iterator<Item = PartitionId> + '_ {
        std::iter::once(PartitionId::ROOT).chain(self.partitions.keys().copied())
    }
}
