//! Questions to partitions, and their answers.

use bytes::Bytes;
use enfilade_placement::{EnclosureId, Epoch, PartitionId, Stamp, UploadId};
use serde::{Deserialize, Serialize};

use super::encoding::bytes_field;
use super::record::{
    Attributes, Blob, ChecksumAlgorithm, ChecksumScope, ObjectRecord, PartRecord, VersionKind,
};

/// The most entries of one page.
pub const PAGE_MAX: u32 = 1000;

/// A record, with its bytes when it is one inline blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The record.
    pub record: ObjectRecord,
    /// The object's bytes, when its content is exactly one inline blob; else empty.
    #[serde(with = "bytes_field")]
    pub inline: Bytes,
}

/// A blob of an object, and where its bytes begin in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobAt {
    /// Offset of the blob's first byte in the object.
    pub offset: u64,
    /// The blob.
    pub blob: Blob,
}

/// Which keys to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListQuery {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that share what follows the prefix up to and including this are folded into one.
    pub delimiter: Option<String>,
    /// Only keys (and folded prefixes) after this one, in order of bytes. A folded prefix names
    /// itself: all keys that begin with it are passed over.
    pub after: Option<String>,
    /// The page before ended early, at the key `after`: the prefix that it is folded into has yet
    /// to be listed.
    pub inside: bool,
    /// At most so many entries, 0 to [`PAGE_MAX`].
    pub limit: u32,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListPage {
    /// Keys and folded prefixes, in one order of bytes.
    pub entries: Vec<ListEntry>,
    /// Where the next page begins (as [`ListQuery::after`]); none at the end. A page may be short,
    /// or empty, and still have a next one: it ends early when it has passed over many keys that
    /// were deleted.
    pub next: Option<String>,
    /// As [`ListQuery::inside`] of the next page.
    pub inside: bool,
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListEntry {
    /// A key with an object.
    Object(ListedObject),
    /// A folded prefix, delimiter included.
    Prefix(String),
}

/// What a listing tells of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its version.
    pub stamp: Stamp,
    /// Bytes.
    pub len: u64,
    /// ETag, without quotes.
    pub etag: String,
    /// Last modified, in milliseconds of Unix time.
    pub modified_ms: u64,
    /// The checksum that it was stored with.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumScope)>,
}

/// Which versions to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionsQuery {
    /// Only of keys that begin with this.
    pub prefix: String,
    /// Folds as in [`ListQuery`].
    pub delimiter: Option<String>,
    /// Only after this key or folded prefix; with a stamp: after that version of the key, also when
    /// the key is folded (into a prefix that has yet to be listed).
    pub after: Option<(String, Option<Stamp>)>,
    /// At most so many entries, 0 to [`PAGE_MAX`].
    pub limit: u32,
}

/// One page of versions. It may be short as a [`ListPage`] may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionsPage {
    /// Versions and delete markers, by key, the newest of a key first.
    pub versions: Vec<ListedVersion>,
    /// Folded prefixes.
    pub prefixes: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<(String, Option<Stamp>)>,
}

/// What a listing tells of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedVersion {
    /// The object, or the delete marker with the fields that it has.
    pub object: ListedObject,
    /// Whether its S3 version id is `null`.
    pub null_version: bool,
    /// Whether it is the current version of its key.
    pub current: bool,
    /// What it is.
    pub kind: VersionKind,
}

/// What a bucket holds, counted; of one partition it is that partition's share, which splits may
/// make negative: only the sum over the partitions of a bucket says what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Keys with an object.
    pub objects: i64,
    /// Bytes of those objects.
    pub bytes: i64,
    /// Objects that are older versions, or under a delete marker.
    pub older: i64,
    /// Bytes of those.
    pub older_bytes: i64,
    /// Delete markers.
    pub markers: i64,
    /// Open uploads.
    pub uploads: i64,
    /// Their parts.
    pub parts: i64,
    /// Bytes of those parts.
    pub part_bytes: i64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.older += more.older;
        self.older_bytes += more.older_bytes;
        self.markers += more.markers;
        self.uploads += more.uploads;
        self.parts += more.parts;
        self.part_bytes += more.part_bytes;
    }
}

/// Which uploads to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UploadsQuery {
    /// Only of keys that begin with this.
    pub prefix: String,
    /// Folds as in [`ListQuery`].
    pub delimiter: Option<String>,
    /// Only after this key or folded prefix; with an upload: after that upload of the key, also
    /// when the key is folded (into a prefix that has yet to be listed).
    pub after: Option<(String, Option<UploadId>)>,
    /// At most so many entries, 0 to [`PAGE_MAX`].
    pub limit: u32,
}

/// One page of uploads. It may be short as a [`ListPage`] may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UploadsPage {
    /// Uploads, by key, then id.
    pub uploads: Vec<ListedUpload>,
    /// Folded prefixes.
    pub prefixes: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<(String, Option<UploadId>)>,
}

/// What a listing tells of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedUpload {
    /// Its key.
    pub key: String,
    /// Its id.
    pub upload: UploadId,
    /// When it was created, in milliseconds of Unix time.
    pub created_ms: u64,
    /// The checksum that its parts carry.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumScope)>,
}

/// Which parts to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsQuery {
    /// The upload.
    pub upload: UploadId,
    /// Only parts with a greater number.
    pub after: u16,
    /// At most so many, 0 to 10,000.
    pub limit: u32,
}

/// One page of parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsPage {
    /// What the client said when it created the upload.
    pub attributes: Attributes,
    /// The checksum that parts carry.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumScope)>,
    /// The parts.
    pub parts: Vec<PartRecord>,
    /// Whether there are more.
    pub more: bool,
}

/// The state of one Raft group on one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub group: PartitionId,
    /// The enclosure of the replica that reports.
    pub replica: EnclosureId,
    /// The enclosure of the leader, as far as it knows.
    pub leader: Option<EnclosureId>,
    /// Raft's term.
    pub term: u64,
    /// The last applied log index.
    pub applied: u64,
    /// The enclosures that vote.
    pub voters: Vec<EnclosureId>,
    /// The enclosures that learn, and do not vote yet.
    pub learners: Vec<EnclosureId>,
    /// What the buckets hold in it; nothing for the root group.
    pub usage: Usage,
    /// The epoch of its range; [`Epoch::FIRST`] for the root group.
    pub epoch: Epoch,
    /// Whether the replica would vote: it has caught up since it was made, and waits out no lease.
    pub votes: bool,
}
