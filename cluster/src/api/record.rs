//! Records: the metadata of object versions, uploads and parts, as rows and messages hold them.

use std::collections::BTreeMap;

use enfilade_placement::{BlobId, Profile, Stamp, UploadId, VolumeId};
use serde::{Deserialize, Serialize};

/// How many blobs and extents a record holds itself; more go to rows of their own.
pub const CONTENT_IN_RECORD_MAX: usize = 64;

/// A run of consecutive stripes of one blob in one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where the stripes are.
    pub volume: VolumeId,
    /// Number of the first stripe within the blob.
    pub first_stripe: u32,
    /// How many stripes.
    pub stripes: u32,
}

/// How the stripes of a blob are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `k` data and `m` parity fragments a stripe.
    Full,
    /// One data fragment, at the member that the blob id names, and `m` parity fragments; the other
    /// data fragments are zeros and not stored (PROTOCOLS 17).
    Shortened,
}

/// Where the bytes of a blob are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Beside the record, in the partition.
    Inline,
    /// In volumes.
    Striped {
        /// The erasure code of all its extents.
        profile: Profile,
        /// How its stripes are coded.
        layout: Layout,
        /// Its stripes, in order, without gaps.
        extents: Vec<Extent>,
    },
}

/// The immutable bytes of one object or one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Its id: random, never used again.
    pub id: BlobId,
    /// Its bytes.
    pub len: u64,
    /// CRC-64/NVME over the client's bytes (PROTOCOLS 18).
    pub crc64: u64,
    /// Where the bytes are.
    pub place: Place,
}

/// The blobs whose bytes, one after another, are those of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Here.
    Blobs(Vec<Blob>),
    /// In rows of their own, found by offset: more than [`CONTENT_IN_RECORD_MAX`].
    Rows {
        /// How many blobs.
        blobs: u32,
    },
}

/// An algorithm of `x-amz-checksum-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Whether a checksum is over the object's bytes, or over the checksums of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumScope {
    /// `FULL_OBJECT`.
    FullObject,
    /// `COMPOSITE`.
    Composite,
}

/// A checksum that the client asked to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Its algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// What it is over.
    pub scope: ChecksumScope,
    /// Its value as S3 writes it: base64, with `-N` for a composite.
    pub value: String,
}

/// Object lock fields; all empty unless the bucket has object lock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lock {
    /// Retained until, in milliseconds of Unix time, and whether in compliance mode.
    pub retain_until: Option<(u64, bool)>,
    /// Under legal hold.
    pub legal_hold: bool,
}

/// What the client said about an object, apart from its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Standard headers, by lower-case name: `content-type`, `cache-control`,
    /// `content-disposition`, `content-encoding`, `content-language`, `expires`,
    /// `x-amz-website-redirect-location`, `x-amz-storage-class`.
    pub headers: BTreeMap<String, String>,
    /// `x-amz-meta-*`, by lower-case name without that prefix.
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Object lock.
    pub lock: Lock,
}

/// Names one version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionId {
    /// The one with this stamp, whether or not it is the `null` version.
    Stamp(Stamp),
    /// The `null` version: the one that was written while versioning was not enabled.
    Null,
}

impl From<Stamp> for VersionId {
    fn from(stamp: Stamp) -> Self {
        Self::Stamp(stamp)
    }
}

/// What a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionKind {
    /// An object with bytes.
    Object,
    /// A delete marker: empty content.
    DeleteMarker,
}

/// The metadata of one object version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Its version, in Raft order; also the S3 version id where the bucket keeps versions.
    pub stamp: Stamp,
    /// What it is.
    pub kind: VersionKind,
    /// Whether its S3 version id is `null`: written while versioning was not enabled.
    pub null_version: bool,
    /// Bytes of the object.
    pub len: u64,
    /// The ETag, without quotes.
    pub etag: String,
    /// Last modified, in milliseconds of Unix time, by the gateway's wall clock.
    pub modified_ms: u64,
    /// What the client said about it.
    pub attributes: Attributes,
    /// The checksum that the client asked for.
    pub checksum: Option<Checksum>,
    /// The lengths of its parts in order, when it came by multipart; for `partNumber` reads.
    pub parts: Vec<u64>,
    /// Its bytes.
    pub content: Content,
}

/// An open multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// Its id.
    pub id: UploadId,
    /// When it was created, in milliseconds of Unix time.
    pub created_ms: u64,
    /// What the client said about the object to come.
    pub attributes: Attributes,
    /// The checksum that parts must carry, and what the object's will be over.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumScope)>,
}

/// One part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Its number, 1 to 10,000.
    pub number: u16,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Last modified, in milliseconds of Unix time.
    pub modified_ms: u64,
    /// The checksum that the client asked for.
    pub checksum: Option<Checksum>,
    /// Its bytes.
    pub blob: Blob,
}

impl Blob {
    /// How many rows' worth this takes in a record: its extents, at least one.
    pub fn weight(&self) -> usize {
        match &self.place {
            Place::Inline => 1,
            Place::Striped { extents, .. } => extents.len().max(1),
        }
    }
}
