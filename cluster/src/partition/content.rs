//! The blobs of a record: in the record, or in rows of their own when they are many.

use enfilade_placement::{BlobId, Stamp};

use crate::api::key::RowPrefix;
use crate::api::query::BlobAt;
use crate::api::record::{Blob, CONTENT_IN_RECORD_MAX, Content, ObjectRecord, PartRecord};
use crate::partition::keys;
use crate::partition::state::Owner;
use crate::rows::{Rows, RowsError, Table, Txn};
use crate::typed;

/// Keeps the blobs of a version: returns what its record holds, and writes rows when that is too
/// little. A row holds blobs of at most [`CONTENT_IN_RECORD_MAX`] extents together, or one blob.
pub(super) fn store(txn: &mut Txn<'_>, row: &RowPrefix, stamp: Stamp, blobs: Vec<Blob>) -> Content {
    let weight: usize = blobs.iter().map(Blob::weight).sum();
    if weight <= CONTENT_IN_RECORD_MAX {
        return Content::Blobs(blobs);
    }
    let count = u32::try_from(blobs.len()).unwrap_or(u32::MAX);
    let mut write = |offset, chunk: &Vec<Blob>| {
        typed::store(
            txn,
            Table::Content,
            keys::content(row, stamp, offset),
            chunk,
        );
    };
    let (mut chunk, mut begins, mut weight, mut offset) = (Vec::new(), 0, 0, 0u64);
    for blob in blobs {
        if !chunk.is_empty() && weight + blob.weight() > CONTENT_IN_RECORD_MAX {
            write(begins, &chunk);
            chunk.clear();
            (begins, weight) = (offset, 0);
        }
        weight += blob.weight();
        offset = offset.saturating_add(blob.len);
        chunk.push(blob);
    }
    write(begins, &chunk);
    Content::Rows { blobs: count }
}

/// All blobs of a record, in order.
pub(super) fn all(
    rows: &dyn Rows,
    row: &RowPrefix,
    record: &ObjectRecord,
) -> Result<Vec<Blob>, RowsError> {
    if let Content::Blobs(blobs) = &record.content {
        return Ok(blobs.clone());
    }
    let span = keys::all_content(row, record.stamp);
    let chunks = typed::collect::<Vec<Blob>>(rows, Table::Content, &span, usize::MAX)?;
    Ok(chunks.into_iter().flat_map(|(_, blobs)| blobs).collect())
}

/// The blobs that a version keeps in rows, from the one that holds byte `offset` on.
pub(super) fn from(
    rows: &dyn Rows,
    row: &RowPrefix,
    stamp: Stamp,
    offset: u64,
    limit: usize,
) -> Result<Vec<BlobAt>, RowsError> {
    let (first, end) = keys::all_content(row, stamp);
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    // The row that begins at or before the offset.
    let next = offset
        .checked_add(1)
        .map(|next| keys::content(row, stamp, next));
    let Some(to) = next.or_else(|| end.clone()) else {
        return Ok(found);
    };
    let Some((first, _)) = rows.last(Table::Content, &first, &to)? else {
        return Ok(found);
    };
    typed::scan(rows, Table::Content, &(first, end), &mut |key, value| {
        let Some(mut at) = keys::content_offset(key) else {
            return Err(typed::broken(Table::Content, key, "no offset"));
        };
        for blob in typed::decode::<Vec<Blob>>(Table::Content, key, value)? {
            let begins = at;
            at = at.saturating_add(blob.len);
            if at > offset && found.len() < limit {
                found.push(BlobAt {
                    offset: begins,
                    blob,
                });
            }
        }
        Ok(typed::go_on_while(found.len() < limit))
    })?;
    Ok(found)
}

/// The blob of a record with this id, whose bytes begin at `offset`.
pub(super) fn find(
    rows: &dyn Rows,
    row: &RowPrefix,
    record: ObjectRecord,
    offset: u64,
    id: BlobId,
) -> Result<Option<Blob>, RowsError> {
    let blobs = match record.content {
        Content::Blobs(blobs) => blobs,
        Content::Rows { .. } => {
            let (first, _) = keys::all_content(row, record.stamp);
            let mut to = keys::content(row, record.stamp, offset);
            to.push(0);
            match rows.last(Table::Content, &first, &to)? {
                Some((key, value)) => typed::decode(Table::Content, &key, &value)?,
                None => Vec::new(),
            }
        }
    };
    Ok(blobs.into_iter().find(|blob| blob.id == id))
}

/// A blob as what references it holds it.
pub(super) fn of_owner(
    rows: &dyn Rows,
    row: &RowPrefix,
    owner: Owner,
    blob: BlobId,
) -> Result<Option<Blob>, RowsError> {
    match owner {
        Owner::Part { upload, number } => {
            let key = keys::part(row, upload, number);
            let part = typed::load::<PartRecord>(rows, Table::Parts, &key)?;
            Ok(part.map(|part| part.blob).filter(|found| found.id == blob))
        }
        Owner::Record { stamp, offset } => {
            let latest = typed::load::<ObjectRecord>(rows, Table::Latest, &keys::latest(row))?;
            let record = match latest.filter(|latest| latest.stamp == stamp) {
                Some(latest) => Some(latest),
                None => typed::load(rows, Table::Versions, &keys::version(row, stamp))?,
            };
            match record {
                Some(record) => find(rows, row, record, offset, blob),
                None => Ok(None),
            }
        }
    }
}

/// Removes the rows that a record keeps its blobs in.
pub(super) fn remove(
    txn: &mut Txn<'_>,
    row: &RowPrefix,
    record: &ObjectRecord,
) -> Result<(), RowsError> {
    if matches!(record.content, Content::Rows { .. }) {
        let span = keys::all_content(row, record.stamp);
        for key in typed::keys(txn, Table::Content, &span, usize::MAX)? {
            txn.delete(Table::Content, key);
        }
    }
    Ok(())
}
