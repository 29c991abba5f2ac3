//! Bodies between s3s and the data path.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::env::Env;
use futures::{Stream, StreamExt, stream};
use http::HeaderMap;
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode, S3Result, StdError};

use crate::path::types::{Body, BodyError, ReadStream};
use crate::s3::errors::{self, Fault};

/// How long a body may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTimes {
    /// Without a byte.
    pub idle: Duration,
    /// From first to last (PROTOCOLS 19: well below the age at which orphans are condemned).
    pub whole: Duration,
}

/// The length of the body that a request announces, chunk framing not counted.
///
/// # Errors
/// `MissingContentLength` when it announces none.
pub(crate) fn announced_len(headers: &HeaderMap) -> S3Result<u64> {
    let number = |name: &str| {
        let value = headers.get(name)?;
        value.to_str().ok()?.trim().parse::<u64>().ok()
    };
    let len = number("x-amz-decoded-content-length").or_else(|| number("content-length"));
    let text = "You must provide the Content-Length HTTP header";
    len.ok_or_else(|| errors::error(S3ErrorCode::MissingContentLength, text))
}

/// A body from a client, with the promise that its last piece is given only after the body has
/// ended well: length right, signatures right, trailers read.
pub(crate) struct Incoming {
    blob: StreamingBlob,
    left: u64,
    ended: bool,
    env: Env,
    times: BodyTimes,
    began: Duration,
    fault: Fault,
}

impl Incoming {
    /// Wraps a body of an announced length. What goes wrong is kept in `fault`.
    pub(crate) fn new(
        blob: Option<StreamingBlob>,
        len: u64,
        times: BodyTimes,
        env: &Env,
        fault: &Fault,
    ) -> Self {
        let blob = blob.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
        let began = env.clock.now();
        let (env, fault) = (env.clone(), fault.clone());
        Self {
            blob,
            left: len,
            ended: false,
            env,
            times,
            began,
            fault,
        }
    }

    /// The body as the data path takes it.
    ///
    /// An empty body is read to its end first, since nobody may ask an empty body for its bytes,
    /// and its signature and trailers count all the same.
    pub(crate) async fn open(mut self) -> Result<Body, BodyError> {
        if self.left == 0 {
            match self.next().await {
                None => return Ok(stream::empty().boxed()),
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) => {
                    return Err(self.broken(errors::error(S3ErrorCode::IncompleteBody, LONGER)));
                }
            }
        }
        let pieces = stream::unfold(self, |mut body| async move {
            let piece = body.next().await?;
            Some((piece, body))
        });
        Ok(pieces.boxed())
    }

    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.ended {
            return None;
        }
        let piece = match self.piece().await {
            Ok(Some(piece)) => piece,
            Ok(None) if self.left == 0 => {
                self.ended = true;
                return None;
            }
            Ok(None) => return Some(Err(self.broken(incomplete("fewer bytes than announced")))),
            Err(error) => return Some(Err(self.broken(error))),
        };
        let Some(left) = self.left.checked_sub(piece.len() as u64) else {
            return Some(Err(self.broken(incomplete(LONGER))));
        };
        self.left = left;
        if left == 0 {
            match self.piece().await {
                Ok(None) => self.ended = true,
                Ok(Some(_)) => return Some(Err(self.broken(incomplete(LONGER)))),
                Err(error) => return Some(Err(self.broken(error))),
            }
        }
        Some(Ok(piece))
    }

    /// The next bytes that are not empty; none at the end.
    async fn piece(&mut self) -> S3Result<Option<Bytes>> {
        loop {
            if self.env.clock.now().saturating_sub(self.began) > self.times.whole {
                return Err(timed_out());
            }
            // One that stalls is given up by the service, which hands it over.
            let piece = self.blob.next().await;
            match piece {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => return Ok(Some(bytes)),
                Some(Err(error)) => return Err(classify(&error)),
                None => return Ok(None),
            }
        }
    }

    fn broken(&mut self, error: S3Error) -> BodyError {
        self.ended = true;
        let text = error.message().unwrap_or_default().to_owned();
        let mismatch = error.code() != &S3ErrorCode::IncompleteBody;
        self.fault.set(error);
        if mismatch {
            BodyError::Mismatch(text)
        } else {
            BodyError::Incomplete(text)
        }
    }
}

const LONGER: &str = "more bytes than announced";

fn incomplete(text: &str) -> S3Error {
    let text = format!("You did not provide the number of bytes announced: {text}");
    errors::error(S3ErrorCode::IncompleteBody, text)
}

fn timed_out() -> S3Error {
    let text = "Your socket connection to the server was not read from or written to in time";
    errors::error(S3ErrorCode::RequestTimeout, text)
}

/// What s3s says about a body, whose error types are private to it: by their text.
fn classify(error: &StdError) -> S3Error {
    let text = error.to_string();
    let says = |word: &str| text.contains(word);
    if says("the body stalls") {
        timed_out()
    } else if says("Sha256Mismatch") {
        let text = "The provided 'x-amz-content-sha256' header does not match what was computed";
        errors::custom("XAmzContentSHA256Mismatch", text)
    } else if says("SignatureMismatch") {
        let text = "The signature of a chunk does not match";
        errors::error(S3ErrorCode::SignatureDoesNotMatch, text)
    } else if says("FormatError") || says("TooLarge") || says("TooMany") || says("chunk framing") {
        errors::invalid_request("The aws-chunked framing of the body is malformed")
    } else {
        incomplete("the body broke off")
    }
}

