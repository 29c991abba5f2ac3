//! Lists the open uploads of a bucket.

use enfilade_placement::{BucketId, PartitionId, UploadId};

use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::{ListedUpload, PAGE_MAX, UploadsPage, UploadsQuery};
use crate::api::record::UploadRecord;
use crate::partition::keys::{self, Side};
use crate::partition::state;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

use super::VISITED_MAX;
use super::fold::Folding;

/// As [`crate::api::MetadataClient::uploads`], of the keys in this partition.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn uploads(
    rows: &dyn Rows,
    group: PartitionId,
    bucket: BucketId,
    query: &UploadsQuery,
) -> Result<UploadsPage, RowsError> {
    let folding = Folding::new(bucket, &query.prefix, query.delimiter.as_deref());
    let limit = usize::try_from(query.limit.min(PAGE_MAX)).unwrap_or(usize::MAX);
    let mut page = UploadsPage::default();
    let mut last: Option<(String, Option<UploadId>)> = None;
    let mut from = match &query.after {
        Some((key, Some(upload))) => Some(after_upload(&folding, bucket, key, *upload)),
        Some((key, None)) => folding.first_after(key),
        None => Some(folding.first()),
    };
    let Some(range) = state::range(rows, Side::new(group))?.filter(|_| limit > 0) else {
        return Ok(page);
    };
    let mut visited = 0;
    while let Some(first) = from.take() {
        let span = range.cut((first, folding.end()));
        typed::survey(rows, Table::Uploads, &span, &mut |row, value| {
            let taken = page.uploads.len() + page.prefixes.len();
            if taken >= limit || visited >= VISITED_MAX {
                page.next = last.take();
                return Ok(typed::go_on_while(false));
            }
            visited += 1;
            let place = RowPrefix::split_row(row)
                .and_then(|(at, rest)| Some((at, UploadId::from_bytes(rest.try_into().ok()?))));
            let Some((at, upload)) = place else {
                return Err(typed::broken(
                    Table::Uploads,
                    row,
                    "no object key and upload",
                ));
            };
            let Some(value) = value else {
                last = Some((at.key, Some(upload)));
                return Ok(typed::go_on_while(true));
            };
            if let Some(folded) = folding.folded(&at.key) {
                page.prefixes.push(folded.to_owned());
                last = Some((folded.to_owned(), None));
                from = folding.past_folded(folded);
                return Ok(typed::go_on_while(false));
            }
            let record: UploadRecord = typed::decode(Table::Uploads, row, value)?;
            last = Some((at.key.clone(), Some(record.id)));
            page.uploads.push(ListedUpload {
                key: at.key,
                upload: record.id,
                created_ms: record.created_ms,
                checksum: record.checksum,
            });
            Ok(typed::go_on_while(true))
        })?;
    }
    Ok(page)
}

/// The first row after one upload of a key.
fn after_upload(folding: &Folding<'_>, bucket: BucketId, key: &str, upload: UploadId) -> Vec<u8> {
    let mut row = keys::upload(&ObjectKey::new(bucket, key).row_prefix(), upload);
    row.push(0);
    row.max(folding.first())
}
