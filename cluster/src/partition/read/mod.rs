//! Questions to a partition: pure reads of its rows.
//!
//! Callers check the route first, with [`check_range`] on the same snapshot of the rows: the other
//! functions answer from whatever rows there are. Those that take a group look only at rows in its
//! range.

mod fold;
mod list;
mod merge;
mod uploads;
mod versions;

use bytes::Bytes;
use enfilade_placement::{BlobId, BucketId, Epoch, IntentId, PartitionId, Stamp};

use crate::api::command::GroupTime;
use crate::api::garbage::{GarbageEntry, GarbageQuery};
use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::{BlobAt, Found, PartsPage, PartsQuery, Usage};
use crate::api::record::{Blob, Content, ObjectRecord, PartRecord, Place, UploadRecord, VersionId};
use crate::partition::apply::ack_garbage::bit;
use crate::partition::content;
use crate::partition::keyed::older_null;
use crate::partition::keys::{self, Kind, Side};
use crate::partition::state::{self, Garbage};
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

pub use list::list;
pub use uploads::uploads;
pub use versions::versions;

/// The most rows, there or removed, that a page looks at: it may end short, also empty, so that
/// its time is bounded whatever was deleted before. A little more than the most entries of a page:
/// to pass over a removed row takes longer than to list one.
pub const VISITED_MAX: usize = 1_500;

/// What a partition is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The version of its range.
    pub epoch: Epoch,
    /// The first row key of its range.
    pub start: RowPrefix,
    /// The first row key after its range; none for the last partition.
    pub end: Option<RowPrefix>,
    /// Partition time (PROTOCOLS 3).
    pub time: GroupTime,
    /// Whether the last tick left work that was due: the next should come soon, also when the
    /// group is idle.
    pub behind: bool,
}

/// The key is not in the partition's range; the epoch that the range has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the route is stale: the partition's epoch is {0}")]
pub struct StaleRoute(pub Epoch);

/// Range, epoch and time of a partition; `None` when it has not been created here.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn info(rows: &dyn Rows, group: PartitionId) -> Result<Option<PartitionInfo>, RowsError> {
    let side = Side::new(group);
    let Some(range) = state::range(rows, side)? else {
        return Ok(None);
    };
    let clock = state::clock(rows, side)?;
    let aborting = !typed::is_empty(rows, Table::Side, &side.all(Kind::Aborting))?;
    Ok(Some(PartitionInfo {
        epoch: range.epoch,
        start: range.start,
        end: range.end,
        time: clock.now,
        behind: aborting || clock.expired < clock.now,
    }))
}

/// The last change of the group's replicas that a leader acted on; 0: none.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn replica_change(rows: &dyn Rows, group: PartitionId) -> Result<IntentId, RowsError> {
    let last = state::counter(rows, Side::new(group), Kind::Replicas)?;
    Ok(IntentId::new(last))
}

/// The split for which a partition is divided, its child, and whether all is copied.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn division(
    rows: &dyn Rows,
    group: PartitionId,
) -> Result<Option<(IntentId, PartitionId, bool)>, RowsError> {
    let division = state::division(rows, Side::new(group))?;
    Ok(division.map(|one| (one.split, one.child, one.whole)))
}

/// Whether the partition holds the rows that begin with `row` (an [`ObjectKey::row_prefix`]).
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn check_range(
    rows: &dyn Rows,
    group: PartitionId,
    row: &RowPrefix,
) -> Result<Result<(), StaleRoute>, RowsError> {
    Ok(match state::range(rows, Side::new(group))? {
        Some(range) if range.holds(row) => Ok(()),
        Some(range) => Err(StaleRoute(range.epoch)),
        None => Err(StaleRoute(Epoch::new(0))),
    })
}

/// As [`crate::api::MetadataClient::object`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn object(
    rows: &dyn Rows,
    at: &ObjectKey,
    version: Option<VersionId>,
) -> Result<Option<Found>, RowsError> {
    let row = at.row_prefix();
    let latest: Option<ObjectRecord> = typed::load(rows, Table::Latest, &keys::latest(&row))?;
    let record = match (latest, version) {
        (Some(latest), None) => Some(latest),
        (Some(latest), Some(VersionId::Stamp(stamp))) if latest.stamp == stamp => Some(latest),
        (Some(latest), Some(VersionId::Null)) if latest.null_version => Some(latest),
        (_, Some(VersionId::Stamp(stamp))) => {
            typed::load(rows, Table::Versions, &keys::version(&row, stamp))?
        }
        (_, Some(VersionId::Null)) => older_null(rows, &row)?,
        (None, None) => {
            let newest = typed::collect(rows, Table::Versions, &keys::all_of(&row), 1)?;
            newest.into_iter().next().map(|(_, marker)| marker)
        }
    };
    let Some(record) = record else {
        return Ok(None);
    };
    let inline = match &record.content {
        Content::Blobs(blobs) => match blobs.as_slice() {
            [blob] if blob.place == Place::Inline => {
                let bytes = inline(rows, at, blob.id)?;
                bytes.ok_or_else(|| {
                    let key = keys::blob(&row, blob.id);
                    typed::broken(Table::Inline, &key, "an object's bytes are not there")
                })?
            }
            _ => Bytes::new(),
        },
        Content::Rows { .. } => Bytes::new(),
    };
    Ok(Some(Found { record, inline }))
}

