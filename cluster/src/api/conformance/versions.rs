//! Claims about versions and counts.

use enfilade_placement::{BucketId, Stamp};

use crate::api::command::{Conditions, KeyOp, KeyReply, Versioning, WriteRequest};
use crate::api::key::ObjectKey;
use crate::api::query::{Usage, VersionsQuery};
use crate::api::record::VersionId;
use crate::api::root::{Bucket, RootCommand, RootReply};

use super::Subject;

async fn set(subject: &Subject, bucket: &Bucket, versioning: Versioning) -> Bucket {
    let name = bucket.name.clone();
    let command = RootCommand::SetVersioning { name, versioning };
    match subject.client.root(subject.id(), command).await.unwrap() {
        Ok(RootReply::Bucket(bucket)) => bucket,
        other => panic!("{other:?}"),
    }
}

async fn delete(subject: &Subject, bucket: &Bucket, version: Option<VersionId>) -> KeyReply {
    let op = KeyOp::Delete {
        version,
        conditions: Conditions::default(),
        modified_ms: 1,
    };
    let request = WriteRequest {
        request: subject.id(),
        bucket: bucket.id,
        revision: bucket.revision,
        key: "key".to_owned(),
        op,
    };
    subject.client.write(request).await.unwrap().unwrap()
}

/// Stamps in the order of the listing, in pages of one.
async fn listed(subject: &Subject, bucket: BucketId) -> Vec<Stamp> {
    let mut query = VersionsQuery {
        limit: 1,
        ..VersionsQuery::default()
    };
    let mut stamps = Vec::new();
    loop {
        let page = subject
            .client
            .versions(bucket, query.clone())
            .await
            .unwrap();
        stamps.extend(page.versions.iter().map(|one| one.object.stamp));
        if page.next.is_none() {
            return stamps;
        }
        query.after = page.next;
    }
}

pub(super) async fn versions_are_kept_listed_and_counted(subject: &Subject) {
    let made = subject.bucket("versions").await;
    let put = async |bucket: &Bucket, bytes| {
        let object = subject.object(bytes);
        match subject.put(bucket, "key", object).await {
            Ok(KeyReply::Put { stamp, versioned }) => (stamp, versioned),
            other => panic!("{other:?}"),
        }
    };
    let (null, versioned) = put(&made, "null").await;
    assert!(!versioned);
    let bucket = set(subject, &made, Versioning::Enabled).await;
    assert_eq!(
        (bucket.versioning, bucket.pending),
        (Versioning::Enabled, None)
    );
    assert!(bucket.revision > made.revision);
    let (second, versioned) = put(&bucket, "second").await;
    assert!(versioned);
    let KeyReply::Deleted {
        marker: Some(marker),
        existed: true,
    } = delete(subject, &bucket, None).await
    else {
        panic!("no marker");
    };
    assert_eq!(listed(subject, bucket.id).await, [marker, second, null]);
    let at = ObjectKey::new(bucket.id, "key");
    for (version, bytes) in [(VersionId::Null, "null"), (second.into(), "second")] {
        let found = subject.client.object(&at, Some(version)).await.unwrap();
        assert_eq!(found.unwrap().inline, bytes);
    }
    let usage = subject.client.usage(bucket.id).await.unwrap();
    let expected = Usage {
        older: 2,
        older_bytes: 10,
        markers: 1,
        ..Usage::default()
    };
    assert_eq!(usage, expected);
    delete(subject, &bucket, Some(marker.into())).await;
    delete(subject, &bucket, Some(VersionId::Null)).await;
    assert_eq!(listed(subject, bucket.id).await, [second]);
    let usage = subject.client.usage(bucket.id).await.unwrap();
    let expected = Usage {
        objects: 1,
        bytes: 6,
        ..Usage::default()
    };
    assert_eq!(usage, expected);
}
