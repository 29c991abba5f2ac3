//! The metadata service in memory, with switches.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_cluster::api::command::{Outcome, WriteRequest};
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

/// [`MemoryMetadata`] that can fall silent, and that serves rows of blobs and the bytes of inline
/// parts from lists of its own.
pub(crate) struct Switched {
    pub(crate) inner: MemoryMetadata,
    pub(crate) silent: AtomicBool,
    pub(crate) writes: AtomicU64,
    pub(crate) rows: Mutex<Vec<BlobAt>>,
    pub(crate) inline: Mutex<HashMap<BlobId, Bytes>>,
    /// Volumes that are told otherwise than they are.
    pub(crate) moved: Mutex<HashMap<VolumeId, Volume>>,
}

impl Switched {
    pub(crate) fn new(inner: MemoryMetadata) -> Self {
        let (silent, writes) = (AtomicBool::new(false), AtomicU64::new(0));
        Self {
            inner,
            silent,
            writes,
            rows: Mutex::default(),
            inline: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    fn pass(&self) -> Result<&MemoryMetadata> {
        match self.silent.load(Ordering::SeqCst) {
            true => Err(MetadataError::Unavailable("switched off".to_owned())),
            false => Ok(&self.inner),
        }
    }
}

#[async_trait]
impl MetadataClient for Switched {
    async fn write(&self, request: WriteRequest) -> Result<Outcome> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.pass()?.write(request).await
    }

    async fn object(&self, at: &ObjectKey, version: Option<VersionId>) -> Result<Option<Found>> {
        self.pass()?.object(at, version).await
    }

    async fn blobs(
        &self,
        _: &ObjectKey,
        _: Stamp,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<BlobAt>> {
        self.pass()?;
        let rows = self.rows.lock().unwrap();
        let after = rows.iter().filter(|row| row.offset + row.blob.len > offset);
        // Pages of their own size, as a server may choose them.
        Ok(after.take(limit.min(3)).cloned().collect())
    }

    async fn inline(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Bytes>> {
        let kept = self.inline.lock().unwrap().get(&blob).cloned();
        match kept {
            Some(bytes) => Ok(Some(bytes)),
            None => self.pass()?.inline(at, blob).await,
        }
    }

    async fn blob(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Blob>> {
        self.pass()?.blob(at, blob).await
    }

    async fn list(&self, bucket: BucketId, query: ListQuery) -> Result<ListPage> {
        self.pass()?.list(bucket, query).await
    }

    async fn versions(&self, bucket: BucketId, query: VersionsQuery) -> Result<VersionsPage> {
        self.pass()?.versions(bucket, query).await
    }

    async fn usage(&self, bucket: BucketId) -> Result<Usage> {
        self.pass()?.usage(bucket).await
    }

    async fn uploads(&self, bucket: BucketId, query: UploadsQuery) -> Result<UploadsPage> {
        self.pass()?.uploads(bucket, query).await
    }

    async fn parts(&self, at: &ObjectKey, query: PartsQuery) -> Result<Option<PartsPage>> {
        self.pass()?.parts(at, query).await
    }

    async fn is_empty(&self, bucket: BucketId) -> Result<bool> {
        self.pass()?.is_empty(bucket).await
    }

    async fn garbage(&self, query: GarbageQuery) -> Result<Vec<GarbageEntry>> {
        self.pass()?.garbage(query).await
    }

    async fn ack_garbage(&self, partition: PartitionId, acks: Vec<GarbageAck>) -> Result<()> {
        self.pass()?.ack_garbage(partition, acks).await
    }

    async fn root(&self, request: RequestId, command: RootCommand) -> Result<RootOutcome> {
        self.pass()?.root(request, command).await
    }

    async fn watch(&self, since: u64, wait: Duration) -> Result<RootView> {
        self.pass()?.watch(since, wait).await
    }

    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<Volume>> {
        let mut volumes = self.pass()?.volumes(ids).await?;
        for volume in &mut volumes {
            if let Some(moved) = self.moved.lock().unwrap().get(&volume.id) {
                *volume = moved.clone();
            }
        }
        Ok(volumes)
    }

    async fn all_volumes(&self, after: Option<VolumeId>, limit: usize) -> Result<Vec<Volume>> {
        self.pass()?.all_volumes(after, limit).await
    }

    async fn ledger(&self, limit: usize) -> Result<Vec<LedgerRow>> {
        self.pass()?.ledger(limit).await
    }

    async fn ledger_of(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>> {
        self.pass()?.ledger_of(query).await
    }

    async fn heartbeat(&self, beat: Heartbeat) -> Result<HeartbeatReply> {
        self.pass()?.heartbeat(beat).await
    }

    async fn drive_reports(&self) -> Result<Vec<DriveReport>> {
        self.pass()?.drive_reports().await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>> {
        self.pass()?.groups().await
    }
}
