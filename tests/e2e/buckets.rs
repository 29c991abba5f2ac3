//! Buckets.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;

use crate::{answer, refused};

/// Create, head, list, location, delete; twice, and when not empty.
pub(crate) async fn come_and_go(client: &Client) {
    for name in ["films", "music"] {
        client.create_bucket().bucket(name).send().await.unwrap();
        client.head_bucket().bucket(name).send().await.unwrap();
    }
    let listed = client.list_buckets().send().await.unwrap();
    let names: Vec<&str> = listed
        .buckets()
        .iter()
        .filter_map(|bucket| bucket.name())
        .collect();
    assert!(
        names.contains(&"films") && names.contains(&"music"),
        "{names:?}"
    );
    assert!(
        listed
            .buckets()
            .iter()
            .all(|bucket| bucket.creation_date().is_some())
    );
    client
        .get_bucket_location()
        .bucket("films")
        .send()
        .await
        .unwrap();

    let again = refused(client.create_bucket().bucket("films").send().await);
    assert_eq!(again, answer(409, "BucketAlreadyOwnedByYou"));
    let absent = refused(client.head_bucket().bucket("absent").send().await);
    assert_eq!(absent.0, 404);
    let unfit = refused(client.create_bucket().bucket("Unfit_Name").send().await);
    assert_eq!(unfit, answer(400, "InvalidBucketName"));

    let body = ByteStream::from_static(b"a film");
    client
        .put_object()
        .bucket("films")
        .key("a")
        .body(body)
        .send()
        .await
        .unwrap();
    let full = refused(client.delete_bucket().bucket("films").send().await);
    assert_eq!(full, answer(409, "BucketNotEmpty"));
    client
        .delete_object()
        .bucket("films")
        .key("a")
        .send()
        .await
        .unwrap();
    client.delete_bucket().bucket("films").send().await.unwrap();
    assert_eq!(
        refused(client.head_bucket().bucket("films").send().await).0,
        404
    );
    let body = ByteStream::from_static(b"a film");
    let put = client
        .put_object()
        .bucket("films")
        .key("a")
        .body(body)
        .send()
        .await;
    assert_eq!(refused(put), answer(404, "NoSuchBucket"));

    // Under its old name a bucket begins empty.
    client.create_bucket().bucket("films").send().await.unwrap();
    let listed = client
        .list_objects_v2()
        .bucket("films")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.key_count(), Some(0));
    client.delete_bucket().bucket("films").send().await.unwrap();
}
