//! Storage in memory: the twin of [`super::rocks::Rocks`] for tests and simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use enfilade_placement::PartitionId;

use super::store::{
    Done, ExportBegin, LogStore, LogWrite, RowRange, RowSink, RowSource, StateStore, WithRows,
};
use crate::rows::{MemoryRows, RowWrite, Rows};

/// Logs and rows in memory. Every write is done at once; dropping it loses all.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    logs: BTreeMap<(PartitionId, u64), Bytes>,
    votes: BTreeMap<PartitionId, Bytes>,
    purged: BTreeMap<PartitionId, Bytes>,
    positions: BTreeMap<PartitionId, Bytes>,
    young: BTreeSet<PartitionId>,
    rows: MemoryRows,
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes all rows of some ranges.
    fn clear(&mut self, ranges: &[RowRange]) -> io::Result<()> {
        let mut writes = Vec::new();
        for range in ranges {
            let table = range
                .table()
                .ok_or_else(|| io::Error::other("no known table"))?;
            let to = range.to.as_deref();
            let scanned = self.rows.scan(table, &range.from, to, &mut |key, _| {
                writes.push(RowWrite {
                    table,
                    key: key.to_vec(),
                    value: None,
                });
                ControlFlow::Continue(())
            });
            scanned.map_err(io::Error::other)?;
        }
        self.rows.commit(writes);
        Ok(())
    }
}

impl LogStore for MemoryStore {
    fn submit(&self, group: PartitionId, write: LogWrite, done: Done) {
        {
            let mut state = self.state();
            match write {
                LogWrite::Append(entries) => {
                    let entries = entries.into_iter().map(|(index, e)| ((group, index), e));
                    state.logs.extend(entries);
                }
                LogWrite::Truncate(from) => {
                    state
                        .logs
                        .retain(|(of, index), _| *of != group || *index < from);
                }
                LogWrite::Purge(before, purged) => {
                    state
                        .logs
                        .retain(|(of, index), _| *of != group || *index >= before);
                    state.purged.insert(group, purged);
                }
                LogWrite::Vote(vote) => {
                    state.votes.insert(group, vote);
                }
            }
        }
        done(Ok(()));
    }

    fn entries(
        &self,
        group: PartitionId,
        range: Range<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        if range.is_empty() {
            return Ok(entries);
        }
        for ((_, index), entry) in self
            .state()
            .logs
            .range((group, range.start)..(group, range.end))
        {
            if bytes >= bytes_max {
                break;
            }
            bytes = bytes.saturating_add(entry.len());
            entries.push((*index, entry.clone()));
        }
        Ok(entries)
    }

    fn last(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        let all = (
            Bound::Included((group, 0)),
            Bound::Included((group, u64::MAX)),
        );
        Ok(self
            .state()
            .logs
            .range(all)
            .next_back()
            .map(|(_, entry)| entry.clone()))
    }

    fn purged(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        Ok(self.state().purged.get(&group).cloned())
    }

    fn vote(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        Ok(self.state().votes.get(&group).cloned())
    }
}

impl StateStore for MemoryStore {
    fn read(&self, act: &mut WithRows<'_>) -> io::Result<()> {
        act(&self.state().rows)
    }

    fn position(&self, group: PartitionId) -> io::Result<Option<Bytes>> {
        Ok(self.state().positions.get(&group).cloned())
    }

    fn groups(&self) -> io::Result<Vec<PartitionId>> {
        Ok(self.state().positions.keys().copied().collect())
    }

    fn is_young(&self, group: PartitionId) -> io::Result<bool> {
        Ok(self.state().young.contains(&group))
    }

    fn set_young(&self, group: PartitionId, young: bool) -> io::Result<()> {
        let mut state = self.state();
        match young {
            true => state.young.insert(group),
            false => state.young.remove(&group),
        };
        Ok(())
    }

    fn commit(&self, group: PartitionId, writes: Vec<RowWrite>, position: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.rows.commit(writes);
        state
            .positions
            .insert(group, Bytes::copy_from_slice(position));
        Ok(())
    }

    fn export(
        &self,
        group: PartitionId,
        chunk: usize,
        begin: &mut ExportBegin<'_>,
        sink: &mut RowSink<'_>,
    ) -> io::Result<()> {
        let (rows, position) = {
            let state = self.state();
            (state.rows.clone(), state.positions.get(&group).cloned())
        };
        for (index, range) in begin(&rows, position)?.iter().enumerate() {
            let table = range
                .table()
                .ok_or_else(|| io::Error::other("no known table"))?;
            let (mut part, mut bytes, mut flow) = (Vec::new(), 0, ControlFlow::Continue(()));
            let scanned = rows.scan(
                table,
                &range.from,
                range.to.as_deref(),
                &mut |key, value| {
                    bytes += key.len() + value.len();
                    part.push((key.to_vec(), value.to_vec()));
                    if bytes >= chunk {
                        bytes = 0;
                        flow = sink(index, std::mem::take(&mut part));
                    }
                    flow
                },
            );
            scanned.map_err(io::Error::other)?;
            if flow.is_break() || (!part.is_empty() && sink(index, part).is_break()) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn import(
        &self,
        group: PartitionId,
        ranges: &[RowRange],
        source: &mut RowSource<'_>,
        position: &[u8],
    ) -> io::Result<()> {
        self.state().clear(ranges)?;
        while let Some(writes) = source()? {
            self.state().rows.commit(writes);
        }
        self.state()
            .positions
            .insert(group, Bytes::copy_from_slice(position));
        Ok(())
    }

    fn forget(&self, group: PartitionId, ranges: &[RowRange]) -> io::Result<()> {
        let mut state = self.state();
        state.clear(ranges)?;
        state.logs.retain(|(of, _), _| *of != group);
        state.purged.remove(&group);
        state.positions.remove(&group);
        Ok(())
    }
}
