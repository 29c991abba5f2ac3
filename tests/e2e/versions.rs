//! Versions, and what a bucket holds by count.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use crate::cluster::Cluster;
use crate::{answer, refused};

/// Switched on, written, hidden, listed, read by id, deleted by id; counted at every step.
pub(crate) async fn are_kept_and_counted(cluster: &Cluster) {
    let client = cluster.client();
    client
        .create_bucket()
        .bucket("versions")
        .send()
        .await
        .unwrap();
    let wanted = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    client
        .put_bucket_versioning()
        .bucket("versions")
        .versioning_configuration(wanted)
        .send()
        .await
        .unwrap();
    let mut ids = Vec::new();
    for len in [10, 300_000] {
        let put = client.put_object().bucket("versions").key("key");
        let body = ByteStream::from(vec![b'x'; len]);
        let put = put.body(body).send().await.unwrap();
        ids.push(put.version_id().unwrap().to_owned());
    }
    let deleted = client.delete_object().bucket("versions").key("key");
    let deleted = deleted.send().await.unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    let hidden = client.get_object().bucket("versions").key("key");
    assert_eq!(refused(hidden.send().await), answer(404, "NoSuchKey"));
    let listed = client.list_object_versions().bucket("versions");
    let listed = listed.send().await.unwrap();
    let versions = listed
        .versions()
        .iter()
        .map(|one| one.version_id().unwrap());
    assert!(versions.eq(ids.iter().rev()));
    assert_eq!(listed.delete_markers().len(), 1);
    let usage = async |field: &str| {
        let usage = cluster.admin(&["bucket", "du", "versions"]).await.unwrap();
        usage[field].as_i64().unwrap()
    };
    assert_eq!(usage("objects").await, 0);
    assert_eq!(usage("older_bytes").await, 300_010);
    assert_eq!(usage("delete_markers").await, 1);
    let old = client.get_object().bucket("versions").key("key");
    let old = old.version_id(&ids[0]).send().await.unwrap();
    assert_eq!(old.body.collect().await.unwrap().to_vec().len(), 10);
    for id in [deleted.version_id().unwrap(), &ids[1]] {
        let gone = client.delete_object().bucket("versions").key("key");
        gone.version_id(id).send().await.unwrap();
    }
    let head = client.head_object().bucket("versions").key("key");
    let head = head.send().await.unwrap();
    assert_eq!(head.version_id(), Some(ids[0].as_str()));
    assert_eq!((usage("objects").await, usage("bytes").await), (1, 10));
    assert_eq!(usage("older_versions").await, 0);
    assert!(cluster.admin(&["bucket", "du", "absent"]).await.is_err());
}
