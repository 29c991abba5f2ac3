//! Changes what the ETags of a bucket's new objects are.

use crate::api::root::{EtagKind, RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop, not_found};

use super::begin_delete_bucket::named;

/// No partition acts on it, so that the revision stays (PROTOCOLS 6).
pub(super) fn apply(
    state: &mut State<'_, '_>,
    name: &str,
    etag: EtagKind,
) -> Result<RootReply, Stop> {
    let found = named(state, name)?;
    let mut bucket = found.ok_or_else(|| not_found(format!("bucket: {name}")))?;
    if bucket.deleting {
        return Err(RootRefusal::BucketBusy.into());
    }
    if bucket.etag != etag {
        bucket.etag = etag;
        state.set(keys::bucket(bucket.id), &bucket)?;
    }
    Ok(RootReply::Bucket(bucket))
}
