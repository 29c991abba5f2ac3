//! Begins to delete a bucket (PROTOCOLS 6).

use enfilade_placement::BucketId;

use crate::api::root::{Bucket, RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop, not_found};
use crate::rows::RowsError;

pub(super) fn apply(state: &mut State<'_, '_>, name: &str) -> Result<RootReply, Stop> {
    let found = named(state, name)?;
    let mut bucket = found.ok_or_else(|| not_found(format!("bucket: {name}")))?;
    if bucket.deleting || bucket.pending.is_some() {
        return Err(RootRefusal::BucketBusy.into());
    }
    bucket.deleting = true;
    bucket.revision += 1;
    state.set(keys::bucket(bucket.id), &bucket)?;
    Ok(RootReply::Bucket(bucket))
}

/// The bucket with a name.
pub(super) fn named(state: &State<'_, '_>, name: &str) -> Result<Option<Bucket>, RowsError> {
    match state.load::<BucketId>(&keys::bucket_name(name))? {
        Some(id) => state.load(&keys::bucket(id)),
        None => Ok(None),
    }
}
