//! What an engine does on request, apart from reading fragments.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{BlobId, Epoch};
use tokio::sync::oneshot;

use super::commit::{Alone, Done, Order, Work};
use super::rows::{BlobRow, LogId, ShardKey};
use super::{Engine, EngineError};
use crate::api::Owner;
use crate::api::append::{AppendAck, FragmentHeader};
use crate::api::read::InventoryBlob;
use crate::erasure::checksum::{FragmentSeed, verify};
use crate::host::Lease;
use crate::sync;

/// Blobs that one step of a walk over a shard looks at.
const WALK_BLOBS: usize = 512;

/// Room in memory for one append, held until it is durable.
#[derive(Debug)]
pub struct Admission {
    leases: Vec<Lease>,
}

/// Fragments for a shard.
#[derive(Debug, Clone)]
pub struct Append {
    /// The epoch that the writer knows.
    pub epoch: Epoch,
    /// The blob.
    pub blob: BlobId,
    /// The first stripe.
    pub first_stripe: u32,
    /// Lengths and checksums.
    pub fragments: Vec<FragmentHeader>,
    /// Whom the blob is for.
    pub owner: Option<Owner>,
    /// Blobs that are committed.
    pub marks: Vec<BlobId>,
    /// The bytes of the fragments.
    pub payload: Vec<Bytes>,
}

/// A blob that may be an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The blob.
    pub blob: BlobId,
    /// Whom it was written for.
    pub owner: Owner,
}

impl Engine {
    /// Takes an append on, before its bytes are read: leases room for them.
    ///
    /// # Errors
    /// [`EngineError::Failed`], [`EngineError::Full`] (PROTOCOLS 15), [`EngineError::Busy`]
    /// (PROTOCOLS 16). Nothing was begun.
    pub fn admit(&self, bytes: u64) -> Result<Admission, EngineError> {
        self.check_alive()?;
        let fill = self.fill()?;
        // What was taken on and may not be on the drive yet counts as well.
        let taken = fill.used.saturating_add(self.appends.leased());
        if taken.saturating_add(bytes) > self.host.settings.append_limit(fill.capacity) {
            return Err(EngineError::Full);
        }
        let drive = self.appends.try_lease(bytes).ok_or(EngineError::Busy)?;
        let node = self
            .host
            .appends
            .try_lease(bytes)
            .ok_or(EngineError::Busy)?;
        // Until the room is measured again: a quick drive would fill its reserve meanwhile.
        if let Some((_, fill)) = &mut *super::lock(&self.space) {
            fill.used = fill.used.saturating_add(bytes);
        }
        Ok(Admission {
            leases: vec![drive, node],
        })
    }

    /// Appends fragments. When this returns `Ok` they are synced.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is durable, but for [`EngineError::Failed`] when the drive failed
    /// in between: then they may be in the log, unacked.
    pub async fn append(
        self: &Arc<Self>,
        key: ShardKey,
        append: Append,
        admission: Admission,
    ) -> Result<AppendAck, EngineError> {
        check(key, &append)?;
        let fragments = append.fragments.len() as u64;
        let bytes: u64 = append.payload.iter().map(|bytes| bytes.len() as u64).sum();
        let Append {
            epoch,
            blob,
            first_stripe,
            fragments: headers,
            owner,
            marks,
            payload,
        } = append;
        let work = Work::Append {
            epoch,
            blob,
            first_stripe,
            fragments: headers,
            owner,
            marks,
            payload,
        };
        let (reply, answer) = oneshot::channel();
        let engine = Arc::clone(self);
        let order = Order {
            engine,
            shard: key,
            work,
            reply,
            _leases: admission.leases,
        };
        self.committer.offer(order)?;
        let done = answer.await.map_err(|_| self.stopped())??;
        self.host.metrics.appended.inc_by(fragments);
        self.host.metrics.appended_bytes.inc_by(bytes);
        Ok(AppendAck {
            epoch: done.epoch,
            shard_bytes: done.log_bytes,
        })
    }

    pub(super) async fn order(
        self: &Arc<Self>,
        key: ShardKey,
        work: Work,
    ) -> Result<Done, EngineError> {
        let (reply, answer) = oneshot::channel();
        let engine = Arc::clone(self);
        let order = Order {
            engine,
            shard: key,
            work,
            reply,
            _leases: Vec::new(),
        };
        self.committer.send(order).await?;
        answer.await.map_err(|_| self.stopped())?
    }