/// An object's bytes on their way to a client: exactly `len` of them, or a broken connection.
pub(crate) fn outgoing(bytes: ReadStream, len: u64) -> StreamingBlob {
    StreamingBlob::new(Outgoing {
        bytes: Mutex::new(bytes),
        left: len,
    })
}

struct Outgoing {
    /// A mutex only because s3s wants its bodies `Sync`; never locked.
    bytes: Mutex<ReadStream>,
    left: u64,
}

impl Stream for Outgoing {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let bytes = self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        let piece = std::task::ready!(bytes.poll_next_unpin(cx));
        Poll::Ready(match piece {
            Some(Ok(piece)) => match self.left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Some(Ok(piece))
                }
                None => Some(Err("a read gave more bytes than the object has".into())),
            },
            Some(Err(error)) => {
                tracing::warn!(%error, "a read broke off");
                Some(Err(error.into()))
            }
            None if self.left > 0 => Some(Err("a read ended early".into())),
            None => None,
        })
    }
}

impl ByteStream for Outgoing {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}

/// The bytes of a read as the body of a write: a copy.
pub(crate) fn relay(bytes: ReadStream, fault: &Fault) -> Body {
    let fault = fault.clone();
    let pieces = bytes.map(move |piece| {
        piece.map_err(|error| {
            let text = error.to_string();
            fault.set(errors::read(error));
            BodyError::Incomplete(text)
        })
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::types::WriteError;

    const TIMES: BodyTimes = BodyTimes {
        idle: Duration::from_millis(20),
        whole: Duration::from_secs(60),
    };

    async fn read(
        pieces: Vec<Result<&'static str, &'static str>>,
        len: u64,
    ) -> Result<String, S3Error> {
        let pieces = pieces.into_iter().map(|piece| match piece {
            Ok(text) => Ok(Bytes::from_static(text.as_bytes())),
            Err(text) => Err(std::io::Error::other(text)),
        });
        let fault = Fault::default();
        let blob = StreamingBlob::wrap(stream::iter(pieces));
        let body = Incoming::new(Some(blob), len, TIMES, &Env::real(), &fault);
        let explain = |error| fault.explain(WriteError::Body(error));
        let mut body = body.open().await.map_err(explain)?;
        let mut all = Vec::new();
        while let Some(piece) = body.next().await {
            all.extend_from_slice(&piece.map_err(explain)?);
        }
        Ok(String::from_utf8(all).unwrap())
    }

    #[tokio::test]
    async fn a_body_of_the_announced_length_passes() {
        assert_eq!(
            read(vec![Ok("ab"), Ok(""), Ok("c")], 3).await.unwrap(),
            "abc"
        );
        assert_eq!(read(vec![], 0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_shorter_or_longer_body_is_incomplete() {
        for (pieces, len) in [
            (vec![Ok("ab")], 3),
            (vec![], 1),
            (vec![Ok("ab")], 1),
            (vec![Ok("a"), Ok("b")], 1),
            (vec![Ok("a")], 0),
        ] {
            let error = read(pieces, len).await.unwrap_err();
            assert_eq!(error.code(), &S3ErrorCode::IncompleteBody);
        }
    }

    #[tokio::test]
    async fn what_s3s_finds_wrong_at_the_very_end_is_told_before_the_last_piece() {
        for (text, code) in [
            (
                "AwsChunkedStreamError: SignatureMismatch",
                S3ErrorCode::SignatureDoesNotMatch,
            ),
            (
                "UploadStreamError: Sha256Mismatch",
                "XAmzContentSHA256Mismatch".parse().unwrap(),
            ),
            (
                "AwsChunkedStreamError: FormatError",
                S3ErrorCode::InvalidRequest,
            ),
            ("the body stalls", S3ErrorCode::RequestTimeout),
            ("connection reset", S3ErrorCode::IncompleteBody),
        ] {
            let error = read(vec![Ok("ab"), Err(text)], 2).await.unwrap_err();
            assert_eq!(error.code(), &code, "{text}");
            let error = read(vec![Err(text)], 0).await.unwrap_err();
            assert_eq!(error.code(), &code, "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_that_takes_too_long_in_all_is_given_up() {
        let times = BodyTimes {
            whole: Duration::ZERO,
            ..TIMES
        };
        let pieces = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
        let blob = StreamingBlob::wrap(pieces);
        let fault = Fault::default();
        let body = Incoming::new(Some(blob), 1 << 40, times, &Env::real(), &fault);
        let mut body = body.open().await.unwrap();
        let error = loop {
            if let Err(error) = body.next().await.unwrap() {
                break error;
            }
        };
        let error = fault.explain(WriteError::Body(error));
        assert_eq!(error.code(), &S3ErrorCode::RequestTimeout);
    }

    #[tokio::test]
    async fn a_read_that_ends_early_breaks_the_connection() {
        let bytes = stream::iter([Ok(Bytes::from_static(b"ab"))]).boxed();
        let mut blob = outgoing(bytes, 3);
        assert!(blob.next().await.unwrap().is_ok());
        assert!(blob.next().await.unwrap().is_err());
    }
}
