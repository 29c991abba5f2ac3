//! Objects through the whole stack: put, get, head, delete, conditions, ranges, metadata.

use crate::support::client::{Payload, call};
use crate::support::cluster::Cluster;
use bytes::Bytes;

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/dir/a key")
        .body("hello, world")
        .header("content-type", "text/plain")
        .header("cache-control", "no-store")
        .header("x-amz-meta-colour", "red");
    let put = client.send(put).await.expect(200);
    assert_eq!(put.header("etag"), "\"e4d7f1b4ed2e42d15898f4b27b019da4\"");
    let got = client.get("/bucket/dir/a key").await.expect(200);
    assert_eq!(got.text(), "hello, world");
    for (name, value) in [
        ("etag", "\"e4d7f1b4ed2e42d15898f4b27b019da4\""),
        ("content-type", "text/plain"),
        ("cache-control", "no-store"),
        ("x-amz-meta-colour", "red"),
        ("content-length", "12"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    let head = client.head("/bucket/dir/a key").await.expect(200);
    assert_eq!(head.header("content-length"), "12");
    assert_eq!(head.header("last-modified"), got.header("last-modified"));
    assert!(head.body.is_empty());
    client.delete("/bucket/dir/a key").await.expect(204);
    client
        .get("/bucket/dir/a key")
        .await
        .refused(404, "NoSuchKey");
    client.head("/bucket/dir/a key").await.expect(404);
    client.delete("/bucket/dir/a key").await.expect(204);
    cluster.stop().await;
}

#[tokio::test]
async fn every_form_of_signed_body_arrives() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let body = Bytes::from((0..10_000).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    for payload in [
        Payload::Whole,
        Payload::Unsigned,
        Payload::Chunks(8192),
        Payload::UnsignedTrailer(8192),
        Payload::ChunksTrailer(8192),
    ] {
        let mut put = call("PUT", "/bucket/key")
            .body(body.clone())
            .payload(payload);
        if matches!(
            payload,
            Payload::ChunksTrailer(_) | Payload::UnsignedTrailer(_)
        ) {
            put = put.trailer("x-amz-checksum-crc32c", &crc32c(&body));
        }
        client.send(put).await.expect(200);
        let got = client.get("/bucket/key").await.expect(200);
        assert_eq!(got.body, body, "{payload:?}");
        assert_eq!(got.header("content-encoding"), "", "{payload:?}");
        client.delete("/bucket/key").await.expect(204);
    }
}

fn crc32c(body: &[u8]) -> String {
    use base64::Engine;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body);
    base64::engine::general_purpose::STANDARD.encode((crc as u32).to_be_bytes())
}

#[tokio::test]
async fn reads_have_conditions_and_ranges() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = client.put("/bucket/key", "0123456789").await.expect(200);
    let etag = put.header("etag").to_owned();
    let get = |name: &str, value: &str| call("GET", "/bucket/key").header(name, value);
    for (name, value, status) in [
        ("if-match", etag.as_str(), 200),
        ("if-match", "\"other\"", 412),
        ("if-none-match", &etag, 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT", 304),
        ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT", 200),
        ("if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT", 412),
        ("range", "bytes=10-", 416),
        ("range", "bytes=99999999999-", 416),
        ("range", "bytes=-0", 416),
    ] {
        let answer = client.send(get(name, value)).await.expect(status);
        if status == 304 {
            assert_eq!(
                (answer.header("etag"), answer.body.len()),
                (etag.as_str(), 0),
                "{name}"
            );
        }
        let mut head = get(name, value);
        head.method = "HEAD";
        client.send(head).await.expect(status);
    }
    for (range, bytes, told) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=8-1000", "89", "bytes 8-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
        ("bytes=-1000", "0123456789", "bytes 0-9/10"),
    ] {
        let got = client.send(get("range", range)).await.expect(206);
        assert_eq!(
            (got.text().as_str(), got.header("content-range")),
            (bytes, told)
        );
    }
    let modified = client
        .head("/bucket/key")
        .await
        .header("last-modified")
        .to_owned();
    for (same, status) in [
        (etag.as_str(), 206),
        ("\"other\"", 200),
        (modified.as_str(), 206),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 200),
    ] {
        let goes_on = get("range", "bytes=5-").header("if-range", same);
        client.send(goes_on).await.expect(status);
    }
    // Backwards, or beyond what a number holds.
    for range in ["bytes=5-2", "bytes=-99999999999999999999", "bytes=a-b"] {
        client
            .send(get("range", range))
            .await
            .refused(400, "InvalidArgument");
    }
    let part = call("GET", "/bucket/key").query("partNumber", "1");
    assert_eq!(client.send(part).await.expect(206).text(), "0123456789");
    let part = call("GET", "/bucket/key").query("partNumber", "2");
    client.send(part).await.expect(416);
}

