//! Multipart uploads and copies through the whole stack.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};

use crate::support::client::{Answer, Call, Client, Payload, call};
use crate::support::cluster::Cluster;

const PART: usize = 5 << 20;

fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect::<Vec<u8>>().into()
}

async fn begin(client: &Client, path: &str) -> String {
    let create = call("POST", path)
        .query("uploads", "")
        .header("x-amz-meta-colour", "red");
    client
        .send(create)
        .await
        .expect(200)
        .element("UploadId")
        .unwrap()
}

fn part(path: &str, upload: &str, number: &str) -> Call {
    call("PUT", path)
        .query("partNumber", number)
        .query("uploadId", upload)
        .payload(Payload::Unsigned)
}

fn complete(path: &str, upload: &str, parts: &[(&str, &str)]) -> Call {
    let part = |(number, etag): &(&str, &str)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let parts: String = parts.iter().map(part).collect();
    let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    call("POST", path).query("uploadId", upload).body(xml)
}

fn etag(answer: &Answer) -> String {
    answer.header("etag").trim_matches('"').to_owned()
}

#[tokio::test]
async fn parts_become_an_object_and_a_repeat_hears_the_same() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let upload = begin(&client, "/bucket/key").await;
    let bodies = [noise(PART, 1), noise(PART + 1000, 2), noise(77, 3)];
    let mut etags = Vec::new();
    for (number, body) in ["1", "2", "7"].iter().zip(&bodies) {
        // Put twice: the second replaces the first.
        let first = part("/bucket/key", &upload, number).body("replaced");
        client.send(first).await.expect(200);
        let put = part("/bucket/key", &upload, number).body(body.clone());
        etags.push(etag(&client.send(put).await.expect(200)));
    }
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    let listed = call("GET", "/bucket/key")
        .query("uploadId", &upload)
        .query("max-parts", "2");
    let listed = client.send(listed).await.expect(200);
    assert_eq!(listed.elements("PartNumber"), ["1", "2"]);
    assert_eq!(listed.element("IsTruncated").as_deref(), Some("true"));
    assert_eq!(listed.element("NextPartNumberMarker").as_deref(), Some("2"));
    let uploads = client
        .send(call("GET", "/bucket").query("uploads", ""))
        .await
        .expect(200);
    assert_eq!(uploads.elements("UploadId"), [upload.as_str()]);

    let parts = [("1", &*etags[0]), ("2", &*etags[1]), ("7", &*etags[2])];
    let done = client
        .send(complete("/bucket/key", &upload, &parts))
        .await
        .expect(200);
    let md5s: Vec<u8> = bodies
        .iter()
        .flat_map(|body| Md5::digest(body).to_vec())
        .collect();
    let expected = format!("{}-3", hex::encode(Md5::digest(&md5s)));
    assert_eq!(done.element("ETag").unwrap(), format!("\"{expected}\""));
    let again = client
        .send(complete("/bucket/key", &upload, &parts))
        .await
        .expect(200);
    assert_eq!(again.element("ETag"), done.element("ETag"));

    let whole = bodies.concat();
    let get = call("GET", "/bucket/key").header("x-amz-checksum-mode", "ENABLED");
    let got = client.send(get).await.expect(200);
    assert!(got.body == whole);
    assert_eq!(etag(&got), expected);
    assert_eq!(got.header("x-amz-meta-colour"), "red");
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &whole);
    assert_eq!(
        got.header("x-amz-checksum-crc64nvme"),
        STANDARD.encode(crc.to_be_bytes())
    );
    let second = call("GET", "/bucket/key").query("partNumber", "2");
    let second = client.send(second).await.expect(206);
    assert!(second.body == bodies[1]);
    assert_eq!(second.header("x-amz-mp-parts-count"), "3");
    let across = call("GET", "/bucket/key").header("range", "bytes=5242870-5242889");
    assert_eq!(
        client.send(across).await.expect(206).body,
        whole[5_242_870..5_242_890]
    );
    let uploads = client
        .send(call("GET", "/bucket").query("uploads", ""))
        .await
        .expect(200);
    assert!(uploads.elements("UploadId").is_empty());
}

