//! Ends the deletion of a bucket, one way or the other (PROTOCOLS 6).

use enfilade_placement::BucketId;

use crate::api::root::{Bucket, RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop, not_found};

pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: BucketId,
    revision: u64,
    empty: bool,
) -> Result<RootReply, Stop> {
    let found = state.load::<Bucket>(&keys::bucket(id))?;
    let mut bucket = found.ok_or_else(|| not_found(format!("bucket: {id}")))?;
    if !bucket.deleting || bucket.revision != revision {
        return Err(RootRefusal::BucketBusy.into());
    }
    if empty {
        state.unset(keys::bucket_name(&bucket.name))?;
        state.unset(keys::bucket(id))?;
        return Ok(RootReply::Done);
    }
    bucket.deleting = false;
    bucket.revision += 1;
    state.set(keys::bucket(id), &bucket)?;
    Ok(RootReply::Bucket(bucket))
}
