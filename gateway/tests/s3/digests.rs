//! Digests that clients name, in headers and trailers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::{EtagKind, RootCommand};
use enfilade_placement::RequestId;
use sha2::Digest;

use crate::support::client::{Payload, call};
use crate::support::cluster::Cluster;

const BODY: &str = "some body of an object";

fn all(body: &[u8]) -> [(&'static str, String); 5] {
    let crc = |algorithm| crc_fast::checksum(algorithm, body).to_be_bytes();
    [
        (
            "x-amz-checksum-crc32",
            STANDARD.encode(&crc(CrcAlgorithm::Crc32IsoHdlc)[4..]),
        ),
        (
            "x-amz-checksum-crc32c",
            STANDARD.encode(&crc(CrcAlgorithm::Crc32Iscsi)[4..]),
        ),
        (
            "x-amz-checksum-crc64nvme",
            STANDARD.encode(crc(CrcAlgorithm::Crc64Nvme)),
        ),
        ("x-amz-checksum-sha1", STANDARD.encode(sha1(body))),
        (
            "x-amz-checksum-sha256",
            STANDARD.encode(sha2::Sha256::digest(body)),
        ),
    ]
}

fn sha1(body: &[u8]) -> [u8; 20] {
    use s3s::crypto::{Checksum, Sha1};
    Sha1::checksum(body)
}

#[tokio::test]
async fn right_checksums_are_kept_and_wrong_ones_leave_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    for ((name, right), (_, wrong)) in all(BODY.as_bytes()).into_iter().zip(all(b"another")) {
        let put = |value: &str| call("PUT", "/bucket/key").body(BODY).header(name, value);
        let trailing = |value: &str, payload| {
            call("PUT", "/bucket/key")
                .body(BODY)
                .payload(payload)
                .trailer(name, value)
        };
        client.send(put(&wrong)).await.refused(400, "BadDigest");
        for payload in [Payload::UnsignedTrailer(8192), Payload::ChunksTrailer(8192)] {
            client
                .send(trailing(&wrong, payload))
                .await
                .refused(400, "BadDigest");
        }
        client.get("/bucket/key").await.refused(404, "NoSuchKey");
        for request in [
            put(&right),
            trailing(&right, Payload::UnsignedTrailer(8192)),
            trailing(&right, Payload::ChunksTrailer(8192)),
        ] {
            let answer = client.send(request).await.expect(200);
            assert_eq!(answer.header(name), right);
            let got =
                client.send(call("GET", "/bucket/key").header("x-amz-checksum-mode", "ENABLED"));
            let got = got.await.expect(200);
            assert_eq!(
                (got.header(name), got.text().as_str()),
                (right.as_str(), BODY)
            );
            assert_eq!(got.header("x-amz-checksum-type"), "FULL_OBJECT");
            assert_eq!(client.get("/bucket/key").await.header(name), "");
            client.delete("/bucket/key").await.expect(204);
        }
    }
}

#[tokio::test]
async fn an_object_without_a_checksum_gets_the_default_of_s3() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    client.put("/bucket/key", BODY).await.expect(200);
    let head = call("HEAD", "/bucket/key").header("x-amz-checksum-mode", "ENABLED");
    let head = client.send(head).await.expect(200);
    assert_eq!(
        head.header("x-amz-checksum-crc64nvme"),
        all(BODY.as_bytes())[2].1
    );
    let attributes = call("GET", "/bucket/key")
        .query("attributes", "")
        .header("x-amz-object-attributes", "Checksum,ObjectSize,ETag");
    let attributes = client.send(attributes).await.expect(200);
    assert_eq!(
        attributes.element("ObjectSize").unwrap(),
        BODY.len().to_string()
    );
    assert_eq!(
        attributes.element("ChecksumCRC64NVME").unwrap(),
        all(BODY.as_bytes())[2].1
    );
}

