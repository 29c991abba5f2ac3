//! [`MetadataClient`] over any transport.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_placement::{BlobId, BucketId, PartitionId, RequestId, Stamp, Volume, VolumeId};

use super::bucket::acked;
use super::pages::covering;
use super::retry::{Client, Effort, Transport, unexpected};
use crate::api::command::{Outcome, PartitionCommand, PartitionEnvelope, Refusal, WriteRequest};
use crate::api::error::MetadataError;
use crate::api::garbage::{GarbageAck, GarbageEntry, GarbageQuery};
use crate::api::heartbeat::{DriveReport, Heartbeat, HeartbeatReply};
use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::{
    BlobAt, Found, GroupStatus, ListPage, ListQuery, PartsPage, PartsQuery, UploadsPage,
    UploadsQuery, Usage, VersionsPage, VersionsQuery,
};
use crate::api::record::{Blob, VersionId};
use crate::api::root::{LedgerQuery, LedgerRow, RootCommand, RootEnvelope, RootOutcome, RootView};
use crate::api::{MetadataClient, Result};
use crate::call::{Answer, Call};

/// The longest that one attempt of a watch waits at the leader. Together with an attempt's own time
/// it bounds how long a paused leader is waited for, and so how old a gateway's view may get while
/// another one leads (PROTOCOLS 6).
const WATCH_WAIT_MAX: Duration = Duration::from_secs(2);

/// Takes the answer of the expected variant.
macro_rules! expect {
    ($call:expr, $answer:expr, $variant:path) => {
        match $answer {
            $variant(value) => Ok(value),
            _ => Err(unexpected($call)),
        }
    };
}

impl<T: Transport> Client<T> {
    /// Asks about one key: finds the partition, and finds it again when the route was stale.
    async fn ask<F>(&self, at: &ObjectKey, make: F) -> Result<(Call, Answer)>
    where
        F: Fn(PartitionId) -> Call + Send + Sync,
    {
        let (row, mut effort) = (at.row_prefix(), self.effort());
        loop {
            let (partition, _) = self.route(&row, &mut effort).await?;
            let call = make(partition);
            match self.perform(&call, &mut effort).await {
                Err(MetadataError::StaleRoute(why)) => self.reroute(&mut effort, why).await?,
                Err(error) => return Err(error),
                Ok(answer) => return Ok((call, answer)),
            }
        }
    }

    /// Asks the root group.
    async fn ask_root(&self, call: &Call) -> Result<Answer> {
        self.perform(call, &mut self.effort()).await
    }

    pub(super) async fn propose_root(
        &self,
        request: RequestId,
        command: RootCommand,
        effort: &mut Effort,
    ) -> Result<RootOutcome> {
        let deadline = self.deadline(PartitionId::ROOT, effort).await?;
        let call = Call::Root(RootEnvelope {
            request,
            deadline,
            command,
        });
        expect!(&call, self.perform(&call, effort).await?, Answer::Root)
    }
}

#[async_trait]
impl<T: Transport> MetadataClient for Client<T> {
    async fn write(&self, request: WriteRequest) -> Result<Outcome> {
        let WriteRequest {
            request,
            bucket,
            revision,
            key,
            op,
        } = request;
        let row = ObjectKey::new(bucket, key.clone()).row_prefix();
        let mut effort = self.effort();
        let (mut partition, epoch) = self.route(&row, &mut effort).await?;
        let deadline = self.deadline(partition, &mut effort).await?;
        let command = PartitionCommand::Key {
            bucket,
            revision,
            key,
            op,
        };
        let mut envelope = PartitionEnvelope {
            request,
            deadline,
            epoch,
            command,
        };
        loop {
            let call = Call::Propose {
                partition,
                envelope,
            };
            let outcome = expect!(
                &call,
                self.perform(&call, &mut effort).await?,
                Answer::Outcome
            )?;
            let Err(Refusal::StaleRoute(newer)) = outcome else {
                return Ok(outcome);
            };
            self.reroute(&mut effort, format!("partition {partition} is at {newer}"))
                .await?;
            let Call::Propose { envelope: same, .. } = call else {
                return Ok(outcome);
            };
            envelope = same;
            (partition, envelope.epoch) = self.route(&row, &mut effort).await?;
        }
    }

    async fn object(&self, at: &ObjectKey, version: Option<VersionId>) -> Result<Option<Found>> {
        let make = |partition| Call::Object {
            partition,
            at: at.clone(),
            version,
        };
        let (call, answer) = self.ask(at, make).await?;
        expect!(&call, answer, Answer::Object)
    }

    async fn blobs(
        &self,
        at: &ObjectKey,
        stamp: Stamp,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<BlobAt>> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let make = |partition| Call::Blobs {
            partition,
            at: at.clone(),
            stamp,
            offset,
            limit,
        };
        let (call, answer) = self.ask(at, make).await?;
        expect!(&call, answer, Answer::Blobs)
    }

