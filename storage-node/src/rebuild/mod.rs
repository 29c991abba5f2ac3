//! Making fragments anew out of the others of their stripes.
//!
//! A rebuilt fragment is made of exactly as many others as the code needs, each verified by its
//! checksums; it is synced under the identity of the one that it replaces, read back and compared,
//! before anybody is told (P10). Everything may be broken off and begun again at any point: what
//! is whole already is found so, and not made a second time.

mod sources;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::api::record::{Blob, Layout};
use enfilade_placement::{BlobId, Epoch, Profile};

use crate::api::append::{APPEND_BYTES_MAX, FragmentHeader};
use crate::api::read::{FragmentFault, FragmentRange};
use crate::api::shape::Shape;
use crate::api::{Cause, Owner};
use crate::engine::{Append, Engine, EngineError, ShardKey, Throttle};
use crate::erasure::checksum::{FragmentSeed, fragment_checksums};
use crate::erasure::{Codec, ErasureError};
use crate::host::Host;

pub(crate) use self::sources::{Holding, Known, Original, Sources};

/// Bytes of rebuilt fragments in one step, unless a single one is longer.
const STEP_BYTES: u64 = 1024 * 1024;

/// How often a step waits for a drive whose queue is full, and for how long.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Why fragments were not rebuilt. Nothing was lost by it, and it may be tried again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum RebuildError {
    /// Too few others can be read at present.
    #[error("stripe {stripe} of blob {blob}: {present} of {needed} other fragments can be read")]
    TooFew {
        blob: BlobId,
        stripe: u32,
        present: usize,
        needed: usize,
    },
    /// The drive did not take or give the bytes.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The drive failed to read.
    #[error("the drive cannot be read: {0}")]
    Unreadable(String),
    /// What was written is not what is read back.
    #[error("stripe {stripe} of blob {blob} does not read back as it was written")]
    NotReadBack { blob: BlobId, stripe: u32 },
    /// A defect.
    #[error("the codec refuses: {0}")]
    Codec(#[from] ErasureError),
    /// The blob's record contradicts itself: a defect.
    #[error("blob {0} is in no volume")]
    NotStriped(BlobId),
}

/// Where rebuilt fragments go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) engine: Arc<Engine>,
    pub(crate) key: ShardKey,
    /// The volume's epoch.
    pub(crate) epoch: Epoch,
    /// How fast it may go.
    pub(crate) pace: Throttle,
    /// What traffic is counted as.
    pub(crate) cause: Cause,
}

/// Whose fragments are stored.
pub(crate) struct Label<'a> {
    pub(crate) blob: BlobId,
    pub(crate) owner: Option<&'a Owner>,
    /// Whether a gateway has marked it as committed.
    pub(crate) committed: bool,
}

/// What is rebuilt: a blob, and whom it was written for.
pub(crate) struct Subject<'a> {
    pub(crate) blob: &'a Blob,
    pub(crate) owner: &'a Owner,
}

/// What rebuilding has done, in fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    /// Found whole.
    pub(crate) whole: u64,
    /// Made anew.
    pub(crate) rebuilt: u64,
}

/// Rebuilds fragments.
pub(crate) struct Rebuild {
    pub(crate) host: Host,
    codecs: Mutex<HashMap<(usize, usize), Codec>>,
}

