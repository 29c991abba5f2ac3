//! Clients that break off, announce wrongly, or talk nonsense.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{Call, Client, Payload, call};
use crate::support::cluster::Cluster;

/// A signed request as bytes: its head, and its body.
async fn raw(client: &Client, call: &Call, content_len: usize) -> (Vec<u8>, Vec<u8>) {
    let request = client.signed(call);
    let (parts, body) = request.into_parts();
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        head.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
    }
    head.extend_from_slice(format!("content-length: {content_len}\r\n\r\n").as_bytes());
    (head, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_told_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    for payload in [Payload::Whole, Payload::Unsigned] {
        let put = call("PUT", "/bucket/key").body("short").payload(payload);
        let (head, body) = raw(&client, &put, 10).await;
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(&[head, body].concat()).await.unwrap();
        // Half of the connection closes; the answer still comes.
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("IncompleteBody"), "{answer}");
        client.get("/bucket/key").await.refused(404, "NoSuchKey");
    }
}

#[tokio::test]
async fn chunks_that_end_early_are_incomplete() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let mut put = call("PUT", "/bucket/key")
        .body("twelve bytes")
        .payload(Payload::Chunks(8192));
    put.headers
        .push(("x-amz-decoded-content-length".to_owned(), "13".to_owned()));
    client.send(put).await.refused(400, "IncompleteBody");
    let mut put = call("PUT", "/bucket/key")
        .body("twelve bytes")
        .payload(Payload::Chunks(8192));
    put.headers
        .push(("x-amz-decoded-content-length".to_owned(), "11".to_owned()));
    client.send(put).await.refused(400, "IncompleteBody");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_and_keeps_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/key")
        .body("part of it")
        .payload(Payload::Unsigned);
    for _ in 0..8 {
        let (head, body) = raw(&client, &put, 1 << 20).await;
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(&[head, body].concat()).await.unwrap();
        drop(stream);
    }
    let open = || {
        let families = cluster.registry.gather();
        let connections = |name: &str| name == "enfilade_gateway_connections";
        let family = families
            .iter()
            .find(|family| connections(family.name()))
            .unwrap();
        family.get_metric()[0].get_gauge().get_value()
    };
    while open() > 0.0 {
        tokio::task::yield_now().await;
    }
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn bodies_that_are_too_long_or_of_unknown_length_are_refused_before_they_come() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/key")
        .body("x")
        .payload(Payload::Unsigned);
    let (head, body) = raw(&client, &put, (5 << 30) + 1).await;
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(&[head, body].concat()).await.unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("EntityTooLarge"), "{answer}");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_chunk_of_gigabytes_is_refused_when_it_is_signed() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let mut put = call("PUT", "/bucket/key").payload(Payload::Chunks(8192));
    put.headers.push((
        "x-amz-decoded-content-length".to_owned(),
        (1 << 30).to_string(),
    ));
    let (head, _) = raw(&client, &put, 1 << 30).await;
    let chunk = format!("40000000;chunk-signature={}\r\nxxxx", "0".repeat(64));
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream
        .write_all(&[head, chunk.into_bytes()].concat())
        .await
        .unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("InvalidRequest"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let cluster = Cluster::with(|settings| {
        settings.s3.body.idle = Duration::from_millis(50);
    })
    .await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/key")
        .body("x")
        .payload(Payload::Unsigned);
    let (head, body) = raw(&client, &put, 100).await;
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(&[head, body].concat()).await.unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.contains("RequestTimeout"), "{answer}");
}

#[tokio::test]
async fn nonsense_on_the_wire_harms_nobody() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    for bytes in [
        &b"\x00\x01\x02\x03\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT /bucket/%ff%fe HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"PUT /bucket/%zz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"GET /bucket/key HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256\r\n\r\n",
        b"GET /?%=%&&&=== HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    client.put("/bucket/key", "still here").await.expect(200);
}

#[tokio::test]
async fn a_shutdown_waits_for_requests_under_way() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let put = call("PUT", "/bucket/key")
        .body("slow but sure")
        .payload(Payload::Unsigned);
    let (head, body) = raw(&client, &put, 13).await;
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(&head).await.unwrap();
    stream.write_all(&body[..4]).await.unwrap();
    let registry = cluster.registry.clone();
    let stopping = tokio::spawn(cluster.stop());
    stream.write_all(&body[4..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stopping.await.unwrap();
    drop(registry);
}

#[tokio::test]
async fn a_client_that_is_refused_early_hears_it_though_it_sends_on() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let body = vec![7; 8 << 20];
    for _ in 0..4 {
        let put = call("PUT", "/missing/key")
            .body(body.clone())
            .payload(Payload::Unsigned);
        client.send(put).await.refused(404, "NoSuchBucket");
    }
    let mut wrong = client.clone();
    wrong.signer.secret_key = "another-secret-key".to_owned();
    let put = call("PUT", "/missing/key")
        .body(body)
        .payload(Payload::Unsigned);
    wrong.send(put).await.refused(403, "SignatureDoesNotMatch");
}
