//! Writes an object.

use crate::api::command::{Conditions, KeyReply, NewObject, Outcome, Refusal, Versioning};
use crate::api::record::{ObjectRecord, VersionKind};
use crate::partition::content;
use crate::partition::keyed::Keyed;
use crate::partition::state::Owner;
use crate::rows::RowsError;

use super::{fails, locked};

pub(super) fn apply(
    rows: &mut Keyed<'_, '_>,
    object: &NewObject,
    conditions: &Conditions,
) -> Result<Outcome, RowsError> {
    let latest = rows.latest()?;
    if let Some(refusal) = fails(conditions, latest.as_ref()) {
        return Ok(Err(refusal));
    }
    if let Some(refusal) = rows.refuses(&object.blob)? {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = make_room(rows, latest.as_ref(), object.modified_ms)? {
        return Ok(Err(refusal));
    }
    let stamp = rows.next_stamp()?;
    let owner = Owner::Record { stamp, offset: 0 };
    rows.reference(&object.blob, &object.inline, owner);
    let content = content::store(rows.txn, &rows.row, stamp, vec![object.blob.clone()]);
    rows.put_latest(&ObjectRecord {
        stamp,
        kind: VersionKind::Object,
        null_version: rows.settings.versioning != Versioning::Enabled,
        len: object.blob.len,
        etag: object.etag.clone(),
        modified_ms: object.modified_ms,
        attributes: object.attributes.clone(),
        checksum: object.checksum.clone(),
        parts: Vec::new(),
        content,
    });
    let versioned = rows.settings.versioning == Versioning::Enabled;
    Ok(Ok(KeyReply::Put { stamp, versioned }))
}

/// Makes room for a new current version, as the bucket keeps versions: the current one becomes an
/// older one, or the `null` version goes.
pub(super) fn make_room(
    rows: &mut Keyed<'_, '_>,
    latest: Option<&ObjectRecord>,
    at_ms: u64,
) -> Result<Result<(), Refusal>, RowsError> {
    let replaces = rows.settings.versioning != Versioning::Enabled;
    match latest {
        Some(latest) if replaces && latest.null_version => {
            if locked(latest, at_ms) {
                return Ok(Err(Refusal::Locked));
            }
            rows.remove_latest(latest)?;
            return Ok(Ok(()));
        }
        Some(latest) => rows.shelve(latest),
        None => {}
    }
    if replaces && let Some(null) = rows.older_null()? {
        if locked(&null, at_ms) {
            return Ok(Err(Refusal::Locked));
        }
        rows.remove_older(&null)?;
    }
    Ok(Ok(()))
}
