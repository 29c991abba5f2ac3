//! Deletes the object of a key, or one version of it.

use crate::api::command::{Conditions, KeyReply, Outcome, Refusal, Versioning};
use crate::api::record::{Attributes, Content, ObjectRecord, VersionId, VersionKind};
use crate::partition::keyed::Keyed;
use crate::rows::RowsError;

use super::put::make_room;
use super::{fails, locked};

/// Deletes the current object as the bucket keeps versions: for good, or by a delete marker.
pub(super) fn key(
    rows: &mut Keyed<'_, '_>,
    conditions: &Conditions,
    modified_ms: u64,
) -> Result<Outcome, RowsError> {
    let latest = rows.latest()?;
    if let Some(refusal) = fails(conditions, latest.as_ref()) {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = make_room(rows, latest.as_ref(), modified_ms)? {
        return Ok(Err(refusal));
    }
    let existed = latest.is_some();
    if rows.settings.versioning == Versioning::Off {
        let marker = None;
        return Ok(Ok(KeyReply::Deleted { marker, existed }));
    }
    let stamp = rows.next_stamp()?;
    rows.put_marker(&ObjectRecord {
        stamp,
        kind: VersionKind::DeleteMarker,
        null_version: rows.settings.versioning == Versioning::Suspended,
        len: 0,
        etag: String::new(),
        modified_ms,
        attributes: Attributes::default(),
        checksum: None,
        parts: Vec::new(),
        content: Content::Blobs(Vec::new()),
    });
    let marker = Some(stamp);
    Ok(Ok(KeyReply::Deleted { marker, existed }))
}

/// Deletes one version for good. When it was the current one, the next older takes its place.
pub(super) fn version(
    rows: &mut Keyed<'_, '_>,
    version: VersionId,
    conditions: &Conditions,
    at_ms: u64,
) -> Result<Outcome, RowsError> {
    let latest = rows.latest()?;
    if let Some(refusal) = fails(conditions, latest.as_ref()) {
        return Ok(Err(refusal));
    }
    let current = latest.as_ref().is_some_and(|latest| match version {
        VersionId::Stamp(stamp) => latest.stamp == stamp,
        VersionId::Null => latest.null_version,
    });
    let absent = latest.is_none();
    let found = match version {
        _ if current => latest,
        VersionId::Stamp(stamp) => rows.older(stamp)?,
        VersionId::Null => rows.older_null()?,
    };
    let Some(record) = found else {
        let (marker, existed) = (None, false);
        return Ok(Ok(KeyReply::Deleted { marker, existed }));
    };
    if locked(&record, at_ms) {
        return Ok(Err(Refusal::Locked));
    }
    let newest = current || (absent && rows.is_newest(record.stamp)?);
    if current {
        rows.remove_latest(&record)?;
    } else {
        rows.remove_older(&record)?;
    }
    if newest {
        rows.promote(record.stamp)?;
    }
    let marker = (record.kind == VersionKind::DeleteMarker).then_some(record.stamp);
    let existed = true;
    Ok(Ok(KeyReply::Deleted { marker, existed }))
}
