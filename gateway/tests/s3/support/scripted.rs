//! The metadata service in memory, whose next writes come to what a test says.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_cluster::api::command::{KeyOp, KeyReply, Outcome, Refusal, WriteRequest};
use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::garbage::{GarbageAck, GarbageEntry, GarbageQuery};
use enfilade_cluster::api::heartbeat::{DriveReport, Heartbeat, HeartbeatReply};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::memory::MemoryMetadata;
use enfilade_cluster::api::query::{
    BlobAt, Found, GroupStatus, ListPage, ListQuery, PartsPage, PartsQuery, UploadsPage,
    UploadsQuery, Usage, VersionsPage, VersionsQuery,
};
use enfilade_cluster::api::record::{Blob, VersionId};
use enfilade_cluster::api::root::{LedgerQuery, LedgerRow, RootCommand, RootOutcome, RootView};
use enfilade_cluster::api::{MetadataClient, Result};
use enfilade_placement::{BlobId, BucketId, PartitionId, RequestId, Stamp, Volume, VolumeId};

/// What a write comes to.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// It is committed, and nobody hears of it.
    Lost,
    /// The blob of the put is condemned, and then it is proposed.
    Condemned,
    /// It fails with this, and changes nothing.
    Fail(MetadataError),
    /// The state machine refuses it.
    Refuse(Refusal),
}

/// [`MemoryMetadata`] with a script.
pub(crate) struct Scripted {
    pub(crate) inner: MemoryMetadata,
    turns: Mutex<VecDeque<Turn>>,
    /// The requests of all writes.
    pub(crate) requests: Mutex<Vec<WriteRequest>>,
}

impl Scripted {
    pub(crate) fn new(inner: MemoryMetadata) -> Self {
        Self {
            inner,
            turns: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// Asks for what a node asks for when the blob of a put has reached the orphan age.
    pub(crate) async fn condemn(&self, put: &WriteRequest) -> KeyReply {
        let KeyOp::Put { object, .. } = &put.op else {
            panic!("not a put: {put:?}");
        };
        let blob = object.blob.id;
        let condemn = WriteRequest {
            request: RequestId::new(!blob.get()),
            op: KeyOp::Condemn { blob },
            ..put.clone()
        };
        self.inner.write(condemn).await.unwrap().unwrap()
    }

    /// What the next writes come to; those after them are as ever.
    pub(crate) fn next(&self, turns: impl IntoIterator<Item = Turn>) {
        self.turns.lock().unwrap().extend(turns);
    }
}

#[async_trait]
impl MetadataClient for Scripted {
    async fn write(&self, request: WriteRequest) -> Result<Outcome> {
        self.requests.lock().unwrap().push(request.clone());
        let turn = self.turns.lock().unwrap().pop_front();
        match turn {
            None => self.inner.write(request).await,
            Some(Turn::Lost) => {
                self.inner.write(request).await?.unwrap();
                Err(MetadataError::UnknownOutcome(
                    "the leader is lost".to_owned(),
                ))
            }
            Some(Turn::Condemned) => {
                let condemned = self.condemn(&request).await;
                assert_eq!(condemned, KeyReply::Condemned);
                self.inner.write(request).await
            }
            Some(Turn::Fail(error)) => Err(error),
            Some(Turn::Refuse(refusal)) => Ok(Err(refusal)),
        }
    }

    async fn object(&self, at: &ObjectKey, version: Option<VersionId>) -> Result<Option<Found>> {
        self.inner.object(at, version).await
    }

    async fn blobs(
        &self,
        at: &ObjectKey,
        stamp: Stamp,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<BlobAt>> {
        self.inner.blobs(at, stamp, offset, limit).await
    }

    async fn inline(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Bytes>> {
        self.inner.inline(at, blob).await
    }

    async fn blob(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Blob>> {
        self.inner.blob(at, blob).await
    }

    async fn list(&self, bucket: BucketId, query: ListQuery) -> Result<ListPage> {
        self.inner.list(bucket, query).await
    }

    async fn versions(&self, bucket: BucketId, query: VersionsQuery) -> Result<VersionsPage> {
        self.inner.versions(bucket, query).await
    }

    async fn usage(&self, bucket: BucketId) -> Result<Usage> {
        self.inner.usage(bucket).await
    }

    async fn uploads(&self, bucket: BucketId, query: UploadsQuery) -> Result<UploadsPage> {
        self.inner.uploads(bucket, query).await
    }

    async fn parts(&self, at: &ObjectKey, query: PartsQuery) -> Result<Option<PartsPage>> {
        self.inner.parts(at, query).await
    }

    async fn is_empty(&self, bucket: BucketId) -> Result<bool> {
        self.inner.is_empty(bucket).await
    }

    async fn garbage(&self, query: GarbageQuery) -> Result<Vec<GarbageEntry>> {
        self.inner.garbage(query).await
    }

    async fn ack_garbage(&self, partition: PartitionId, acks: Vec<GarbageAck>) -> Result<()> {
        self.inner.ack_garbage(partition, acks).await
    }

    async fn root(&self, request: RequestId, command: RootCommand) -> Result<RootOutcome> {
        self.inner.root(request, command).await
    }

    async fn watch(&self, since: u64, wait: Duration) -> Result<RootView> {
        self.inner.watch(since, wait).await
    }

    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<Volume>> {
        self.inner.volumes(ids).await
    }

    async fn all_volumes(&self, after: Option<VolumeId>, limit: usize) -> Result<Vec<Volume>> {
        self.inner.all_volumes(after, limit).await
    }

    async fn ledger(&self, limit: usize) -> Result<Vec<LedgerRow>> {
        self.inner.ledger(limit).await
    }

    async fn ledger_of(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>> {
        self.inner.ledger_of(query).await
    }

    async fn heartbeat(&self, beat: Heartbeat) -> Result<HeartbeatReply> {
        self.inner.heartbeat(beat).await
    }

    async fn drive_reports(&self) -> Result<Vec<DriveReport>> {
        self.inner.drive_reports().await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>> {
        self.inner.groups().await
    }
}
