//! The one table from our errors to those of S3.
//!
//! What the client does next decides: 4xx is its own mistake and final, 503 with `Retry-After`
//! means that nothing is known to have changed and the same request may be made again. An unknown
//! outcome is 503, never success and never 412 (PROTOCOLS 2).

use std::sync::{Arc, Mutex, PoisonError};

use enfilade_cluster::api::command::Refusal;
use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::root::RootRefusal;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3ErrorCode};

use crate::path::types::{BodyError, ReadError, WriteError};
use crate::view::StaleView;

/// Seconds after which a client that was told 503 may come again.
const RETRY_AFTER: &str = "1";

/// An error with its code and a sentence for people.
pub(crate) fn error(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// 503: nothing is known to have changed; come again.
pub(crate) fn unavailable(message: impl Into<String>) -> S3Error {
    retry(S3ErrorCode::ServiceUnavailable, message)
}

/// 503 `SlowDown`: a bound was reached; come again.
pub(crate) fn slow_down(message: impl Into<String>) -> S3Error {
    retry(S3ErrorCode::SlowDown, message)
}

fn retry(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    let mut error = error(code, message);
    // These replace all headers of the answer, its type included.
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    error.set_headers(headers);
    error
}

/// 500: a defect of ours. Logged, since a human must look.
pub(crate) fn internal(message: &'static str, cause: impl std::fmt::Display) -> S3Error {
    tracing::error!(%cause, "{message}");
    error(S3ErrorCode::InternalError, message)
}

/// A function that is not offered, in the words of S3.
pub(crate) fn not_implemented(what: impl std::fmt::Display) -> S3Error {
    let text = format!("{what} implies functionality that is not implemented");
    error(S3ErrorCode::NotImplemented, text)
}

/// A code that this version of s3s does not know.
pub(crate) fn custom(code: &'static str, message: &'static str) -> S3Error {
    let mut error = error(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}

pub(crate) fn metadata(cause: MetadataError) -> S3Error {
    match cause {
        MetadataError::Unavailable(_)
        | MetadataError::UnknownOutcome(_)
        | MetadataError::NotLeader { .. }
        | MetadataError::StaleRoute(_)
        | MetadataError::Full(_) => {
            tracing::debug!(%cause, "metadata service");
            unavailable("the metadata service does not answer, try again")
        }
        MetadataError::Forbidden(_) | MetadataError::Invalid(_) | MetadataError::Undecodable(_) => {
            internal("the metadata service refused the gateway", cause)
        }
    }
}

pub(crate) fn stale_view(cause: StaleView) -> S3Error {
    tracing::debug!(%cause, "no fresh view");
    unavailable("the gateway has lost the metadata service, try again")
}

/// Refusals that mean the same whatever was asked; a stale revision and a fenced bucket are handled
/// where commands are proposed.
pub(crate) fn refusal(cause: Refusal) -> S3Error {
    let text = cause.to_string();
    match cause {
        Refusal::PreconditionFailed => {
            let text = "At least one of the pre-conditions you specified did not hold";
            error(S3ErrorCode::PreconditionFailed, text)
        }
        Refusal::NoSuchKey => no_such_key(),
        Refusal::NoSuchUpload => no_such_upload(),
        Refusal::InvalidPart(_) => error(S3ErrorCode::InvalidPart, text),
        Refusal::InvalidPartOrder => error(S3ErrorCode::InvalidPartOrder, text),
        Refusal::PartTooSmall(_) => error(S3ErrorCode::EntityTooSmall, text),
        Refusal::Locked => error(S3ErrorCode::AccessDenied, text),
        Refusal::BlobCondemned
        | Refusal::Expired
        | Refusal::BucketFenced
        | Refusal::StaleRevision(_)
        | Refusal::StaleRoute(_) => unavailable(text),
        Refusal::BlobReferenced => internal("a blob was named twice", text),
    }
}

pub(crate) fn root_refusal(cause: RootRefusal) -> S3Error {
    match cause {
        RootRefusal::BucketExists(_) => error(
            S3ErrorCode::BucketAlreadyOwnedByYou,
            "The bucket exists already, and you own it",
        ),
        RootRefusal::BucketNotEmpty => error(
            S3ErrorCode::BucketNotEmpty,
            "The bucket you tried to delete is not empty",
        ),
        RootRefusal::BucketBusy | RootRefusal::Expired | RootRefusal::NotBorn => {
            unavailable(cause.to_string())
        }
        RootRefusal::NotFound(_) => no_such_bucket(),
        other => internal("the root group refused the gateway", other),
    }
}

pub(crate) fn write(cause: WriteError) -> S3Error {
    match cause {
        WriteError::Body(BodyError::Incomplete(text)) => error(
            S3ErrorCode::IncompleteBody,
            format!("The body is incomplete: {text}"),
        ),
        WriteError::Body(BodyError::Mismatch(text)) => error(S3ErrorCode::BadDigest, text),
        WriteError::TooLong(_) => too_large(),
        WriteError::NoVolume(text) => {
            tracing::debug!(text, "no volume");
            unavailable("too few healthy drives take the bytes at the moment, try again")
        }
        WriteError::Busy => slow_down("too many bytes are under way, try again"),
        WriteError::Metadata(cause) => metadata(cause),
    }
}

pub(crate) fn read(cause: ReadError) -> S3Error {
    match cause {
        ReadError::Busy => slow_down("too many bytes are under way, try again"),
        ReadError::Metadata(cause) => metadata(cause),
        ReadError::Gone(_) => unavailable("the object was replaced while it was read, try again"),
        ReadError::Lost { .. } => {
            // Members may come back: nothing is known to be lost for ever.
            tracing::warn!(%cause, "an object is not readable at the moment");
            unavailable("too few of the object's fragments can be read at the moment")
        }
        ReadError::Mismatch(_) => internal("an object does not match its checksum", cause),
    }
}

pub(crate) fn no_such_bucket() -> S3Error {
    error(
        S3ErrorCode::NoSuchBucket,
        "The specified bucket does not exist",
    )
}

pub(crate) fn no_such_key() -> S3Error {
    error(S3ErrorCode::NoSuchKey, "The specified key does not exist")
}

pub(crate) fn no_such_upload() -> S3Error {
    let text = "The specified upload does not exist. It may have been aborted or completed";
    error(S3ErrorCode::NoSuchUpload, text)
}

pub(crate) fn too_large() -> S3Error {
    let text = "Your proposed upload exceeds the maximum allowed size";
    error(S3ErrorCode::EntityTooLarge, text)
}

pub(crate) fn invalid_argument(message: impl Into<String>) -> S3Error {
    error(S3ErrorCode::InvalidArgument, message)
}

pub(crate) fn invalid_request(message: impl Into<String>) -> S3Error {
    error(S3ErrorCode::InvalidRequest, message)
}

/// Keeps the S3 error that ended a body, while the data path knows only that it broke off.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<S3Error>>>);

impl Fault {
    /// Keeps the first.
    pub(crate) fn set(&self, error: S3Error) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(error);
    }

    /// What a failed write comes to: what was kept, else what the data path says.
    pub(crate) fn explain(&self, cause: WriteError) -> S3Error {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match cause {
            WriteError::Body(_) => kept.unwrap_or_else(|| write(cause)),
            other => write(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_is_a_503_that_may_be_repeated() {
        let unknown = metadata(MetadataError::UnknownOutcome("leader lost".to_owned()));
        assert_eq!(unknown.status_code(), Some(StatusCode::SERVICE_UNAVAILABLE));
        let headers = unknown.headers().expect("it says when to come again");
        assert_eq!(headers[header::RETRY_AFTER], RETRY_AFTER);
    }

    #[test]
    fn a_kept_fault_explains_a_broken_body_but_no_other_failure() {
        let broken = || WriteError::Body(BodyError::Mismatch(String::new()));
        let fault = Fault::default();
        fault.set(error(S3ErrorCode::SignatureDoesNotMatch, "chunk"));
        fault.set(error(S3ErrorCode::InternalError, "later"));
        assert_eq!(
            fault.explain(WriteError::Busy).code(),
            &S3ErrorCode::SlowDown
        );

        let fault = Fault::default();
        fault.set(error(S3ErrorCode::SignatureDoesNotMatch, "chunk"));
        assert_eq!(
            fault.explain(broken()).code(),
            &S3ErrorCode::SignatureDoesNotMatch
        );
        assert_eq!(fault.explain(broken()).code(), &S3ErrorCode::BadDigest);
    }

    #[test]
    fn a_condemned_blob_is_never_told_as_a_failed_condition() {
        for refused in [Refusal::BlobCondemned, Refusal::Expired] {
            let status = refusal(refused).status_code();
            assert_eq!(status, Some(StatusCode::SERVICE_UNAVAILABLE));
        }
    }
}
