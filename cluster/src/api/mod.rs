//! What the metadata service offers, as plain data and one object-safe trait.
//!
//! [`MetadataClient`] has two implementations that callers cannot tell apart: in process, and
//! remote over gRPC. Everything here is domain data; how it is encoded (in the Raft log, in rows,
//! on the wire) is in [`encoding`], with a version byte in front of each.

pub mod command;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod encoding;
pub mod error;
pub mod garbage;
pub mod heartbeat;
pub mod key;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod moves;
pub mod query;
pub mod record;
pub mod replicas;
pub mod root;
pub mod tuning;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_placement::{BlobId, BucketId, PartitionId, RequestId, Stamp, Volume, VolumeId};

use command::{Outcome, WriteRequest};
use error::MetadataError;
use garbage::{GarbageAck, GarbageEntry, GarbageQuery};
use heartbeat::{DriveReport, Heartbeat, HeartbeatReply};
use key::ObjectKey;
use query::{
    BlobAt, Found, GroupStatus, ListPage, ListQuery, PartsPage, PartsQuery, UploadsPage,
    UploadsQuery, Usage, VersionsPage, VersionsQuery,
};
use record::{Blob, VersionId};
use root::{LedgerQuery, LedgerRow, RootCommand, RootOutcome, RootView};

/// A result of the metadata service.
pub type Result<T> = std::result::Result<T, MetadataError>;

/// The metadata service, as its users see it.
///
/// All reads are linearizable: they see every write that was acked before they began, wherever it
/// was acked. All writes are idempotent by their request id (PROTOCOLS 2): repeating one with the
/// same id gives the first result again for an hour. When a method returns `Ok`, the command is
/// committed on a majority of the group's replicas and synced there.
///
/// Implementations retry by themselves while the outcome is certain to be none (no leader yet, a
/// stale route), with the same request id also when it is unknown, for a bounded time.
#[async_trait]
pub trait MetadataClient: Send + Sync + 'static {
    /// Proposes a command for one key to the partition that holds it.
    ///
    /// `Ok(Err(refusal))` is an answer of the state machine: committed, and final.
    async fn write(&self, request: WriteRequest) -> Result<Outcome>;

    /// The record of an object: of its current version, or of the one named. `None` when there is
    /// none. A delete marker is returned as a record of its own kind.
    async fn object(&self, at: &ObjectKey, version: Option<VersionId>) -> Result<Option<Found>>;

    /// The blobs of a record whose content is kept in rows of its own, from the one that holds
    /// byte `offset` of the object; at most `limit`, empty past the end.
    async fn blobs(
        &self,
        at: &ObjectKey,
        stamp: Stamp,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<BlobAt>>;

    /// The bytes of a blob that is kept inline under a key; `None` when it is gone.
    async fn inline(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Bytes>>;

    /// A blob as the record or part under a key that references it holds it; `None` when nothing
    /// does: it is dead, or its writer has not committed it yet. Asking changes nothing.
    async fn blob(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Blob>>;

    /// One page of the keys of a bucket, in order of their bytes.
    async fn list(&self, bucket: BucketId, query: ListQuery) -> Result<ListPage>;

    /// One page of all versions and delete markers of a bucket.
    async fn versions(&self, bucket: BucketId, query: VersionsQuery) -> Result<VersionsPage>;

    /// What a bucket holds, counted: exact, of one moment in each partition.
    async fn usage(&self, bucket: BucketId) -> Result<Usage>;

    /// One page of the open uploads of a bucket, ordered by key, then upload.
    async fn uploads(&self, bucket: BucketId, query: UploadsQuery) -> Result<UploadsPage>;

    /// One page of the parts of an upload, by number; `None` when there is no such upload.
    async fn parts(&self, at: &ObjectKey, query: PartsQuery) -> Result<Option<PartsPage>>;

    /// Whether a bucket holds anything: an object, a version or a marker (open uploads do not
    /// count).
    async fn is_empty(&self, bucket: BucketId) -> Result<bool>;

    /// Dead blobs that a member's node has yet to drop (PROTOCOLS 20).
    async fn garbage(&self, query: GarbageQuery) -> Result<Vec<GarbageEntry>>;

    /// Reports blobs as dropped. An entry goes when all members have acked.
    async fn ack_garbage(&self, partition: PartitionId, acks: Vec<GarbageAck>) -> Result<()>;

    /// Proposes a command to the root group.
    async fn root(&self, request: RequestId, command: RootCommand) -> Result<RootOutcome>;

    /// Waits until the root state is newer than revision `since`, or `wait` has passed, and returns
    /// it. Sealed volumes are left out: ask for them by id.
    async fn watch(&self, since: u64, wait: Duration) -> Result<RootView>;

    /// Volumes by id, in any state; those that never were are left out.
    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<Volume>>;

    /// A page of all volumes, ordered by id, after `after`; at most `limit`.
    async fn all_volumes(&self, after: Option<VolumeId>, limit: usize) -> Result<Vec<Volume>>;

    /// The ledger's rows: rot and partial shards (PROTOCOLS 22). Whole missing shards follow from
    /// the volumes and the topology.
    async fn ledger(&self, limit: usize) -> Result<Vec<LedgerRow>>;

    /// The rows of the ledger whose members are on these drives, as the volumes now are, in order;
    /// all rows of a shard, or none.
    async fn ledger_of(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>>;

    /// Tells the root leader that a node lives, and how its drives are. Kept in the leader's
    /// memory; never committed.
    async fn heartbeat(&self, beat: Heartbeat) -> Result<HeartbeatReply>;

    /// What nodes said last of the drives that they have or look for, as the root leader heard it:
    /// of one drive several may have said something, of others nobody since the leader is one.
    async fn drive_reports(&self) -> Result<Vec<DriveReport>>;

    /// The state of every Raft group on every replica that answers.
    async fn groups(&self) -> Result<Vec<GroupStatus>>;
}