#[tokio::test]
async fn what_cannot_be_completed_is_told_and_makes_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let upload = begin(&client, "/bucket/key").await;
    let mut etags = Vec::new();
    for number in ["1", "2"] {
        let put = part("/bucket/key", &upload, number).body("small");
        etags.push(etag(&client.send(put).await.expect(200)));
    }
    let (one, two) = (etags[0].as_str(), etags[1].as_str());
    for (parts, status, code) in [
        (vec![("1", one), ("2", two)], 400, "EntityTooSmall"),
        (vec![("2", two), ("1", one)], 400, "InvalidPartOrder"),
        (
            vec![("1", "00000000000000000000000000000000")],
            400,
            "InvalidPart",
        ),
        (vec![("3", one)], 400, "InvalidPart"),
        (vec![], 400, "MalformedXML"),
    ] {
        let answer = client.send(complete("/bucket/key", &upload, &parts)).await;
        answer.refused(status, code);
    }
    let other = "0".repeat(32);
    for missing in [other.as_str(), "no-upload"] {
        let answer = client
            .send(complete("/bucket/key", missing, &[("1", one)]))
            .await;
        answer.refused(404, "NoSuchUpload");
        let put = part("/bucket/key", missing, "1").body("x");
        client.send(put).await.refused(404, "NoSuchUpload");
    }
    let elsewhere = complete("/bucket/other", &upload, &[("1", one)]);
    client.send(elsewhere).await.refused(404, "NoSuchUpload");
    for number in ["0", "10001", "-1", "x"] {
        let put = part("/bucket/key", &upload, number).body("x");
        client.send(put).await.refused(400, "InvalidArgument");
    }
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    // A single part may be small, and conditions hold for completions.
    client.put("/bucket/key", "there").await.expect(200);
    let only = complete("/bucket/key", &upload, &[("1", one)]).header("if-none-match", "*");
    client.send(only).await.refused(412, "PreconditionFailed");
    client
        .send(complete("/bucket/key", &upload, &[("1", one)]))
        .await
        .expect(200);
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "small");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let upload = begin(&client, "/bucket/key").await;
    let put = part("/bucket/key", &upload, "1").body("x");
    client.send(put.clone()).await.expect(200);
    let abort = || call("DELETE", "/bucket/key").query("uploadId", &upload);
    client.send(abort()).await.expect(204);
    client.send(abort()).await.refused(404, "NoSuchUpload");
    client.send(put).await.refused(404, "NoSuchUpload");
    client.delete("/bucket").await.expect(204);
}

#[tokio::test]
async fn composite_checksums_follow_from_the_parts() {
    use sha2::Sha256;
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let create = call("POST", "/bucket/key")
        .query("uploads", "")
        .header("x-amz-checksum-algorithm", "SHA256");
    let created = client.send(create).await.expect(200);
    assert_eq!(created.header("x-amz-checksum-type"), "COMPOSITE");
    let upload = created.element("UploadId").unwrap();
    let digest = STANDARD.encode(Sha256::digest(b"part"));
    let wrong = part("/bucket/key", &upload, "1").body("part");
    let wrong = wrong.header("x-amz-checksum-crc32", "AAAAAA==");
    client.send(wrong).await.refused(400, "InvalidRequest");
    let put = part("/bucket/key", &upload, "1").body("part");
    let put = client
        .send(put.header("x-amz-checksum-sha256", &digest))
        .await
        .expect(200);
    assert_eq!(put.header("x-amz-checksum-sha256"), digest);
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag>\
         <ChecksumSHA256>{digest}</ChecksumSHA256></Part></CompleteMultipartUpload>",
        etag(&put)
    );
    let done = call("POST", "/bucket/key")
        .query("uploadId", &upload)
        .body(xml);
    let done = client.send(done).await.expect(200);
    let of_parts = STANDARD.encode(Sha256::digest(Sha256::digest(b"part")));
    assert_eq!(
        done.element("ChecksumSHA256"),
        Some(format!("{of_parts}-1"))
    );
    assert_eq!(done.element("ChecksumType").as_deref(), Some("COMPOSITE"));
}

