//! Buckets, and deleting many objects.

use crate::support::client::call;
use crate::support::cluster::Cluster;

#[tokio::test]
async fn a_bucket_is_made_once_found_listed_and_deleted_when_empty() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.head("/bucket").await.expect(404);
    let europe = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint>\
                  </CreateBucketConfiguration>";
    client
        .send(call("PUT", "/bucket").body(europe))
        .await
        .expect(200);
    client
        .send(call("PUT", "/bucket"))
        .await
        .refused(409, "BucketAlreadyOwnedByYou");
    client.head("/bucket").await.expect(200);
    let all = client.get("/").await.expect(200);
    assert_eq!(all.elements("Name"), ["bucket"]);
    let location = client
        .send(call("GET", "/bucket").query("location", ""))
        .await
        .expect(200);
    assert!(
        location.text().contains("LocationConstraint"),
        "{}",
        location.text()
    );
    let versioning = call("GET", "/bucket").query("versioning", "");
    assert!(
        !client
            .send(versioning)
            .await
            .expect(200)
            .text()
            .contains("Status")
    );

    client.put("/bucket/key", "x").await.expect(200);
    client
        .delete("/bucket")
        .await
        .refused(409, "BucketNotEmpty");
    client.put("/bucket/key", "still open").await.expect(200);
    client.delete("/bucket/key").await.expect(204);
    client.delete("/bucket").await.expect(204);
    client.delete("/bucket").await.refused(404, "NoSuchBucket");
    client
        .put("/bucket/key", "x")
        .await
        .refused(404, "NoSuchBucket");
    client.get("/bucket/key").await.refused(404, "NoSuchBucket");
    client.send(call("PUT", "/bucket")).await.expect(200);
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    client
        .put("/bucket/key", "in the new one")
        .await
        .expect(200);
}

#[tokio::test]
async fn names_that_are_no_bucket_names_are_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for name in ["ab", "UPPER", "under_score", "-dash", "a..b", "192.168.1.1"] {
        client
            .send(call("PUT", &format!("/{name}")))
            .await
            .refused(400, "InvalidBucketName");
    }
}

#[tokio::test]
async fn another_owner_than_expected_is_denied() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/key").header("x-amz-expected-bucket-owner", "111122223333");
    client.send(put).await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn many_objects_are_deleted_at_once_with_each_error_by_itself() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    for key in ["a", "b", "c"] {
        client.put(&format!("/bucket/{key}"), key).await.expect(200);
    }
    let object = |key: &str| format!("<Object><Key>{key}</Key></Object>");
    let delete = |inner: String| {
        call("POST", "/bucket")
            .query("delete", "")
            .body(format!("<Delete>{inner}</Delete>"))
    };
    let long = "k".repeat(1025);
    let some = [object("a"), object("missing"), object(&long)].concat();
    let answer = client.send(delete(some)).await.expect(200);
    assert_eq!(answer.elements("Deleted").len(), 2, "{}", answer.text());
    assert_eq!(answer.elements("Code"), ["KeyTooLongError"]);
    let quiet = format!("<Quiet>true</Quiet>{}", object("b"));
    let answer = client.send(delete(quiet)).await.expect(200);
    assert!(answer.elements("Deleted").is_empty(), "{}", answer.text());
    client.get("/bucket/a").await.refused(404, "NoSuchKey");
    client.get("/bucket/b").await.refused(404, "NoSuchKey");
    client.get("/bucket/c").await.expect(200);

    let many = object("x").repeat(1001);
    client.send(delete(many)).await.refused(400, "MalformedXML");
    client
        .send(delete(String::new()))
        .await
        .refused(400, "MalformedXML");
    let thousand: String = (0..1000).map(|n| object(&format!("x{n}"))).collect();
    let answer = client.send(delete(thousand)).await.expect(200);
    assert_eq!(answer.elements("Deleted").len(), 1000);
}

#[tokio::test]
async fn malformed_xml_is_told() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    for xml in [
        "<Delete><Object>",
        "not xml",
        "<Other/>",
        "<Delete><Object></Object></Delete>",
    ] {
        let delete = call("POST", "/bucket").query("delete", "").body(xml);
        client.send(delete).await.refused(400, "MalformedXML");
    }
    let create = call("PUT", "/other").body("<CreateBucketConfiguration>");
    client.send(create).await.refused(400, "MalformedXML");
    client.head("/other").await.expect(404);
}
