//! Commands of a partition, and what its state machine answers.
//!
//! Commands travel to the leader, lie in the Raft log and are applied in one encoding
//! ([`super::encoding`]). Range, epoch and bucket revision are checked inside apply (PROTOCOLS 5).

use bytes::Bytes;
use enfilade_placement::{
    BlobId, BucketId, Epoch, IntentId, PartitionId, RequestId, Stamp, UploadId,
};
use serde::{Deserialize, Serialize};

use super::encoding::bytes_field;
use super::garbage::GarbageAck;
use super::key::RowPrefix;
use super::record::{
    Attributes, Blob, Checksum, ChecksumAlgorithm, ChecksumScope, Extent, PartRecord, VersionId,
};

/// Milliseconds of partition time: elapsed monotonic time as the group's leaders counted it
/// (PROTOCOLS 3). Not a wall clock.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct GroupTime(pub u64);

/// What a gateway asks of the partition that holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequest {
    /// Names the request: the blob id for writes of blobs, else random.
    pub request: RequestId,
    /// The bucket.
    pub bucket: BucketId,
    /// The revision of the bucket that the gateway acted on (PROTOCOLS 6).
    pub revision: u64,
    /// The key.
    pub key: String,
    /// What to do.
    pub op: KeyOp,
}

/// A command in the log of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnvelope {
    /// Names the request; repeats are answered with the first result for an hour (PROTOCOLS 2).
    pub request: RequestId,
    /// Refused when partition time has passed this.
    pub deadline: GroupTime,
    /// The epoch of the partition's range that the proposer knew.
    pub epoch: Epoch,
    /// The command.
    pub command: PartitionCommand,
}

/// A command of a partition.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all commands are of the largest kind"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionCommand {
    /// Acts on one key.
    Key {
        /// The bucket.
        bucket: BucketId,
        /// The revision of the bucket that the proposer acted on.
        revision: u64,
        /// The key.
        key: String,
        /// What to do.
        op: KeyOp,
    },
    /// Brings a bucket's settings to a revision (PROTOCOLS 6).
    Bucket {
        /// The bucket.
        bucket: BucketId,
        /// The new revision; an older one is refused.
        revision: u64,
        /// How versions are kept from now on.
        versioning: Versioning,
        /// Whether all further writes to it are refused.
        fenced: bool,
        /// Whether its open uploads are aborted (a bucket about to be deleted).
        abort_uploads: bool,
    },
    /// Members dropped dead blobs.
    AckGarbage(Vec<GarbageAck>),
    /// Advances partition time; proposed by the leader.
    Tick {
        /// Monotonic time since its last tick (or its election), in milliseconds.
        elapsed_ms: u64,
    },
    /// The leader is about to change the group's replicas as root said; proposed by it. From now on
    /// no leader acts on an earlier change (PROTOCOLS 1).
    Replicas {
        /// The change.
        change: IntentId,
    },
    /// Begins to divide the partition as root said; proposed by the leader (PROTOCOLS 5).
    Divide {
        /// The split.
        split: IntentId,
        /// The new partition.
        child: PartitionId,
        /// It gets all rows from this one on.
        at: RowPrefix,
    },
    /// Copies further rows of those that a split divides; proposed by the leader.
    CopyForChild {
        /// The split.
        split: IntentId,
    },
    /// Gives the child its range, once all was copied; proposed by the leader.
    Split {
        /// The split.
        split: IntentId,
    },
}

/// How a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Versioning {
    /// Never enabled: an overwrite replaces.
    #[default]
    Off,
    /// Every write makes a version.
    Enabled,
    /// Was enabled: writes replace the `null` version.
    Suspended,
}

/// Conditions on the current state of a key, decided inside apply.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// `If-Match`: the current ETag must be among these.
    pub if_match: Option<ETags>,
    /// `If-None-Match`: the current ETag must not be among these.
    pub if_none_match: Option<ETags>,
}

/// What a condition names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ETags {
    /// `*`: any object.
    Any,
    /// ETags, without quotes.
    These(Vec<String>),
}

/// An object to be, as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewObject {
    /// Its ETag, without quotes.
    pub etag: String,
    /// Wall time of the gateway, in milliseconds of Unix time.
    pub modified_ms: u64,
    /// What the client said about it.
    pub attributes: Attributes,
    /// The checksum that the client asked for.
    pub checksum: Option<Checksum>,
    /// Its bytes.
    pub blob: Blob,
    /// The bytes themselves, when `blob.place` is inline; else empty.
    #[serde(with = "bytes_field")]
    pub inline: Bytes,
}