#[tokio::test]
async fn content_md5_is_compared_for_objects_and_for_deletes() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let md5 = |body: &[u8]| STANDARD.encode(md5::Md5::digest(body));
    let put = |value: &str| {
        call("PUT", "/bucket/key")
            .body(BODY)
            .header("content-md5", value)
    };
    client
        .send(put(&md5(b"another")))
        .await
        .refused(400, "BadDigest");
    client
        .send(put("bm90IGFuIG1kNQ=="))
        .await
        .refused(400, "InvalidDigest");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    client.send(put(&md5(BODY.as_bytes()))).await.expect(200);

    let xml = "<Delete><Object><Key>key</Key></Object></Delete>";
    let delete = |name: &str, value: &str| {
        call("POST", "/bucket")
            .query("delete", "")
            .body(xml)
            .header(name, value)
    };
    client
        .send(delete("content-md5", &md5(b"another")))
        .await
        .refused(400, "BadDigest");
    let (name, value) = &all(b"another")[0];
    client
        .send(delete(name, value))
        .await
        .refused(400, "BadDigest");
    client.get("/bucket/key").await.expect(200);
    let (name, value) = &all(xml.as_bytes())[0];
    client.send(delete(name, value)).await.expect(200);
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn an_announced_trailer_must_come() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let mut put = call("PUT", "/bucket/key")
        .body(BODY)
        .payload(Payload::UnsignedTrailer(8192));
    put.headers.push((
        "x-amz-trailer".to_owned(),
        "x-amz-checksum-crc32".to_owned(),
    ));
    client.send(put).await.refused(400, "IncompleteBody");
    // Also when there is no body at all.
    let mut put = call("PUT", "/bucket/key").payload(Payload::UnsignedTrailer(8192));
    put.headers.push((
        "x-amz-trailer".to_owned(),
        "x-amz-checksum-crc32".to_owned(),
    ));
    client.send(put).await.refused(400, "IncompleteBody");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_body_in_one_large_chunk_is_taken_when_its_chunks_are_not_signed() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let body = vec![5; 8 << 20];
    let crc = &all(&body)[0];
    let put = |payload| {
        let put = call("PUT", "/bucket/key").body(body.clone());
        put.payload(payload).trailer(crc.0, &crc.1)
    };
    let signed = client.send(put(Payload::ChunksTrailer(8 << 20))).await;
    signed.refused(400, "InvalidRequest");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    client
        .send(put(Payload::UnsignedTrailer(8 << 20)))
        .await
        .expect(200);
    assert!(client.get("/bucket/key").await.expect(200).body == body);
    client
        .send(put(Payload::ChunksTrailer(1 << 20)))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_bucket_with_fast_etags_has_no_md5_but_compares_content_md5_and_conditions() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let command = RootCommand::SetEtag {
        name: "bucket".to_owned(),
        etag: EtagKind::Fast,
    };
    let set = cluster.metadata.root(RequestId::new(77), command).await;
    set.unwrap().unwrap();
    let crc = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, BODY.as_bytes());
    let fast = format!("\"{crc:016x}{:016x}-1\"", BODY.len());
    // The view of the gateway follows within its watch.
    let mut etag = String::new();
    while etag != fast {
        let put = client.put("/bucket/key", BODY).await.expect(200);
        etag = put.header("etag").to_owned();
    }
    assert_eq!(client.head("/bucket/key").await.header("etag"), fast);
    let read = |etag: &str| call("GET", "/bucket/key").header("if-none-match", etag);
    client.send(read(&fast)).await.expect(304);
    client.send(read("\"other\"")).await.expect(200);

    let md5 = |body: &[u8]| STANDARD.encode(md5::Md5::digest(body));
    let put = |value: &str| {
        let put = call("PUT", "/bucket/key").body(BODY);
        put.header("content-md5", value)
    };
    client
        .send(put(&md5(b"another")))
        .await
        .refused(400, "BadDigest");
    let right = client.send(put(&md5(BODY.as_bytes()))).await.expect(200);
    assert_eq!(right.header("etag"), fast);

    let create = call("POST", "/bucket/big").query("uploads", "");
    let upload = client.send(create).await.expect(200);
    let upload = upload.element("UploadId").unwrap();
    let part = call("PUT", "/bucket/big")
        .query("partNumber", "1")
        .query("uploadId", &upload)
        .body(BODY);
    let part = client.send(part).await.expect(200);
    assert_eq!(part.header("etag"), fast);
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        fast.replace('"', "&quot;")
    );
    let complete = call("POST", "/bucket/big")
        .query("uploadId", &upload)
        .body(xml);
    client.send(complete).await.expect(200);
    let head = client.head("/bucket/big").await.expect(200);
    let raw = hex::decode(&fast[1..33]).unwrap();
    let whole = format!("\"{}-1\"", hex::encode(md5::Md5::digest(raw)));
    assert_eq!(head.header("etag"), whole);
}
