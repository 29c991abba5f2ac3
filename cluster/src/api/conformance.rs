//! What every [`MetadataClient`] must do: run by all implementations.
//!
//! Each claim is a function over a cluster that has been born and is otherwise in any state: it
//! makes what it needs under names of its own.

mod objects;
mod topology;
mod uploads;
mod versions;

use std::sync::Arc;

use bytes::Bytes;
use enfilade_placement::{BlobId, RequestId};

use super::MetadataClient;
use super::command::{Conditions, KeyOp, NewObject, Outcome, WriteRequest};
use super::record::{Attributes, Blob, Place};
use super::root::{Bucket, RootCommand, RootReply};
use crate::env::Env;

/// What the claims are checked against.
pub struct Subject {
    /// The client.
    pub client: Arc<dyn MetadataClient>,
    /// For ids.
    pub env: Env,
    /// Lets the grace of garbage pass.
    pub pass_grace: Box<dyn Fn() + Send + Sync>,
}

/// Checks every claim.
///
/// # Panics
/// When one does not hold.
pub async fn check(subject: &Subject) {
    objects::a_bucket_is_created_once_and_seen_at_once(subject).await;
    objects::an_object_reads_back_with_its_bytes(subject).await;
    objects::a_repeated_request_is_answered_as_the_first_time(subject).await;
    objects::conditions_are_decided_against_the_current_state(subject).await;
    objects::a_listing_folds_and_pages_in_order(subject).await;
    objects::a_deleted_object_is_gone(subject).await;
    objects::a_bucket_that_holds_something_is_not_deleted(subject).await;
    objects::an_empty_bucket_is_deleted_and_takes_no_more_writes(subject).await;
    uploads::an_upload_becomes_an_object_and_says_so_again(subject).await;
    uploads::an_aborted_upload_is_gone(subject).await;
    uploads::a_deletion_that_fails_keeps_the_uploads(subject).await;
    versions::versions_are_kept_listed_and_counted(subject).await;
    topology::an_enclosure_and_its_drives_are_entered(subject).await;
    topology::a_volume_is_opened_suspended_and_sealed(subject).await;
    topology::a_watch_waits_for_a_change(subject).await;
    topology::dead_blobs_are_garbage_until_all_members_acked(subject).await;
    topology::every_group_has_a_leader(subject).await;
}

impl Subject {
    /// A new request id.
    fn id(&self) -> RequestId {
        RequestId::new(self.env.random.next_u128())
    }

    /// A name that no other claim uses.
    fn name(&self, what: &str) -> String {
        format!("{what}-{:016x}", self.env.random.next_u64())
    }

    async fn root(&self, command: RootCommand) -> super::root::RootOutcome {
        self.client
            .root(self.id(), command)
            .await
            .expect("the root group answers")
    }

    async fn bucket(&self, what: &str) -> Bucket {
        let (name, owner) = (self.name(what), "owner".to_owned());
        match self
            .root(RootCommand::CreateBucket {
                name,
                owner,
                created_ms: 1,
            })
            .await
        {
            Ok(RootReply::Bucket(bucket)) => bucket,
            other => panic!("a bucket was created: {other:?}"),
        }
    }

    /// An inline object.
    fn object(&self, bytes: &'static str) -> NewObject {
        NewObject {
            etag: format!("etag of {bytes}"),
            modified_ms: 7,
            attributes: Attributes::default(),
            checksum: None,
            blob: Blob {
                id: BlobId::new(self.env.random.next_u128()),
                len: bytes.len() as u64,
                crc64: 0,
                place: Place::Inline,
            },
            inline: Bytes::from_static(bytes.as_bytes()),
        }
    }

    async fn write(&self, request: RequestId, bucket: &Bucket, key: &str, op: KeyOp) -> Outcome {
        let (id, revision, key) = (bucket.id, bucket.revision, key.to_owned());
        let request = WriteRequest {
            request,
            bucket: id,
            revision,
            key,
            op,
        };
        self.client
            .write(request)
            .await
            .expect("the partition answers")
    }

    async fn put(&self, bucket: &Bucket, key: &str, object: NewObject) -> Outcome {
        let op = KeyOp::Put {
            object,
            conditions: Conditions::default(),
        };
        self.write(self.id(), bucket, key, op).await
    }
}
