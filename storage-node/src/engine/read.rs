//! Reading fragments, each block compared with its checksum before it leaves (P5).

mod fetch;
mod plan;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use enfilade_placement::BlobId;

use self::fetch::Fetch;
use self::plan::Reader;
use super::commit::Work;
use super::rows::{LogId, Rows, ShardKey};
use super::{Engine, EngineError};
use crate::api::read::{FragmentFault, FragmentRange};
use crate::drive::{DriveError, DriveFile, Hold};
use crate::erasure::checksum::CHECKSUM_BLOCK_BYTES;
use crate::sync;

/// The blocks of a fragment that hold a range, verified, with what it takes to verify them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Number of the first block within the fragment.
    pub first: u32,
    /// The bytes of the blocks.
    pub bytes: Bytes,
    /// One CRC32C a block.
    pub checksums: Vec<u32>,
}

impl Blocks {
    /// The bytes of the range that was asked for.
    pub fn cut(self, range: &FragmentRange) -> Option<Bytes> {
        let skipped = u64::from(self.first) * CHECKSUM_BLOCK_BYTES as u64;
        let start = usize::try_from(u64::from(range.offset).checked_sub(skipped)?).ok()?;
        let end = start.checked_add(range.len as usize)?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

/// A fault of one range, and where the bytes were that it was found in.
enum Fault {
    Plain(FragmentFault),
    /// Found now, and not in the log yet.
    Rot {
        stripe: u32,
        payload: u64,
    },
    /// Not known without waiting for the device.
    Waits,
}

/// The log that was read, if there is one, and what came of each range.
type Read = (Option<LogId>, Vec<Result<Blocks, Fault>>);

impl From<FragmentFault> for Fault {
    fn from(fault: FragmentFault) -> Self {
        Self::Plain(fault)
    }
}

impl From<DriveError> for Fault {
    fn from(error: DriveError) -> Self {
        Self::Plain(FragmentFault::Drive(error.to_string()))
    }
}

impl Engine {
    /// Reads ranges of fragments of a blob; one answer each.
    ///
    /// What is found corrupt is entered in the log, durably, before it is told (PROTOCOLS 22).
    pub async fn read(
        self: &Arc<Self>,
        key: ShardKey,
        blob: BlobId,
        ranges: Vec<FragmentRange>,
    ) -> Vec<Result<Blocks, FragmentFault>> {
        let ranges: Arc<[FragmentRange]> = ranges.into();
        loop {
            let (log, answers) = match self.attempt(key, blob, &ranges).await {
                Ok(read) => read,
                Err(fault) => return ranges.iter().map(|_| Err(fault.clone())).collect(),
            };
            let rotten: Vec<(u32, u64)> = answers.iter().filter_map(rot).collect();
            let entered = match log {
                Some(log) if !rotten.is_empty() => self.enter_rot(log, blob, rotten).await,
                _ => Ok(0),
            };
            // What a log lacks that was compacted away meanwhile is in the one after it.
            if answers.iter().any(Result::is_err) && self.log_id(key) != log {
                continue;
            }
            for (answer, range) in answers.iter().zip(ranges.iter()) {
                if let Err(Fault::Plain(FragmentFault::Drive(error))) = answer {
                    self.pulse.read_failed((key, blob, range.stripe), error);
                }
            }
            return self.told_readers(answers, &entered);
        }
    }

    /// Reads once, from the log that the shard has then.
    async fn attempt(
        self: &Arc<Self>,
        key: ShardKey,
        blob: BlobId,
        ranges: &Arc<[FragmentRange]>,
    ) -> Result<Read, FragmentFault> {
        let attempt = self.attempt_held(key, blob, ranges);
        if let Attempt::Read(read) = attempt {
            return Ok(read);
        }
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let permit: Hold = Arc::new(permit);
        let planned = match attempt {
            Attempt::Planned(log, file, fetch) => {
                let began = self.host.env.clock.now();
                match fetch.read_queued(file.as_ref(), &permit).await {
                    Ok(answers) => {
                        let took = self.host.env.clock.now().saturating_sub(began);
                        self.pulse.note(took);
                        return Ok((Some(log), answers));
                    }
                    Err(fetch) => Some((log, file, fetch)),
                }
            }
            _ => None,
        };
        let (engine, ranges) = (Arc::clone(self), Arc::clone(ranges));
        let read = sync::blocking(move || {
            let _permit = permit;
            let clock = &engine.host.env.clock;
            let began = clock.now();
            let answers = match planned {
                Some((log, file, fetch)) => {
                    let file = engine.lenient(key, file.as_ref());
                    (Some(log), fetch.read(&file))
                }
                None => engine.read_now(key, blob, &ranges),
            };
            engine.pulse.note(clock.now().saturating_sub(began));
            answers
        });
        let stopped = || FragmentFault::Drive("the reader stopped".to_owned());
        read.await.ok_or_else(stopped)
    }

    /// Reads from memory, where nobody may wait, or finds out what is to be read. One at a time: if
    /// a drive hangs and the system makes us wait all the same, it is not for all callers.
    fn attempt_held(&self, key: ShardKey, blob: BlobId, ranges: &[FragmentRange]) -> Attempt {
        let Some(index) = self.index.held() else {
            return Attempt::Waits;
        };
        if self.trying.swap(true, Ordering::Acquire) {
            return Attempt::Waits;
        }
        let attempt = self.try_held(key, blob, (ranges, Rows(index.as_ref())));
        self.trying.store(false, Ordering::Release);
        attempt
    }

    fn try_held(
        &self,
        key: ShardKey,
        blob: BlobId,
        (ranges, rows): (&[FragmentRange], Rows<'_>),
    ) -> Attempt {
        let log = self.log_id(key);
        let Some((log, file)) = log.and_then(|log| Some((log, self.files.held(log)?))) else {
            return Attempt::Waits;
        };
        let fetch = Reader::new(self, file.as_ref(), log, blob)
            .held(rows)
            .plan_all(ranges);
        if fetch.would_wait() {
            return Attempt::Waits;
        }
        match fetch.read_held(file.as_ref()) {
            Ok(answers) => Attempt::Read((Some(log), answers)),
            Err(fetch) => Attempt::Planned(log, file, fetch),
        }
    }

    fn told_readers(
        &self,
        answers: Vec<Result<Blocks, Fault>>,
        entered: &Result<usize, EngineError>,
    ) -> Vec<Result<Blocks, FragmentFault>> {
        let tell = |fault| match (fault, entered) {
            (Fault::Plain(fault), _) => fault,
            (Fault::Rot { .. }, Ok(0)) => FragmentFault::Missing,
            (Fault::Rot { .. }, Ok(_)) => FragmentFault::Corrupt,
            (Fault::Rot { .. }, Err(error)) => FragmentFault::Drive(error.to_string()),
            (Fault::Waits, _) => FragmentFault::Drive("not read".to_owned()),
        };
        let metrics = &self.host.metrics;
        for blocks in answers.iter().filter_map(|answer| answer.as_ref().ok()) {
            metrics.read.inc();
            metrics.read_bytes.inc_by(blocks.bytes.len() as u64);
        }
        answers
            .into_iter()
            .map(|answer| answer.map_err(tell))
            .collect()
    }

    /// Enters fragments of a log as corrupt; how many of them are still there.
    pub(super) async fn enter_rot(
        self: &Arc<Self>,
        log: LogId,
        blob: BlobId,
        mut found: Vec<(u32, u64)>,
    ) -> Result<usize, EngineError> {
        found.sort_unstable();
        found.dedup();
        let (key, fragments) = (log.key, found.len());
        tracing::warn!(drive = %self.id, ?key, %blob, fragments, "corrupt fragments");
        let work = Work::Bad {
            incarnation: log.incarnation,
            blob,
            found,
        };
        let done = self.order(key, work).await?;
        self.host.metrics.corrupt.inc_by(done.entered as u64);
        Ok(done.entered)
    }

    /// Where the first byte of a fragment is stored: the file, and the offset in it.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn locate(&self, key: ShardKey, blob: BlobId, stripe: u32) -> Option<(String, u64)> {
        let runs = self
            .rows()
            .runs(self.log_id(key)?, blob, (stripe, stripe))
            .ok()?;
        let (first, run) = runs.first()?;
        let (offset, _) = run.fragment(stripe - first)?;
        Some((key.file(), offset))
    }

    fn read_now(&self, key: ShardKey, blob: BlobId, ranges: &[FragmentRange]) -> Read {
        let Some(log) = self.log_id(key) else {
            let missing = |_| Err(FragmentFault::Missing.into());
            return (None, ranges.iter().map(missing).collect());
        };
        let file = match self.log_file(log) {
            Ok(file) => file,
            Err(error) => {
                let failed = |_| Err(error.clone().into());
                return (Some(log), ranges.iter().map(failed).collect());
            }
        };
        let file = self.lenient(key, file.as_ref());
        let fetch = Reader::new(self, &file, log, blob).plan_all(ranges);
        (Some(log), fetch.read(&file))
    }
}

/// What can be done about a read without waiting for the device.
enum Attempt {
    /// All of it.
    Read(Read),
    /// It is known where the bytes are.
    Planned(LogId, Arc<dyn DriveFile>, Fetch),
    /// Nothing.
    Waits,
}

fn rot(answer: &Result<Blocks, Fault>) -> Option<(u32, u64)> {
    match answer {
        Err(Fault::Rot { stripe, payload }) => Some((*stripe, *payload)),
        _ => None,
    }
}