    async fn inline(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Bytes>> {
        let make = |partition| Call::Inline {
            partition,
            at: at.clone(),
            blob,
        };
        let (call, answer) = self.ask(at, make).await?;
        expect!(&call, answer, Answer::Inline)
    }

    async fn blob(&self, at: &ObjectKey, blob: BlobId) -> Result<Option<Blob>> {
        let make = |partition| Call::Blob {
            partition,
            at: at.clone(),
            blob,
        };
        let (call, answer) = self.ask(at, make).await?;
        expect!(&call, answer, Answer::Blob)
    }

    async fn list(&self, bucket: BucketId, query: ListQuery) -> Result<ListPage> {
        self.pages(bucket, query).await
    }

    async fn versions(&self, bucket: BucketId, query: VersionsQuery) -> Result<VersionsPage> {
        self.pages(bucket, query).await
    }

    async fn usage(&self, bucket: BucketId) -> Result<Usage> {
        self.usages(bucket).await
    }

    async fn uploads(&self, bucket: BucketId, query: UploadsQuery) -> Result<UploadsPage> {
        self.pages(bucket, query).await
    }

    async fn parts(&self, at: &ObjectKey, query: PartsQuery) -> Result<Option<PartsPage>> {
        let make = |partition| Call::Parts {
            partition,
            at: at.clone(),
            query: query.clone(),
        };
        let (call, answer) = self.ask(at, make).await?;
        expect!(&call, answer, Answer::Parts)
    }

    async fn is_empty(&self, bucket: BucketId) -> Result<bool> {
        let first = RowPrefix::of_bucket(bucket);
        let mut effort = self.effort();
        'routes: loop {
            let view = self.view(&mut effort).await?;
            let end = first.after();
            for partition in covering(&view, first.as_bytes(), end.as_deref()) {
                let call = Call::IsEmpty {
                    partition: partition.id,
                    epoch: partition.epoch,
                    bucket,
                };
                match self.perform(&call, &mut effort).await {
                    Ok(Answer::IsEmpty(true)) => {}
                    Ok(Answer::IsEmpty(false)) => return Ok(false),
                    Ok(_) => return Err(unexpected(&call)),
                    Err(MetadataError::StaleRoute(why)) => {
                        self.reroute(&mut effort, why).await?;
                        continue 'routes;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(true);
        }
    }

    async fn garbage(&self, query: GarbageQuery) -> Result<Vec<GarbageEntry>> {
        let call = Call::Garbage(query);
        expect!(
            &call,
            self.perform(&call, &mut self.effort()).await?,
            Answer::Garbage
        )
    }

    async fn ack_garbage(&self, partition: PartitionId, acks: Vec<GarbageAck>) -> Result<()> {
        if acks.is_empty() {
            return Ok(());
        }
        let command = PartitionCommand::AckGarbage(acks);
        let outcome = self.propose(partition, command, &mut self.effort()).await?;
        if matches!(outcome, Err(Refusal::StaleRoute(_))) {
            self.refresh(&mut self.effort()).await?;
        }
        acked(outcome)
    }

    async fn root(&self, request: RequestId, command: RootCommand) -> Result<RootOutcome> {
        match command {
            RootCommand::BeginDeleteBucket { name } => self.delete_bucket(request, name).await,
            RootCommand::SetVersioning { name, versioning } => {
                self.set_versioning(request, name, versioning).await
            }
            command => {
                self.propose_root(request, command, &mut self.effort())
                    .await
            }
        }
    }

    async fn watch(&self, since: u64, wait: Duration) -> Result<RootView> {
        let end = self.env.clock.now().saturating_add(wait);
        loop {
            let left = end.saturating_sub(self.env.clock.now());
            let call = Call::Watch {
                since,
                wait: left.min(WATCH_WAIT_MAX),
            };
            let view = expect!(&call, self.ask_root(&call).await?, Answer::View)?;
            if view.revision > since || self.env.clock.now() >= end {
                self.learn(&view);
                return Ok(view);
            }
        }
    }

    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<Volume>> {
        let call = Call::Volumes(ids.to_vec());
        expect!(&call, self.ask_root(&call).await?, Answer::Volumes)
    }

    async fn all_volumes(&self, after: Option<VolumeId>, limit: usize) -> Result<Vec<Volume>> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let call = Call::AllVolumes { after, limit };
        expect!(&call, self.ask_root(&call).await?, Answer::Volumes)
    }

    async fn ledger(&self, limit: usize) -> Result<Vec<LedgerRow>> {
        let call = Call::Ledger {
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        expect!(&call, self.ask_root(&call).await?, Answer::Ledger)
    }

    async fn ledger_of(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>> {
        let call = Call::LedgerOf(query);
        expect!(&call, self.ask_root(&call).await?, Answer::Ledger)
    }

    async fn heartbeat(&self, beat: Heartbeat) -> Result<HeartbeatReply> {
        let call = Call::Heartbeat(beat);
        expect!(&call, self.ask_root(&call).await?, Answer::Heartbeat)
    }

    async fn drive_reports(&self) -> Result<Vec<DriveReport>> {
        let call = Call::DriveReports;
        expect!(&call, self.ask_root(&call).await?, Answer::DriveReports)
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>> {
        let ask = |replica| {
            self.transport
                .call(replica, &Call::Groups, self.settings.attempt)
        };
        let answers = futures::future::join_all(self.transport.replicas().into_iter().map(ask));
        let mut statuses = Vec::new();
        for answer in answers.await {
            if let Ok(Answer::Groups(groups)) = answer {
                statuses.extend(groups);
            }
        }
        Ok(statuses)
    }
}
