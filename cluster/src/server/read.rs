//! Answers to questions, from rows as they are at one moment: pure.

use enfilade_placement::{BucketId, Epoch, PartitionId};

use crate::api::error::MetadataError;
use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::PAGE_MAX;
use crate::call::{Answer, Call};
use crate::rows::{Rows, RowsError};
use crate::{partition, root};

/// The most volumes or ledger rows of one answer.
const ROOT_PAGE_MAX: usize = 10_000;

/// What answering needs beside the rows.
#[derive(Debug, Clone, Copy)]
pub struct ReadSettings {
    /// Milliseconds of partition time before a dead blob is due.
    pub garbage_grace_ms: u64,
}

/// Answers a call that only reads rows. `None`: it is not such a call.
///
/// # Errors
/// Stale routes, and rows that cannot be read or decoded.
pub fn answer(
    rows: &dyn Rows,
    settings: ReadSettings,
    call: &Call,
) -> Result<Option<Answer>, MetadataError> {
    if let Some(answer) = answer_key(rows, call)? {
        return Ok(Some(answer));
    }
    if let Some(answer) = answer_bucket(rows, call)? {
        return Ok(Some(answer));
    }
    let answer = match call {
        Call::Time {
            group: PartitionId::ROOT,
        } => Answer::Time(root::read::time(rows).map_err(failed)?),
        Call::Time { group } => {
            let info = partition::read::info(rows, *group).map_err(failed)?;
            Answer::Time(info.ok_or_else(|| absent(*group))?.time)
        }
        Call::Garbage(query) => {
            let grace = settings.garbage_grace_ms;
            Answer::Garbage(partition::read::garbage(rows, query, grace).map_err(failed)?)
        }
        Call::Volumes(ids) => Answer::Volumes(root::read::volumes(rows, ids).map_err(failed)?),
        Call::AllVolumes { after, limit } => {
            let limit = limited(*limit);
            Answer::Volumes(root::read::all_volumes(rows, *after, limit).map_err(failed)?)
        }
        Call::Ledger { limit } => {
            Answer::Ledger(root::read::ledger(rows, limited(*limit)).map_err(failed)?)
        }
        Call::LedgerOf(query) => {
            Answer::Ledger(root::read::ledger_of(rows, query).map_err(failed)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

/// Questions about one key.
fn answer_key(rows: &dyn Rows, call: &Call) -> Result<Option<Answer>, MetadataError> {
    let answer = match call {
        Call::Object {
            partition,
            at,
            version,
        } => {
            check(rows, *partition, at)?;
            Answer::Object(partition::read::object(rows, at, *version).map_err(failed)?)
        }
        Call::Blobs {
            partition,
            at,
            stamp,
            offset,
            limit,
        } => {
            check(rows, *partition, at)?;
            let limit = limited(*limit);
            let blobs = partition::read::blobs(rows, at, *stamp, *offset, limit);
            Answer::Blobs(blobs.map_err(failed)?)
        }
        Call::Inline {
            partition,
            at,
            blob,
        } => {
            check(rows, *partition, at)?;
            Answer::Inline(partition::read::inline(rows, at, *blob).map_err(failed)?)
        }
        Call::Blob {
            partition,
            at,
            blob,
        } => {
            check(rows, *partition, at)?;
            Answer::Blob(partition::read::blob(rows, at, *blob).map_err(failed)?)
        }
        Call::Parts {
            partition,
            at,
            query,
        } => {
            check(rows, *partition, at)?;
            Answer::Parts(partition::read::parts(rows, at, query).map_err(failed)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

/// Questions about a bucket.
fn answer_bucket(rows: &dyn Rows, call: &Call) -> Result<Option<Answer>, MetadataError> {
    let answer = match call {
        Call::List {
            partition,
            epoch,
            bucket,
            query,
        } => {
            check_bucket(rows, (*partition, *epoch), *bucket)?;
            check_page(query.limit)?;
            Answer::List(partition::read::list(rows, *partition, *bucket, query).map_err(failed)?)
        }
        Call::Versions {
            partition,
            epoch,
            bucket,
            query,
        } => {
            check_bucket(rows, (*partition, *epoch), *bucket)?;
            check_page(query.limit)?;
            let page = partition::read::versions(rows, *partition, *bucket, query);
            Answer::Versions(page.map_err(failed)?)
        }
        Call::Usage {
            partition,
            epoch,
            bucket,
        } => {
            check_bucket(rows, (*partition, *epoch), *bucket)?;
            Answer::Usage(partition::read::usage(rows, *partition, *bucket).map_err(failed)?)
        }
        Call::Uploads {
            partition,
            epoch,
            bucket,
            query,
        } => {
            check_bucket(rows, (*partition, *epoch), *bucket)?;
            check_page(query.limit)?;
            let page = partition::read::uploads(rows, *partition, *bucket, query);
            Answer::Uploads(page.map_err(failed)?)
        }
        Call::IsEmpty {
            partition,
            epoch,
            bucket,
        } => {
            check_bucket(rows, (*partition, *epoch), *bucket)?;
            Answer::IsEmpty(partition::read::is_empty(rows, *partition, *bucket).map_err(failed)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

/// The error of a replica whose rows are not what they should be.
pub fn failed(error: RowsError) -> MetadataError {
    match &error {
        RowsError::Storage { .. } => MetadataError::Unavailable(report(&error)),
        RowsError::Undecodable { .. } => MetadataError::Undecodable(report(&error)),
    }
}

/// An error with its causes, in one line.
pub fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn absent(group: PartitionId) -> MetadataError {
    MetadataError::Unavailable(format!("partition {group} is not here yet"))
}

fn limited(limit: u32) -> usize {
    usize::try_from(limit).map_or(ROOT_PAGE_MAX, |limit| limit.min(ROOT_PAGE_MAX))
}

fn check(rows: &dyn Rows, group: PartitionId, at: &ObjectKey) -> Result<(), MetadataError> {
    let checked = partition::read::check_range(rows, group, &at.row_prefix()).map_err(failed)?;
    checked.map_err(|stale| MetadataError::StaleRoute(stale.to_string()))
}

/// Whether the partition's range touches the bucket at all, and is what the caller knows: else a
/// part of the bucket would be passed over without a word (PROTOCOLS 5).
fn check_bucket(
    rows: &dyn Rows,
    (group, epoch): (PartitionId, Epoch),
    bucket: BucketId,
) -> Result<(), MetadataError> {
    let info = partition::read::info(rows, group)
        .map_err(failed)?
        .ok_or_else(|| absent(group))?;
    let first = RowPrefix::of_bucket(bucket);
    let begins_after = first
        .after()
        .is_some_and(|after| info.start.as_bytes() >= &after[..]);
    let ends_before = info
        .end
        .as_ref()
        .is_some_and(|end| end.as_bytes() <= first.as_bytes());
    if begins_after || ends_before || info.epoch != epoch {
        return Err(MetadataError::StaleRoute(format!(
            "partition {group} is at {}",
            info.epoch
        )));
    }
    Ok(())
}

fn check_page(limit: u32) -> Result<(), MetadataError> {
    if limit > PAGE_MAX {
        return Err(MetadataError::Invalid(format!("a page of {limit} entries")));
    }
    Ok(())
}
