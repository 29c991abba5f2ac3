//! Changes of a bucket that its partitions must hear of (PROTOCOLS 6): deleting it (fence it
//! everywhere, check that it is empty everywhere, then remove it), and how it keeps versions.
//!
//! Driven by whoever asked for it, and taken up by the root leader when that one stopped half-way:
//! every step may be repeated, and two drivers come to the same end.

use enfilade_placement::{Epoch, PartitionId, RequestId};

use super::retry::{Client, Effort, Transport, unexpected};
use crate::api::Result;
use crate::api::command::{
    KeyReply, Outcome, PartitionCommand, PartitionEnvelope, Refusal, Versioning,
};
use crate::api::error::MetadataError;
use crate::api::key::RowPrefix;
use crate::api::root::{Bucket, RootCommand, RootOutcome, RootRefusal, RootReply, RootView};
use crate::call::{Answer, Call};

/// What a revision does to a bucket in its partitions.
#[derive(Clone, Copy)]
enum Fence {
    /// Writes are refused; open uploads stay, since the bucket may turn out to hold something.
    Closed,
    /// Writes stay refused, and open uploads are aborted: the bucket was found empty and goes.
    Emptied,
    /// Writes are taken again.
    Lifted,
}

/// What the partitions said of a bucket that is to be deleted.
enum Finding {
    /// All fenced, all empty.
    Empty,
    /// All fenced, and one holds something.
    Holds,
    /// Another driver found it not empty and already lifts the fence.
    Unfencing,
}

