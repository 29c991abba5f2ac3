//! Brings a bucket's settings to a revision, and aborts its uploads (PROTOCOLS 6).

use enfilade_placement::BucketId;

use crate::api::command::{KeyReply, Outcome, Refusal, Versioning};
use crate::api::key::RowPrefix;
use crate::api::record::UploadRecord;
use crate::partition::keyed::Keyed;
use crate::partition::keys::{self, Kind, Side};
use crate::partition::state::{self, Clock, Range, Settings};
use crate::rows::{RowsError, Table, Txn};
use crate::typed;

use super::abort_upload::abort;

/// How many uploads and parts one command or tick aborts, more by at most one upload: what is left
/// is the next tick's. 10,000 parts are the most that one upload has.
const ABORTED_MAX: usize = 20_000;

/// The settings in force; the default when none were ever written.
pub(in crate::partition) fn settings(
    txn: &Txn<'_>,
    side: Side,
    bucket: BucketId,
) -> Result<Settings, RowsError> {
    let settings = typed::load(txn, Table::Side, &side.bucket(Kind::Bucket, bucket))?;
    Ok(settings.unwrap_or_default())
}

/// Writes the settings.
pub(in crate::partition) fn apply(
    txn: &mut Txn<'_>,
    side: Side,
    bucket: BucketId,
    new: Settings,
    abort_uploads: bool,
) -> Result<Outcome, RowsError> {
    let old = settings(txn, side, bucket)?;
    if new.revision < old.revision {
        return Ok(Err(Refusal::StaleRevision(old.revision)));
    }
    // As in S3, what once kept versions keeps those it has.
    let versioning = match (old.versioning, new.versioning) {
        (Versioning::Enabled | Versioning::Suspended, Versioning::Off) => Versioning::Suspended,
        (_, versioning) => versioning,
    };
    let settings = Settings { versioning, ..new };
    typed::store(
        txn,
        Table::Side,
        side.bucket(Kind::Bucket, bucket),
        &settings,
    );
    let aborting = side.bucket(Kind::Aborting, bucket);
    if abort_uploads {
        txn.put(Table::Side, aborting, Vec::new());
        go_on_aborting(txn, side)?;
    } else if !settings.fenced {
        txn.delete(Table::Side, aborting);
    }
    Ok(Ok(KeyReply::Done))
}

/// Aborts uploads of buckets for which that was asked, a bounded number.
pub(super) fn go_on_aborting(txn: &mut Txn<'_>, side: Side) -> Result<(), RowsError> {
    let Some(range) = state::range(txn, side)? else {
        return Ok(());
    };
    let clock = state::clock(txn, side)?;
    let mut left = ABORTED_MAX;
    for key in typed::keys(txn, Table::Side, &side.all(Kind::Aborting), usize::MAX)? {
        let Some(bucket) = key
            .last_chunk()
            .map(|id| BucketId::new(u64::from_be_bytes(*id)))
        else {
            return Err(typed::broken(Table::Side, &key, "no bucket"));
        };
        left = abort_some(txn, side, &range, clock, bucket, left)?;
        if left == 0 {
            break;
        }
        txn.delete(Table::Side, key);
    }
    Ok(())
}

/// Aborts uploads of a bucket in this partition; returns how many more may be.
fn abort_some(
    txn: &mut Txn<'_>,
    side: Side,
    range: &Range,
    clock: Clock,
    bucket: BucketId,
    mut left: usize,
) -> Result<usize, RowsError> {
    let settings = settings(txn, side, bucket)?;
    let span = range.cut(keys::all_of(&RowPrefix::of_bucket(bucket)));
    for (key, upload) in typed::collect::<UploadRecord>(txn, Table::Uploads, &span, left)? {
        let Some((at, _)) = RowPrefix::split_row(&key) else {
            return Err(typed::broken(Table::Uploads, &key, "no object key"));
        };
        let mut rows = Keyed::new(txn, side, at.row_prefix(), settings, clock.now);
        let parts = abort(&mut rows, upload.id)?;
        rows.count(bucket)?;
        left = left.saturating_sub(1 + parts);
        if left == 0 {
            break;
        }
    }
    Ok(left)
}
