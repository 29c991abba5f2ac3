//! Lists the objects of a bucket.

use enfilade_placement::{BucketId, PartitionId};

use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::{ListEntry, ListPage, ListQuery, ListedObject, PAGE_MAX};
use crate::api::record::ObjectRecord;
use crate::partition::keys::Side;
use crate::partition::state;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

use super::VISITED_MAX;
use super::fold::Folding;

/// As [`crate::api::MetadataClient::list`], of the keys in this partition: a page without `next`
/// ends the partition's range, which may end within the bucket.
///
/// Every row that is there makes an entry, and keys that are folded are passed over by seeking.
/// What was removed counts too: a page looks at [`VISITED_MAX`] rows at most, and then ends early.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn list(
    rows: &dyn Rows,
    group: PartitionId,
    bucket: BucketId,
    query: &ListQuery,
) -> Result<ListPage, RowsError> {
    let folding = Folding::new(bucket, &query.prefix, query.delimiter.as_deref());
    let limit = usize::try_from(query.limit.min(PAGE_MAX)).unwrap_or(usize::MAX);
    let mut page = ListPage::default();
    let mut from = first(&folding, bucket, query);
    let Some(range) = state::range(rows, Side::new(group))?.filter(|_| limit > 0) else {
        return Ok(page);
    };
    let mut visited = 0;
    // The last name that was listed, and the last row that was passed over after it.
    let mut last: Option<String> = None;
    let mut passed: Vec<u8> = Vec::new();
    while let Some(first) = from.take() {
        let span = range.cut((first, folding.end()));
        typed::survey(rows, Table::Latest, &span, &mut |row, value| {
            if page.entries.len() >= limit || visited >= VISITED_MAX {
                (page.next, page.inside) = match passed.is_empty() {
                    true => (last.take(), false),
                    false => {
                        let key = object_key(&passed)?.key;
                        let inside = folding.folded(&key).is_some();
                        (Some(key), inside)
                    }
                };
                return Ok(typed::go_on_while(false));
            }
            visited += 1;
            passed.clear();
            let Some(value) = value else {
                passed.extend_from_slice(row);
                return Ok(typed::go_on_while(true));
            };
            let at = object_key(row)?;
            if let Some(folded) = folding.folded(&at.key) {
                last = Some(folded.to_owned());
                page.entries.push(ListEntry::Prefix(folded.to_owned()));
                from = folding.past_folded(folded);
                return Ok(typed::go_on_while(false));
            }
            let record = typed::decode(Table::Latest, row, value)?;
            last = Some(at.key.clone());
            page.entries.push(ListEntry::Object(listed(at.key, record)));
            Ok(typed::go_on_while(true))
        })?;
    }
    Ok(page)
}

fn object_key(row: &[u8]) -> Result<ObjectKey, RowsError> {
    let split = RowPrefix::split_row(row).map(|(at, _)| at);
    split.ok_or_else(|| typed::broken(Table::Latest, row, "no object key"))
}

/// Where a listing begins; none when there can be no more.
fn first(folding: &Folding<'_>, bucket: BucketId, query: &ListQuery) -> Option<Vec<u8>> {
    match &query.after {
        Some(after) if query.inside => {
            let next = ObjectKey::new(bucket, after.as_str())
                .row_prefix()
                .after()?;
            Some(next.max(folding.first()))
        }
        Some(after) => folding.first_after(after),
        None => Some(folding.first()),
    }
}

/// What a listing tells of a record.
pub(super) fn listed(key: String, record: ObjectRecord) -> ListedObject {
    ListedObject {
        key,
        stamp: record.stamp,
        len: record.len,
        etag: record.etag,
        modified_ms: record.modified_ms,
        checksum: record
            .checksum
            .map(|checksum| (checksum.algorithm, checksum.scope)),
    }
}
