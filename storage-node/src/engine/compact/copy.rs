//! The successor of a log, and copying into it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use enfilade_placement::{BlobId, Epoch};

use super::{CompactError, Compaction, Rot, unreadable};
use crate::api::append::FragmentHeader;
use crate::drive::{DriveError, DriveFile, Open, read_up_to};
use crate::engine::log::{Found, HEAD_LEN, Log, encode_head, read_record, write_record};
use crate::engine::record::{Body, Record, Run};
use crate::engine::rows::{Freed, LogId, Placed, RunRow, ShardKey, ShardRow};
use crate::engine::{Engine, EngineError};
use crate::erasure::checksum::{FragmentSeed, fragment_checksums, verify};

/// A log in the making.
pub(super) struct Successor {
    engine: Arc<Engine>,
    pub(super) id: LogId,
    pub(super) file: Arc<dyn DriveFile>,
    pub(super) log: Log,
    /// Everything below this is synced.
    synced: u64,
    /// Bytes that the engine counts as in use for it.
    counted: u64,
    freed: Vec<Freed>,
}

impl Successor {
    /// Makes the file, with its head; nothing of it is durable yet.
    pub(super) fn create(engine: &Arc<Engine>, key: ShardKey) -> Result<Self, CompactError> {
        let id = key.log(engine.host().env.random.next_u64());
        let name = key.successor();
        let make = || {
            // Left by a compaction that was given up.
            match engine.drive().remove(&name) {
                Ok(()) | Err(DriveError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            let file = engine.drive().open(&name, Open::New)?;
            let head = encode_head(id.incarnation, engine.id(), key);
            write_record(file.as_ref(), 0, &head, &[])?;
            Ok(file)
        };
        let file = make().map_err(|error| failed(engine, &error))?;
        let log = Log {
            row: ShardRow {
                incarnation: id.incarnation,
                position: HEAD_LEN,
                successor: true,
                ..ShardRow::default()
            },
            tail: HEAD_LEN,
            exists: true,
            named: true,
            ..Log::default()
        };
        let mut successor = Self {
            engine: Arc::clone(engine),
            id,
            file,
            log,
            synced: 0,
            counted: 0,
            freed: Vec::new(),
        };
        successor.count();
        Ok(successor)
    }

    /// Accepts an epoch from here on.
    pub(super) fn raise(&mut self, epoch: Epoch) {
        self.log.epoch = self.log.epoch.max(epoch);
    }

    /// Writes a record and takes it into the rows. `seen_ms`: when its blob came.
    pub(super) fn write(
        &mut self,
        body: Body,
        payload: &[Bytes],
        seen_ms: u64,
    ) -> Result<(), CompactError> {
        self.write_padded(body, payload.to_vec(), seen_ms, false)
    }

    /// Writes a record that says what is synced, and ends at a block, where groups begin.
    pub(super) fn prove(&mut self) -> Result<(), CompactError> {
        let body = Body::Commit { marks: Vec::new() };
        self.write_padded(body, Vec::new(), 0, true)
    }

    fn write_padded(
        &mut self,
        body: Body,
        mut payload: Vec<Bytes>,
        seen_ms: u64,
        padded: bool,
    ) -> Result<(), CompactError> {
        let mut record = Record {
            sequence: self.log.sequence,
            synced: self.synced,
            volume: self.id.key.volume,
            member: self.id.key.member,
            epoch: self.log.epoch,
            padding: 0,
            body,
        };
        let offset = self.log.tail;
        let mut header = record.encode(self.id.incarnation, offset);
        if padded {
            record.pad(&mut header, self.id.incarnation, offset);
            payload.push(Bytes::from(vec![0; record.padding as usize]));
        }
        let written = write_record(self.file.as_ref(), offset, &header, &payload);
        written.map_err(|error| failed(&self.engine, &error))?;
        let placed = Placed {
            record: &record,
            offset,
            header_len: header.len(),
        };
        let rows = self.engine.rows();
        let freed = rows.apply(&mut self.log.row, &placed, seen_ms);
        self.freed.extend(self.engine.told(freed)?);
        self.log.tail = placed.end();
        self.log.sequence += 1;
        self.log.proven = self.log.proven.max(record.synced);
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        let more = self.log.tail - self.counted;
        self.engine.successors.fetch_add(more, Ordering::Relaxed);
        self.counted = self.log.tail;
    }

    pub(super) fn sync(&mut self) -> Result<(), CompactError> {
        let synced = self.file.sync();
        synced.map_err(|error| self.engine.fail(&error))?;
        self.synced = self.log.tail;
        Ok(())
    }

    /// Whether a blob is here, and if so, whether it is committed.
    fn knows(&self, blob: BlobId) -> Result<Option<bool>, CompactError> {
        let row = self.engine.rows().blob(self.id, blob);
        Ok(self.engine.told(row)?.map(|row| row.committed))
    }

    /// The log that it is from now on, and what of it can be given back.
    ///
    /// # Errors
    /// When the index fails.
    pub(super) fn done(&mut self) -> Result<(Log, Vec<Freed>), CompactError> {
        self.log.row.successor = false;
        let kept = self.engine.rows().put_shard(self.id, &self.log.row);
        self.engine.told(kept)?;
        Ok((self.log.clone(), std::mem::take(&mut self.freed)))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // As a log it is counted with the logs.
        self.engine
            .successors
            .fetch_sub(self.counted, Ordering::Relaxed);
    }
}

fn failed(engine: &Engine, error: &DriveError) -> CompactError {
    match error {
        DriveError::NoSpace => EngineError::Full.into(),
        error => engine.fail(error).into(),
    }
}

impl Compaction {
    /// Copies the fragments of a run, each compared with its checksums. What is corrupt is copied
    /// as it is: that it is corrupt stays known.
    pub(super) fn copy_run(
        &mut self,
        blob: BlobId,
        first: u32,
        run: &RunRow,
        rot: &mut Rot,
    ) -> Result<(), CompactError> {
        let engine = Arc::clone(&self.engine);
        let rows = engine.rows();
        let known = engine.told(rows.blob(self.old, blob))?.unwrap_or_default();
        let last = first.saturating_add(run.count() - 1);
        let bad = engine.told(rows.bad(self.old, blob, (first, last)))?;
        let source = Arc::clone(&self.source);
        let source = engine.lenient(self.old.key, source.as_ref());
        let headers = self.headers(&source, (blob, first, run))?;
        let (mut fragments, mut payload, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for (index, stripe) in (0..run.count()).zip(first..) {
            let Some((at, len)) = run.fragment(index) else {
                break;
            };
            let read = read_up_to(&source, at, len as usize).map_err(unreadable)?;
            let seed = FragmentSeed {
                volume: self.old.key.volume.get(),
                blob: blob.get(),
                stripe,
                index: self.old.key.member,
            };
            let header = headers
                .get(index as usize)
                .filter(|header| header.len == len);
            let whole = header.is_some_and(|header| verify(seed, &read, &header.checksums).is_ok());
            if !whole && !bad.contains(&stripe) {
                found.push((stripe, at));
            }
            let mut bytes = read;
            bytes.resize(len as usize, 0);
            fragments.push(match header {
                Some(header) => header.clone(),
                None => spoilt(seed, &bytes),
            });
            payload.push(Bytes::from(bytes));
        }
        let new = self.next.knows(blob)?.is_none();
        let body = Body::Append {
            blob,
            first_stripe: first,
            fragments,
            owner: known.owner.filter(|_| new),
            marks: (new && known.committed)
                .then_some(blob)
                .into_iter()
                .collect(),
        };
        self.next.write(body, &payload, known.seen_ms)?;
        if !bad.is_empty() {
            let runs: Vec<Run> = bad.iter().map(|stripe| (*stripe, *stripe)).collect();
            self.next.write(Body::Bad { blob, runs }, &[], 0)?;
        }
        if !found.is_empty() {
            rot.push((blob, found));
        }
        Ok(())
    }

    /// What the record of a run says of its fragments; nothing when its header is no longer what
    /// was written.
    fn headers(
        &self,
        source: &dyn DriveFile,
        (blob, first, run): (BlobId, u32, &RunRow),
    ) -> Result<Vec<FragmentHeader>, CompactError> {
        let read = read_record(source, run.record, self.old.incarnation);
        let Ok((record, _)) = read.map_err(unreadable)? else {
            return Ok(Vec::new());
        };
        let here = record.volume == self.old.key.volume && record.member == self.old.key.member;
        match record.body {
            Body::Append {
                blob: of,
                first_stripe,
                fragments,
                ..
            } if here && of == blob && first_stripe.checked_add(run.skip) == Some(first) => {
                Ok(fragments.into_iter().skip(run.skip as usize).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Takes a record of the log over, or what is live of it.
    pub(super) fn take_over(&mut self, found: &Found, rot: &mut Rot) -> Result<(), CompactError> {
        self.next.raise(found.record.epoch);
        let engine = Arc::clone(&self.engine);
        match &found.record.body {
            Body::Append {
                blob,
                first_stripe,
                fragments,
                marks,
                ..
            } => {
                let count = u32::try_from(fragments.len()).unwrap_or(u32::MAX);
                let last = first_stripe.saturating_add(count.saturating_sub(1));
                let runs = engine.rows().runs(self.old, *blob, (*first_stripe, last));
                for (first, run) in engine.told(runs)? {
                    if run.record == found.offset {
                        self.copy_run(*blob, first, &run, rot)?;
                    }
                }
                self.mark(marks)
            }
            Body::Commit { marks } => self.mark(marks),
            Body::Delete { blob, .. } | Body::Bad { blob, .. } => match self.next.knows(*blob)? {
                Some(_) => self.next.write(found.record.body.clone(), &[], 0),
                None => Ok(()),
            },
            Body::Fence | Body::Lost => self.next.write(found.record.body.clone(), &[], 0),
        }
    }

    /// Marks those blobs as committed that are here and not marked.
    fn mark(&mut self, marks: &[BlobId]) -> Result<(), CompactError> {
        let mut new = Vec::new();
        for mark in marks {
            if self.next.knows(*mark)? == Some(false) {
                new.push(*mark);
            }
        }
        match new.is_empty() {
            true => Ok(()),
            false => self.next.write(Body::Commit { marks: new }, &[], 0),
        }
    }
}

/// The header of a fragment whose own is lost: its checksums fit to nothing.
fn spoilt(seed: FragmentSeed, bytes: &[u8]) -> FragmentHeader {
    let checksums: Vec<u32> = fragment_checksums(seed, bytes).map(|sum| !sum).collect();
    FragmentHeader {
        len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        checksums,
    }
}
