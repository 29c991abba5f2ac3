//! Opening a log after a stop or a crash (PROTOCOLS 24).
//!
//! The walk begins where the index ends. An invalid record below what is proven to be synced (by
//! the index, or by any later valid record) is corruption: it is passed over and kept. Above it
//! lies what was never acked; there the first record that is not whole, payload included, and all
//! after it, is a torn tail and cut.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::Mutex;

use super::index::{Behind, IndexError, Overlay};
use super::lock;
use super::log::{HEAD_LEN, Log, LogError, Scan, Stretch};
use super::record::{ALIGN, BLOCK};
use super::rows::{LogId, Placed, Rows, ShardRow};
use crate::drive::{DriveError, DriveFile, Lenient, ReadAhead, read_up_to};

/// Bytes of the tail of a log that are written again at a time.
const AGAIN_BYTES: usize = 1024 * 1024;
/// So many rows go to the index at a time.
const BATCH_ROWS: usize = 4096;
/// As long as an index is built from the very beginning of a log, rows are looked up in memory, up
/// to so many: about 32 MiB.
const ALONE_ROWS: usize = 128 * 1024;

/// What was found while opening a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Records taken into the index.
    pub(crate) records: u64,
    /// Bytes of torn tail that were cut off.
    pub(crate) cut: u64,
    /// Places below the proven position without a valid record.
    pub(crate) damaged: u32,
}

impl Report {
    /// Adds what was found in another log.
    pub(crate) const fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.cut += other.cut;
        self.damaged += other.damaged;
    }
}

/// Why a log could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl From<DriveError> for RecoverError {
    fn from(error: DriveError) -> Self {
        Self::Log(error.into())
    }
}

/// Brings the index up to the end of a log, and the log to its last whole record.
pub(crate) fn recover(
    rows: &Rows<'_>,
    file: &dyn DriveFile,
    id: LogId,
    now_ms: u64,
) -> Result<(Log, Report), RecoverError> {
    let unread = Unread::default();
    let lenient = Lenient::new(file, |offset, error: &str| unread.note(offset, error));
    std::thread::scope(|scope| {
        let ahead = ReadAhead::new(&lenient, scope);
        let behind = Behind::new(rows.0, scope);
        let overlay = Overlay::new(&behind);
        let recovered = recover_into(&overlay, &ahead, (id, &unread), now_ms)?;
        overlay.commit()?;
        behind.settle()?;
        Ok(recovered)
    })
}

fn recover_into(
    overlay: &Overlay<'_>,
    file: &dyn DriveFile,
    (id, unread): (LogId, &Unread),
    now_ms: u64,
) -> Result<(Log, Report), RecoverError> {
    let rows = &Rows(overlay);
    let new = || ShardRow {
        incarnation: id.incarnation,
        position: HEAD_LEN,
        ..ShardRow::default()
    };
    let row = match rows.shard(id)? {
        Some(row) => row,
        None => {
            // Rows come with that of their log, but for a log that was being compacted into.
            if rows.blobs(id, None, 1)?.is_empty() {
                overlay.set_alone();
            }
            new()
        }
    };
    let len = file.size()?;
    let scan = Scan {
        file,
        len,
        key: id.key,
        incarnation: Some(id.incarnation),
    };
    let mut recovery = Recovery {
        rows,
        overlay,
        id,
        tail: row.position,
        // The index points only at synced bytes.
        proven: row.position,
        proven_by_records: 0,
        now_ms,
        row,
        report: Report::default(),
        unread,
    };
    // A head that was torn while the log was created is no damage: nothing was acked.
    if len < recovery.row.position && recovery.row.position > HEAD_LEN {
        recovery.row.damaged += 1;
        recovery.report.damaged += 1;
    }
    let open = recovery.walk(&scan)?;
    recovery.finish(&scan, open)
}

struct Recovery<'a> {
    rows: &'a Rows<'a>,
    overlay: &'a Overlay<'a>,
    id: LogId,
    row: ShardRow,
    /// Where the log ends, as far as it was walked.
    tail: u64,
    proven: u64,
    proven_by_records: u64,
    now_ms: u64,
    report: Report,
    unread: &'a Unread,
}

/// Blocks that the device could not give: below what is proven to be synced they are corruption,
/// above it nobody can say what they were.
#[derive(Default)]
struct Unread(Mutex<BTreeMap<u64, String>>);

impl Unread {
    fn note(&self, offset: u64, error: &str) -> bool {
        lock(&self.0).insert(offset, error.to_owned());
        true
    }

    /// What the drive said of those that do not end below an offset.
    fn from(&self, offset: u64) -> Option<String> {
        let unread = lock(&self.0);
        let (_, error) = unread.range((offset / BLOCK * BLOCK)..).next()?;
        Some(error.clone())
    }
}