#[tokio::test]
async fn a_copy_is_an_object_of_its_own() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    client.send(call("PUT", "/target")).await.expect(200);
    let body = noise(300_000, 9);
    let put = call("PUT", "/bucket/so\u{fc}rce +")
        .body(body.clone())
        .header("x-amz-meta-a", "1");
    let source = etag(&client.send(put).await.expect(200));
    let copy =
        |path: &str| call("PUT", path).header("x-amz-copy-source", "/bucket/so%C3%BCrce%20%2B");
    let copied = client.send(copy("/target/copy")).await.expect(200);
    assert_eq!(copied.element("ETag").unwrap(), format!("\"{source}\""));
    client.delete("/bucket/so\u{fc}rce +").await.expect(204);
    let got = client.get("/target/copy").await.expect(200);
    assert!(got.body == body);
    assert_eq!(got.header("x-amz-meta-a"), "1");
    client
        .send(copy("/target/other"))
        .await
        .refused(404, "NoSuchKey");
}

#[tokio::test]
async fn copies_replace_metadata_and_have_conditions() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/key")
        .body("x")
        .header("x-amz-meta-a", "1");
    let etag = client.send(put).await.expect(200).header("etag").to_owned();
    let copy = |path: &str| call("PUT", path).header("x-amz-copy-source", "bucket/key");
    client
        .send(copy("/bucket/key"))
        .await
        .refused(400, "InvalidRequest");
    let replace = copy("/bucket/key")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-b", "2")
        .header("content-type", "text/plain");
    client.send(replace).await.expect(200);
    let head = client.head("/bucket/key").await.expect(200);
    assert_eq!(
        (head.header("x-amz-meta-a"), head.header("x-amz-meta-b")),
        ("", "2")
    );
    assert_eq!(head.header("content-type"), "text/plain");
    for (name, value, status) in [
        ("x-amz-copy-source-if-match", etag.as_str(), 200),
        ("x-amz-copy-source-if-match", "\"other\"", 412),
        ("x-amz-copy-source-if-none-match", &etag, 412),
        (
            "x-amz-copy-source-if-modified-since",
            "Fri, 01 Jan 2100 00:00:00 GMT",
            412,
        ),
        (
            "x-amz-copy-source-if-unmodified-since",
            "Sat, 01 Jan 2000 00:00:00 GMT",
            412,
        ),
        ("if-none-match", "*", 412),
    ] {
        client
            .send(copy("/bucket/copy").header(name, value))
            .await
            .expect(status);
    }
}

#[tokio::test]
async fn parts_are_copied_from_ranges() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let body = noise(PART + 500, 4);
    let put = call("PUT", "/bucket/source")
        .body(body.clone())
        .payload(Payload::Unsigned);
    client.send(put).await.expect(200);
    let upload = begin(&client, "/bucket/key").await;
    let copy = |number: &str, range: &str| {
        part("/bucket/key", &upload, number)
            .payload(Payload::Whole)
            .header("x-amz-copy-source", "bucket/source")
            .header("x-amz-copy-source-range", range)
    };
    let mut etags = Vec::new();
    for (number, range) in [("1", "bytes=0-5242879"), ("2", "bytes=5242880-5243379")] {
        let copied = client.send(copy(number, range)).await.expect(200);
        etags.push(copied.element("ETag").unwrap().replace('"', ""));
    }
    let beyond = copy("3", "bytes=5242880-5243380");
    client.send(beyond).await.refused(400, "InvalidArgument");
    let parts = [("1", &*etags[0]), ("2", &*etags[1])];
    client
        .send(complete("/bucket/key", &upload, &parts))
        .await
        .expect(200);
    assert!(client.get("/bucket/key").await.expect(200).body == body);
}

#[tokio::test]
async fn objects_are_read_while_two_enclosures_are_down() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let body = noise(3_000_000, 5);
    let put = call("PUT", "/bucket/key")
        .body(body.clone())
        .payload(Payload::Unsigned);
    client.send(put).await.expect(200);
    cluster.nodes.at(2).stop();
    cluster.nodes.at(5).stop();
    assert!(client.get("/bucket/key").await.expect(200).body == body);
    cluster.nodes.at(1).stop();
    let lost = client
        .get("/bucket/key")
        .await
        .refused(503, "ServiceUnavailable");
    assert_eq!(lost.header("retry-after"), "1");
    cluster.nodes.at(2).start();
    assert!(client.get("/bucket/key").await.expect(200).body == body);
}
