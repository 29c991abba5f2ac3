//! What the side rows of a partition and its references hold. Final formats, as the records are.

use enfilade_placement::{BlobId, Epoch, IntentId, PartitionId, Stamp, UploadId};
use serde::{Deserialize, Serialize};

use crate::api::command::{GroupTime, KeyReply, Outcome, Versioning};
use crate::api::encoding::encode;
use crate::api::key::RowPrefix;
use crate::partition::keys::{Kind, Side};
use crate::rows::{Rows, RowsError, Table, Txn};
use crate::typed;

/// The range of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    /// Its version.
    pub(super) epoch: Epoch,
    /// The first row key.
    pub(super) start: RowPrefix,
    /// The first row key after it.
    pub(super) end: Option<RowPrefix>,
}

impl Range {
    /// Whether the rows that begin with `row` are in it.
    pub(super) fn holds(&self, row: &RowPrefix) -> bool {
        *row >= self.start && self.end.as_ref().is_none_or(|end| row < end)
    }

    /// Whether some rows that begin with `row` can be in it.
    pub(super) fn touches(&self, row: &RowPrefix) -> bool {
        let begins = self.end.as_ref().is_none_or(|end| row < end);
        begins
            && row
                .after()
                .is_none_or(|after| after.as_slice() > self.start.as_bytes())
    }

    /// A span of rows of a keyed table, cut to this range.
    pub(super) fn cut(&self, (from, to): typed::Span) -> typed::Span {
        let end = self.end.as_ref().map(|end| end.as_bytes().to_vec());
        let to = match (to, end) {
            (Some(to), Some(end)) => Some(to.min(end)),
            (to, end) => to.or(end),
        };
        (from.max(self.start.as_bytes().to_vec()), to)
    }
}

/// Partition time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Clock {
    /// The time.
    pub(super) now: GroupTime,
    /// All rows that were to go before this are gone.
    pub(super) expired: GroupTime,
}

/// The settings of a bucket, as this partition applies them (PROTOCOLS 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Their version.
    pub(super) revision: u64,
    /// How versions are kept. Never off again once it was on.
    pub(super) versioning: Versioning,
    /// Whether writes are refused.
    pub(super) fenced: bool,
}

/// The result of a request (PROTOCOLS 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredResult {
    /// When it goes.
    pub(super) until: GroupTime,
    /// What the first one came to.
    pub(super) outcome: Outcome,
}

/// The result of a completed upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Completed {
    /// When it goes.
    pub(super) until: GroupTime,
    /// What the completion answered.
    pub(super) reply: KeyReply,
}

/// A condemned blob (PROTOCOLS 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Condemned {
    /// When it goes.
    pub(super) until: GroupTime,
}

/// A dead blob in one volume (PROTOCOLS 20).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Garbage {
    /// The blob.
    pub(super) blob: BlobId,
    /// When it died.
    pub(super) since: GroupTime,
    /// The members that have yet to drop it, a bit each.
    pub(super) pending: u128,
    /// The key that it belonged to.
    pub(super) row: RowPrefix,
}

/// What references a striped blob: exactly one thing does (PROTOCOLS 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Owner {
    /// A version.
    Record {
        /// Which.
        stamp: Stamp,
        /// Where the blob's bytes begin in the object.
        offset: u64,
    },
    /// A part of an open upload.
    Part {
        /// The upload.
        upload: UploadId,
        /// The part's number.
        number: u16,
    },
}

/// How far a partition is divided for a split (PROTOCOLS 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Division {
    /// The split.
    pub(super) split: IntentId,
    /// The partition that gets what is from a row on.
    pub(super) child: PartitionId,
    /// That row.
    pub(super) at: RowPrefix,
    /// How far expiry had come when it began: no copy goes before that.
    pub(super) expired: GroupTime,
    /// The key of the last row that was copied; empty: none was.
    pub(super) copied: Vec<u8>,
    /// Whether all were copied that were there when it began.
    pub(super) whole: bool,
}

impl Division {
    /// The kinds of side rows that follow their keys, in order. All go by themselves.
    pub(super) const KINDS: [Kind; 3] = [Kind::Result, Kind::Condemned, Kind::Completed];

    /// Whether the child gets a side row.
    fn takes(&self, key: &[u8]) -> bool {
        let kind = key.get(4).copied();
        let of_key = Self::KINDS.iter().any(|one| kind == Some(*one as u8));
        of_key && key.get(5..).is_some_and(|rest| rest >= self.at.as_bytes())
    }
}

/// How far the partition is divided; none when it is not to be.
pub(super) fn division(rows: &dyn Rows, side: Side) -> Result<Option<Division>, RowsError> {
    typed::load(rows, Table::Side, &side.single(Kind::Division))
}

/// Writes the copy of a side row that a child gets.
pub(super) fn child_copy(
    txn: &mut Txn<'_>,
    child: PartitionId,
    until: GroupTime,
    key: &[u8],
    value: Vec<u8>,
) {
    let child = Side::new(child);
    txn.put(Table::Side, child.expiry(until, key), Vec::new());
    txn.put(Table::Side, child.of(key), value);
}

/// The range; none when the partition was not created here.
pub(super) fn range(rows: &dyn Rows, side: Side) -> Result<Option<Range>, RowsError> {
    typed::load(rows, Table::Side, &side.single(Kind::Range))
}

/// The time.
pub(super) fn clock(rows: &dyn Rows, side: Side) -> Result<Clock, RowsError> {
    let clock = typed::load(rows, Table::Side, &side.single(Kind::Clock))?;
    Ok(clock.unwrap_or_default())
}

/// The number that a counter gave last; 0 when it gave none.
pub(super) fn counter(rows: &dyn Rows, side: Side, kind: Kind) -> Result<u64, RowsError> {
    let last = typed::load(rows, Table::Side, &side.single(kind))?;
    Ok(last.unwrap_or_default())
}

/// Takes the next number of a counter.
pub(super) fn count(txn: &mut Txn<'_>, side: Side, kind: Kind) -> Result<u64, RowsError> {
    let next = counter(txn, side, kind)? + 1;
    typed::store(txn, Table::Side, side.single(kind), &next);
    Ok(next)
}

/// Writes a row that goes when partition time has passed `until`; for the child, too, when the
/// partition is being divided.
pub(super) fn store_until<T: Serialize>(
    txn: &mut Txn<'_>,
    side: Side,
    key: Vec<u8>,
    until: GroupTime,
    value: &T,
) -> Result<(), RowsError> {
    if let Some(division) = division(txn, side)?.filter(|division| division.takes(&key)) {
        child_copy(txn, division.child, until, &key, encode(value));
    }
    txn.put(Table::Side, side.expiry(until, &key), Vec::new());
    typed::store(txn, Table::Side, key, value);
    Ok(())
}
