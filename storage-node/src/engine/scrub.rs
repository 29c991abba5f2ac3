//! Scrub: everything that a shard holds is read and verified (PROTOCOLS 22).
//!
//! First the log is walked, header by header: what it holds and the index does not know must have
//! been dropped or replaced later in the log. Then the index is walked: every fragment that it
//! names must be where it says, with the checksums that its header tells. What is corrupt is
//! entered in the log before anybody is told, as for reads; a drive that does not answer says
//! nothing about its bytes. Damage between records that costs no fragment is healed by compaction,
//! for which the index still knows everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enfilade_placement::BlobId;

use super::commit::Work;
use super::compact::CompactError;
use super::index::IndexError;
use super::log::{Found, HEAD_LEN, LogError, Scan, Stretch, read_record};
use super::pace::Throttle;
use super::record::Body;
use super::rows::{LogId, RunRow, ScrubPlace, ShardKey};
use super::{Engine, EngineError};
use crate::api::Cause;
use crate::drive::{DriveError, DriveFile, read_up_to};
use crate::erasure::checksum::{FragmentSeed, verify};

/// Bytes that one step reads, about.
const STEP_BYTES: u64 = 1024 * 1024;
/// Runs of the index that are looked at together.
const PAGE: usize = 8;
/// Fragments that the log holds and the index does not, for which it is looked why; what is beyond
/// is looked at another time, after compaction.
const UNEXPLAINED_MAX: usize = 65_536;

/// Why a shard was not scrubbed to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// The drive failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The drive did not give the bytes: that is no rot. To be tried again later.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
}

/// What scrub found in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Bytes that were read and verified.
    pub bytes: u64,
    /// Fragments that were found corrupt, and are entered as such now.
    pub corrupt: u64,
    /// Places of the log without a valid record.
    pub damaged: u64,
}

/// How far a drive is with its scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubState {
    /// The shard that was not scrubbed for longest, if there is any.
    pub oldest: Option<ShardKey>,
    /// For how long it was not, in milliseconds that the drive was served.
    pub oldest_ms: u64,
    /// How long ago every shard had been scrubbed; none: not yet.
    pub round_ms: Option<u64>,
}

/// A shard that is being scrubbed.
pub(crate) struct Scrub {
    engine: Arc<Engine>,
    key: ShardKey,
    stage: Stage,
    found: Scrubbed,
}

enum Stage {
    Log(Walk),
    /// From this blob and stripe on.
    Fragments(BlobId, u32),
}

/// A walk through a log.
struct Walk {
    log: LogId,
    at: u64,
    /// Stripes that the log held and the index did not know, which nothing has explained yet.
    unexplained: BTreeMap<BlobId, BTreeSet<u32>>,
    count: usize,
    damaged: bool,
}

/// Corrupt fragments of a blob in a log: stripes, and where they were read.
type Rot = (LogId, BlobId, Vec<(u32, u64)>);

/// What came of a step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) bytes: u64,
    /// Corrupt fragments to be entered, of that log.
    pub(crate) rot: Option<Rot>,
    /// Whether the walk through the log ended: the committer is to be waited for, and
    /// [`Scrub::settle`] to be called.
    pub(crate) walked: bool,
    pub(crate) done: bool,
}

impl Scrub {
    /// Begins, or goes on where the index says that it was left. Blocks, as all of this does.
    ///
    /// # Errors
    /// When the index fails.
    pub(crate) fn begin(engine: &Arc<Engine>, key: ShardKey) -> Result<Self, EngineError> {
        let left = engine.told(engine.rows().scrub_place())?;
        let log = engine.log_id(key);
        let stage = match (left.filter(|left| left.shard() == key), log) {
            (Some(left), _) if left.walked => Stage::Fragments(left.blob, left.stripe),
            (_, Some(log)) => Stage::Log(Walk::new(log)),
            (_, None) => Stage::Fragments(BlobId::new(0), 0),
        };
        Ok(Self {
            engine: Arc::clone(engine),
            key,
            stage,
            found: Scrubbed::default(),
        })
    }