#[tokio::test]
async fn writes_have_conditions() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = |name: &str, value: &str| call("PUT", "/bucket/key").header(name, value).body("x");
    client
        .send(put("if-match", "\"any\""))
        .await
        .refused(404, "NoSuchKey");
    let first = client.send(put("if-none-match", "*")).await.expect(200);
    client
        .send(put("if-none-match", "*"))
        .await
        .refused(412, "PreconditionFailed");
    client
        .send(put("if-match", "\"other\""))
        .await
        .refused(412, "PreconditionFailed");
    client
        .send(put("if-match", first.header("etag")))
        .await
        .expect(200);
    let delete = |etag: &str| call("DELETE", "/bucket/key").header("if-match", etag);
    client
        .send(delete("\"other\""))
        .await
        .refused(412, "PreconditionFailed");
    client.get("/bucket/key").await.expect(200);
    client.send(delete(first.header("etag"))).await.expect(204);
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn keys_of_1024_bytes_of_any_text_are_keys_and_longer_ones_are_not() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let long = |unit: &str| unit.repeat(1024 / unit.len());
    let keys = [
        long("k"),
        long("\u{e9}"),
        long("\u{1f600}"),
        long("/"),
        long("a/../"),
        long("%2F+ ?#&=;"),
        "\u{1}\n\r\t\u{7f}".to_owned(),
        "..".to_owned(),
        "a//b".to_owned(),
        "trailing/".to_owned(),
    ];
    for (number, key) in keys.iter().enumerate() {
        let path = format!("/bucket/{key}");
        let body = format!("body {number}");
        client.put(&path, body.clone()).await.expect(200);
        assert_eq!(client.get(&path).await.expect(200).text(), body, "{key:?}");
    }
    for key in ["k".repeat(1025), "\u{e9}".repeat(513)] {
        client
            .put(&format!("/bucket/{key}"), "x")
            .await
            .refused(400, "KeyTooLongError");
    }
    for (number, key) in keys.iter().enumerate() {
        let got = client.get(&format!("/bucket/{key}")).await.expect(200);
        assert_eq!(got.text(), format!("body {number}"));
    }
}

#[tokio::test]
async fn user_metadata_has_its_limit() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = |len: usize| {
        call("PUT", "/bucket/key")
            .header("x-amz-meta-a", &"v".repeat(len))
            .body("x")
    };
    client.send(put(2047)).await.expect(200);
    client
        .send(put(2048))
        .await
        .refused(400, "MetadataTooLarge");
}

#[tokio::test]
async fn versions_that_are_not_kept_are_not_found() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    client.put("/bucket/key", "x").await.expect(200);
    let versioned = |method, version: &str| call(method, "/bucket/key").query("versionId", version);
    client.send(versioned("GET", "null")).await.expect(200);
    client
        .send(versioned("GET", "abc"))
        .await
        .refused(404, "NoSuchVersion");
    client
        .send(versioned("DELETE", "abc"))
        .await
        .refused(404, "NoSuchVersion");
    client.get("/bucket/key").await.expect(200);
}

#[tokio::test]
async fn requests_are_counted_by_operation() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    client.put("/bucket/key", "12345").await.expect(200);
    client.get("/bucket/key").await.expect(200);
    client.get("/bucket/missing").await.expect(404);
    let families = cluster.registry.gather();
    let value = |name: &str, operation: &str| {
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        let of = |metric: &&prometheus::proto::Metric| {
            metric
                .get_label()
                .iter()
                .any(|label| label.value() == operation)
        };
        family
            .get_metric()
            .iter()
            .find(of)
            .map(|metric| metric.get_counter().get_value())
    };
    assert_eq!(
        value("enfilade_gateway_requests_total", "GetObject"),
        Some(2.0)
    );
    assert_eq!(
        value("enfilade_gateway_errors_total", "GetObject"),
        Some(1.0)
    );
    assert_eq!(
        value("enfilade_gateway_received_bytes_total", "PutObject"),
        Some(5.0)
    );
    assert!(value("enfilade_gateway_sent_bytes_total", "GetObject") > Some(5.0));
}

#[tokio::test]
async fn http2_serves_the_same() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let stream = tokio::net::TcpStream::connect(client.address)
        .await
        .unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), io)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut send = async |call| {
        let mut request = client.signed(&call);
        let uri = format!("http://{}{}", client.address, request.uri());
        *request.uri_mut() = uri.parse().unwrap();
        // In HTTP/2 the authority takes its place.
        request.headers_mut().remove("host");
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        (
            parts.status.as_u16(),
            body.collect().await.unwrap().to_bytes(),
        )
    };
    let put = call("PUT", "/bucket/key").body("over one connection");
    assert_eq!(send(put).await.0, 200);
    let (status, body) = send(call("GET", "/bucket/key")).await;
    assert_eq!((status, &body[..]), (200, &b"over one connection"[..]));
    assert_eq!(send(call("GET", "/bucket/missing")).await.0, 404);
    let fresh = call("GET", "/bucket/key").header("if-none-match", "*");
    assert_eq!(send(fresh).await, (304, Bytes::new()));
    connection.abort();
}
