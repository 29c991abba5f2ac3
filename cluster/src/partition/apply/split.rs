//! Divides a partition in two (PROTOCOLS 5).
//!
//! First what goes by itself after a time is written for the child, too; then older rows of that
//! kind are copied, a bounded number at a time; then the range is given away at once. What the
//! parent has of these rows goes by its time. Dead blobs and counts stay with the parent.

use std::ops::ControlFlow;

use enfilade_placement::{BucketId, IntentId, PartitionId};

use crate::api::key::RowPrefix;
use crate::partition::keys::{Kind, Side};
use crate::partition::state::{
    self, Clock, Completed, Condemned, Division, Range, StoredResult, child_copy,
};
use crate::rows::{Row, Rows as _, RowsError, Table, Txn};
use crate::typed;

/// Rows that one command copies.
pub(in crate::partition) const COPIED_MAX: usize = 5_000;

/// Begins; nothing when it has begun, or the range does not hold the row inside.
pub(in crate::partition) fn divide(
    txn: &mut Txn<'_>,
    side: Side,
    split: IntentId,
    child: PartitionId,
    at: &RowPrefix,
) -> Result<(), RowsError> {
    let Some(range) = state::range(txn, side)? else {
        return Ok(());
    };
    let inside = range.holds(at) && *at > range.start;
    if !inside || state::division(txn, side)?.is_some() {
        return Ok(());
    }
    let division = Division {
        split,
        child,
        at: at.clone(),
        expired: state::clock(txn, side)?.expired,
        copied: Vec::new(),
        whole: false,
    };
    typed::store(txn, Table::Side, side.single(Kind::Division), &division);
    Ok(())
}

/// Copies further rows; nothing when all are.
pub(in crate::partition) fn copy(
    txn: &mut Txn<'_>,
    side: Side,
    split: IntentId,
) -> Result<(), RowsError> {
    let division = state::division(txn, side)?;
    let Some(mut division) = division.filter(|one| one.split == split && !one.whole) else {
        return Ok(());
    };
    let mut left = COPIED_MAX;
    for kind in Division::KINDS {
        for (key, value) in rows_after(txn, side, kind, &division, left)? {
            let until = match kind {
                Kind::Result => typed::decode::<StoredResult>(Table::Side, &key, &value)?.until,
                Kind::Completed => typed::decode::<Completed>(Table::Side, &key, &value)?.until,
                _ => typed::decode::<Condemned>(Table::Side, &key, &value)?.until,
            };
            child_copy(txn, division.child, until, &key, value);
            division.copied = key;
            left -= 1;
        }
    }
    division.whole = left > 0;
    typed::store(txn, Table::Side, side.single(Kind::Division), &division);
    Ok(())
}

/// Rows of a kind of keys that the child gets, after what was copied, in order.
fn rows_after(
    txn: &Txn<'_>,
    side: Side,
    kind: Kind,
    division: &Division,
    limit: usize,
) -> Result<Vec<Row>, RowsError> {
    let (from, to) = side.of_kind_from(kind, &division.at);
    let from = match division.copied.as_slice() {
        [] => from,
        copied => from.max([copied, &[0]].concat()),
    };
    let mut rows = Vec::new();
    if limit == 0 || to.as_ref().is_some_and(|to| from >= *to) {
        return Ok(rows);
    }
    txn.scan(Table::Side, &from, to.as_deref(), &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        match rows.len() < limit {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(rows)
}

/// Gives the child its range, once all was copied.
pub(in crate::partition) fn split(
    txn: &mut Txn<'_>,
    side: Side,
    split: IntentId,
) -> Result<(), RowsError> {
    let division = state::division(txn, side)?;
    let division = division.filter(|one| one.split == split && one.whole);
    let (Some(division), Some(range)) = (division, state::range(txn, side)?) else {
        return Ok(());
    };
    let (child, epoch) = (Side::new(division.child), range.epoch.next());
    let given = Range {
        epoch,
        start: division.at.clone(),
        end: range.end,
    };
    let kept = Range {
        epoch,
        start: range.start,
        end: Some(division.at),
    };
    for kind in [Kind::Bucket, Kind::Aborting] {
        let (from, to) = side.all(kind);
        let mut copies = Vec::new();
        txn.scan(Table::Side, &from, to.as_deref(), &mut |key, value| {
            let bucket = key.get(5..).and_then(|id| id.try_into().ok());
            let bucket =
                bucket.map(|id| RowPrefix::of_bucket(BucketId::new(u64::from_be_bytes(id))));
            if bucket.is_some_and(|bucket| given.touches(&bucket)) {
                copies.push((child.of(key), value.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
        for (key, value) in copies {
            txn.put(Table::Side, key, value);
        }
    }
    let clock = Clock {
        now: state::clock(txn, side)?.now,
        expired: division.expired,
    };
    let stamp = state::counter(txn, side, Kind::Stamp)?;
    typed::store(txn, Table::Side, child.single(Kind::Range), &given);
    typed::store(txn, Table::Side, child.single(Kind::Clock), &clock);
    typed::store(txn, Table::Side, child.single(Kind::Stamp), &stamp);
    typed::store(txn, Table::Side, child.single(Kind::Sequence), &0u64);
    typed::store(txn, Table::Side, side.single(Kind::Range), &kept);
    txn.delete(Table::Side, side.single(Kind::Division));
    Ok(())
}
