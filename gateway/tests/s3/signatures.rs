//! Who gets in, and who does not.

use crate::support::client::{Payload, call};
use crate::support::cluster::Cluster;

#[tokio::test]
async fn a_wrong_signature_an_unknown_key_and_a_skewed_clock_are_told_apart() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let mut wrong = client.clone();
    wrong.signer.secret_key = "another-secret-key".to_owned();
    wrong
        .put("/bucket/key", "x")
        .await
        .refused(403, "SignatureDoesNotMatch");
    let mut unknown = client.clone();
    unknown.signer.access_key = "nobody".to_owned();
    unknown
        .put("/bucket/key", "x")
        .await
        .refused(403, "InvalidAccessKeyId");
    for skew in [-3600, 3600] {
        let mut skewed = client.clone();
        skewed.signer.skew = skew;
        skewed
            .put("/bucket/key", "x")
            .await
            .refused(403, "RequestTimeTooSkewed");
    }
    let mut anonymous = client.signed(&call("GET", "/bucket/key"));
    anonymous.headers_mut().clear();
    let host = client.address.to_string().parse().unwrap();
    anonymous.headers_mut().insert("host", host);
    client
        .exchange(anonymous)
        .await
        .refused(403, "AccessDenied");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn presigned_urls_work_until_they_expire_and_only_as_signed() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/k\u{e9}y")
        .query("x-amz-meta-colour", "red")
        .body("hello");
    client
        .exchange(client.presigned(&put, 60))
        .await
        .expect(200);
    let get = call("GET", "/bucket/k\u{e9}y").query("response-content-type", "text/html");
    let got = client
        .exchange(client.presigned(&get, 60))
        .await
        .expect(200);
    assert_eq!(
        (got.text().as_str(), got.header("content-type")),
        ("hello", "text/html")
    );
    assert_eq!(got.header("x-amz-meta-colour"), "red");

    let mut past = client.clone();
    past.signer.skew = -120;
    let expired = past.presigned(&get, 60);
    client.exchange(expired).await.refused(403, "AccessDenied");
    // Whoever holds a URL for a put must not make a copy of another object with it.
    let mut copy = call("PUT", "/bucket/mine");
    copy.unsigned_headers.push((
        "x-amz-copy-source".to_owned(),
        "/bucket/k%C3%A9y".to_owned(),
    ));
    client
        .exchange(client.presigned(&copy, 60))
        .await
        .refused(403, "AccessDenied");
    client.get("/bucket/mine").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_body_that_is_not_what_was_signed_leaves_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let mut request = client.signed(&call("PUT", "/bucket/key").body("as signed"));
    *request.body_mut() = http_body_util::Full::new("as forged".into());
    client
        .exchange(request)
        .await
        .refused(400, "XAmzContentSHA256Mismatch");
    let put = call("PUT", "/bucket/key").body("0123456789".repeat(2000));
    let mut request = client.signed(&put.payload(Payload::Chunks(8192)));
    let mut body = body_of(request.body_mut()).await;
    let at = body.len() / 2;
    body[at] ^= 1;
    *request.body_mut() = http_body_util::Full::new(body.into());
    client
        .exchange(request)
        .await
        .refused(403, "SignatureDoesNotMatch");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

async fn body_of(body: &mut http_body_util::Full<bytes::Bytes>) -> Vec<u8> {
    use http_body_util::BodyExt;
    body.collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test]
async fn what_is_not_offered_is_not_implemented_and_changes_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    client.put("/bucket/key", "kept").await.expect(200);
    for refused in [
        call("PUT", "/bucket").query("something-new", ""),
        call("DELETE", "/bucket").query("metadataConfiguration", ""),
        call("GET", "/bucket").query("policy", ""),
        call("PUT", "/bucket/key").query("renameObject", ""),
        call("PUT", "/bucket/key")
            .query("tagging", "")
            .body("<Tagging/>"),
        call("PUT", "/bucket/key").header("x-amz-server-side-encryption", "AES256"),
        call("PUT", "/bucket/key").header("x-amz-acl", "public-read"),
        call("PUT", "/bucket/key").header("x-amz-tagging", "a=b"),
        call("PUT", "/bucket/key").header("x-amz-object-lock-mode", "GOVERNANCE"),
        call("PUT", "/bucket/key").header("x-amz-storage-class", "GLACIER"),
        call("POST", "/bucket").header("content-type", "multipart/form-data; boundary=x"),
    ] {
        client.send(refused).await.refused(501, "NotImplemented");
    }
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "kept");
}

#[tokio::test]
async fn buckets_are_hosts_under_a_domain_and_paths_elsewhere() {
    let cluster = Cluster::with(|settings| settings.s3.domains.push("s3.test".to_owned())).await;
    let client = cluster.bucket("bucket").await;
    let mut put = call("PUT", "/key").body("hosted");
    put.host = Some(format!("bucket.s3.test:{}", client.address.port()));
    client.send(put).await.expect(200);
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "hosted");
    let mut get = call("GET", "/bucket/key");
    get.host = Some("localhost:9000".to_owned());
    assert_eq!(client.send(get).await.expect(200).text(), "hosted");
}
