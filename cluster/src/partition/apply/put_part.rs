//! Writes or replaces a part of an upload.

use bytes::Bytes;
use enfilade_placement::UploadId;

use crate::api::command::{KeyReply, Outcome, Refusal};
use crate::api::record::PartRecord;
use crate::partition::keyed::Keyed;
use crate::partition::keys;
use crate::partition::state::Owner;
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

/// The most parts of an upload, and the largest number of one, as in S3.
const PART_MAX: u16 = 10_000;

pub(super) fn apply(
    rows: &mut Keyed<'_, '_>,
    upload: UploadId,
    part: &PartRecord,
    inline: &Bytes,
) -> Result<Outcome, RowsError> {
    let number = part.number;
    if rows
        .txn
        .get(Table::Uploads, &keys::upload(&rows.row, upload))?
        .is_none()
    {
        return Ok(Err(Refusal::NoSuchUpload));
    }
    if number == 0 || number > PART_MAX {
        return Ok(Err(Refusal::InvalidPart(number)));
    }
    if let Some(refusal) = rows.refuses(&part.blob)? {
        return Ok(Err(refusal));
    }
    let key = keys::part(&rows.row, upload, number);
    if let Some(old) = typed::load::<PartRecord>(rows.txn, Table::Parts, &key)? {
        rows.tally_part(&old, -1);
        rows.release(&old.blob)?;
    }
    rows.tally_part(part, 1);
    typed::store(rows.txn, Table::Parts, key, part);
    rows.reference(&part.blob, inline, Owner::Part { upload, number });
    Ok(Ok(KeyReply::PartPut))
}
