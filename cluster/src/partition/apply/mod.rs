//! The commands: one file each.

pub(super) mod abort_upload;
pub(super) mod ack_garbage;
pub(super) mod bucket;
pub(super) mod complete_upload;
pub(super) mod condemn;
pub(super) mod create_upload;
pub(super) mod delete;
pub(super) mod put;
pub(super) mod put_part;
pub(super) mod split;
pub(super) mod tick;

use crate::api::command::{Conditions, ETags, KeyOp, Outcome, Refusal};
use crate::api::record::ObjectRecord;
use crate::partition::keyed::Keyed;
use crate::rows::RowsError;

/// Acts on one key. After a refusal the caller throws all writes away.
pub(super) fn key(rows: &mut Keyed<'_, '_>, op: &KeyOp) -> Result<Outcome, RowsError> {
    match op {
        KeyOp::Put { object, conditions } => put::apply(rows, object, conditions),
        KeyOp::Delete {
            version: None,
            conditions,
            modified_ms,
        } => delete::key(rows, conditions, *modified_ms),
        KeyOp::Delete {
            version: Some(version),
            conditions,
            modified_ms,
        } => delete::version(rows, *version, conditions, *modified_ms),
        KeyOp::CreateUpload {
            upload,
            created_ms,
            attributes,
            checksum,
        } => create_upload::apply(rows, *upload, *created_ms, attributes, *checksum),
        KeyOp::PutPart {
            upload,
            part,
            inline,
        } => put_part::apply(rows, *upload, part, inline),
        KeyOp::CompleteUpload {
            upload,
            parts,
            etag,
            checksum,
            modified_ms,
            conditions,
        } => {
            let complete = complete_upload::Complete {
                upload: *upload,
                parts,
                etag,
                checksum: checksum.as_ref(),
                modified_ms: *modified_ms,
                conditions,
            };
            complete_upload::apply(rows, &complete)
        }
        KeyOp::AbortUpload { upload } => abort_upload::apply(rows, *upload),
        KeyOp::Condemn { blob } => condemn::apply(rows, *blob),
    }
}

/// Why conditions on a key whose current object is `current` do not hold.
fn fails(conditions: &Conditions, current: Option<&ObjectRecord>) -> Option<Refusal> {
    let names = |etags: &ETags, current: &ObjectRecord| match etags {
        ETags::Any => true,
        ETags::These(etags) => etags.contains(&current.etag),
    };
    match (&conditions.if_match, current) {
        (Some(_), None) => return Some(Refusal::NoSuchKey),
        (Some(etags), Some(current)) if !names(etags, current) => {
            return Some(Refusal::PreconditionFailed);
        }
        _ => {}
    }
    match (&conditions.if_none_match, current) {
        (Some(etags), Some(current)) if names(etags, current) => Some(Refusal::PreconditionFailed),
        _ => None,
    }
}

/// Whether a version may not be removed at a moment (wall time, in milliseconds of Unix time, as
/// the gateway knows it).
const fn locked(record: &ObjectRecord, at_ms: u64) -> bool {
    let lock = &record.attributes.lock;
    let retained = match lock.retain_until {
        Some((until_ms, _)) => until_ms > at_ms,
        None => false,
    };
    retained || lock.legal_hold
}
