//! Changes how a bucket keeps versions, in two steps (PROTOCOLS 6).

use enfilade_placement::BucketId;

use crate::api::command::Versioning;
use crate::api::root::{Bucket, RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop, not_found};

use super::begin_delete_bucket::named;

/// Whoever asks for what is under way already is answered as the first was: it may drive it too.
pub(super) fn begin(
    state: &mut State<'_, '_>,
    name: &str,
    versioning: Versioning,
) -> Result<RootReply, Stop> {
    let found = named(state, name)?;
    let mut bucket = found.ok_or_else(|| not_found(format!("bucket: {name}")))?;
    let other = bucket.pending.is_some_and(|pending| pending != versioning);
    if bucket.deleting || other {
        return Err(RootRefusal::BucketBusy.into());
    }
    if bucket.pending.is_none() && bucket.versioning != versioning {
        bucket.pending = Some(versioning);
        bucket.revision += 1;
        state.set(keys::bucket(bucket.id), &bucket)?;
    }
    Ok(RootReply::Bucket(bucket))
}

/// What once kept versions keeps those it has: then off is suspended, as in the partitions.
pub(super) fn end(
    state: &mut State<'_, '_>,
    id: BucketId,
    revision: u64,
) -> Result<RootReply, Stop> {
    let found = state.load::<Bucket>(&keys::bucket(id))?;
    let mut bucket = found.ok_or_else(|| not_found(format!("bucket: {id}")))?;
    let Some(pending) = bucket.pending.filter(|_| bucket.revision == revision) else {
        return Err(RootRefusal::BucketBusy.into());
    };
    bucket.versioning = match (bucket.versioning, pending) {
        (Versioning::Enabled | Versioning::Suspended, Versioning::Off) => Versioning::Suspended,
        (_, pending) => pending,
    };
    bucket.pending = None;
    state.set(keys::bucket(id), &bucket)?;
    Ok(RootReply::Bucket(bucket))
}
