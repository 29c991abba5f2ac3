//! Lists the versions and delete markers of a bucket.

use enfilade_placement::{BucketId, PartitionId, Stamp};

use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::{ListedVersion, PAGE_MAX, VersionsPage, VersionsQuery};
use crate::api::record::ObjectRecord;
use crate::partition::keys::{self, Side};
use crate::partition::state;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

use super::VISITED_MAX;
use super::fold::Folding;
use super::list::listed;
use super::merge::{Merge, Met};

/// As [`crate::api::MetadataClient::versions`], of the keys in this partition.
///
/// The row of the current object and those of its older versions and markers lie in two tables, in
/// one order: read side by side, they are the listing.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn versions(
    rows: &dyn Rows,
    group: PartitionId,
    bucket: BucketId,
    query: &VersionsQuery,
) -> Result<VersionsPage, RowsError> {
    let folding = Folding::new(bucket, &query.prefix, query.delimiter.as_deref());
    let limit = usize::try_from(query.limit.min(PAGE_MAX)).unwrap_or(usize::MAX);
    let mut page = VersionsPage::default();
    let from = match &query.after {
        Some((key, Some(stamp))) => Some(after_version(&folding, bucket, key, *stamp)),
        Some((key, None)) => folding.first_after(key),
        None => Some(folding.first()),
    };
    let range = state::range(rows, Side::new(group))?.filter(|_| limit > 0);
    let (Some(range), Some(from)) = (range, from) else {
        return Ok(page);
    };
    let tables = [Table::Latest, Table::Versions];
    let mut merge = Merge::new(rows, &tables, range.cut((from, folding.end())));
    let mut last = None;
    // The key whose newest version comes no more.
    let mut begun = match &query.after {
        Some((key, Some(stamp))) if has_newer(rows, bucket, key, *stamp)? => Some(key.clone()),
        _ => None,
    };
    let mut visited = 0;
    while let Some(Met { table, key, value }) = merge.next()? {
        if page.versions.len() + page.prefixes.len() >= limit || visited >= VISITED_MAX {
            page.next = last;
            break;
        }
        visited += 1;
        let (at, stamp) = place(table, &key)?;
        let Some(value) = value else {
            last = Some((at.key, Some(stamp)));
            continue;
        };
        if let Some(folded) = folding.folded(&at.key) {
            page.prefixes.push(folded.to_owned());
            last = Some((folded.to_owned(), None));
            match folding.past_folded(folded) {
                Some(next) => merge.skip_to(&next),
                None => break,
            }
            continue;
        }
        let record: ObjectRecord = typed::decode(table, &key, &value)?;
        let current = begun.as_ref() != Some(&at.key);
        begun = Some(at.key.clone());
        last = Some((at.key.clone(), Some(record.stamp)));
        page.versions.push(ListedVersion {
            null_version: record.null_version,
            current,
            kind: record.kind,
            object: listed(at.key, record),
        });
    }
    Ok(page)
}

/// The key that a row belongs to, and after which version of it the rows behind this one are.
fn place(table: Table, row: &[u8]) -> Result<(ObjectKey, Stamp), RowsError> {
    let (at, rest) =
        RowPrefix::split_row(row).ok_or_else(|| typed::broken(table, row, "no object key"))?;
    let stamp = match table {
        Table::Latest => Some(Stamp::new(u64::MAX)),
        _ => keys::stamp(rest),
    };
    let stamp = stamp.ok_or_else(|| typed::broken(table, row, "no stamp"))?;
    Ok((at, stamp))
}

/// Whether a key has that version or a newer one: a page may also end at a row that was removed,
/// before any version that is there.
fn has_newer(
    rows: &dyn Rows,
    bucket: BucketId,
    key: &str,
    stamp: Stamp,
) -> Result<bool, RowsError> {
    let row = ObjectKey::new(bucket, key).row_prefix();
    if rows.get(Table::Latest, &keys::latest(&row))?.is_some() {
        return Ok(true);
    }
    let (from, mut end) = (row.with(&[]), keys::version(&row, stamp));
    end.push(0);
    Ok(!typed::is_empty(rows, Table::Versions, &(from, Some(end)))?)
}

/// The first row after one version of a key.
fn after_version(folding: &Folding<'_>, bucket: BucketId, key: &str, stamp: Stamp) -> Vec<u8> {
    let mut row = keys::version(&ObjectKey::new(bucket, key).row_prefix(), stamp);
    row.push(0);
    row.max(folding.first())
}
