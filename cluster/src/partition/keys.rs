//! The keys of a partition's rows. Final format: what is written stays readable.
//!
//! Numbers are big endian. `row` is [`crate::api::key::ObjectKey::row_prefix`]; a bucket's `row` is
//! its id. Rows of keyed tables begin with `row` and name no group, so that a split moves none of
//! them (PROTOCOLS 5). Rows of [`Table::Side`](crate::rows::Table::Side) begin with the group and a
//! kind; those that belong to a key have `row` next (or in their value, where noted), so that a
//! split can divide them.

use enfilade_placement::{BlobId, BucketId, PartitionId, RequestId, Stamp, UploadId, VolumeId};

use crate::api::command::GroupTime;
use crate::api::key::RowPrefix;
use crate::typed::{Span, starting_with};

/// `row`: the latest version, in `Latest`.
pub(super) fn latest(row: &RowPrefix) -> Vec<u8> {
    row.as_bytes().to_vec()
}

/// `row`: the stamp of the `null` version, in `Nulls`.
pub(super) fn null(row: &RowPrefix) -> Vec<u8> {
    row.as_bytes().to_vec()
}

/// The stamp in what follows `row` in a key of `Versions`.
pub(super) fn stamp(rest: &[u8]) -> Option<Stamp> {
    let inverted = u64::from_be_bytes(rest.try_into().ok()?);
    Some(Stamp::new(!inverted))
}

/// `row, !stamp (8)`: a version in `Versions`, newest first.
pub(super) fn version(row: &RowPrefix, stamp: Stamp) -> Vec<u8> {
    row.with(&(!stamp.get()).to_be_bytes())
}

/// `row, blob (16)`: an inline blob in `Inline`, a reference in `Blobs`.
pub(super) fn blob(row: &RowPrefix, blob: BlobId) -> Vec<u8> {
    row.with(&blob.to_bytes())
}