    /// Drops a blob, or runs of its stripes (first and last), durably. What is not here is no
    /// error: the drop may be repeated.
    ///
    /// # Errors
    /// When the drive failed.
    pub async fn delete(
        self: &Arc<Self>,
        key: ShardKey,
        blob: BlobId,
        runs: Vec<(u32, u32)>,
    ) -> Result<(), EngineError> {
        self.order(key, Work::Delete { blob, runs }).await?;
        Ok(())
    }

    /// Marks blobs as committed, durably.
    ///
    /// # Errors
    /// When the drive failed.
    pub async fn mark(
        self: &Arc<Self>,
        key: ShardKey,
        marks: Vec<BlobId>,
    ) -> Result<(), EngineError> {
        self.order(key, Work::Commit { marks }).await?;
        Ok(())
    }

    /// Refuses epochs below this one from now on, for ever, over restarts (PROTOCOLS 12). A shard
    /// that has no log gets one. Returns the bytes of the log.
    ///
    /// # Errors
    /// When the drive failed or has no room.
    pub async fn fence(self: &Arc<Self>, key: ShardKey, epoch: Epoch) -> Result<u64, EngineError> {
        Ok(self.order(key, Work::Fence(epoch)).await?.log_bytes)
    }

    /// Removes a shard, log and all.
    ///
    /// # Errors
    /// When the drive failed.
    pub async fn drop_shard(self: &Arc<Self>, key: ShardKey) -> Result<(), EngineError> {
        self.order(key, Work::Drop).await?;
        Ok(())
    }

    /// What a shard lost by damage is whole again, or is known fragment by fragment: the damage is
    /// no fault any more. An index that is built anew counts it again.
    ///
    /// # Errors
    /// When the index failed.
    pub async fn accounted(self: &Arc<Self>, key: ShardKey) -> Result<(), EngineError> {
        let outcome = Arc::new(Mutex::new(Ok(())));
        let (told, engine) = (Arc::clone(&outcome), Arc::clone(self));
        let account = move || *super::lock(&told) = engine.account(key);
        self.order(key, Work::Alone(Alone::new(account))).await?;
        super::lock(&outcome).clone()
    }

