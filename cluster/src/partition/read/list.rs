//! Lists the objects of a bucket.

use enfilade_placement::{BucketId, PartitionId};

use crate::api::key::RowPrefix;
use crate::api::query::{ListEntry, ListPage, ListQuery, ListedObject, PAGE_MAX};
use crate::api::record::ObjectRecord;
use crate::partition::keys::Side;
use crate::partition::state;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

use super::fold::Folding;

/// As [`crate::api::MetadataClient::list`], of the keys in this partition: a page without `next`
/// ends the partition's range, which may end within the bucket.
///
/// Every row that is looked at makes an entry, and keys that are folded are passed over by seeking,
/// so that a page costs at most as many rows (and seeks) as it has entries.
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
    let mut from = match &query.after {
        Some(after) => folding.first_after(after),
        None => Some(folding.first()),
    };
    let Some(range) = state::range(rows, Side::new(group))?.filter(|_| limit > 0) else {
        return Ok(page);
    };
    while let Some(first) = from.take() {
        let span = range.cut((first, folding.end()));
        typed::scan(rows, Table::Latest, &span, &mut |row, value| {
            if page.entries.len() >= limit {
                page.next = page.entries.last().map(|entry| name(entry).to_owned());
                return Ok(typed::go_on_while(false));
            }
            let Some((at, _)) = RowPrefix::split_row(row) else {
                return Err(typed::broken(Table::Latest, row, "no object key"));
            };
            if let Some(folded) = folding.folded(&at.key) {
                page.entries.push(ListEntry::Prefix(folded.to_owned()));
                from = folding.past_folded(folded);
                return Ok(typed::go_on_while(false));
            }
            let record = typed::decode(Table::Latest, row, value)?;
            page.entries.push(ListEntry::Object(listed(at.key, record)));
            Ok(typed::go_on_while(true))
        })?;
    }
    Ok(page)
}

fn name(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Object(object) => &object.key,
        ListEntry::Prefix(prefix) => prefix,
    }
}

fn listed(key: String, record: ObjectRecord) -> ListedObject {
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