impl<T: Transport> Client<T> {
    /// Deletes a bucket, from [`RootCommand::BeginDeleteBucket`] on.
    pub(super) async fn delete_bucket(
        &self,
        request: RequestId,
        name: String,
    ) -> Result<RootOutcome> {
        let mut effort = self.effort();
        let begin = RootCommand::BeginDeleteBucket { name };
        match self.propose_root(request, begin, &mut effort).await? {
            Ok(RootReply::Bucket(bucket)) => self.drive_deletion(&bucket, &mut effort).await,
            Ok(_) => Err(MetadataError::Undecodable(
                "the reply names no bucket".to_owned(),
            )),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Takes up the deletion of a bucket that another began and did not end.
    ///
    /// # Errors
    /// As those of any call; the deletion can then be taken up again.
    pub async fn resume_deletion(&self, bucket: &Bucket) -> Result<RootOutcome> {
        self.drive_deletion(bucket, &mut self.effort()).await
    }

    async fn drive_deletion(&self, bucket: &Bucket, effort: &mut Effort) -> Result<RootOutcome> {
        let finding = self.find(bucket, effort).await?;
        let empty = matches!(finding, Finding::Empty);
        if empty {
            self.fence(bucket, Fence::Emptied, effort).await?;
        } else {
            // The fence goes before the root's mark does: a crash between is taken up again.
            let lifted = Bucket {
                revision: bucket.revision + 1,
                ..bucket.clone()
            };
            self.fence(&lifted, Fence::Lifted, effort).await?;
        }
        let end = RootCommand::EndDeleteBucket {
            bucket: bucket.id,
            revision: bucket.revision,
            empty,
        };
        match self.propose_root(self.request_id(), end, effort).await? {
            Ok(_) if empty => Ok(Ok(RootReply::Done)),
            Ok(_) => Ok(Err(RootRefusal::BucketNotEmpty)),
            // Another driver came first, with the same finding: both looked behind the same fence.
            Err(RootRefusal::NotFound(_)) if empty => Ok(Ok(RootReply::Done)),
            Err(RootRefusal::BucketBusy) if !empty => Ok(Err(RootRefusal::BucketNotEmpty)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Changes how a bucket keeps versions, from [`RootCommand::SetVersioning`] on.
    pub(super) async fn set_versioning(
        &self,
        request: RequestId,
        name: String,
        versioning: Versioning,
    ) -> Result<RootOutcome> {
        let mut effort = self.effort();
        let begin = RootCommand::SetVersioning { name, versioning };
        match self.propose_root(request, begin, &mut effort).await? {
            Ok(RootReply::Bucket(bucket)) => self.drive_versioning(&bucket, &mut effort).await,
            outcome => Ok(outcome),
        }
    }

    /// Takes up a change of how a bucket keeps versions that another began and did not end.
    ///
    /// # Errors
    /// As those of any call; it can then be taken up again.
    pub async fn resume_versioning(&self, bucket: &Bucket) -> Result<RootOutcome> {
        self.drive_versioning(bucket, &mut self.effort()).await
    }

    async fn drive_versioning(&self, bucket: &Bucket, effort: &mut Effort) -> Result<RootOutcome> {
        let Some(versioning) = bucket.pending else {
            return Ok(Ok(RootReply::Bucket(bucket.clone())));
        };
        let (id, revision) = (bucket.id, bucket.revision);
        let command = PartitionCommand::Bucket {
            bucket: id,
            revision,
            versioning,
            fenced: false,
            abort_uploads: false,
        };
        // A newer revision was there: another driver has ended this one, and more.
        let _newest = self.tell_all(bucket, &command, effort).await?;
        let end = RootCommand::EndSetVersioning {
            bucket: id,
            revision,
        };
        match self.propose_root(self.request_id(), end, effort).await? {
            // Another driver came first.
            Err(RootRefusal::BucketBusy | RootRefusal::NotFound(_)) => Ok(Ok(RootReply::Done)),
            outcome => Ok(outcome),
        }
    }

    async fn find(&self, bucket: &Bucket, effort: &mut Effort) -> Result<Finding> {
        if !self.fence(bucket, Fence::Closed, effort).await? {
            return Ok(Finding::Unfencing);
        }
        'routes: loop {
            for (partition, epoch) in covering(&*self.refresh(effort).await?, bucket) {
                let call = Call::IsEmpty {
                    partition,
                    epoch,
                    bucket: bucket.id,
                };
                match self.perform(&call, effort).await {
                    Ok(Answer::IsEmpty(true)) => {}
                    Ok(Answer::IsEmpty(false)) => return Ok(Finding::Holds),
                    Ok(_) => return Err(unexpected(&call)),
                    Err(MetadataError::StaleRoute(why)) => {
                        self.reroute(effort, why).await?;
                        continue 'routes;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(Finding::Empty);
        }
    }

    /// Brings the bucket's revision to all its partitions; whether none had a newer one.
    async fn fence(&self, bucket: &Bucket, fence: Fence, effort: &mut Effort) -> Result<bool> {
        let command = PartitionCommand::Bucket {
            bucket: bucket.id,
            revision: bucket.revision,
            versioning: bucket.versioning,
            fenced: !matches!(fence, Fence::Lifted),
            abort_uploads: matches!(fence, Fence::Emptied),
        };
        self.tell_all(bucket, &command, effort).await
    }

    /// Has all partitions of a bucket apply a command that brings it to a revision; whether none
    /// had a newer one. Again, when they are others or have other ranges by then: one that was
    /// split before it was told has a child that was not (PROTOCOLS 5).
    async fn tell_all(
        &self,
        bucket: &Bucket,
        command: &PartitionCommand,
        effort: &mut Effort,
    ) -> Result<bool> {
        let mut partitions = covering(&*self.refresh(effort).await?, bucket);
        'routes: loop {
            for (partition, _) in &partitions {
                match self.propose(*partition, command.clone(), effort).await? {
                    Ok(_) => {}
                    Err(Refusal::StaleRevision(_)) => return Ok(false),
                    Err(Refusal::StaleRoute(newer)) => {
                        let why = format!("partition {partition} is at {newer}");
                        self.reroute(effort, why).await?;
                        partitions = covering(&*self.view(effort).await?, bucket);
                        continue 'routes;
                    }
                    Err(refusal) => return Err(MetadataError::Unavailable(refusal.to_string())),
                }
            }
            let now = covering(&*self.refresh(effort).await?, bucket);
            if now == partitions {
                return Ok(true);
            }
            partitions = now;
        }
    }

    /// Proposes a command that belongs to no key.
    pub(super) async fn propose(
        &self,
        partition: PartitionId,
        command: PartitionCommand,
        effort: &mut Effort,
    ) -> Result<Outcome> {
        let view = self.view(effort).await?;
        let epoch = view.partitions.get(&partition).map(|p| p.epoch);
        let epoch = epoch
            .ok_or_else(|| MetadataError::Invalid(format!("there is no partition {partition}")))?;
        let deadline = self.deadline(partition, effort).await?;
        let request = self.request_id();
        let envelope = PartitionEnvelope {
            request,
            deadline,
            epoch,
            command,
        };
        let call = Call::Propose {
            partition,
            envelope,
        };
        match self.perform(&call, effort).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            _ => Err(unexpected(&call)),
        }
    }
}

/// The partitions that hold keys of a bucket, and the epochs of their ranges.
fn covering(view: &RootView, bucket: &Bucket) -> Vec<(PartitionId, Epoch)> {
    let first = RowPrefix::of_bucket(bucket.id);
    super::pages::covering(view, first.as_bytes(), first.after().as_deref())
        .into_iter()
        .map(|partition| (partition.id, partition.epoch))
        .collect()
}

/// Nothing but success is expected of a garbage ack.
pub(super) fn acked(outcome: Outcome) -> Result<()> {
    match outcome {
        Ok(KeyReply::Done) => Ok(()),
        Ok(_) => Err(MetadataError::Undecodable(
            "an ack was answered otherwise".to_owned(),
        )),
        Err(Refusal::StaleRoute(epoch)) => Err(MetadataError::Unavailable(format!(
            "the partition is at epoch {epoch}"
        ))),
        Err(refusal) => Err(MetadataError::Unavailable(refusal.to_string())),
    }
}
