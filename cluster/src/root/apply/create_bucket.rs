//! Creates a bucket.

use enfilade_placement::BucketId;

use crate::api::command::Versioning;
use crate::api::root::{Bucket, EtagKind, RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop};

use super::begin_delete_bucket::named;

/// A name that was used before gets a new id, so that nothing of the former bucket shows.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    name: &str,
    owner: &str,
    created_ms: u64,
) -> Result<RootReply, Stop> {
    if let Some(bucket) = named(state, name)? {
        return Err(RootRefusal::BucketExists(bucket).into());
    }
    let bucket = Bucket {
        id: BucketId::new(state.head.next.bucket),
        name: name.to_owned(),
        owner: owner.to_owned(),
        created_ms,
        revision: 1,
        versioning: Versioning::Off,
        deleting: false,
        etag: EtagKind::default(),
        pending: None,
    };
    state.head.next.bucket += 1;
    state.set(keys::bucket_name(name), &bucket.id)?;
    state.set(keys::bucket(bucket.id), &bucket)?;
    Ok(RootReply::Bucket(bucket))
}
