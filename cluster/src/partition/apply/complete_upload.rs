//! Makes an object of the parts of an upload.

use std::collections::BTreeMap;

use enfilade_placement::UploadId;

use crate::api::command::{
    ChosenPart, Conditions, GroupTime, KeyReply, Outcome, Refusal, Versioning,
};
use crate::api::record::{Blob, Checksum, ObjectRecord, PartRecord, UploadRecord, VersionKind};
use crate::partition::keyed::Keyed;
use crate::partition::state::{self, Completed, Owner};
use crate::partition::{content, keys};
use crate::rows::{RowsError, Table};
use crate::typed;

use super::abort_upload::remove_upload;
use super::fails;
use super::put::make_room;

/// The least bytes of a part that is not the last, as in S3.
const PART_LEN_MIN: u64 = 5 * 1024 * 1024;

/// How long a completion is answered again (PROTOCOLS 2), in milliseconds of partition time.
const COMPLETED_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// What the command says.
pub(super) struct Complete<'c> {
    pub(super) upload: UploadId,
    pub(super) parts: &'c [ChosenPart],
    pub(super) etag: &'c str,
    pub(super) checksum: Option<&'c Checksum>,
    pub(super) modified_ms: u64,
    pub(super) conditions: &'c Conditions,
}

pub(super) fn apply(
    rows: &mut Keyed<'_, '_>,
    complete: &Complete<'_>,
) -> Result<Outcome, RowsError> {
    let upload_key = keys::upload(&rows.row, complete.upload);
    let upload = typed::load::<UploadRecord>(rows.txn, Table::Uploads, &upload_key)?;
    let Some(upload) = upload else {
        let key = rows.side.completed(&rows.row, complete.upload);
        let completed = typed::load::<Completed>(rows.txn, Table::Side, &key)?;
        return Ok(completed.map_or(Err(Refusal::NoSuchUpload), |done| Ok(done.reply)));
    };
    let span = keys::all_parts(&rows.row, complete.upload);
    let parts = typed::collect::<PartRecord>(rows.txn, Table::Parts, &span, usize::MAX)?;
    let mut parts: BTreeMap<u16, PartRecord> = parts
        .into_iter()
        .map(|(_, part)| (part.number, part))
        .collect();
    for part in parts.values() {
        rows.tally_part(part, -1);
    }
    let chosen = match choose(&mut parts, complete.parts) {
        Ok(chosen) => chosen,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let latest = rows.latest()?;
    if let Some(refusal) = fails(complete.conditions, latest.as_ref()) {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = make_room(rows, latest.as_ref(), complete.modified_ms)? {
        return Ok(Err(refusal));
    }
    remove_upload(rows, complete.upload)?;
    for part in parts.values() {
        rows.release(&part.blob)?;
    }
    write(rows, upload, chosen, complete).map(Ok)
}

/// Takes the parts that were named out of those that there are.
fn choose(
    parts: &mut BTreeMap<u16, PartRecord>,
    named: &[ChosenPart],
) -> Result<Vec<Blob>, Refusal> {
    let ascending = named.windows(2).all(|pair| pair[0].number < pair[1].number);
    let Some((last, _)) = named.split_last().filter(|_| ascending) else {
        return Err(Refusal::InvalidPartOrder);
    };
    let mut chosen = Vec::with_capacity(named.len());
    for name in named {
        let fits = |part: &PartRecord| {
            let value = part.checksum.as_ref().map(|checksum| &checksum.value);
            part.etag == name.etag && (name.checksum.is_none() || name.checksum.as_ref() == value)
        };
        let part = parts.remove(&name.number).filter(fits);
        let part = part.ok_or(Refusal::InvalidPart(name.number))?;
        if name.number != last.number && part.blob.len < PART_LEN_MIN {
            return Err(Refusal::PartTooSmall(name.number));
        }
        chosen.push(part.blob);
    }
    Ok(chosen)
}

/// Writes the object and the result.
fn write(
    rows: &mut Keyed<'_, '_>,
    upload: UploadRecord,
    blobs: Vec<Blob>,
    complete: &Complete<'_>,
) -> Result<KeyReply, RowsError> {
    let stamp = rows.next_stamp()?;
    let parts: Vec<u64> = blobs.iter().map(|blob| blob.len).collect();
    let mut len = 0u64;
    for blob in &blobs {
        rows.hand_over(blob, Owner::Record { stamp, offset: len });
        len = len.saturating_add(blob.len);
    }
    let content = content::store(rows.txn, &rows.row, stamp, blobs);
    rows.put_latest(&ObjectRecord {
        stamp,
        kind: VersionKind::Object,
        null_version: rows.settings.versioning != Versioning::Enabled,
        len,
        etag: complete.etag.to_owned(),
        modified_ms: complete.modified_ms,
        attributes: upload.attributes,
        checksum: complete.checksum.cloned(),
        parts,
        content,
    });
    let reply = KeyReply::Completed {
        stamp,
        versioned: rows.settings.versioning == Versioning::Enabled,
        etag: complete.etag.to_owned(),
        checksum: complete.checksum.cloned(),
        len,
    };
    let until = GroupTime(rows.now.0.saturating_add(COMPLETED_KEPT_MS));
    let completed = Completed {
        until,
        reply: reply.clone(),
    };
    let key = rows.side.completed(&rows.row, complete.upload);
    state::store_until(rows.txn, rows.side, key, until, &completed)?;
    Ok(reply)
}