/// What to do with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyOp {
    /// Writes an object. Copies are puts too: of bytes of their own (PROTOCOLS 19).
    Put {
        /// The object.
        object: NewObject,
        /// Conditions on the key.
        conditions: Conditions,
    },
    /// Deletes the object, or writes a delete marker, or deletes one version.
    Delete {
        /// The version to delete for good; none: the key, as the bucket keeps versions.
        version: Option<VersionId>,
        /// Conditions on the key.
        conditions: Conditions,
        /// Wall time of the gateway, in milliseconds of Unix time, for a marker.
        modified_ms: u64,
    },
    /// Opens a multipart upload.
    CreateUpload {
        /// Its id.
        upload: UploadId,
        /// Wall time of the gateway, in milliseconds of Unix time.
        created_ms: u64,
        /// What the client said about the object to come.
        attributes: Attributes,
        /// The checksum that parts must carry.
        checksum: Option<(ChecksumAlgorithm, ChecksumScope)>,
    },
    /// Writes or replaces a part.
    PutPart {
        /// The upload.
        upload: UploadId,
        /// The part.
        part: PartRecord,
        /// The bytes themselves, when the part's blob is inline; else empty.
        #[serde(with = "bytes_field")]
        inline: Bytes,
    },
    /// Makes an object of the parts of an upload. Answers again with its result for 7 days.
    CompleteUpload {
        /// The upload.
        upload: UploadId,
        /// The parts that the client named, in order.
        parts: Vec<ChosenPart>,
        /// The ETag that follows from them, without quotes.
        etag: String,
        /// The checksum that follows from them.
        checksum: Option<Checksum>,
        /// Wall time of the gateway, in milliseconds of Unix time.
        modified_ms: u64,
        /// Conditions on the key.
        conditions: Conditions,
    },
    /// Drops an upload and its parts.
    AbortUpload {
        /// The upload.
        upload: UploadId,
    },
    /// Condemns a blob that no record references, or tells that one does (PROTOCOLS 19).
    Condemn {
        /// The blob.
        blob: BlobId,
    },
}

/// A part as `CompleteMultipartUpload` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenPart {
    /// Its number.
    pub number: u16,
    /// The ETag that it must have, without quotes.
    pub etag: String,
    /// The checksum value that it must have, when the client named one.
    pub checksum: Option<String>,
}

/// What a committed command came to.
pub type Outcome = Result<KeyReply, Refusal>;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyReply {
    /// The object is written.
    Put {
        /// Its version.
        stamp: Stamp,
        /// Whether the bucket keeps versions, so that the client is told the version id.
        versioned: bool,
    },
    /// The key or version is gone, or never was.
    Deleted {
        /// The marker that was written, or that was itself deleted.
        marker: Option<Stamp>,
        /// Whether anything was there.
        existed: bool,
    },
    /// The upload is open.
    UploadCreated,
    /// The part is written.
    PartPut,
    /// The object is made.
    Completed {
        /// Its version.
        stamp: Stamp,
        /// Whether the bucket keeps versions.
        versioned: bool,
        /// Its ETag, without quotes.
        etag: String,
        /// Its checksum.
        checksum: Option<Checksum>,
        /// Its bytes.
        len: u64,
    },
    /// The upload and its parts are gone.
    UploadAborted,
    /// The blob is referenced: only fragments outside these extents may be dropped.
    Referenced(Vec<Extent>),
    /// The blob is condemned: its fragments may be dropped.
    Condemned,
    /// Done, and there is nothing to tell: bucket settings, garbage acks, ticks.
    Done,
}

/// Why the state machine refused a command. Committed and final: the command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A condition does not hold (412).
    #[error("a condition on the key does not hold")]
    PreconditionFailed,
    /// `If-Match` on a key that has no object (404).
    #[error("there is no such key")]
    NoSuchKey,
    /// No such upload: never created, aborted, or completed more than 7 days ago (404).
    #[error("there is no such upload")]
    NoSuchUpload,
    /// A part that was named is missing or has another ETag or checksum (400).
    #[error("part {0} is missing or is not the one named")]
    InvalidPart(u16),
    /// The parts are not named in ascending order, or none is (400).
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part other than the last is smaller than 5 MiB (400).
    #[error("part {0} is too small")]
    PartTooSmall(u16),
    /// The version is retained or on legal hold (403).
    #[error("the version is locked")]
    Locked,
    /// The blob was condemned while the request was under way (503; the client starts over).
    #[error("the blob was condemned")]
    BlobCondemned,
    /// The blob is already referenced by another record: a defect of the proposer (500).
    #[error("the blob is referenced already")]
    BlobReferenced,
    /// The deadline has passed: the command was not and will not be applied (503).
    #[error("the request's deadline has passed")]
    Expired,
    /// The bucket is fenced: it is being deleted (404 or 503).
    #[error("the bucket is being deleted")]
    BucketFenced,
    /// The gateway acted on an older revision of the bucket: refresh and repeat with a new id.
    #[error("the bucket's settings are newer: revision {0}")]
    StaleRevision(u64),
    /// The key lies outside the partition's range, or the epoch is older than the range's: refresh
    /// the route and repeat.
    #[error("the route is stale: the partition's epoch is {0}")]
    StaleRoute(Epoch),
}
