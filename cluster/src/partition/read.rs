//! Questions to a partition: pure reads of its rows.
//!
//! Callers check the route first, with [`check_range`] on the same snapshot of the rows: the other
//! functions answer from whatever rows there are.

use bytes::Bytes;
use enfilade_placement::{BlobId, BucketId, Epoch, PartitionId, Stamp};

use crate::api::command::GroupTime;
use crate::api::garbage::{GarbageEntry, GarbageQuery};
use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::{
    BlobAt, Found, ListPage, ListQuery, PartsPage, PartsQuery, UploadsPage, UploadsQuery,
};
use crate::rows::{Rows, RowsError};

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
}

/// The key is not in the partition's range; the epoch that the range has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the route is stale: the partition's epoch is {0}")]
pub struct StaleRoute(pub Epoch);

/// Range, epoch and time of a partition; `None` when it has not been created here.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn info(_rows: &dyn Rows, _group: PartitionId) -> Result<Option<PartitionInfo>, RowsError> {
    todo!()
}

/// Whether the partition holds the rows that begin with `row` (an [`ObjectKey::row_prefix`]).
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn check_range(
    _rows: &dyn Rows,
    _group: PartitionId,
    _row: &RowPrefix,
) -> Result<Result<(), StaleRoute>, RowsError> {
    todo!()
}

/// As [`crate::api::MetadataClient::object`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn object(
    _rows: &dyn Rows,
    _at: &ObjectKey,
    _version: Option<Stamp>,
) -> Result<Option<Found>, RowsError> {
    todo!()
}

/// As [`crate::api::MetadataClient::blobs`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn blobs(
    _rows: &dyn Rows,
    _at: &ObjectKey,
    _stamp: Stamp,
    _offset: u64,
    _limit: usize,
) -> Result<Vec<BlobAt>, RowsError> {
    todo!()
}

/// As [`crate::api::MetadataClient::inline`].
///
/// # Errors
/// When rows cannot be read.
pub fn inline(
    _rows: &dyn Rows,
    _at: &ObjectKey,
    _blob: BlobId,
) -> Result<Option<Bytes>, RowsError> {
    todo!()
}

/// As [`crate::api::MetadataClient::list`], of the keys in this partition: a page without `next`
/// ends the partition's range, not the bucket, when the range ends within the bucket.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn list(
    _rows: &dyn Rows,
    _group: PartitionId,
    _bucket: BucketId,
    _query: &ListQuery,
) -> Result<ListPage, RowsError> {
    todo!()
}

/// As [`crate::api::MetadataClient::uploads`], of the keys in this partition.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn uploads(
    _rows: &dyn Rows,
    _group: PartitionId,
    _bucket: BucketId,
    _query: &UploadsQuery,
) -> Result<UploadsPage, RowsError> {
    todo!()
}

/// As [`crate::api::MetadataClient::parts`].
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn parts(
    _rows: &dyn Rows,
    _at: &ObjectKey,
    _query: &PartsQuery,
) -> Result<Option<PartsPage>, RowsError> {
    todo!()
}

/// Whether this partition holds nothing of a bucket: no object, version or marker.
///
/// # Errors
/// When rows cannot be read.
pub fn is_empty(
    _rows: &dyn Rows,
    _group: PartitionId,
    _bucket: BucketId,
) -> Result<bool, RowsError> {
    todo!()
}

/// Dead blobs that are due: `grace_ms` of partition time after they died ([`super::GARBAGE_GRACE_MS`]).
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn garbage(
    _rows: &dyn Rows,
    _query: &GarbageQuery,
    _grace_ms: u64,
) -> Result<Vec<GarbageEntry>, RowsError> {
    todo!()
}
