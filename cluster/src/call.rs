//! Calls: the requests of [`crate::api::MetadataClient`] as they reach one replica of one group.
//!
//! Both clients speak these, so that they cannot differ; on the wire they travel in the encoding of
//! [`crate::api::encoding`]. Variants are numbered in order: new ones go to the end.

use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{BlobId, BucketId, Epoch, PartitionId, Stamp, Volume, VolumeId};
use serde::{Deserialize, Serialize};

use crate::api::command::{GroupTime, Outcome, PartitionEnvelope};
use crate::api::encoding::bytes_field;
use crate::api::garbage::{GarbageEntry, GarbageQuery};
use crate::api::heartbeat::{DriveReport, Heartbeat, HeartbeatReply};
use crate::api::key::ObjectKey;
use crate::api::query::{
    BlobAt, Found, GroupStatus, ListPage, ListQuery, PartsPage, PartsQuery, UploadsPage,
    UploadsQuery, Usage, VersionsPage, VersionsQuery,
};
use crate::api::record::{Blob, VersionId};
use crate::api::root::{LedgerQuery, LedgerRow, RootEnvelope, RootOutcome, RootView};

/// A request to one replica.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on its way; proposals are the rule"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Proposes a command to a partition.
    Propose {
        /// The partition.
        partition: PartitionId,
        /// The command.
        envelope: PartitionEnvelope,
    },
    /// Proposes a command to the root group.
    Root(RootEnvelope),
    /// Asks for a group's time, for deadlines.
    Time {
        /// The group.
        group: PartitionId,
    },
    /// The record of an object.
    Object {
        /// The partition.
        partition: PartitionId,
        /// The key.
        at: ObjectKey,
        /// The version; none: the current one.
        version: Option<VersionId>,
    },
    /// The blobs of a record from an offset on.
    Blobs {
        /// The partition.
        partition: PartitionId,
        /// The key.
        at: ObjectKey,
        /// The version.
        stamp: Stamp,
        /// The offset in the object.
        offset: u64,
        /// At most so many.
        limit: u32,
    },
    /// The bytes of an inline blob.
    Inline {
        /// The partition.
        partition: PartitionId,
        /// The key.
        at: ObjectKey,
        /// The blob.
        blob: BlobId,
    },
    /// A page of keys.
    List {
        /// The partition.
        partition: PartitionId,
        /// The epoch of its range that the caller knows.
        epoch: Epoch,
        /// The bucket.
        bucket: BucketId,
        /// Which.
        query: ListQuery,
    },
    /// A page of uploads.
    Uploads {
        /// The partition.
        partition: PartitionId,
        /// The epoch of its range that the caller knows.
        epoch: Epoch,
        /// The bucket.
        bucket: BucketId,
        /// Which.
        query: UploadsQuery,
    },
    /// A page of parts.
    Parts {
        /// The partition.
        partition: PartitionId,
        /// The key.
        at: ObjectKey,
        /// Which.
        query: PartsQuery,
    },
    /// Whether a partition holds nothing of a bucket.
    IsEmpty {
        /// The partition.
        partition: PartitionId,
        /// The epoch of its range that the caller knows.
        epoch: Epoch,
        /// The bucket.
        bucket: BucketId,
    },
    /// Dead blobs.
    Garbage(GarbageQuery),
    /// The root state, when it is newer than a revision, or a time has passed.
    Watch {
        /// The revision that the caller has.
        since: u64,
        /// How long to wait.
        wait: Duration,
    },
    /// Volumes by id.
    Volumes(Vec<VolumeId>),
    /// A page of all volumes.
    AllVolumes {
        /// Only after this one.
        after: Option<VolumeId>,
        /// At most so many.
        limit: u32,
    },
    /// Rows of the ledger.
    Ledger {
        /// At most so many.
        limit: u32,
    },
    /// A node lives.
    Heartbeat(Heartbeat),
    /// The groups of this replica. Answered by every replica.
    Groups,
    /// A blob as what references it holds it.
    Blob {
        /// The partition.
        partition: PartitionId,
        /// The key.
        at: ObjectKey,
        /// The blob.
        blob: BlobId,
    },
    /// Rows of the ledger of some drives.
    LedgerOf(LedgerQuery),
    /// A page of versions.
    Versions {
        /// The partition.
        partition: PartitionId,
        /// The epoch of its range that the caller knows.
        epoch: Epoch,
        /// The bucket.
        bucket: BucketId,
        /// Which.
        query: VersionsQuery,
    },
    /// A partition's share of what a bucket holds.
    Usage {
        /// The partition.
        partition: PartitionId,
        /// The epoch of its range that the caller knows.
        epoch: Epoch,
        /// The bucket.
        bucket: BucketId,
    },
    /// What nodes said of their drives.
    DriveReports,
}

