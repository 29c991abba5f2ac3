//! How the runs of a blob change: split, replaced, never overlapping.

use enfilade_cluster::api::encoding;
use enfilade_placement::BlobId;

use super::{BlobRow, Freed, LogId, Rows, RunRow};
use crate::api::Owner;
use crate::engine::index::{Batch, IndexError};
use crate::engine::record::Run;

/// One batch in the making.
pub(super) struct Edit<'a> {
    rows: &'a Rows<'a>,
    log: LogId,
    pub(super) batch: Batch,
    /// Ranges of the log that are no longer needed.
    pub(super) freed: Vec<Freed>,
    /// Bytes of headers that are no longer needed.
    pub(super) waste: u64,
}

impl<'a> Edit<'a> {
    pub(super) fn new(rows: &'a Rows<'a>, log: LogId) -> Self {
        Self {
            rows,
            log,
            batch: Batch::default(),
            freed: Vec::new(),
            waste: 0,
        }
    }

    /// Enters a run, over whatever there was of its stripes.
    pub(super) fn insert(
        &mut self,
        blob: BlobId,
        first: u32,
        run: &RunRow,
    ) -> Result<(), IndexError> {
        let last = first.saturating_add(run.count().saturating_sub(1));
        self.remove(blob, &[(first, last)])?;
        let key = self.log.stripe_row(b'r', blob, first);
        self.batch.put(key, encoding::encode(run));
        Ok(())
    }

    /// Takes stripes out, and what is known to be corrupt of them.
    pub(super) fn remove(&mut self, blob: BlobId, gone: &[Run]) -> Result<(), IndexError> {
        let Some(first) = gone.iter().map(|(first, _)| *first).min() else {
            return Ok(());
        };
        let last = gone.iter().map(|(_, last)| *last).max().unwrap_or(first);
        let old = self.rows.runs(self.log, blob, (first, last))?;
        if old.is_empty() {
            // Only what is here can be corrupt.
            return Ok(());
        }
        let mut left = old.clone();
        for run in gone {
            let (kept, freed): (Vec<_>, Vec<_>) = left
                .iter()
                .map(|(start, row)| cut(*start, row, *run))
                .unzip();
            left = kept.into_iter().flatten().collect();
            self.freed.extend(freed.into_iter().flatten());
            for stripe in self.rows.bad(self.log, blob, *run)? {
                self.batch.delete(self.log.stripe_row(b'b', blob, stripe));
            }
        }
        let had: u64 = old.iter().map(|(_, row)| u64::from(row.header_len)).sum();
        let has: u64 = left.iter().map(|(_, row)| u64::from(row.header_len)).sum();
        self.waste += had - has;
        for (start, _) in old {
            self.batch.delete(self.log.stripe_row(b'r', blob, start));
        }
        for (start, row) in left {
            self.batch.put(
                self.log.stripe_row(b'r', blob, start),
                encoding::encode(&row),
            );
        }
        Ok(())
    }

    /// Enters the fragments that are here, of these stripes, as corrupt.
    pub(super) fn spoil(&mut self, blob: BlobId, (first, last): Run) -> Result<(), IndexError> {
        for (start, run) in self.rows.runs(self.log, blob, (first, last))? {
            let end = start.saturating_add(run.count() - 1).min(last);
            for stripe in first.max(start)..=end {
                self.batch
                    .put(self.log.stripe_row(b'b', blob, stripe), Vec::new());
            }
        }
        Ok(())
    }

    /// Keeps what an append tells of its blob.
    pub(super) fn note(
        &mut self,
        blob: BlobId,
        owner: Option<&Owner>,
        now_ms: u64,
        marks: &[BlobId],
    ) -> Result<(), IndexError> {
        let old = self.rows.blob(self.log, blob)?;
        let mut row = old.clone().unwrap_or(BlobRow {
            seen_ms: now_ms,
            ..BlobRow::default()
        });
        row.owner = row.owner.or_else(|| owner.cloned());
        row.committed |= marks.contains(&blob);
        if old.as_ref() != Some(&row) {
            self.batch
                .put(self.log.blob_row(b'm', blob), encoding::encode(&row));
        }
        Ok(())
    }

    /// Marks blobs as committed, those that are here.
    pub(super) fn mark<'b>(
        &mut self,
        marks: impl Iterator<Item = &'b BlobId>,
    ) -> Result<(), IndexError> {
        for blob in marks {
            if let Some(row) = self
                .rows
                .blob(self.log, *blob)?
                .filter(|row| !row.committed)
            {
                let row = BlobRow {
                    committed: true,
                    ..row
                };
                self.batch
                    .put(self.log.blob_row(b'm', *blob), encoding::encode(&row));
            }
        }
        Ok(())
    }
}

/// A run without some stripes: the parts that stay, with their first stripe, and the range of the
/// log that goes.
pub(super) fn cut(
    start: u32,
    run: &RunRow,
    (first, last): Run,
) -> (Vec<(u32, RunRow)>, Option<Freed>) {
    let count = run.count();
    let end = u64::from(start) + u64::from(count);
    if u64::from(first) >= end || last < start {
        return (vec![(start, run.clone())], None);
    }
    let from = first.max(start) - start;
    let to = (u64::from(last) + 1).min(end) - u64::from(start);
    let to = u32::try_from(to).unwrap_or(count);
    let freed = run.part(from, to - from);
    let before = run.part(0, from).map(|part| (start, part));
    let mut after = run.part(to, count - to).map(|part| (start + to, part));
    if let (Some(_), Some((_, after))) = (&before, &mut after) {
        // The header goes with the first part.
        after.header_len = 0;
    }
    let freed = freed.map(|gone| Freed {
        offset: gone.payload,
        len: gone.bytes(),
    });
    (before.into_iter().chain(after).collect(), freed)
}
