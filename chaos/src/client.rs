//! The store as a client sees it: one request, one attempt, one answer.
//!
//! Nothing here repeats a request, because a repeat would hide what the first attempt did. An
//! answer that leaves the outcome open is reported as such.

mod connector;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod raw;
mod s3;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::history::{Entry, Outcome, Value};
use crate::workload::body::Body;

pub(crate) use s3::S3;

/// Why there is no success to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The condition did not hold; nothing was written.
    Conflict,
    /// Refused for good; nothing was written.
    Refused(String),
    /// The outcome is open.
    Unknown(String),
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        match failure {
            Failure::Conflict => Outcome::Conflict,
            Failure::Refused(why) => Outcome::Refused { why },
            Failure::Unknown(why) => Outcome::Unknown { why },
        }
    }
}

/// Whether a write may replace what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// `If-None-Match: *`
    Absent,
}

/// A bucket of objects. `Ok` of a write means that it was acked.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Writes an object; the ETag that was answered, without quotes.
    async fn put(&self, key: &str, body: Body, condition: Condition) -> Result<String, Failure>;

    /// Deletes an object; deleting what is absent is a success too.
    async fn delete(&self, key: &str) -> Result<(), Failure>;

    /// Reads a whole object, to its last byte; `None` when there is no such key.
    async fn get(&self, key: &str) -> Result<Option<Value>, Failure>;

    /// Reads some bytes of an object.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure>;

    /// All pages of a listing, in the order in which they came.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Failure>;
}
