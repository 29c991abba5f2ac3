//! Bad input: a clear error, and nothing changed.

use aws_sdk_s3::primitives::ByteStream;

use crate::cluster::{Cluster, PASSWORD, USER, client, run};
use crate::{answer, refused};

/// Of S3, of the admin API, and of the command line.
pub(crate) async fn are_clear(cluster: &Cluster) {
    of_s3(cluster).await;
    of_the_admin_api(cluster).await;
}

async fn of_s3(cluster: &Cluster) {
    let good = cluster.client();
    good.create_bucket()
        .bucket("refusals")
        .send()
        .await
        .unwrap();
    let wrong = client(cluster.s3, USER, "another-password");
    let signature = refused(wrong.list_buckets().send().await);
    assert_eq!(signature, answer(403, "SignatureDoesNotMatch"));
    let unknown = client(cluster.s3, "nobody", PASSWORD);
    assert_eq!(
        refused(unknown.list_buckets().send().await),
        answer(403, "InvalidAccessKeyId")
    );

    let policy = good.get_bucket_policy().bucket("refusals").send().await;
    assert_eq!(refused(policy), answer(501, "NotImplemented"));
    let long = "k".repeat(1025);
    let body = ByteStream::from_static(b"x");
    let put = good
        .put_object()
        .bucket("refusals")
        .key(long)
        .body(body)
        .send()
        .await;
    assert_eq!(refused(put), answer(400, "KeyTooLongError"));
    let left = good
        .list_objects_v2()
        .bucket("refusals")
        .send()
        .await
        .unwrap();
    assert_eq!(left.key_count(), Some(0));
}

async fn of_the_admin_api(cluster: &Cluster) {
    let url = format!("http://{}", cluster.admin);
    let status = cluster.status().await;
    assert_eq!(status["tolerance"]["m"], 2);
    assert_eq!(status["drives"]["total"], 24);
    let volumes = cluster.admin(&["volume", "list"]).await.unwrap();
    assert!(!volumes.as_array().unwrap().is_empty());
    let token = cluster.admin(&["cluster", "token"]).await.unwrap();
    assert!(
        token["token"]
            .as_str()
            .unwrap()
            .starts_with(status["cluster"].as_str().unwrap())
    );
    let text = run(&["status", "--admin", &url]).await;
    assert!(String::from_utf8_lossy(&text.stdout).contains("enclosures 1 - 2 - 3"));

    let stop = cluster
        .admin(&["enclosure", "stop", "1"])
        .await
        .unwrap_err();
    assert!(stop.contains("--processes"), "{stop}");
    let mut wrong = crate::cluster::program(&["status", "--admin", &url]);
    let wrong = wrong
        .env("ENFILADE_ROOT_PASSWORD", "another-password")
        .output()
        .await
        .unwrap();
    let complaint = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && complaint.contains("root credentials"),
        "{complaint}"
    );
}