    /// Reads about so many bytes.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub(crate) fn step(&mut self, bytes: u64) -> Result<Step, ScrubError> {
        self.engine.check_alive()?;
        let Some(log) = self.engine.log_id(self.key) else {
            return Ok(Step {
                done: true,
                ..Step::default()
            });
        };
        match &mut self.stage {
            Stage::Log(walk) if walk.log == log => {
                let (read, walked) = walk.step(&self.engine, bytes, &mut self.found)?;
                self.found.bytes += read;
                Ok(Step {
                    bytes: read,
                    walked,
                    ..Step::default()
                })
            }
            // It was written anew meanwhile, from what the index knows.
            Stage::Log(_) => {
                self.stage = Stage::Fragments(BlobId::new(0), 0);
                Ok(Step::default())
            }
            Stage::Fragments(..) => self.read(log, bytes),
        }
    }

    /// Ends the walk through the log, once the committer has done all that came before.
    ///
    /// # Errors
    /// [`ScrubError`]. An index that lacks what the log holds fails, and is built anew.
    pub(crate) fn settle(&mut self) -> Result<(), ScrubError> {
        let Stage::Log(walk) = &mut self.stage else {
            return Ok(());
        };
        if self.engine.log_id(self.key) == Some(walk.log) {
            let (read, _) = walk.step(&self.engine, u64::MAX, &mut self.found)?;
            self.found.bytes += read;
            walk.judge(&self.engine)?;
        }
        self.stage = Stage::Fragments(BlobId::new(0), 0);
        self.keep(BlobId::new(0), 0)?;
        Ok(())
    }

    fn keep(&self, blob: BlobId, stripe: u32) -> Result<(), EngineError> {
        let place = ScrubPlace {
            volume: self.key.volume,
            member: self.key.member,
            walked: true,
            blob,
            stripe,
        };
        self.engine.told(self.engine.rows().put_scrub_place(&place))
    }

    /// Verifies some fragments that the index names.
    fn read(&mut self, log: LogId, bytes: u64) -> Result<Step, ScrubError> {
        let Stage::Fragments(mut blob, mut stripe) = self.stage else {
            return Ok(Step::default());
        };
        let mut step = Step::default();
        let file = self.engine.log_file(log).map_err(unreadable)?;
        let file = self.engine.lenient(self.key, file.as_ref());
        'pages: while step.bytes < bytes {
            let page = self.engine.rows().runs_from(log, blob, stripe, PAGE);
            let page = self.engine.told(page)?;
            if self.engine.log_id(self.key) != Some(log) {
                // The rows of the old log are gone: the same place of the new one comes next.
                break;
            }
            step.done = page.is_empty();
            if step.done {
                break;
            }
            for (of, first, run) in page {
                let rotten = verify_run(&self.engine, &file, log, (of, first, &run))?;
                step.bytes += run.bytes();
                (blob, stripe) = match first.checked_add(run.count()) {
                    Some(next) => (of, next),
                    None => (BlobId::new(of.get().wrapping_add(1)), 0),
                };
                if !rotten.is_empty() {
                    step.rot = Some((log, of, rotten));
                    break 'pages;
                }
            }
        }
        self.stage = Stage::Fragments(blob, stripe);
        self.found.bytes += step.bytes;
        self.keep(blob, stripe)?;
        Ok(step)
    }
}

