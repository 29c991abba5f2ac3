//! Whether a request is well formed, before anything is done for it (P7).

use enfilade_placement::profile::UNIT_ALIGN;

use crate::api::append::{APPEND_BYTES_MAX, AppendHeader};
use crate::api::error::ShardError;
use crate::api::read::FragmentRange;
use crate::drive::room_for;
use crate::erasure::checksum::checksum_count;

/// Fragments of one append: at the smallest unit of a full stripe they are 4 MiB.
const FRAGMENTS_MAX: usize = 1024;
/// Commit marks of one append.
const MARKS_MAX: usize = 4096;
/// Ranges of one read, and their bytes.
const RANGES_MAX: usize = 4096;
const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Blobs of one page of an inventory.
const PAGE_MAX: u32 = 10_000;

fn invalid(reason: impl Into<String>) -> ShardError {
    ShardError::Invalid(reason.into())
}

/// The header of an append.
pub(super) fn header(header: &AppendHeader) -> Result<(), ShardError> {
    let count = header.fragments.len();
    if count == 0 || count > FRAGMENTS_MAX {
        return Err(invalid(format!(
            "{count} fragments: must be 1 to {FRAGMENTS_MAX}"
        )));
    }
    let stripes = u32::try_from(count).map_err(|_| invalid("too many fragments"))?;
    if header.first_stripe.checked_add(stripes).is_none() {
        return Err(invalid("stripe numbers end at 4294967294"));
    }
    if header.committed.len() > MARKS_MAX {
        let marks = header.committed.len();
        return Err(invalid(format!(
            "{marks} commit marks: at most {MARKS_MAX}"
        )));
    }
    let key_len = header.owner.as_ref().map_or(0, |owner| owner.at.key.len());
    if key_len > enfilade_cluster::api::key::KEY_LEN_MAX {
        return Err(invalid(format!("the owner's key has {key_len} bytes")));
    }
    let mut bytes = 0usize;
    for fragment in &header.fragments {
        let len = fragment.len as usize;
        if len == 0 || !fragment.len.is_multiple_of(UNIT_ALIGN) || len > APPEND_BYTES_MAX {
            return Err(invalid(format!("a fragment of {len} bytes")));
        }
        let sums = fragment.checksums.len();
        if sums != checksum_count(len) {
            return Err(invalid(format!(
                "{sums} checksums for a fragment of {len} bytes"
            )));
        }
        bytes += len;
        if bytes > APPEND_BYTES_MAX {
            return Err(invalid(format!(
                "more than {APPEND_BYTES_MAX} bytes of fragments"
            )));
        }
    }
    Ok(())
}

/// The ranges of a read; returns the memory that it takes.
pub(super) fn ranges(ranges: &[FragmentRange]) -> Result<u64, ShardError> {
    if ranges.len() > RANGES_MAX {
        return Err(invalid(format!(
            "{} ranges: at most {RANGES_MAX}",
            ranges.len()
        )));
    }
    let bytes: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
    if bytes > READ_BYTES_MAX {
        return Err(invalid(format!(
            "{bytes} bytes asked for: at most {READ_BYTES_MAX}"
        )));
    }
    let room = |range: &FragmentRange| room_for(range.len as usize) as u64;
    Ok(ranges.iter().map(room).sum())
}

/// The length of a page.
pub(super) fn page(limit: u32) -> Result<usize, ShardError> {
    if limit == 0 || limit > PAGE_MAX {
        return Err(invalid(format!(
            "a page of {limit} blobs: must be 1 to {PAGE_MAX}"
        )));
    }
    Ok(limit as usize)
}
