//! Drops an upload and its parts.

use enfilade_placement::UploadId;

use crate::api::command::{KeyReply, Outcome, Refusal};
use crate::api::record::PartRecord;
use crate::partition::keyed::Keyed;
use crate::partition::keys;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

pub(super) fn apply(rows: &mut Keyed<'_, '_>, upload: UploadId) -> Result<Outcome, RowsError> {
    if rows
        .txn
        .get(Table::Uploads, &keys::upload(&rows.row, upload))?
        .is_none()
    {
        return Ok(Err(Refusal::NoSuchUpload));
    }
    abort(rows, upload)?;
    Ok(Ok(KeyReply::UploadAborted))
}

/// Removes an upload with its parts; returns how many parts there were.
pub(super) fn abort(rows: &mut Keyed<'_, '_>, upload: UploadId) -> Result<usize, RowsError> {
    let span = keys::all_parts(&rows.row, upload);
    let parts = typed::collect::<PartRecord>(rows.txn, Table::Parts, &span, usize::MAX)?;
    for (_, part) in &parts {
        rows.tally_part(part, -1);
        rows.release(&part.blob)?;
    }
    remove_upload(rows, upload)?;
    Ok(parts.len())
}

/// Removes the rows of an upload and its parts; what becomes of the blobs is the caller's affair.
pub(super) fn remove_upload(rows: &mut Keyed<'_, '_>, upload: UploadId) -> Result<(), RowsError> {
    rows.usage.uploads -= 1;
    rows.txn
        .delete(Table::Uploads, keys::upload(&rows.row, upload));
    let span = keys::all_parts(&rows.row, upload);
    for key in typed::keys(rows.txn, Table::Parts, &span, usize::MAX)? {
        rows.txn.delete(Table::Parts, key);
    }
    Ok(())
}
