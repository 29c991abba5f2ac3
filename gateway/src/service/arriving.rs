//! Bodies of requests on their way to s3s: counted, digested where s3s would only parse, and with
//! their chunks bounded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use s3s::StdError;

use crate::s3::checksum::BodyDigests;
use crate::service::chunked::Chunks;

/// The body of a request.
pub(crate) struct Arriving {
    body: Incoming,
    /// How many bytes arrived, framing included.
    received: Arc<AtomicU64>,
    digests: Option<BodyDigests>,
    chunks: Option<Chunks>,
    /// What is to be passed on before more is read.
    ready: VecDeque<Bytes>,
}

impl Arriving {
    pub(crate) fn new(
        body: Incoming,
        received: Arc<AtomicU64>,
        digests: Option<BodyDigests>,
        chunks: Option<Chunks>,
    ) -> Self {
        Self {
            body,
            received,
            digests,
            chunks,
            ready: VecDeque::new(),
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => frame,
            };
            // HTTP trailers mean nothing in S3.
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            this.received
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if let Some(digests) = &this.digests {
                digests.update(&bytes);
            }
            match &mut this.chunks {
                None => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(chunks) => {
                    if let Err(error) = chunks.push(bytes, &mut this.ready) {
                        this.ready.clear();
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.chunks {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