impl Rebuild {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            codecs: Mutex::default(),
        }
    }

    fn codec(&self, profile: Profile) -> Result<Codec, ErasureError> {
        let mut codecs = self.codecs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (profile.k(), profile.m());
        if let Some(codec) = codecs.get(&key) {
            return Ok(codec.clone());
        }
        let codec = Codec::new(profile.k(), profile.m())?;
        codecs.insert(key, codec.clone());
        Ok(codec)
    }

    /// Makes consecutive stripes of a blob whole in a shard; the caller knows that the shard is to
    /// hold them. When this returns `Ok`, each was read back from the drive and verified.
    ///
    /// # Errors
    /// [`RebuildError`]; some of the stripes may be whole by then.
    pub(crate) async fn restore(
        &self,
        target: &Target,
        sources: &Sources,
        subject: &Subject<'_>,
        stripes: RangeInclusive<u32>,
    ) -> Result<Work, RebuildError> {
        let blob = subject.blob;
        let shape = Shape::of(blob).ok_or(RebuildError::NotStriped(blob.id))?;
        let (mut next, last) = (*stripes.start(), *stripes.end());
        let mut work = Work::default();
        while next <= last {
            let step = self.step(shape, blob, next, last);
            let after = next.saturating_add(u32::try_from(step.len()).unwrap_or(u32::MAX));
            let subject = (shape, subject.owner);
            let done = self.restore_step(target, sources, subject, &step).await?;
            work.whole += done.whole;
            work.rebuilt += done.rebuilt;
            if after == u32::MAX {
                break;
            }
            next = after;
        }
        Ok(work)
    }

    /// As [`Rebuild::restore`], for stripes that are given with the length of their fragments, in
    /// order.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn restore_listed(
        &self,
        target: &Target,
        sources: &Sources,
        subject: (Shape, &Owner),
        stripes: &[(u32, u32)],
    ) -> Result<Work, RebuildError> {
        let mut work = Work::default();
        let most = self.step_bytes(subject.0);
        let mut rest = stripes;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|(_, len)| {
                bytes += u64::from(*len);
                bytes <= most
            });
            let (step, left) = rest.split_at(fits.count().max(1));
            let done = self.restore_step(target, sources, subject, step).await?;
            work.whole += done.whole;
            work.rebuilt += done.rebuilt;
            rest = left;
        }
        Ok(work)
    }

    /// Bytes of rebuilt fragments in one step: as many as fit into the share of memory, and into
    /// one record.
    fn step_bytes(&self, shape: Shape) -> u64 {
        let memory = self.host.settings.repair_memory.get();
        let most = (memory / (shape.needed() as u64 + 1)).min(STEP_BYTES);
        most.min(APPEND_BYTES_MAX as u64)
    }

    /// The stripes of the next step, with the length of their fragments: as many as fit into the
    /// share of memory, and into one record.
    fn step(&self, shape: Shape, blob: &Blob, first: u32, last: u32) -> Vec<(u32, u32)> {
        let most = self.step_bytes(shape);
        let mut step = Vec::new();
        let mut bytes = 0;
        for stripe in first..=last {
            let unit = shape.unit_at(stripe, blob.len);
            bytes += u64::from(unit);
            if !step.is_empty() && bytes > most {
                break;
            }
            step.push((stripe, unit));
        }
        step
    }

    async fn restore_step(
        &self,
        target: &Target,
        sources: &Sources,
        (shape, owner): (Shape, &Owner),
        step: &[(u32, u32)],
    ) -> Result<Work, RebuildError> {
        let blob = shape.blob;
        let bytes: u64 = step.iter().map(|(_, unit)| u64::from(*unit)).sum();
        let lease = self.host.repairs.lease(bytes * (shape.needed() as u64 + 1));
        let _lease = lease.await;
        let held = self.held(target, blob, step).await?;
        let absent = step.iter().zip(&held).filter(|(_, held)| held.is_none());
        let absent: Vec<(u32, u32)> = absent.map(|(stripe, _)| *stripe).collect();
        let mut work = Work {
            whole: (step.len() - absent.len()) as u64,
            rebuilt: 0,
        };
        for run in absent.chunk_by(|a, b| a.0 + 1 == b.0) {
            let found = sources.gather(shape, run).await?;
            let fragments = self.decode(shape, target.key, run, found).await?;
            // With its owner the blob can be condemned if it died meanwhile (PROTOCOLS 19).
            let label = Label {
                blob,
                owner: Some(owner),
                committed: false,
            };
            self.store(target, &label, run, &fragments).await?;
            self.host.metrics.repair.rebuilt.inc_by(run.len() as u64);
            work.rebuilt += run.len() as u64;
        }
        Ok(work)
    }

    /// The whole fragments as the shard holds them, verified; `None` for each that it has not, or
    /// not intact.
    pub(crate) async fn held(
        &self,
        target: &Target,
        blob: BlobId,
        stripes: &[(u32, u32)],
    ) -> Result<Vec<Option<Bytes>>, RebuildError> {
        let range = |&(stripe, len): &(u32, u32)| FragmentRange {
            stripe,
            offset: 0,
            len,
        };
        let ranges: Vec<FragmentRange> = stripes.iter().map(range).collect();
        let read = target.engine.read(target.key, blob, ranges.clone()).await;
        let mut held = Vec::with_capacity(stripes.len());
        for (answer, range) in read.into_iter().zip(&ranges) {
            held.push(match answer {
                Ok(blocks) => {
                    let bytes = blocks.bytes.len() as u64;
                    self.host.metrics.count_read(target.cause, bytes);
                    blocks.cut(range)
                }
                Err(FragmentFault::Drive(error)) => return Err(RebuildError::Unreadable(error)),
                Err(_) => None,
            });
        }
        Ok(held)
    }

    /// Makes the shard's fragments out of others; on a thread that may take its time.
    async fn decode(
        &self,
        shape: Shape,
        key: ShardKey,
        run: &[(u32, u32)],
        found: Vec<Vec<(usize, Bytes)>>,
    ) -> Result<Vec<Bytes>, RebuildError> {
        let codec = self.codec(shape.profile)?;
        let units: Vec<u32> = run.iter().map(|(_, unit)| *unit).collect();
        let member = usize::from(key.member);
        let decode = move || {
            let one = |(unit, others): (&u32, &Vec<(usize, Bytes)>)| {
                let mut made = vec![0; *unit as usize];
                let others: Vec<(usize, &[u8])> =
                    others.iter().map(|(i, bytes)| (*i, &bytes[..])).collect();
                let wanted = &mut [(member, &mut made[..])];
                match (shape.layout, others.first()) {
                    (Layout::Shortened, Some(other)) => {
                        codec.reconstruct_shortened(shape.short_index(), *other, wanted)?;
                    }
                    _ => codec.reconstruct(&others, wanted)?,
                }
                Ok(Bytes::from(made))
            };
            units.iter().zip(&found).map(one).collect()
        };
        let decoded: Result<_, ErasureError> = tokio::task::spawn_blocking(decode)
            .await
            .map_err(|_| EngineError::Failed("the decoder stopped".to_owned()))?;
        Ok(decoded?)
    }

    /// Appends fragments of consecutive stripes (with their lengths) under the identity of those
    /// that they replace, and reads them back: when this returns `Ok` they are synced, and what is
    /// read is what was written. Where the old header can still be read, the engine compares its
    /// checksums with the new bytes.
    pub(crate) async fn store(
        &self,
        target: &Target,
        label: &Label<'_>,
        run: &[(u32, u32)],
        fragments: &[Bytes],
    ) -> Result<(), RebuildError> {
        self.append(target, label, run, fragments).await?;
        let back = self.held(target, label.blob, run).await?;
        for (((stripe, _), made), back) in run.iter().zip(fragments).zip(back) {
            if back.as_ref() != Some(made) {
                return Err(RebuildError::NotReadBack {
                    blob: label.blob,
                    stripe: *stripe,
                });
            }
        }
        let bytes = fragments.iter().map(|bytes| bytes.len() as u64).sum();
        target.pace.spend(&target.engine, bytes).await;
        Ok(())
    }

    async fn append(
        &self,
        target: &Target,
        label: &Label<'_>,
        run: &[(u32, u32)],
        fragments: &[Bytes],
    ) -> Result<(), RebuildError> {
        let Some((first_stripe, _)) = run.first() else {
            return Ok(());
        };
        let (key, blob) = (target.key, label.blob);
        let header = |((stripe, len), bytes): (&(u32, u32), &Bytes)| FragmentHeader {
            len: *len,
            checksums: fragment_checksums(
                FragmentSeed {
                    volume: key.volume.get(),
                    blob: blob.get(),
                    stripe: *stripe,
                    index: key.member,
                },
                bytes,
            )
            .collect(),
        };
        let append = Append {
            epoch: target.epoch,
            blob,
            first_stripe: *first_stripe,
            fragments: run.iter().zip(fragments).map(header).collect(),
            owner: label.owner.cloned(),
            marks: label.committed.then_some(blob).into_iter().collect(),
            payload: fragments.to_vec(),
        };
        let bytes: u64 = fragments.iter().map(|bytes| bytes.len() as u64).sum();
        let mut tries = BUSY_TRIES;
        loop {
            let stored = match target.engine.admit(bytes) {
                Ok(admission) => target.engine.append(key, append.clone(), admission).await,
                Err(error) => Err(error),
            };
            match stored {
                Ok(_) => {
                    self.host.metrics.count_write(target.cause, bytes);
                    return Ok(());
                }
                Err(EngineError::Busy) if tries > 0 => tries -= 1,
                Err(error) => return Err(error.into()),
            }
            self.host.env.clock.sleep(BUSY_PAUSE).await;
        }
    }
}
