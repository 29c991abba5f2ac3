//! What an operator may set about the S3 front. Every default stands here, with its reason.

use std::time::Duration;

use crate::s3::body::BodyTimes;

/// Settings of the S3 front.
#[derive(Clone)]
pub struct S3Settings {
    /// The access key of the root user; also the owner of all buckets.
    pub access_key: String,
    /// The secret key of the root user.
    pub secret_key: String,
    /// The region that clients are told; any is accepted in signatures.
    pub region: String,
    /// Domains under which buckets are hosts (`bucket.domain`); path-style always works.
    pub domains: Vec<String>,
    /// How long bodies may take.
    pub body: BodyTimes,
    /// How long the head of a request may take.
    pub head_time: Duration,
    /// Connections at the same time; more wait to be accepted.
    pub connections_max: usize,
    /// How long requests under way may go on at a shutdown.
    pub drain_time: Duration,
    /// Commands of one multi-delete that are proposed at the same time.
    pub deletes_in_flight: usize,
}

impl S3Settings {
    /// The defaults, for a root user.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            body: BodyTimes {
                idle: Duration::from_secs(60),
                whole: Duration::from_secs(12 * 3600),
            },
            head_time: Duration::from_secs(30),
            // Half of the 4,096 descriptors that a process may have without being told so.
            connections_max: 2048,
            drain_time: Duration::from_secs(10),
            deletes_in_flight: 32,
        }
    }
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Settings")
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("domains", &self.domains)
            .finish_non_exhaustive()
    }
}
