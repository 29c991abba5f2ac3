//! Members dropped dead blobs (PROTOCOLS 20).

use std::collections::BTreeSet;

use enfilade_placement::VolumeId;

use crate::api::garbage::GarbageAck;
use crate::partition::keys::{Kind, Side};
use crate::partition::state::{self, Garbage};
use crate::rows::{RowsError, Table, Txn};
use crate::typed;

/// Clears the members' bits; an entry without any goes.
pub(in crate::partition) fn apply(
    txn: &mut Txn<'_>,
    side: Side,
    acks: &[GarbageAck],
) -> Result<(), RowsError> {
    let mut acked: BTreeSet<(VolumeId, u8)> = BTreeSet::new();
    for ack in acks {
        let key = side.garbage(ack.volume, ack.sequence);
        let Some(mut garbage) = typed::load::<Garbage>(txn, Table::Side, &key)? else {
            continue;
        };
        for member in ack.members.iter().filter(|member| bit(**member) != 0) {
            garbage.pending &= !bit(*member);
            acked.insert((ack.volume, *member));
        }
        if garbage.pending == 0 {
            txn.delete(Table::Side, key);
        } else {
            typed::store(txn, Table::Side, key, &garbage);
        }
    }
    let volumes: BTreeSet<VolumeId> = acked.iter().map(|(volume, _)| *volume).collect();
    for (volume, member) in acked {
        raise_floor(txn, side, volume, member)?;
    }
    for volume in volumes {
        if typed::is_empty(txn, Table::Side, &side.garbage_after(volume, 0))? {
            for key in typed::keys(txn, Table::Side, &side.floors(volume), usize::MAX)? {
                txn.delete(Table::Side, key);
            }
        }
    }
    Ok(())
}

/// The bit of a member; none for one that no profile has.
pub(in crate::partition) const fn bit(member: u8) -> u128 {
    match 1u128.checked_shl(member as u32) {
        Some(bit) => bit,
        None => 0,
    }
}

/// Moves the number below which the member has acked everything, so that questions for one member
/// pass over what others have yet to ack only once.
fn raise_floor(
    txn: &mut Txn<'_>,
    side: Side,
    volume: VolumeId,
    member: u8,
) -> Result<(), RowsError> {
    let key = side.floor(volume, member);
    let old: u64 = typed::load(txn, Table::Side, &key)?.unwrap_or_default();
    let mut first = None;
    let span = side.garbage_after(volume, old);
    typed::scan(txn, Table::Side, &span, &mut |key, value| {
        let garbage: Garbage = typed::decode(Table::Side, key, value)?;
        if garbage.pending & bit(member) != 0 {
            first = Side::garbage_id(key);
        }
        Ok(typed::go_on_while(first.is_none()))
    })?;
    let floor = match first {
        Some((_, sequence)) => sequence - 1,
        None => state::counter(txn, side, Kind::Sequence)?,
    };
    if floor > old {
        typed::store(txn, Table::Side, key, &floor);
    }
    Ok(())
}
