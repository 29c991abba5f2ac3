//! Bodies of requests on their way to s3s: counted, digested where s3s would only parse, with their
//! chunks bounded, and given up when they stall.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::env::Env;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use s3s::StdError;

use crate::s3::whole::BodyDigests;
use crate::service::chunked::Chunks;

/// What the service keeps of a request's body while s3s has the rest.
#[derive(Clone, Default)]
pub(crate) struct Arrival(Arc<Kept>);

#[derive(Default)]
struct Kept {
    /// How many bytes arrived, framing included.
    received: AtomicU64,
    /// The body, when s3s let go of it before its end.
    leftover: Mutex<Option<Incoming>>,
}

impl Arrival {
    /// How many bytes arrived, framing included.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Reads on, at most so many bytes, what nobody wants: a client that is still sending when the
    /// connection is closed may never see its answer.
    pub(crate) async fn drain(&self, max: u64) {
        let leftover = &self.0.leftover;
        let body = leftover
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut body) = body else { return };
        if body.size_hint().lower() > max {
            return;
        }
        let mut left = max;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// The body of a request.
pub(crate) struct Arriving {
    /// None after its end.
    body: Option<Incoming>,
    arrival: Arrival,
    digests: Option<BodyDigests>,
    chunks: Option<Chunks>,
    /// What is to be passed on before more is read.
    ready: VecDeque<Bytes>,
    idle: Idle,
}

/// How long a client may send nothing while it is waited for.
pub(crate) struct Idle {
    env: Env,
    max: Duration,
    /// Runs while nothing comes.
    timer: Option<BoxFuture<'static, ()>>,
}

impl Idle {
    pub(crate) fn new(env: Env, max: Duration) -> Self {
        Self {
            env,
            max,
            timer: None,
        }
    }

    /// Ready when it took too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (env, max) = (&self.env, self.max);
        let timer = self.timer.get_or_insert_with(|| {
            let clock = Arc::clone(&env.clock);
            async move { clock.sleep(max).await }.boxed()
        });
        timer.poll_unpin(cx)
    }
}

impl Arriving {
    pub(crate) fn new(
        body: Incoming,
        arrival: Arrival,
        digests: Option<BodyDigests>,
        chunks: Option<Chunks>,
        idle: Idle,
    ) -> Self {
        let (body, ready) = (Some(body), VecDeque::new());
        Self {
            body,
            arrival,
            digests,
            chunks,
            ready,
            idle,
        }
    }

    /// What the connection gives next.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.timer = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => {
                self.body = None;
                Poll::Ready(end.map(|end| end.map_err(StdError::from)))
            }
            Poll::Pending => {
                ready!(self.idle.poll_over(cx));
                self.body = None;
                Poll::Ready(Some(Err("the body stalls".into())))
            }
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            let leftover = &self.arrival.0.leftover;
            *leftover.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
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
            let frame = match ready!(this.poll_body(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            // HTTP trailers mean nothing in S3.
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            let received = &this.arrival.0.received;
            received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
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
        self.ready.is_empty() && self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.chunks, &self.body) {
            (None, Some(body)) => body.size_hint(),
            (None, None) => SizeHint::with_exact(0),
            (Some(_), _) => SizeHint::default(),
        }
    }
}
