//! What goes into the data path and what comes out.

use bytes::Bytes;
use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::query::Found;
use enfilade_cluster::api::record::{Blob, ChecksumAlgorithm, Content};
use enfilade_placement::Stamp;
use enfilade_storage_node::api::Owner;
use futures::stream::BoxStream;

/// A body, as it arrives: pieces of any size. An error ends it.
pub type Body = BoxStream<'static, Result<Bytes, BodyError>>;

/// Why a body broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client vanished, or sent fewer bytes than it announced.
    #[error("the body broke off: {0}")]
    Incomplete(String),
    /// A signature or checksum inside the body is wrong.
    #[error("the body is not what was signed: {0}")]
    Mismatch(String),
}

/// A body to be written as one blob.
pub struct WriteBody {
    /// Whom it is for.
    pub owner: Owner,
    /// The body.
    pub body: Body,
    /// Its length, when the client announced it; another length is [`BodyError::Incomplete`].
    pub len: Option<u64>,
    /// The longest body that is accepted, in bytes.
    pub len_max: u64,
    /// The digest to compute beside CRC-64/NVME.
    pub digest: Option<ChecksumAlgorithm>,
    /// Whether to compute MD5.
    pub md5: bool,
}

/// A blob that is written: durable, but not yet named by a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The blob. Its `place` is inline when the body was at most the inline limit.
    pub blob: Blob,
    /// The bytes, when inline; else empty.
    pub inline: Bytes,
    /// MD5 of the body, when it was wanted.
    pub md5: Option<[u8; 16]>,
    /// The digest that was asked for, as raw bytes (CRCs big endian).
    pub digest: Option<(ChecksumAlgorithm, Vec<u8>)>,
}

/// Why a body was not written. Whatever was appended is an orphan, and goes in time.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The body broke off or is wrong.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is longer than accepted.
    #[error("the body is longer than {0} bytes")]
    TooLong(u64),
    /// Too few healthy members, or none that answers (S3: 503).
    #[error("no volume takes the bytes: {0}")]
    NoVolume(String),
    /// The byte budget is exhausted (S3: 503 SlowDown).
    #[error("too many bytes are under way")]
    Busy,
    /// The metadata service does not answer.
    #[error("metadata")]
    Metadata(#[source] MetadataError),
}

/// What a record says about an object's bytes.
#[derive(Debug, Clone)]
pub struct ReadContent {
    /// The version of the object.
    pub stamp: Stamp,
    /// Its blobs, or that they are in rows: those are fetched page by page.
    pub content: Content,
    /// The bytes, when the content is exactly one inline blob and they came with the record.
    pub inline: Bytes,
}

impl From<Found> for ReadContent {
    fn from(found: Found) -> Self {
        Self {
            stamp: found.record.stamp,
            content: found.record.content,
            inline: found.inline,
        }
    }
}

/// Bytes of an object, in order.
pub type ReadStream = BoxStream<'static, Result<Bytes, ReadError>>;

/// Why bytes could not be read. A read that has begun ends as a broken stream, never short.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// More fragments of a stripe are absent than the profile can spare.
    #[error("stripe {stripe} of blob {blob}: {present} of {needed} fragments")]
    Lost {
        /// The blob.
        blob: enfilade_placement::BlobId,
        /// The stripe.
        stripe: u32,
        /// How many could be read.
        present: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The blob is gone: deleted and collected while it was read.
    #[error("blob {0} is gone")]
    Gone(enfilade_placement::BlobId),
    /// The whole blob does not match its CRC-64/NVME.
    #[error("blob {0} does not match its checksum")]
    Mismatch(enfilade_placement::BlobId),
    /// The byte budget is exhausted (S3: 503 SlowDown).
    #[error("too many bytes are under way")]
    Busy,
    /// The metadata service does not answer.
    #[error("metadata")]
    Metadata(#[source] MetadataError),
}
