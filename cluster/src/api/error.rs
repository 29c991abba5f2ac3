//! Errors of the metadata service, by what the caller does next.

use serde::{Deserialize, Serialize};

/// Why a call to the metadata service has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MetadataError {
    /// Nothing was changed: try again later (S3: 503).
    #[error("metadata service unavailable: {0}")]
    Unavailable(String),
    /// The write may or may not be committed. Repeat it with the same request id, or answer 503;
    /// never delete the blob that it names (PROTOCOLS 2).
    #[error("outcome of the write unknown: {0}")]
    UnknownOutcome(String),
    /// This replica does not lead the group; the leader, when known, is named. Clients follow it
    /// and do not show it to their callers.
    #[error("not the leader of the group (leader: {leader:?})")]
    NotLeader {
        /// Raft id (enclosure id) of the leader.
        leader: Option<u64>,
    },
    /// The route is stale: read the root state again. Clients do so themselves.
    #[error("stale route: {0}")]
    StaleRoute(String),
    /// The caller belongs to another cluster or incarnation, or lacks the cluster's credential:
    /// do not try again.
    #[error("refused: {0}")]
    Forbidden(String),
    /// The metadata device is at a fill limit (PROTOCOLS 8): answer 503 until it is relieved.
    #[error("metadata device full: {0}")]
    Full(String),
    /// The request itself is wrong: do not try again.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// A row or message could not be decoded: a defect or a newer format; do not try again.
    #[error("undecodable: {0}")]
    Undecodable(String),
}

/// Whether and how to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing happened: try again, with any id.
    Later,
    /// Try again with the same request id only.
    SameRequest,
    /// Trying again does not help.
    Never,
}

impl MetadataError {
    /// Whether trying again can help.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) | Self::NotLeader { .. } | Self::StaleRoute(_) => Retry::Later,
            Self::UnknownOutcome(_) => Retry::SameRequest,
            Self::Forbidden(_) | Self::Full(_) | Self::Invalid(_) | Self::Undecodable(_) => {
                Retry::Never
            }
        }
    }
}
