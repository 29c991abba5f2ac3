//! Claims about buckets and objects.

use super::Subject;
use crate::api::command::{Conditions, ETags, KeyOp, KeyReply, Refusal};
use crate::api::key::ObjectKey;
use crate::api::query::{ListEntry, ListQuery};
use crate::api::root::{RootCommand, RootRefusal, RootReply};

use std::time::Duration;

pub(super) async fn a_bucket_is_created_once_and_seen_at_once(subject: &Subject) {
    let bucket = subject.bucket("created").await;
    let view = subject.client.watch(0, Duration::ZERO).await.unwrap();
    assert_eq!(view.buckets.get(&bucket.name), Some(&bucket));
    let (name, owner) = (bucket.name.clone(), "other".to_owned());
    let again = subject
        .root(RootCommand::CreateBucket {
            name,
            owner,
            created_ms: 2,
        })
        .await;
    assert_eq!(again, Err(RootRefusal::BucketExists(bucket)));
}

pub(super) async fn an_object_reads_back_with_its_bytes(subject: &Subject) {
    let bucket = subject.bucket("objects").await;
    let at = ObjectKey::new(bucket.id, "a/b\0c");
    assert_eq!(subject.client.object(&at, None).await.unwrap(), None);
    let object = subject.object("some bytes");
    let Ok(KeyReply::Put {
        stamp,
        versioned: false,
    }) = subject.put(&bucket, &at.key, object.clone()).await
    else {
        panic!("the object was put");
    };
    let found = subject.client.object(&at, None).await.unwrap().unwrap();
    assert_eq!(
        (found.record.stamp, &found.record.etag),
        (stamp, &object.etag)
    );
    assert_eq!((found.record.len, &found.inline), (10, &object.inline));
    let inline = subject.client.inline(&at, object.blob.id).await.unwrap();
    assert_eq!(inline, Some(object.inline));
    let blobs = subject.client.blobs(&at, stamp, 0, 10).await.unwrap();
    assert!(blobs.len() <= 1, "{blobs:?}");
    assert!(!subject.client.is_empty(bucket.id).await.unwrap());
}

pub(super) async fn a_repeated_request_is_answered_as_the_first_time(subject: &Subject) {
    let bucket = subject.bucket("repeats").await;
    let object = subject.object("once");
    let (id, op) = (
        object.blob.id.into(),
        KeyOp::Put {
            object,
            conditions: Conditions {
                if_match: None,
                if_none_match: Some(ETags::Any),
            },
        },
    );
    let first = subject.write(id, &bucket, "key", op.clone()).await;
    assert!(matches!(first, Ok(KeyReply::Put { .. })), "{first:?}");
    assert_eq!(subject.write(id, &bucket, "key", op.clone()).await, first);
    let other = subject.write(subject.id(), &bucket, "key", op).await;
    assert_eq!(other, Err(Refusal::PreconditionFailed));
}

pub(super) async fn conditions_are_decided_against_the_current_state(subject: &Subject) {
    let bucket = subject.bucket("conditions").await;
    let put = async |bytes, if_match| {
        let conditions = Conditions {
            if_match,
            if_none_match: None,
        };
        let op = KeyOp::Put {
            object: subject.object(bytes),
            conditions,
        };
        subject.write(subject.id(), &bucket, "key", op).await
    };
    let these = |etag: &str| Some(ETags::These(vec![etag.to_owned()]));
    assert_eq!(
        put("one", these("etag of none")).await,
        Err(Refusal::NoSuchKey)
    );
    assert!(put("one", None).await.is_ok());
    assert_eq!(
        put("two", these("etag of two")).await,
        Err(Refusal::PreconditionFailed)
    );
    assert!(put("two", these("etag of one")).await.is_ok());
    let found = subject
        .client
        .object(&ObjectKey::new(bucket.id, "key"), None)
        .await
        .unwrap();
    assert_eq!(found.unwrap().inline, "two");
}

pub(super) async fn a_listing_folds_and_pages_in_order(subject: &Subject) {
    let bucket = subject.bucket("listing").await;
    for key in ["b/2", "a", "b/1", "c/x/y", "d"] {
        assert!(subject.put(&bucket, key, subject.object("x")).await.is_ok());
    }
    let mut names = Vec::new();
    let mut query = ListQuery {
        delimiter: Some("/".to_owned()),
        limit: 2,
        ..ListQuery::default()
    };
    for _ in 0..10 {
        let page = subject.client.list(bucket.id, query.clone()).await.unwrap();
        assert!(page.entries.len() <= 2);
        names.extend(page.entries.into_iter().map(|entry| match entry {
            ListEntry::Object(object) => object.key,
            ListEntry::Prefix(prefix) => prefix,
        }));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b/", "c/", "d"]);
    let query = ListQuery {
        prefix: "b/".to_owned(),
        limit: 1000,
        ..ListQuery::default()
    };
    assert_eq!(
        subject
            .client
            .list(bucket.id, query)
            .await
            .unwrap()
            .entries
            .len(),
        2
    );
}

pub(super) async fn a_deleted_object_is_gone(subject: &Subject) {
    let bucket = subject.bucket("deletes").await;
    assert!(
        subject
            .put(&bucket, "key", subject.object("x"))
            .await
            .is_ok()
    );
    for existed in [true, false] {
        let conditions = Conditions::default();
        let op = KeyOp::Delete {
            version: None,
            conditions,
            modified_ms: 9,
        };
        let outcome = subject.write(subject.id(), &bucket, "key", op).await;
        assert_eq!(
            outcome,
            Ok(KeyReply::Deleted {
                marker: None,
                existed
            })
        );
    }
    let at = ObjectKey::new(bucket.id, "key");
    assert_eq!(subject.client.object(&at, None).await.unwrap(), None);
    assert!(subject.client.is_empty(bucket.id).await.unwrap());
}

pub(super) async fn a_bucket_that_holds_something_is_not_deleted(subject: &Subject) {
    let bucket = subject.bucket("held").await;
    assert!(
        subject
            .put(&bucket, "key", subject.object("x"))
            .await
            .is_ok()
    );
    let name = bucket.name.clone();
    let outcome = subject
        .root(RootCommand::BeginDeleteBucket { name: name.clone() })
        .await;
    assert_eq!(outcome, Err(RootRefusal::BucketNotEmpty));
    let view = subject.client.watch(0, Duration::ZERO).await.unwrap();
    let bucket = view.buckets.get(&name).unwrap();
    assert!(!bucket.deleting);
    let outcome = subject.put(bucket, "other", subject.object("y")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
}

pub(super) async fn an_empty_bucket_is_deleted_and_takes_no_more_writes(subject: &Subject) {
    let bucket = subject.bucket("emptied").await;
    let name = bucket.name.clone();
    let outcome = subject
        .root(RootCommand::BeginDeleteBucket { name: name.clone() })
        .await;
    assert_eq!(outcome, Ok(RootReply::Done));
    let view = subject.client.watch(0, Duration::ZERO).await.unwrap();
    assert_eq!(view.buckets.get(&name), None);
    let outcome = subject.put(&bucket, "key", subject.object("x")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    let outcome = subject.root(RootCommand::BeginDeleteBucket { name }).await;
    assert!(
        matches!(outcome, Err(RootRefusal::NotFound(_))),
        "{outcome:?}"
    );
}
