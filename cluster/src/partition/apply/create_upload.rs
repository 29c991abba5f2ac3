//! Opens a multipart upload.

use enfilade_placement::UploadId;

use crate::api::command::{KeyReply, Outcome, Refusal};
use crate::api::record::{Attributes, ChecksumAlgorithm, ChecksumScope, UploadRecord};
use crate::partition::keyed::Keyed;
use crate::partition::keys;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

/// Ids are random and never used again: one that is open is this upload, asked for again; one that
/// was completed stays so.
pub(super) fn apply(
    rows: &mut Keyed<'_, '_>,
    upload: UploadId,
    created_ms: u64,
    attributes: &Attributes,
    checksum: Option<(ChecksumAlgorithm, ChecksumScope)>,
) -> Result<Outcome, RowsError> {
    let completed = rows.side.completed(&rows.row, upload);
    if rows.txn.get(Table::Side, &completed)?.is_some() {
        return Ok(Err(Refusal::NoSuchUpload));
    }
    let key = keys::upload(&rows.row, upload);
    if rows.txn.get(Table::Uploads, &key)?.is_none() {
        rows.usage.uploads += 1;
        let record = UploadRecord {
            id: upload,
            created_ms,
            attributes: attributes.clone(),
            checksum,
        };
        typed::store(rows.txn, Table::Uploads, key, &record);
    }
    Ok(Ok(KeyReply::UploadCreated))
}
