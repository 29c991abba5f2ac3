//! All clients keep to the one contract; what only the wire can do is tested here too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::api::root::RootView;
use enfilade_placement::{BlobId, ClusterId, EnclosureId, Incarnation, Profile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::memory::{MemoryNode, MemoryNodes};
use super::remote::{RemoteNodes, Transport};
use crate::api::conformance::{self, Subject, append_of, sample};
use crate::api::error::ShardError;
use crate::api::read::{FragmentFault, FragmentRange, ReadRequest};
use crate::api::{Nodes, ShardAddress, ShardClient};
use crate::server::http::HttpServer;
use crate::settings::Settings;

const CREDENTIAL: &str = "between us";

/// One node in memory, served over HTTP.
struct Served {
    nodes: MemoryNodes,
    server: HttpServer,
    at: ShardAddress,
}

impl Served {
    async fn new() -> Self {
        let nodes = MemoryNodes::new(ClusterId::new(9), Incarnation::new(1), 1, 1);
        let volume = nodes.volume(100, Profile::new(1, 1).unwrap());
        let at = nodes.address(&volume, 0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Arc::clone(nodes.at(1).service());
        let server = HttpServer::start(listener, node, CREDENTIAL).unwrap();
        Self { nodes, server, at }
    }

    fn node(&self) -> &Arc<MemoryNode> {
        self.nodes.at(1)
    }

    fn client(&self, credential: &str) -> Arc<dyn ShardClient> {
        let transport = Transport::new(credential, &Settings::default()).unwrap();
        Arc::new(transport.node(&self.server.address().to_string()))
    }
}

#[tokio::test]
async fn the_client_in_process_conforms() {
    let served = Served::new().await;
    let local = super::in_process::LocalNodes::default();
    local.insert(served.node().service());
    let client = local.node(EnclosureId::new(1)).unwrap();
    conformance::all(&Subject {
        client,
        at: served.at,
    })
    .await;
    assert!(local.node(EnclosureId::new(2)).is_none());
}

#[tokio::test]
async fn the_node_in_memory_conforms() {
    let served = Served::new().await;
    let client = Arc::clone(served.node()) as Arc<dyn ShardClient>;
    conformance::all(&Subject {
        client,
        at: served.at,
    })
    .await;
}

#[tokio::test]
async fn the_remote_client_conforms() {
    let served = Served::new().await;
    let subject = Subject {
        client: served.client(CREDENTIAL),
        at: served.at,
    };
    conformance::all(&subject).await;
    served.server.shutdown().await;
    let refused =
        subject
            .client
            .append(append_of(served.at, BlobId::new(1), 0, &sample(0..1, 128)));
    let refused = refused.await;
    assert!(
        matches!(refused, Err(ShardError::Unreachable(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn another_credential_is_forbidden() {
    let served = Served::new().await;
    for credential in ["between u", "between us!", "Between us"] {
        let client = served.client(credential);
        let refused = client.append(append_of(
            served.at,
            BlobId::new(1),
            0,
            &sample(0..4, 65536),
        ));
        let refused = refused.await;
        assert!(
            matches!(refused, Err(ShardError::Forbidden(_))),
            "{refused:?}"
        );
    }
    assert!(Transport::new("with\nnewline", &Settings::default()).is_err());
}

#[tokio::test]
async fn a_busy_drive_refuses_at_the_header_and_the_connection_goes_on() {
    let served = Served::new().await;
    let client = served.client(CREDENTIAL);
    let engine = served.node().service().engines().remove(0);
    let all = Settings::default().drive_queue.get();
    let held = engine.admit(all).unwrap();
    let append = || append_of(served.at, BlobId::new(1), 0, &sample(0..64, 65536));
    assert_eq!(client.append(append()).await, Err(ShardError::Busy));
    drop(held);
    client.append(append()).await.unwrap();
}

#[tokio::test]
async fn rot_is_told_as_corrupt_over_the_wire() {
    let served = Served::new().await;
    let (client, at, blob) = (served.client(CREDENTIAL), served.at, BlobId::new(1));
    client
        .append(append_of(at, blob, 0, &sample(0..3, 4096)))
        .await
        .unwrap();
    assert!(
        served
            .node()
            .corrupt(at.drive, at.volume, at.member, (blob, 1))
    );
    let range = |stripe| FragmentRange {
        stripe,
        offset: 5,
        len: 10,
    };
    let read = ReadRequest::get(at, blob, (0..3).map(range).collect());
    let answers = client.read(read).await.unwrap();
    assert_eq!(answers[1], Err(FragmentFault::Corrupt));
    assert_eq!(answers[2], Ok(sample(2..3, 4096)[0].slice(5..15)));
}

/// Passes bytes on, and flips one bit of the first answer, or of all, a long way behind its head.
async fn tamper(to: std::net::SocketAddr, all: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let mut flips = all || first;
            first = false;
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 20];
                let mut passed = 0;
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    // An answer of 64 KiB begins with its head of less than a KiB.
                    if flips && (passed..passed + count).contains(&30_000) {
                        buffer[30_000 - passed] ^= 1;
                        flips = all;
                    }
                    passed += count;
                    if passed > 65_536 {
                        passed = 0;
                    }
                    if to_client.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_bit_that_flips_on_the_wire_is_found_and_read_again() {
    let served = Served::new().await;
    let (at, blob) = (served.at, BlobId::new(1));
    let bytes = sample(0..1, 65536);
    served
        .client(CREDENTIAL)
        .append(append_of(at, blob, 0, &bytes))
        .await
        .unwrap();
    let ranges = vec![FragmentRange {
        stripe: 0,
        offset: 0,
        len: 65536,
    }];
    let read = ReadRequest::get(at, blob, ranges);
    let transport = Transport::new(CREDENTIAL, &Settings::default()).unwrap();
    let once = transport.node(&tamper(served.server.address(), false).await.to_string());
    assert_eq!(
        once.read(read.clone()).await.unwrap(),
        [Ok(bytes[0].clone())]
    );
    let always = transport.node(&tamper(served.server.address(), true).await.to_string());
    let answers = always.read(read).await.unwrap();
    assert!(
        matches!(answers[0], Err(FragmentFault::Drive(_))),
        "{:?}",
        answers[0].is_ok()
    );
}

#[tokio::test]
async fn a_request_that_breaks_off_leaves_nothing_behind() {
    let served = Served::new().await;
    let (at, blob) = (served.at, BlobId::new(1));
    let request = append_of(at, blob, 0, &sample(0..4, 65536));
    let head = crate::wire::head(&request.header);
    let mut stream = TcpStream::connect(served.server.address()).await.unwrap();
    let start = format!(
        "POST /shard/v1/append HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CREDENTIAL}\r\n\
         content-length: {}\r\n\r\n",
        head.len() + 4 * 65536
    );
    stream.write_all(start.as_bytes()).await.unwrap();
    stream.write_all(&head).await.unwrap();
    stream.write_all(&[0; 1000]).await.unwrap();
    drop(stream);
    // The room that was leased for it comes back.
    let engine = served.node().service().engines().remove(0);
    let all = Settings::default().drive_queue.get();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while engine.admit(all).is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the lease is lost");
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.shards(), []);
}

#[tokio::test]
async fn nonsense_over_http_is_refused() {
    let served = Served::new().await;
    let bodies: [Bytes; 3] = [
        Bytes::new(),
        Bytes::from_static(&[255; 100]),
        crate::wire::head(&("not", "an append")),
    ];
    for body in bodies {
        for path in ["/shard/v1/append", "/shard/v1/read", "/shard/v1/inventory"] {
            let mut stream = TcpStream::connect(served.server.address()).await.unwrap();
            let start = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CREDENTIAL}\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(start.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let text = String::from_utf8_lossy(&answer);
            assert!(text.starts_with("HTTP/1.1 400"), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn nodes_are_found_by_the_addresses_of_the_view() {
    let served = Served::new().await;
    let transport = Transport::new(CREDENTIAL, &Settings::default()).unwrap();
    let mut view = RootView {
        topology: served.nodes.topology().clone(),
        ..RootView::default()
    };
    let (sender, receiver) = watch::channel(Arc::new(view.clone()));
    let nodes = RemoteNodes::new(transport, receiver);
    let id = EnclosureId::new(1);
    assert!(nodes.node(id).is_none(), "without an address");
    assert!(nodes.node(EnclosureId::new(7)).is_none());
    let mut listen = |address: String| {
        view.topology.enclosures.get_mut(&id).unwrap().shard_address = address;
        sender.send(Arc::new(view.clone())).unwrap();
    };
    listen("127.0.0.1:1".to_owned());
    let append = || append_of(served.at, BlobId::new(1), 0, &sample(0..1, 128));
    let refused = nodes.node(id).unwrap().append(append()).await;
    assert!(
        matches!(refused, Err(ShardError::Unreachable(_))),
        "{refused:?}"
    );
    listen(served.server.address().to_string());
    nodes.node(id).unwrap().append(append()).await.unwrap();
}
