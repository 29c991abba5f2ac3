//! HTTP/1.1 by hand, for clients that a library would not let be so slow: one request a connection,
//! signed by its URL.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a body that are handed to the kernel at a time.
const PIECE: usize = 64 << 10;

/// How fast a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As the other side takes it.
    Full,
    /// So many bytes every second.
    BytesASecond(usize),
}

/// Sends a body; the status of the answer.
pub(crate) async fn put(
    server: SocketAddr,
    target: &str,
    length: usize,
    pace: Pace,
) -> anyhow::Result<u16> {
    let mut stream = open(server, "PUT", target, length).await?;
    let piece = vec![0x5a; PIECE];
    let mut left = length;
    while left > 0 {
        let step = match pace {
            Pace::Full => PIECE,
            Pace::BytesASecond(bytes) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                bytes.min(PIECE)
            }
        };
        let step = step.min(left);
        stream.write_all(&piece[..step]).await.context("sending")?;
        left -= step;
    }
    let (status, _) = answer(&mut stream).await?;
    Ok(status)
}

/// Reads a whole object; the status, and how many bytes came.
pub(crate) async fn get(server: SocketAddr, target: &str) -> anyhow::Result<(u16, u64)> {
    let mut stream = open(server, "GET", target, 0).await?;
    answer(&mut stream).await
}

async fn open(
    server: SocketAddr,
    method: &str,
    target: &str,
    length: usize,
) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await.context("connecting")?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.context("sending")?;
    Ok(stream)
}

/// Reads to the end of the connection: the status, and the bytes after the head.
async fn answer(stream: &mut TcpStream) -> anyhow::Result<(u16, u64)> {
    let mut head = Vec::new();
    let mut buffer = vec![0; PIECE];
    let mut body = None;
    loop {
        let count = stream.read(&mut buffer).await.context("receiving")?;
        if count == 0 {
            break;
        }
        match &mut body {
            Some(bytes) => *bytes += count as u64,
            None => {
                head.extend_from_slice(&buffer[..count]);
                let end = head.windows(4).position(|four| four == b"\r\n\r\n");
                body = end.map(|end| (head.len() - end - 4) as u64);
            }
        }
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    ensure!(
        body.is_some(),
        "the connection ended within the head of the answer"
    );
    Ok((
        status.context("no status in the answer")?,
        body.unwrap_or(0),
    ))
}