/// The answer to a [`Call`], of the variant that belongs to it.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on its way; views are seldom asked for"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Call::Propose`].
    Outcome(Outcome),
    /// To [`Call::Root`].
    Root(RootOutcome),
    /// To [`Call::Time`].
    Time(GroupTime),
    /// To [`Call::Object`].
    Object(Option<Found>),
    /// To [`Call::Blobs`].
    Blobs(Vec<BlobAt>),
    /// To [`Call::Inline`].
    Inline(#[serde(with = "optional_bytes")] Option<Bytes>),
    /// To [`Call::List`].
    List(ListPage),
    /// To [`Call::Uploads`].
    Uploads(UploadsPage),
    /// To [`Call::Parts`].
    Parts(Option<PartsPage>),
    /// To [`Call::IsEmpty`].
    IsEmpty(bool),
    /// To [`Call::Garbage`].
    Garbage(Vec<GarbageEntry>),
    /// To [`Call::Watch`].
    View(RootView),
    /// To [`Call::Volumes`] and [`Call::AllVolumes`].
    Volumes(Vec<Volume>),
    /// To [`Call::Ledger`] and [`Call::LedgerOf`].
    Ledger(Vec<LedgerRow>),
    /// To [`Call::Heartbeat`].
    Heartbeat(HeartbeatReply),
    /// To [`Call::Groups`].
    Groups(Vec<GroupStatus>),
    /// To [`Call::Blob`].
    Blob(Option<Blob>),
    /// To [`Call::Versions`].
    Versions(VersionsPage),
    /// To [`Call::Usage`].
    Usage(Usage),
    /// To [`Call::DriveReports`].
    DriveReports(Vec<DriveReport>),
}

impl Call {
    /// The group whose leader answers this; none: every replica answers for itself.
    pub const fn group(&self) -> Option<PartitionId> {
        match self {
            Self::Propose { partition, .. }
            | Self::Object { partition, .. }
            | Self::Blobs { partition, .. }
            | Self::Inline { partition, .. }
            | Self::List { partition, .. }
            | Self::Uploads { partition, .. }
            | Self::Parts { partition, .. }
            | Self::IsEmpty { partition, .. }
            | Self::Versions { partition, .. }
            | Self::Usage { partition, .. }
            | Self::Blob { partition, .. } => Some(*partition),
            Self::Garbage(query) => Some(query.partition),
            Self::Time { group } => Some(*group),
            Self::Groups => None,
            Self::Root(_)
            | Self::Watch { .. }
            | Self::Volumes(_)
            | Self::AllVolumes { .. }
            | Self::Ledger { .. }
            | Self::LedgerOf(_)
            | Self::Heartbeat(_)
            | Self::DriveReports => Some(PartitionId::ROOT),
        }
    }

    /// Whether this may change state, so that a lost answer leaves the outcome unknown.
    pub const fn writes(&self) -> bool {
        matches!(self, Self::Propose { .. } | Self::Root(_))
    }

    /// How long the answer may be held back on purpose.
    pub const fn wait(&self) -> Duration {
        match self {
            Self::Watch { wait, .. } => *wait,
            _ => Duration::ZERO,
        }
    }

    /// The name, for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Propose { .. } => "propose",
            Self::Root(_) => "root",
            Self::Time { .. } => "time",
            Self::Object { .. } => "object",
            Self::Blobs { .. } => "blobs",
            Self::Inline { .. } => "inline",
            Self::List { .. } => "list",
            Self::Uploads { .. } => "uploads",
            Self::Parts { .. } => "parts",
            Self::IsEmpty { .. } => "is_empty",
            Self::Garbage(_) => "garbage",
            Self::Watch { .. } => "watch",
            Self::Volumes(_) => "volumes",
            Self::AllVolumes { .. } => "all_volumes",
            Self::Ledger { .. } => "ledger",
            Self::Heartbeat(_) => "heartbeat",
            Self::Groups => "groups",
            Self::Blob { .. } => "blob",
            Self::LedgerOf(_) => "ledger_of",
            Self::Versions { .. } => "versions",
            Self::Usage { .. } => "usage",
            Self::DriveReports => "drive_reports",
        }
    }
}

/// `Option<Bytes>` as a length and raw bytes.
mod optional_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::bytes_field;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "bytes_field")] Bytes);

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Wrapped).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}
