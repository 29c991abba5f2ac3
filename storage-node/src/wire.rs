//! Messages between a node and its remote clients: HTTP/1.1, one call a request.
//!
//! Bodies are a head, in the one encoding with its length (u32, little-endian) in front, and raw
//! bytes after it:
//!
//! | call | request | answer |
//! |---|---|---|
//! | `POST /shard/v1/append` | `AppendHeader`, fragments | `AppendAck` |
//! | `POST /shard/v1/read` | `ReadRequest` | one [`RangeHead`] a range, blocks |
//! | `POST /shard/v1/inventory` | `InventoryRequest` | `InventoryPage` |
//!
//! An error is a status other than 200 with a `ShardError` as the head. Every request carries the
//! cluster's credential as a bearer token.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use enfilade_cluster::api::encoding;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::api::error::ShardError;
use crate::api::read::FragmentFault;
use crate::host::Lease;

pub(crate) const APPEND: &str = "/shard/v1/append";
pub(crate) const READ: &str = "/shard/v1/read";
pub(crate) const INVENTORY: &str = "/shard/v1/inventory";

/// No head is longer: a page of an inventory with 10,000 blobs and their owners' keys.
pub(crate) const HEAD_MAX: usize = 32 * 1024 * 1024;
/// No head of a request is longer: 1,024 fragments, 4,096 marks, an owner.
pub(crate) const REQUEST_HEAD_MAX: usize = 256 * 1024;

/// What a node answers to one range; its blocks follow the heads of all ranges.
pub(crate) type RangeHead = Result<BlocksHead, FragmentFault>;

/// Blocks that follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlocksHead {
    /// Number of the first block within its fragment.
    pub(crate) first: u32,
    /// Bytes of all blocks.
    pub(crate) len: u32,
    /// One CRC32C a block, as stored.
    pub(crate) checksums: Vec<u32>,
}

/// A body that breaks off, or does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BodyError(pub(crate) String);

/// The head of a body, with its length in front.
pub(crate) fn head<T: Serialize>(value: &T) -> Bytes {
    let encoded = encoding::encode(value);
    let len = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
    let mut bytes = BytesMut::with_capacity(4 + encoded.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&encoded);
    bytes.freeze()
}

/// A body of chunks that are sent as they are, never joined.
pub(crate) struct Chunks {
    chunks: VecDeque<Bytes>,
    left: u64,
    /// Room in memory that the chunks take until they are sent.
    _lease: Option<Lease>,
    _sending: Option<SendingGuard>,
}

/// Notes, when it is dropped, that an answer is sent.
pub(crate) struct SendingGuard(pub(crate) Arc<AtomicU64>);

impl Drop for SendingGuard {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Chunks {
    pub(crate) fn new(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let chunks: VecDeque<Bytes> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        let left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            chunks,
            left,
            _lease: None,
            _sending: None,
        }
    }

    pub(crate) fn with(self, lease: Lease) -> Self {
        Self {
            _lease: Some(lease),
            ..self
        }
    }
}

impl Chunks {
    pub(crate) fn watched(self, sending: SendingGuard) -> Self {
        Self {
            _sending: Some(sending),
            ..self
        }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        self.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads a body piece by piece.
pub(crate) struct BodyReader<B> {
    body: B,
    rest: Bytes,
}

impl<B> BodyReader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub(crate) fn new(body: B) -> Self {
        Self {
            body,
            rest: Bytes::new(),
        }
    }

    /// The next piece as it came; none at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            if !self.rest.is_empty() {
                return Ok(Some(std::mem::take(&mut self.rest)));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(BodyError(error.to_string())),
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
    }

    /// Exactly so many bytes; without a copy when one piece holds them all.
    pub(crate) async fn take(&mut self, len: usize) -> Result<Bytes, BodyError> {
        let mut joined = BytesMut::new();
        while joined.len() < len {
            let piece = self.piece().await?;
            let mut piece = piece.ok_or_else(|| BodyError("the body ends too soon".to_owned()))?;
            let want = len - joined.len();
            if piece.len() > want {
                self.rest = piece.split_off(want);
            }
            if joined.is_empty() && piece.len() == len {
                return Ok(piece);
            }
            if joined.is_empty() {
                joined.reserve(len);
            }
            joined.extend_from_slice(&piece);
        }
        Ok(joined.freeze())
    }

    /// A head.
    pub(crate) async fn head<T: DeserializeOwned>(&mut self, most: usize) -> Result<T, BodyError> {
        let len = self.take(4).await?;
        let len = len
            .as_ref()
            .try_into()
            .map(u32::from_le_bytes)
            .unwrap_or(u32::MAX) as usize;
        if len > most {
            return Err(BodyError(format!("a head of {len} bytes: at most {most}")));
        }
        let bytes = self.take(len).await?;
        encoding::decode(&bytes).map_err(|error| BodyError(error.to_string()))
    }

    /// Throws away what is left, at most so many bytes: an answer that comes before the end of a
    /// request may otherwise be lost with the connection.
    pub(crate) async fn discard(&mut self, most: usize) {
        let mut left = most;
        while let Ok(Some(piece)) = self.piece().await {
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// The status that stands for an error; the body says it in full.
pub(crate) const fn status(error: &ShardError) -> StatusCode {
    match error {
        ShardError::StaleEpoch { .. } | ShardError::NotOpen(_) => StatusCode::CONFLICT,
        ShardError::NotHere(_) => StatusCode::NOT_FOUND,
        ShardError::DriveFailed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ShardError::Full => StatusCode::INSUFFICIENT_STORAGE,
        ShardError::Busy => StatusCode::TOO_MANY_REQUESTS,
        ShardError::Invalid(_) => StatusCode::BAD_REQUEST,
        ShardError::Unreachable(_) => StatusCode::GATEWAY_TIMEOUT,
        ShardError::Forbidden(_) => StatusCode::FORBIDDEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_in_other_pieces_than_it_came_in() {
        let text = Bytes::from_static(b"0123456789");
        let body = Chunks::new([head(&7u32), text.slice(..3), text.slice(3..)]);
        assert_eq!(body.size_hint().exact(), Some(16));
        let mut reader = BodyReader::new(body);
        assert_eq!(reader.head::<u32>(16).await, Ok(7));
        assert_eq!(reader.take(2).await.unwrap(), "01");
        assert_eq!(reader.take(5).await.unwrap(), "23456");
        assert_eq!(reader.take(3).await.unwrap(), "789");
        assert!(reader.take(1).await.is_err());
    }

    #[tokio::test]
    async fn a_head_that_claims_too_much_is_refused() {
        let mut reader = BodyReader::new(Chunks::new([Bytes::from_static(&[255; 8])]));
        let error = reader.head::<u32>(16).await.unwrap_err();
        assert_eq!(error.0, "a head of 4294967295 bytes: at most 16");
    }
}