/// `row, stamp (8), offset (8)`: blobs of a record from that offset on, in `Content`.
pub(super) fn content(row: &RowPrefix, stamp: Stamp, offset: u64) -> Vec<u8> {
    let mut key = row.with(&stamp.get().to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// The offset that a key of `Content` ends with.
pub(super) fn content_offset(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|offset| u64::from_be_bytes(*offset))
}

/// All rows of `Content` of one record.
pub(super) fn all_content(row: &RowPrefix, stamp: Stamp) -> Span {
    starting_with(row.with(&stamp.get().to_be_bytes()))
}

/// `row, upload (16)`: an upload in `Uploads`.
pub(super) fn upload(row: &RowPrefix, upload: UploadId) -> Vec<u8> {
    row.with(&upload.to_bytes())
}

/// `row, upload (16), number (2)`: a part in `Parts`.
pub(super) fn part(row: &RowPrefix, upload: UploadId, number: u16) -> Vec<u8> {
    let mut key = row.with(&upload.to_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// All rows of `Parts` of one upload.
pub(super) fn all_parts(row: &RowPrefix, upload: UploadId) -> Span {
    starting_with(row.with(&upload.to_bytes()))
}

/// All rows that begin with `row`.
pub(super) fn all_of(row: &RowPrefix) -> Span {
    starting_with(row.as_bytes().to_vec())
}

/// The kinds of side rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing more: the range and its epoch.
    Range = 1,
    /// Nothing more: partition time, and how far expiry has come.
    Clock = 2,
    /// Nothing more: the last stamp given.
    Stamp = 3,
    /// Nothing more: the last number given in the garbage queue.
    Sequence = 4,
    /// `bucket (8)`: a bucket's settings.
    Bucket = 5,
    /// `row, request (16)`: the result of a request.
    Result = 6,
    /// `row, blob (16)`: a condemned blob.
    Condemned = 7,
    /// `row, upload (16)`: the result of a completed upload.
    Completed = 8,
    /// `until (8)`, then the key, from its kind on, of a row of the three kinds above, which goes
    /// when partition time has passed `until`. No value.
    Expiry = 9,
    /// `volume (8), sequence (8)`: a dead blob; `row` is in the value.
    Garbage = 10,
    /// `volume (8), member (1)`: below this number the member has acked everything.
    Floor = 11,
    /// `bucket (8)`: its uploads are being aborted. No value.
    Aborting = 12,
    /// `bucket (8)`: what it holds, counted. At a split these rows stay with the parent: only sums
    /// over a bucket's partitions count.
    Usage = 13,
    /// Nothing more: the last change of the group's replicas that a leader acted on.
    Replicas = 14,
    /// Nothing more: how far the partition is divided for a split.
    Division = 15,
}

/// The keys of a group's side rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side(PartitionId);

impl Side {
    pub(super) const fn new(group: PartitionId) -> Self {
        Self(group)
    }

    /// The group.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) const fn group(self) -> PartitionId {
        self.0
    }

    fn key(self, kind: Kind, rest: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(5 + rest.iter().map(|part| part.len()).sum::<usize>());
        key.extend_from_slice(&self.0.get().to_be_bytes());
        key.push(kind as u8);
        for part in rest {
            key.extend_from_slice(part);
        }
        key
    }

    /// The row of a kind of which there is one.
    pub(super) fn single(self, kind: Kind) -> Vec<u8> {
        self.key(kind, &[])
    }

    /// All rows of a kind.
    pub(super) fn all(self, kind: Kind) -> Span {
        starting_with(self.key(kind, &[]))
    }

    /// All rows of a kind whose keys begin with an object's, from one on.
    pub(super) fn of_kind_from(self, kind: Kind, row: &RowPrefix) -> Span {
        let (_, end) = self.all(kind);
        (self.key(kind, &[row.as_bytes()]), end)
    }

    /// The key that a row of another group has in this one.
    pub(super) fn of(self, key: &[u8]) -> Vec<u8> {
        let rest = key.get(4..).unwrap_or_default();
        [&self.0.get().to_be_bytes(), rest].concat()
    }

    /// A row of a bucket.
    pub(super) fn bucket(self, kind: Kind, bucket: BucketId) -> Vec<u8> {
        self.key(kind, &[&bucket.get().to_be_bytes()])
    }

    /// The result of a request.
    pub(super) fn result(self, row: &RowPrefix, request: RequestId) -> Vec<u8> {
        self.key(Kind::Result, &[row.as_bytes(), &request.to_bytes()])
    }

    /// A condemned blob.
    pub(super) fn condemned(self, row: &RowPrefix, blob: BlobId) -> Vec<u8> {
        self.key(Kind::Condemned, &[row.as_bytes(), &blob.to_bytes()])
    }

    /// The result of a completed upload.
    pub(super) fn completed(self, row: &RowPrefix, upload: UploadId) -> Vec<u8> {
        self.key(Kind::Completed, &[row.as_bytes(), &upload.to_bytes()])
    }

    /// The entry that makes a row go after `until`.
    pub(super) fn expiry(self, until: GroupTime, target: &[u8]) -> Vec<u8> {
        let target = target.get(4..).unwrap_or_default();
        self.key(Kind::Expiry, &[&until.0.to_be_bytes(), target])
    }

    /// The entries of rows that go when partition time is `now`, of those from `from` on.
    pub(super) fn expired(self, from: GroupTime, now: GroupTime) -> Span {
        let first = self.key(Kind::Expiry, &[&from.0.to_be_bytes()]);
        (first, Some(self.key(Kind::Expiry, &[&now.0.to_be_bytes()])))
    }

    /// The row that an expiry entry names, and its time.
    pub(super) fn expiry_target(self, entry: &[u8]) -> Option<(GroupTime, Vec<u8>)> {
        let (until, target) = entry.get(5..)?.split_first_chunk::<8>()?;
        let group = self.0.get().to_be_bytes();
        Some((
            GroupTime(u64::from_be_bytes(*until)),
            [&group, target].concat(),
        ))
    }

    /// A dead blob.
    pub(super) fn garbage(self, volume: VolumeId, sequence: u64) -> Vec<u8> {
        let volume = volume.get().to_be_bytes();
        self.key(Kind::Garbage, &[&volume, &sequence.to_be_bytes()])
    }

    /// The dead blobs of a volume after a number.
    pub(super) fn garbage_after(self, volume: VolumeId, floor: u64) -> Span {
        let (_, end) = starting_with(self.key(Kind::Garbage, &[&volume.get().to_be_bytes()]));
        (self.garbage(volume, floor.saturating_add(1)), end)
    }

    /// The volume and number in the key of a dead blob.
    pub(super) fn garbage_id(key: &[u8]) -> Option<(VolumeId, u64)> {
        let (volume, sequence) = key.get(5..)?.split_first_chunk::<8>()?;
        let volume = VolumeId::new(u64::from_be_bytes(*volume));
        Some((volume, u64::from_be_bytes(sequence.try_into().ok()?)))
    }

    /// Below which number a member has acked everything.
    pub(super) fn floor(self, volume: VolumeId, member: u8) -> Vec<u8> {
        self.key(Kind::Floor, &[&volume.get().to_be_bytes(), &[member]])
    }

    /// The floors of all members of a volume.
    pub(super) fn floors(self, volume: VolumeId) -> Span {
        starting_with(self.key(Kind::Floor, &[&volume.get().to_be_bytes()]))
    }
}
