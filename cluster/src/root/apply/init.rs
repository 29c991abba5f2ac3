//! The birth of a cluster (PROTOCOLS 10).

use enfilade_placement::{Epoch, Incarnation, IntentId, PartitionId};

use crate::api::key::RowPrefix;
use crate::api::moves::PlanNote;
use crate::api::root::{Birth, Partition, RootReply};
use crate::api::tuning::Tuning;
use crate::root::keys::{self, Kind};
use crate::root::state::{Head, NextIds, Pace};
use crate::rows::{Table, Txn};
use crate::typed;

/// The level of a new cluster: what this build writes.
const LEVEL: u32 = 1;

/// The first partition covers the whole key space.
const FIRST_PARTITION: PartitionId = PartitionId::new(1);

pub(in crate::root) fn apply(txn: &mut Txn<'_>, birth: &Birth) -> RootReply {
    let mut replicas = birth.replicas.clone();
    replicas.sort_unstable();
    let head = Head {
        revision: 1,
        cluster: birth.cluster,
        incarnation: Incarnation::new(1),
        level: LEVEL,
        profile: birth.profile,
        volume_target: birth.volume_target,
        open_volumes: birth.open_volumes,
        next: NextIds {
            enclosure: 1,
            volume: 1,
            bucket: 1,
            partition: FIRST_PARTITION.get() + 1,
            intent: 1,
        },
        sealed_volumes: 0,
        ledger_rows: 0,
        moves_paused: false,
        rebuilt_bytes: 0,
        moved_bytes: 0,
        plan: PlanNote::default(),
        work: Pace::default(),
        repair: Pace::default(),
        tuning: Tuning::default(),
        root_replicas: (replicas.clone(), IntentId::new(0)),
        replicas_most: 0,
    };
    let partition = Partition {
        id: FIRST_PARTITION,
        epoch: Epoch::FIRST,
        start: RowPrefix::default(),
        end: None,
        replicas,
        change: IntentId::new(0),
    };
    typed::store(txn, Table::Root, keys::single(Kind::Head), &head);
    let key = keys::partition(partition.id);
    typed::store(txn, Table::Root, key, &partition);
    RootReply::Done
}
