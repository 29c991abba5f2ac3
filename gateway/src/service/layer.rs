//! What surrounds s3s: admission, request ids, metrics.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::env::Env;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, SERVER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use s3s::service::S3Service;
use s3s::{HttpError, HttpRequest, HttpResponse, StdError};

use crate::auth::{OperationName, admit};
use crate::s3::whole::BodyDigests;
use crate::service::arriving::{Arrival, Arriving, Idle};
use crate::service::chunked::Chunks;
use crate::service::metrics::{Metrics, Served};

/// The most bytes of a refused body that are read on, so that its client sees the answer.
const DRAIN_MAX: u64 = 16 << 20;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The service of one connection; cheap to clone.
#[derive(Clone)]
pub(crate) struct Layer {
    s3: S3Service,
    env: Env,
    metrics: Metrics,
    /// How long a body may stall.
    idle: Duration,
}

impl Layer {
    pub(crate) fn new(s3: S3Service, env: Env, metrics: Metrics, idle: Duration) -> Self {
        Self {
            s3,
            env,
            metrics,
            idle,
        }
    }

    /// Serves one request.
    pub(crate) async fn call(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, HttpError> {
        let id = format!("{:016X}", self.env.random.next_u64());
        let began = self.env.clock.now();
        let operation = OperationName::default();
        let arrival = Arrival::default();
        // Such a client sends nothing before it is asked, and to read on would ask it.
        let waits = request.headers().contains_key(EXPECT);
        let mut response = match self.prepare(request, &operation, &arrival) {
            Ok(request) => self.s3.call(request).await?,
            Err(error) => error
                .to_http_response()
                .map_err(|error| HttpError::new(error.into()))?,
        };
        let failed = response.status().is_client_error() || response.status().is_server_error();
        if failed && !waits {
            tokio::select! {
                () = arrival.drain(DRAIN_MAX) => {}
                () = self.env.clock.sleep(DRAIN_TIME) => {}
            }
        }
        if response.status() == StatusCode::NOT_MODIFIED {
            *response.body_mut() = s3s::Body::empty();
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("Enfilade"));
        if let Ok(id) = HeaderValue::try_from(id) {
            headers.insert("x-amz-request-id", id);
        }
        let status = response.status();
        let under_way = UnderWay {
            env: self.env.clone(),
            metrics: self.metrics.clone(),
            began,
            operation,
            status,
            arrival,
            sent: 0,
        };
        let (parts, body) = HttpResponse::into_parts(response);
        Ok(Response::from_parts(parts, Answer { body, under_way }))
    }

    /// Admits a request and wraps its body.
    fn prepare(
        &self,
        request: Request<Incoming>,
        operation: &OperationName,
        arrival: &Arrival,
    ) -> Result<HttpRequest, s3s::S3Error> {
        let (mut parts, body) = request.into_parts();
        admit(&mut parts)?;
        parts.extensions.insert(operation.clone());
        let content = parts.headers.get("x-amz-content-sha256");
        let chunks = content.and_then(|content| Chunks::of(content.as_bytes()));
        // The XML of a multi-delete or a new bucket; objects are digested by the data path.
        let whole =
            parts.method == Method::POST || !parts.uri.path().trim_matches('/').contains('/');
        let digests = (whole && chunks.is_none())
            .then(|| BodyDigests::begin(&parts.headers))
            .flatten();
        if let Some(digests) = &digests {
            parts.extensions.insert(digests.clone());
        }
        let idle = Idle::new(self.env.clone(), self.idle);
        let body = Arriving::new(body, arrival.clone(), digests, chunks, idle);
        Ok(Request::from_parts(
            parts,
            s3s::Body::http_body_unsync(body),
        ))
    }
}

/// A request whose answer has begun.
struct UnderWay {
    env: Env,
    metrics: Metrics,
    began: Duration,
    operation: OperationName,
    status: StatusCode,
    arrival: Arrival,
    sent: u64,
}

impl Drop for UnderWay {
    /// The answer is sent, or the client is gone.
    fn drop(&mut self) {
        self.metrics.served(&Served {
            operation: self.operation.0.get().copied(),
            status: self.status,
            time: self.env.clock.now().saturating_sub(self.began),
            received: self.arrival.received(),
            sent: self.sent,
        });
    }
}

/// The body of an answer, counted.
pub(crate) struct Answer {
    body: s3s::Body,
    under_way: UnderWay,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.under_way.sent += bytes.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
