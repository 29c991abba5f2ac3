//! What the side rows of a partition and its references hold. Final formats, as the records are.

use enfilade_placement::{BlobId, Epoch, Stamp, UploadId};
use serde::{Deserialize, Serialize};

use crate::api::command::{GroupTime, KeyReply, Outcome, Versioning};
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

/// Writes a row that goes when partition time has passed `until`.
pub(super) fn store_until<T: Serialize>(
    txn: &mut Txn<'_>,
    side: Side,
    key: Vec<u8>,
    until: GroupTime,
    value: &T,
) {
    txn.put(Table::Side, side.expiry(until, &key), Vec::new());
    typed::store(txn, Table::Side, key, value);
}
