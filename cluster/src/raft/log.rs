//! The log of one group, as openraft uses it: a cache of recent entries over a [`LogStore`].

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use enfilade_placement::PartitionId;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::store::{LogStore, LogWrite};
use super::types::{Entry, LogId, TypeConfig, Vote};
use super::young::Reached;
use crate::api::encoding::{decode, encode};

/// The log of one group. Clones share it.
#[derive(Clone)]
pub(super) struct GroupLog(Arc<Shared>);

struct Shared {
    group: PartitionId,
    store: Arc<dyn LogStore>,
    cache_bytes: usize,
    /// Bytes appended since the last purge, for the decision to purge.
    grown: AtomicU64,
    state: Mutex<State>,
}

/// What is known without asking the store.
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The entries with the highest indices, without gaps.
    recent: VecDeque<Recent>,
    bytes: usize,
    /// The store can read entries up to this index; later ones must stay in `recent`.
    stored: Option<u64>,
}

struct Recent {
    entry: Entry,
    bytes: usize,
}

impl GroupLog {
    /// The log of a group, as the store holds it.
    ///
    /// # Errors
    /// When the store fails, or holds what cannot be decoded.
    pub(super) fn open(
        group: PartitionId,
        store: Arc<dyn LogStore>,
        cache_bytes: usize,
    ) -> io::Result<Self> {
        let vote = store.vote(group)?.map(|vote| decode(&vote)).transpose();
        let purged = store
            .purged(group)?
            .map(|purged| decode::<LogId>(&purged))
            .transpose();
        let (vote, purged) = (
            vote.map_err(io::Error::other)?,
            purged.map_err(io::Error::other)?,
        );
        let last = store
            .last(group)?
            .map(|last| decode::<Entry>(&last))
            .transpose();
        let last = last.map_err(io::Error::other)?.map(|entry| entry.log_id());
        let last = last.max(purged);
        let state = State {
            vote,
            purged,
            last,
            recent: VecDeque::new(),
            bytes: 0,
            stored: last.map(|last| last.index),
        };
        let grown = AtomicU64::new(0);
        let state = Mutex::new(state);
        Ok(Self(Arc::new(Shared {
            group,
            store,
            cache_bytes,
            grown,
            state,
        })))
    }

    /// Whether this replica has ever voted or followed a leader in this group.
    pub(super) fn has_voted(&self) -> bool {
        self.state().vote.is_some()
    }

    /// How far the log is, and how far it is durable.
    pub(super) fn reached(&self) -> Reached {
        let state = self.state();
        let (last, stored) = (state.last, state.stored);
        Reached { last, stored }
    }

    /// Removes all entries, once all that was submitted before is done.
    pub(super) async fn clear(&self) -> io::Result<()> {
        self.write(LogWrite::Truncate(0)).await
    }

    /// Bytes appended since this was last called with `reset`.
    pub(super) fn grown(&self, reset: bool) -> u64 {
        if reset {
            self.0.grown.swap(0, Ordering::Relaxed)
        } else {
            self.0.grown.load(Ordering::Relaxed)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a write and waits until it is durable.
    async fn write(&self, write: LogWrite) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        self.0.store.submit(self.0.group, write, done);
        receiver
            .await
            .map_err(|_| io::Error::other("the log writer has stopped"))?
    }

    /// Entries of a range; those that the cache has lost come from the store.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (cached, cached_from) = self.state().cached(from, to);
        let to = cached_from.unwrap_or(to).min(to);
        if from >= to {
            return Ok(cached);
        }
        let stored = self.0.store.entries(self.0.group, from..to, bytes_max)?;
        let complete = stored.last().is_some_and(|(index, _)| index + 1 == to);
        let mut entries = Vec::with_capacity(stored.len() + cached.len());
        for (_, bytes) in stored {
            entries.push(decode::<Entry>(&bytes).map_err(io::Error::other)?);
        }
        if complete || entries.is_empty() {
            entries.extend(cached);
        }
        Ok(entries)
    }
}

impl State {
    /// The cached entries of a range, and the first index that the cache holds.
    fn cached(&self, from: u64, to: u64) -> (Vec<Entry>, Option<u64>) {
        let Some(first) = self.recent.front().map(|recent| recent.entry.index()) else {
            return (Vec::new(), None);
        };
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let wanted = self
            .recent
            .iter()
            .skip(skip)
            .take_while(|r| r.entry.index() < to);
        (
            wanted.map(|recent| recent.entry.clone()).collect(),
            Some(first),
        )
    }

    fn push(&mut self, entry: Entry, bytes: usize) {
        self.last = Some(entry.log_id());
        self.bytes += bytes;
        self.recent.push_back(Recent { entry, bytes });
    }

    /// Drops old entries that the store can read, until the cache is within its budget.
    fn evict(&mut self, budget: usize) {
        while self.bytes > budget {
            let old = self
                .recent
                .pop_front_if(|r| Some(r.entry.index()) <= self.stored);
            let Some(old) = old else { return };
            self.bytes -= old.bytes;
        }
    }

    /// Drops entries before (`front`) or from (`!front`) an index.
    fn drop_entries(&mut self, index: u64, front: bool) {
        let keep = |recent: &Recent| (recent.entry.index() < index) != front;
        let bytes: usize = self
            .recent
            .iter()
            .filter(|r| !keep(r))
            .map(|r| r.bytes)
            .sum();
        self.recent.retain(keep);
        self.bytes -= bytes;
    }
}

fn index_range(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = index_range(&range);
        self.read(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.state().vote)
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.state();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.write(LogWrite::Vote(Bytes::from(encode(vote))))
            .await?;
        self.state().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        let mut grown = 0;
        {
            let mut state = self.state();
            for entry in entries {
                let bytes = Bytes::from(encode(&entry));
                grown += bytes.len();
                encoded.push((entry.index(), bytes.clone()));
                state.push(entry, bytes.len());
            }
        }
        self.0.grown.fetch_add(grown as u64, Ordering::Relaxed);
        let last = encoded.last().map(|(index, _)| *index);
        let shared = Arc::clone(&self.0);
        let done = Box::new(move |result: io::Result<()>| {
            if result.is_ok() {
                let log = Self(shared);
                let mut state = log.state();
                state.stored = state.stored.max(last);
                state.evict(log.0.cache_bytes);
            }
            callback.io_completed(result);
        });
        self.0
            .store
            .submit(self.0.group, LogWrite::Append(encoded), done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        {
            let mut state = self.state();
            state.drop_entries(from, false);
            state.last = state.last.min(last);
        }
        self.write(LogWrite::Truncate(from)).await?;
        // All appends before are done by now: none can raise this again.
        let mut state = self.state();
        state.stored = state.stored.min(last.map(|last| last.index));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let before = upto.index + 1;
        {
            let mut state = self.state();
            state.drop_entries(before, true);
            state.purged = Some(upto);
            state.last = state.last.max(Some(upto));
        }
        self.write(LogWrite::Purge(before, Bytes::from(encode(&upto))))
            .await?;
        let mut state = self.state();
        state.stored = state.stored.max(Some(upto.index));
        Ok(())
    }
}

/// The bytes that an entry's command takes, for bounds on messages.
pub(super) fn command_len(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.bytes.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}