/// The fragments of a run that are not what they should be, and where they were read.
fn verify_run(
    engine: &Engine,
    file: &dyn DriveFile,
    log: LogId,
    (blob, first, run): (BlobId, u32, &RunRow),
) -> Result<Vec<(u32, u64)>, ScrubError> {
    let last = first.saturating_add(run.count() - 1);
    let bad = engine.told(engine.rows().bad(log, blob, (first, last)))?;
    file.drop_cached(run.record, run.payload + run.bytes() - run.record);
    let record = read_record(file, run.record, log.incarnation).map_err(unreadable)?;
    let headers = match record.map(|(record, _)| record.body) {
        Ok(Body::Append {
            blob: of,
            first_stripe,
            fragments,
            ..
        }) if of == blob && first_stripe.checked_add(run.skip) == Some(first) => fragments,
        _ => Vec::new(),
    };
    let mut rotten = Vec::new();
    for (index, stripe) in (0..run.count()).zip(first..) {
        let Some((at, len)) = run.fragment(index).filter(|_| !bad.contains(&stripe)) else {
            continue;
        };
        let bytes = read_up_to(file, at, len as usize).map_err(unreadable)?;
        let seed = FragmentSeed {
            volume: log.key.volume.get(),
            blob: blob.get(),
            stripe,
            index: log.key.member,
        };
        let header = headers.get((run.skip + index) as usize);
        let whole = header.is_some_and(|header| verify(seed, &bytes, &header.checksums).is_ok());
        if !whole {
            rotten.push((stripe, at));
        }
    }
    file.drop_cached(run.record, run.payload + run.bytes() - run.record);
    Ok(rotten)
}

impl Walk {
    const fn new(log: LogId) -> Self {
        Self {
            log,
            at: HEAD_LEN,
            unexplained: BTreeMap::new(),
            count: 0,
            damaged: false,
        }
    }

    /// Walks on, reading about so many bytes of headers; whether it came to the end.
    fn step(
        &mut self,
        engine: &Engine,
        bytes: u64,
        found: &mut Scrubbed,
    ) -> Result<(u64, bool), ScrubError> {
        let file = engine.log_file(self.log).map_err(unreadable)?;
        let file = engine.lenient(self.log.key, file.as_ref());
        let shard = engine.shard(self.log.key, false).map(|shard| shard.log());
        let Some(log) = shard else {
            return Ok((0, true));
        };
        let scan = Scan {
            file: &file,
            len: log.tail,
            key: self.log.key,
            incarnation: Some(self.log.incarnation),
        };
        let mut read = 0;
        while read < bytes {
            match scan.next(self.at).map_err(not_read)? {
                None => return Ok((read, true)),
                Some(Stretch::Record(record)) => {
                    read += record.header_len as u64;
                    self.compare(engine, &record)?;
                    self.at = record.end();
                }
                Some(Stretch::Damage { from, to }) => {
                    read += to - from;
                    self.damaged = true;
                    found.damaged += 1;
                    self.at = to;
                }
            }
        }
        Ok((read, false))
    }

