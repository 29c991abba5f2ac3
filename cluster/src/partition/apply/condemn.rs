//! Condemns a blob that nothing references, or tells what does (PROTOCOLS 19).

use enfilade_placement::BlobId;

use crate::api::command::{GroupTime, KeyReply, Outcome};
use crate::api::record::Place;
use crate::partition::keyed::Keyed;
use crate::partition::state::{self, Condemned, Owner};
use crate::partition::{content, keys};
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

/// How long a blob stays condemned, in milliseconds of partition time: far longer than a command
/// that names it can be on its way.
const CONDEMNED_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

pub(super) fn apply(rows: &mut Keyed<'_, '_>, blob: BlobId) -> Result<Outcome, RowsError> {
    let reference = keys::blob(&rows.row, blob);
    if let Some(owner) = typed::load::<Owner>(rows.txn, Table::Blobs, &reference)? {
        let Some(blob) = content::of_owner(rows.txn, &rows.row, owner, blob)? else {
            let reason = "what it names as the owner does not hold the blob";
            return Err(typed::broken(Table::Blobs, &reference, reason));
        };
        let Place::Striped { extents, .. } = blob.place else {
            let reason = "the blob is not striped";
            return Err(typed::broken(Table::Blobs, &reference, reason));
        };
        return Ok(Ok(KeyReply::Referenced(extents)));
    }
    let key = rows.side.condemned(&rows.row, blob);
    if rows.txn.get(Table::Side, &key)?.is_none() {
        let until = GroupTime(rows.now.0.saturating_add(CONDEMNED_KEPT_MS));
        state::store_until(rows.txn, rows.side, key, until, &Condemned { until })?;
    }
    Ok(Ok(KeyReply::Condemned))
}