/// As [`crate::api::MetadataClient::blobs`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn blobs(
    rows: &dyn Rows,
    at: &ObjectKey,
    stamp: Stamp,
    offset: u64,
    limit: usize,
) -> Result<Vec<BlobAt>, RowsError> {
    content::from(rows, &at.row_prefix(), stamp, offset, limit)
}

/// As [`crate::api::MetadataClient::inline`].
///
/// # Errors
/// When rows cannot be read.
pub fn inline(rows: &dyn Rows, at: &ObjectKey, blob: BlobId) -> Result<Option<Bytes>, RowsError> {
    let bytes = rows.get(Table::Inline, &keys::blob(&at.row_prefix(), blob))?;
    Ok(bytes.map(Bytes::from))
}

/// As [`crate::api::MetadataClient::blob`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn blob(rows: &dyn Rows, at: &ObjectKey, blob: BlobId) -> Result<Option<Blob>, RowsError> {
    let row = at.row_prefix();
    let reference = keys::blob(&row, blob);
    match typed::load::<state::Owner>(rows, Table::Blobs, &reference)? {
        Some(owner) => content::of_owner(rows, &row, owner, blob),
        None => Ok(None),
    }
}

/// As [`crate::api::MetadataClient::parts`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn parts(
    rows: &dyn Rows,
    at: &ObjectKey,
    query: &PartsQuery,
) -> Result<Option<PartsPage>, RowsError> {
    let row = at.row_prefix();
    let key = keys::upload(&row, query.upload);
    let Some(upload) = typed::load::<UploadRecord>(rows, Table::Uploads, &key)? else {
        return Ok(None);
    };
    let (_, end) = keys::all_parts(&row, query.upload);
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let found: Vec<PartRecord> = match query.after.checked_add(1) {
        Some(first) => {
            let span = (keys::part(&row, query.upload, first), end);
            let found = typed::collect(rows, Table::Parts, &span, limit.saturating_add(1))?;
            found.into_iter().map(|(_, part)| part).collect()
        }
        None => Vec::new(),
    };
    let more = limit > 0 && found.len() > limit;
    Ok(Some(PartsPage {
        attributes: upload.attributes,
        checksum: upload.checksum,
        parts: found.into_iter().take(limit).collect(),
        more,
    }))
}

/// Whether this partition holds nothing of a bucket: no object, version or marker.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn is_empty(rows: &dyn Rows, group: PartitionId, bucket: BucketId) -> Result<bool, RowsError> {
    let Some(range) = state::range(rows, Side::new(group))? else {
        return Ok(true);
    };
    let span = range.cut(keys::all_of(&RowPrefix::of_bucket(bucket)));
    let latest = typed::is_empty(rows, Table::Latest, &span)?;
    Ok(latest && typed::is_empty(rows, Table::Versions, &span)?)
}

/// This partition's share of what a bucket holds.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn usage(rows: &dyn Rows, group: PartitionId, bucket: BucketId) -> Result<Usage, RowsError> {
    let key = Side::new(group).bucket(Kind::Usage, bucket);
    Ok(typed::load(rows, Table::Side, &key)?.unwrap_or_default())
}

/// What all buckets hold in this partition, by bucket.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn usages(rows: &dyn Rows, group: PartitionId) -> Result<Vec<(BucketId, Usage)>, RowsError> {
    let span = Side::new(group).all(Kind::Usage);
    let all = typed::collect::<Usage>(rows, Table::Side, &span, usize::MAX)?;
    let bucket = |key: &[u8]| key.last_chunk().map(|id| u64::from_be_bytes(*id));
    let named = all
        .into_iter()
        .filter_map(|(key, usage)| Some((BucketId::new(bucket(&key)?), usage)));
    Ok(named.collect())
}

/// Dead blobs that are due: those that died at least `grace_ms` of partition time ago
/// ([`crate::partition::GARBAGE_GRACE_MS`]). Ascending numbers for each shard.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn garbage(
    rows: &dyn Rows,
    query: &GarbageQuery,
    grace_ms: u64,
) -> Result<Vec<GarbageEntry>, RowsError> {
    let side = Side::new(query.partition);
    let now = state::clock(rows, side)?.now;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let mut due = Vec::new();
    for &(volume, member) in &query.shards {
        if due.len() >= limit {
            break;
        }
        let floor = typed::load(rows, Table::Side, &side.floor(volume, member))?;
        let span = side.garbage_after(volume, floor.unwrap_or_default());
        typed::scan(rows, Table::Side, &span, &mut |key, value| {
            let garbage: Garbage = typed::decode(Table::Side, key, value)?;
            let waits = garbage.since.0.saturating_add(grace_ms) > now.0;
            let Some((_, sequence)) = Side::garbage_id(key).filter(|_| !waits) else {
                return Ok(typed::go_on_while(false));
            };
            if garbage.pending & bit(member) != 0 {
                due.push(GarbageEntry {
                    sequence,
                    volume,
                    member,
                    blob: garbage.blob,
                });
            }
            Ok(typed::go_on_while(due.len() < limit))
        })?;
    }
    Ok(due)
}