    /// Compares a record with the index.
    fn compare(&mut self, engine: &Engine, found: &Found) -> Result<(), EngineError> {
        match &found.record.body {
            Body::Append {
                blob,
                first_stripe,
                fragments,
                ..
            } => {
                let count = u32::try_from(fragments.len()).unwrap_or(u32::MAX);
                let last = first_stripe.saturating_add(count.saturating_sub(1));
                let runs = engine.rows().runs(self.log, *blob, (*first_stripe, last));
                let runs = engine.told(runs)?;
                for stripe in *first_stripe..=last {
                    // A later record of the same stripe is compared by itself.
                    self.explain(*blob, stripe, stripe);
                    let known = runs.iter().any(|(start, run)| {
                        let here = stripe.checked_sub(*start).is_some_and(|i| i < run.count());
                        here && run.record >= found.offset
                    });
                    if !known && self.count < UNEXPLAINED_MAX {
                        self.unexplained.entry(*blob).or_default().insert(stripe);
                        self.count += 1;
                    }
                }
            }
            Body::Delete { blob, runs } if runs.is_empty() => self.explain(*blob, 0, u32::MAX),
            Body::Delete { blob, runs } => {
                for (first, last) in runs {
                    self.explain(*blob, *first, *last);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn explain(&mut self, blob: BlobId, first: u32, last: u32) {
        if let Some(stripes) = self.unexplained.get_mut(&blob) {
            let before = stripes.len();
            stripes.retain(|stripe| !(first..=last).contains(stripe));
            self.count -= before - stripes.len();
            if stripes.is_empty() {
                self.unexplained.remove(&blob);
            }
        }
    }

    /// At the end of the log: what is not explained by then, the index has lost.
    fn judge(&self, engine: &Engine) -> Result<(), EngineError> {
        // What explains it may be in what cannot be read.
        if self.damaged || self.unexplained.is_empty() {
            return Ok(());
        }
        let (log, count) = (self.log, self.count);
        tracing::error!(drive = %engine.id, ?log, count, "the index lacks fragments of a log");
        engine.told(Err(IndexError(format!(
            "it lacks {count} fragments that a log holds"
        ))))
    }
}

impl Engine {
    /// Scrubs a shard, as fast as it goes.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub async fn scrub(self: &Arc<Self>, key: ShardKey) -> Result<Scrubbed, ScrubError> {
        self.scrub_at(key, &Throttle::default()).await
    }

    /// Scrubs a shard at some rate, from where it was left.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub(crate) async fn scrub_at(
        self: &Arc<Self>,
        key: ShardKey,
        throttle: &Throttle,
    ) -> Result<Scrubbed, ScrubError> {
        let engine = Arc::clone(self);
        let mut scrub = self.blocking(move |_| Scrub::begin(&engine, key)).await?;
        let metrics = &self.host.metrics.upkeep;
        loop {
            let (back, step) = self
                .blocking(move |_| {
                    let step = scrub.step(STEP_BYTES);
                    Ok((scrub, step))
                })
                .await?;
            scrub = back;
            let step = step?;
            metrics.scrubbed.inc_by(step.bytes);
            self.host.metrics.count_read(Cause::Scrub, step.bytes);
            if let Some((log, blob, rotten)) = step.rot {
                let entered = self.enter_rot(log, blob, rotten).await? as u64;
                scrub.found.corrupt += entered;
                metrics.scrub_faults.inc_by(entered);
            }
            if step.walked {
                self.order(key, Work::Barrier).await?;
                let (back, settled) = self
                    .blocking(move |_| {
                        let settled = scrub.settle();
                        Ok((scrub, settled))
                    })
                    .await?;
                scrub = back;
                settled?;
                metrics.scrub_faults.inc_by(scrub.found.damaged);
            }
            if step.done {
                break;
            }
            throttle.spend(self, step.bytes).await;
        }
        let now = self.clock_ms();
        self.told(self.rows().put_scrubbed(key, now))?;
        self.write_out(key, &scrub.found).await;
        Ok(scrub.found)
    }

    /// Damage is written out of the log, as long as the index knows what was there.
    async fn write_out(self: &Arc<Self>, key: ShardKey, found: &Scrubbed) {
        if found.damaged == 0 {
            return;
        }
        match self.compact(key).await {
            Ok(_) | Err(CompactError::Gone) => {}
            Err(error) => {
                tracing::warn!(drive = %self.id, ?key, %error, "a damaged log is not healed");
            }
        }
    }

    /// How far the scrub of the drive is.
    ///
    /// # Errors
    /// When the index fails.
    pub fn scrub_state(&self) -> Result<ScrubState, EngineError> {
        let (now, rows) = (self.clock_ms(), self.rows());
        let mut oldest: Option<(u64, ShardKey)> = None;
        for shard in self.shards() {
            // One that was never scrubbed counts from the beginning.
            let at = self.told(rows.scrubbed(shard.key))?.unwrap_or(0);
            if oldest.is_none_or(|(least, _)| at < least) {
                oldest = Some((at, shard.key));
            }
        }
        let round = oldest.map(|(at, _)| at).filter(|at| *at > 0);
        Ok(ScrubState {
            oldest: oldest.map(|(_, key)| key),
            oldest_ms: oldest.map_or(0, |(at, _)| now.saturating_sub(at)),
            round_ms: round.map(|at| now.saturating_sub(at)),
        })
    }
}

fn unreadable(error: DriveError) -> ScrubError {
    ScrubError::Unreadable(error.to_string())
}

fn not_read(error: LogError) -> ScrubError {
    match error {
        LogError::Drive(error) => unreadable(error),
        LogError::Newer(what) => ScrubError::Unreadable(what),
    }
}