impl Recovery<'_> {
    /// Walks to the end of the file; returns the stretches that nothing proves to be synced: at
    /// most about one commit group.
    fn walk(&mut self, scan: &Scan<'_>) -> Result<VecDeque<Stretch>, RecoverError> {
        let mut open: VecDeque<Stretch> = VecDeque::new();
        let mut at = self.tail;
        while let Some(stretch) = scan.next(at)? {
            at = match &stretch {
                Stretch::Damage { to, .. } => *to,
                Stretch::Record(found) => {
                    self.proven_by_records = self.proven_by_records.max(found.record.synced);
                    self.proven = self.proven.max(found.record.synced);
                    found.end()
                }
            };
            open.push_back(stretch);
            while let Some(stretch) = open.pop_front_if(|first| first.start() < self.proven) {
                self.keep(stretch)?;
            }
        }
        Ok(open)
    }

    fn keep(&mut self, stretch: Stretch) -> Result<(), RecoverError> {
        match stretch {
            Stretch::Record(found) => {
                let placed = Placed {
                    record: &found.record,
                    offset: found.offset,
                    header_len: found.header_len,
                };
                self.rows.apply_one(&mut self.row, &placed, self.now_ms)?;
                self.tail = found.end();
                self.report.records += 1;
                self.write_some()?;
            }
            Stretch::Damage { to, .. } => {
                self.report.damaged += 1;
                self.row.damaged += 1;
                self.tail = to.next_multiple_of(ALIGN);
            }
        }
        Ok(())
    }

    /// Writes what there is when it is much. Only what is synced is kept, so that any part of it
    /// may go to the index, with the row that says how far it goes.
    fn write_some(&mut self) -> Result<(), RecoverError> {
        let alone = self.overlay.is_alone();
        let most = if alone { ALONE_ROWS } else { BATCH_ROWS };
        if self.overlay.len() >= most {
            self.rows.put_shard(self.id, &self.row)?;
            self.overlay.commit()?;
        } else if alone && self.overlay.unwritten() >= BATCH_ROWS {
            self.rows.put_shard(self.id, &self.row)?;
            self.overlay.write_kept()?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        scan: &Scan<'_>,
        open: VecDeque<Stretch>,
    ) -> Result<(Log, Report), RecoverError> {
        let (mut whole, mut cut) = (Vec::new(), None);
        for stretch in open {
            let torn = match &stretch {
                Stretch::Damage { .. } => true,
                // What was synced has its whole length, padding included.
                Stretch::Record(found) => {
                    found.end() > scan.len || !scan.payload_is_whole(found)?
                }
            };
            if torn {
                cut = Some(stretch.start());
                break;
            }
            whole.push(stretch);
        }
        if let Some(from) = cut {
            // It may be a torn tail, and it may have been acked.
            if let Some(error) = self.unread.from(from) {
                return Err(DriveError::Unreadable(error).into());
            }
            scan.file.set_len(from)?;
            self.report.cut = scan.len.saturating_sub(from);
        }
        if let (Some(first), Some(last)) = (whole.first(), whole.last()) {
            write_again(scan, first.start(), last.end())?;
        }
        // A head that may not be durable would be missed after the next crash, when what comes
        // after it is, and acked.
        let unborn = self.proven <= HEAD_LEN;
        if unborn {
            write_again(scan, 0, HEAD_LEN)?;
        }
        if unborn || cut.is_some() || !whole.is_empty() {
            // They may have been read from the page cache only, when the process died and not the
            // machine: the index may not point at them before this.
            scan.file.sync()?;
        }
        for stretch in whole {
            self.keep(stretch)?;
        }
        let tail = self.tail.max(self.proven);
        if self.report.damaged > 0 {
            self.row.position = tail;
        }
        if self.report.damaged > 0 || self.report.records > 0 || self.row.successor {
            self.row.successor = false;
            self.rows.put_shard(self.id, &self.row)?;
        }
        let log = Log {
            tail,
            sequence: self.row.sequence,
            epoch: self.row.epoch.max(self.row.fence),
            proven: self.proven_by_records,
            exists: true,
            named: true,
            row: self.row,
        };
        Ok((log, self.report))
    }
}

/// Writes what is there once more. After a sync that failed, the page cache holds bytes that the
/// device may not have, and no later sync writes what has not changed since (PROTOCOLS 25).
fn write_again(scan: &Scan<'_>, from: u64, to: u64) -> Result<(), DriveError> {
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).map_or(AGAIN_BYTES, |left| left.min(AGAIN_BYTES));
        let bytes = read_up_to(scan.file, at, len)?;
        if bytes.is_empty() {
            break;
        }
        scan.file.write_at(at, &[IoSlice::new(&bytes)])?;
        at += bytes.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
