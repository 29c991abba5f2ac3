//! Claims about multipart uploads.

use enfilade_placement::UploadId;

use super::Subject;
use crate::api::command::{ChosenPart, Conditions, KeyOp, KeyReply, Refusal};
use crate::api::key::ObjectKey;
use crate::api::query::{PartsQuery, UploadsQuery};
use crate::api::record::{Attributes, PartRecord};
use crate::api::root::{Bucket, RootCommand, RootRefusal};

async fn open(subject: &Subject, bucket: &Bucket, key: &str) -> UploadId {
    let upload = UploadId::new(subject.env.random.next_u128());
    let attributes = Attributes::default();
    let op = KeyOp::CreateUpload {
        upload,
        created_ms: 1,
        attributes,
        checksum: None,
    };
    let outcome = subject.write(subject.id(), bucket, key, op).await;
    assert_eq!(outcome, Ok(KeyReply::UploadCreated));
    let object = subject.object("part one");
    let part = PartRecord {
        number: 1,
        etag: object.etag,
        modified_ms: 2,
        checksum: None,
        blob: object.blob,
    };
    let request = part.blob.id.into();
    let op = KeyOp::PutPart {
        upload,
        part,
        inline: object.inline,
    };
    assert_eq!(
        subject.write(request, bucket, key, op).await,
        Ok(KeyReply::PartPut)
    );
    upload
}

pub(super) async fn an_upload_becomes_an_object_and_says_so_again(subject: &Subject) {
    let bucket = subject.bucket("uploads").await;
    let upload = open(subject, &bucket, "key").await;
    let at = ObjectKey::new(bucket.id, "key");
    let query = PartsQuery {
        upload,
        after: 0,
        limit: 10,
    };
    let parts = subject.client.parts(&at, query).await.unwrap().unwrap();
    assert_eq!((parts.parts.len(), parts.more), (1, false));
    let query = UploadsQuery {
        limit: 10,
        ..UploadsQuery::default()
    };
    let uploads = subject.client.uploads(bucket.id, query).await.unwrap();
    assert_eq!(
        uploads.uploads.iter().map(|u| u.upload).collect::<Vec<_>>(),
        [upload]
    );
    let complete = KeyOp::CompleteUpload {
        upload,
        parts: vec![ChosenPart {
            number: 1,
            etag: "etag of part one".to_owned(),
            checksum: None,
        }],
        etag: "whole-1".to_owned(),
        checksum: None,
        modified_ms: 3,
        conditions: Conditions::default(),
    };
    let first = subject
        .write(subject.id(), &bucket, "key", complete.clone())
        .await;
    assert!(
        matches!(first, Ok(KeyReply::Completed { len: 8, .. })),
        "{first:?}"
    );
    assert_eq!(
        subject.write(subject.id(), &bucket, "key", complete).await,
        first
    );
    let found = subject.client.object(&at, None).await.unwrap().unwrap();
    assert_eq!(
        (found.record.len, found.record.etag.as_str()),
        (8, "whole-1")
    );
}

pub(super) async fn an_aborted_upload_is_gone(subject: &Subject) {
    let bucket = subject.bucket("aborts").await;
    let upload = open(subject, &bucket, "key").await;
    let abort = KeyOp::AbortUpload { upload };
    let outcome = subject
        .write(subject.id(), &bucket, "key", abort.clone())
        .await;
    assert_eq!(outcome, Ok(KeyReply::UploadAborted));
    let outcome = subject.write(subject.id(), &bucket, "key", abort).await;
    assert_eq!(outcome, Err(Refusal::NoSuchUpload));
    let query = PartsQuery {
        upload,
        after: 0,
        limit: 10,
    };
    let at = ObjectKey::new(bucket.id, "key");
    assert_eq!(subject.client.parts(&at, query).await.unwrap(), None);
}

pub(super) async fn a_deletion_that_fails_keeps_the_uploads(subject: &Subject) {
    let bucket = subject.bucket("kept").await;
    let upload = open(subject, &bucket, "key").await;
    let outcome = subject
        .put(&bucket, "other", subject.object("in the way"))
        .await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let name = bucket.name.clone();
    let outcome = subject.root(RootCommand::BeginDeleteBucket { name }).await;
    assert_eq!(outcome, Err(RootRefusal::BucketNotEmpty));
    let query = PartsQuery {
        upload,
        after: 0,
        limit: 10,
    };
    let at = ObjectKey::new(bucket.id, "key");
    let parts = subject.client.parts(&at, query).await.unwrap().unwrap();
    assert_eq!(parts.parts.len(), 1);
}