    /// Gives back the room of what was dropped last: writes the record that proves that what came
    /// before is synced, where that is missing.
    ///
    /// # Errors
    /// When the drive failed.
    pub async fn reclaim_all(self: &Arc<Self>) -> Result<(), EngineError> {
        for shard in self.shards() {
            let waits = |held: Arc<super::Shard>| !super::lock(&held.unpunched).is_empty();
            if self.shard(shard.key, false).is_some_and(waits) {
                self.order(shard.key, Work::Commit { marks: Vec::new() })
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits until all that was handed in is done, and makes the index durable.
    ///
    /// # Errors
    /// When the drive failed.
    pub async fn close(self: &Arc<Self>) -> Result<(), EngineError> {
        let nowhere = ShardKey {
            volume: enfilade_placement::VolumeId::new(0),
            member: 0,
        };
        self.order(nowhere, Work::Barrier).await?;
        self.blocking(|engine| engine.checkpoint()).await
    }

    /// A page of what a shard holds, in order of blobs, and whether there is more.
    ///
    /// # Errors
    /// When the index failed.
    pub async fn inventory(
        self: &Arc<Self>,
        key: ShardKey,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<(Vec<InventoryBlob>, bool), EngineError> {
        self.blocking(move |engine| {
            engine
                .while_compacted(key, |log| engine.inventory_now(log, after, limit))
                .unwrap_or_else(|| Ok((Vec::new(), false)))
        })
        .await
    }

    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let engine = Arc::clone(self);
        let stopped = || EngineError::Failed("a worker of the drive stopped".to_owned());
        sync::blocking(move || act(&engine))
            .await
            .ok_or_else(stopped)?
    }

    fn inventory_now(
        &self,
        log: LogId,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<(Vec<InventoryBlob>, bool), EngineError> {
        let rows = self.rows();
        let mut found = self.told(rows.blobs(log, after, limit + 1))?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut blobs = Vec::with_capacity(found.len());
        for (blob, row) in found {
            let (stripes, lens) = self.runs_in(log, blob)?;
            let bad = self.told(rows.bad(log, blob, (0, u32::MAX)))?;
            blobs.push(InventoryBlob {
                blob,
                owner: row.owner,
                committed: row.committed,
                stripes,
                lens,
                bad,
            });
        }
        Ok((blobs, more))
    }

    /// The stripes of a blob that a shard holds, as runs: first and last.
    ///
    /// # Errors
    /// When the index failed.
    pub async fn stripes(
        self: &Arc<Self>,
        key: ShardKey,
        blob: BlobId,
    ) -> Result<Vec<(u32, u32)>, EngineError> {
        self.blocking(move |engine| engine.stripes_now(key, blob))
            .await
    }

    fn stripes_now(&self, key: ShardKey, blob: BlobId) -> Result<Vec<(u32, u32)>, EngineError> {
        self.while_compacted(key, |log| self.stripes_in(log, blob))
            .unwrap_or_else(|| Ok(Vec::new()))
    }

    fn stripes_in(&self, log: LogId, blob: BlobId) -> Result<Vec<(u32, u32)>, EngineError> {
        Ok(self.runs_in(log, blob)?.0)
    }

    /// The stripes of a blob as runs (first and last), and the lengths of their fragments (how
    /// many, of how many bytes).
    #[expect(clippy::type_complexity, reason = "two lists of pairs")]
    fn runs_in(
        &self,
        log: LogId,
        blob: BlobId,
    ) -> Result<(Vec<(u32, u32)>, Vec<(u32, u32)>), EngineError> {
        let (mut stripes, mut lens): (Vec<(u32, u32)>, Vec<(u32, u32)>) = Default::default();
        for (first, run) in self.told(self.rows().runs(log, blob, (0, u32::MAX)))? {
            let last = first + (run.count() - 1);
            match stripes.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
                _ => stripes.push((first, last)),
            }
            for (count, len) in run.lens {
                match lens.last_mut() {
                    Some((sum, same)) if *same == len => *sum += count,
                    _ => lens.push((count, len)),
                }
            }
        }
        Ok((stripes, lens))
    }

    /// Blobs of a shard without a commit mark that came at least `age` ago, by the time that the
    /// drive was served; looks at some blobs after one, and says where to go on.
    ///
    /// # Errors
    /// When the index failed.
    pub async fn orphans(
        self: &Arc<Self>,
        key: ShardKey,
        age: Duration,
        after: Option<BlobId>,
    ) -> Result<(Vec<Orphan>, Option<BlobId>), EngineError> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.blocking(move |engine| {
            let now = engine.clock_ms();
            let walk = |log| engine.told(engine.rows().blobs(log, after, WALK_BLOBS));
            let blobs = engine.while_compacted(key, walk);
            let blobs = blobs.unwrap_or_else(|| Ok(Vec::new()))?;
            let next = blobs
                .last()
                .filter(|_| blobs.len() == WALK_BLOBS)
                .map(|(blob, _)| *blob);
            let old = |row: &BlobRow| !row.committed && now.saturating_sub(row.seen_ms) >= age;
            let orphan = |(blob, row): (BlobId, BlobRow)| match old(&row) {
                true => row.owner.map(|owner| Orphan { blob, owner }),
                false => None,
            };
            Ok((blobs.into_iter().filter_map(orphan).collect(), next))
        })
        .await
    }
}

/// The bytes against the header, and against their checksums (PROTOCOLS 18).
fn check(key: ShardKey, append: &Append) -> Result<(), EngineError> {
    let Append {
        blob,
        first_stripe,
        fragments,
        payload,
        ..
    } = append;
    if fragments.len() != payload.len() {
        let (headers, payload) = (fragments.len(), payload.len());
        return Err(EngineError::Invalid(format!(
            "{payload} fragments, {headers} announced"
        )));
    }
    for ((fragment, bytes), stripe) in fragments.iter().zip(payload).zip(*first_stripe..) {
        let seed = FragmentSeed {
            volume: key.volume.get(),
            blob: blob.get(),
            stripe,
            index: key.member,
        };
        if fragment.len as usize != bytes.len() {
            return Err(EngineError::Invalid(format!(
                "stripe {stripe}: length mismatch"
            )));
        }
        verify(seed, bytes, &fragment.checksums)
            .map_err(|error| EngineError::Invalid(format!("stripe {stripe}: {error}")))?;
    }
    Ok(())
}
