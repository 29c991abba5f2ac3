//! The MD5 lanes of this process: a few threads hash the pieces of all bodies side by side.
//!
//! Bodies post pieces, each body in order and a few at a time. A thread takes the next piece of as
//! many bodies as it has lanes, runs them for a bounded time, and puts the bodies to the end of the
//! queue; so none waits for more than its turn, and a body that is dropped is out at the next turn.
//!
//! Lanes that are empty cost as much as full ones. So a thread begins when a row of lanes is full
//! or every body that is open has a piece there; it does not wait when a body needs it (its pieces
//! begin to pile up, or somebody waits for its end), and never longer than [`LINGER`]. A lone body
//! is hashed at once, on a core of its own.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::kernel::{BLOCK, Kernel, Lane};
use super::md5::Md5;

/// Pieces that a body may have posted before it waits.
const PIECES_MAX: usize = 4;

/// Pieces from which on a body is not let wait for others: so it need not wait for the lanes.
const PIECES_URGENT: usize = 2;

/// The longest that pieces wait for company.
const LINGER: Duration = Duration::from_millis(2);

/// Blocks of one turn: about 60 us.
const TURN_BLOCKS: usize = 512;

/// Keeps something alive as long as a piece is.
pub type Held = Option<Arc<dyn Send + Sync>>;

/// The lanes: threads that hash, and the bodies they hash.
pub struct Lanes {
    shared: Arc<Shared>,
}

/// A body that is hashed; dropped, it is forgotten.
pub struct Md5Stream {
    shared: Arc<Shared>,
    id: u64,
    changed: Arc<Notify>,
}

/// The service ended, or failed on this body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the digest of the body was lost")]
pub struct Lost;

/// How many bytes were hashed, and by how much work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Blocks that a whole row of lanes was run for, however many of them were taken.
    pub row_blocks: u64,
}

/// Compresses the lanes: [`Kernel::compress`], but in tests.
type Compress = Box<dyn Fn(&mut [Lane<'_>]) + Send + Sync>;

struct Shared {
    kernel: Kernel,
    compress: Compress,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    bodies: HashMap<u64, Body>,
    next: u64,
    /// Bodies with pieces that no thread has, in the order of their turns.
    ready: VecDeque<u64>,
    /// Bodies that a thread has.
    taken: usize,
    /// Bodies that should not wait for others.
    urgent: usize,
    counts: LaneCounts,
    closed: bool,
}

struct Body {
    /// None while a thread has it.
    md5: Option<Md5>,
    pieces: VecDeque<Piece>,
    changed: Arc<Notify>,
    /// Whether somebody waits for its end.
    awaited: bool,
    /// Whether it is counted in [`State::urgent`].
    urgent: bool,
    lost: bool,
}

#[derive(Clone)]
struct Piece {
    bytes: Bytes,
    /// How much of it is hashed.
    at: usize,
    #[expect(dead_code, reason = "dropped with the piece")]
    held: Held,
}

/// A body in the hands of a thread.
struct Job {
    id: u64,
    md5: Md5,
    piece: Piece,
    lost: bool,
}

impl Lanes {
    /// The lanes of this process, with the fastest kernel of this CPU.
    pub fn shared() -> &'static Self {
        static LANES: OnceLock<Lanes> = OnceLock::new();
        LANES.get_or_init(|| {
            let kernel = Kernel::best();
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            // A thread with vector lanes keeps up with what eight cores can take in.
            let threads = match kernel {
                Kernel::Single => cores,
                Kernel::Avx2 | Kernel::Avx512 => cores.div_ceil(8),
            };
            tracing::info!(kernel = kernel.name(), threads, "MD5 lanes");
            Self::new(kernel, threads)
        })
    }

    /// Lanes of their own, with so many threads, which end when this is dropped.
    pub fn new(kernel: Kernel, threads: usize) -> Self {
        let compress = move |lanes: &mut [Lane<'_>]| kernel.compress(lanes);
        Self::with(kernel, Box::new(compress), threads)
    }

    fn with(kernel: Kernel, compress: Compress, threads: usize) -> Self {
        let shared = Arc::new(Shared {
            kernel,
            compress,
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let mut started = 0;
        for number in 0..threads.max(1) {
            let thread = std::thread::Builder::new().name(format!("md5-{number}"));
            let of_thread = Arc::clone(&shared);
            match thread.spawn(move || of_thread.serve()) {
                Ok(_) => started += 1,
                Err(error) => tracing::error!(%error, "a thread for MD5 cannot be started"),
            }
        }
        // Without a thread every body is told so, rather than left waiting.
        shared.lock().closed = started == 0;
        Self { shared }
    }

    /// A body of which `md5` has taken in the beginning, if any.
    pub fn open(&self, md5: Md5) -> Md5Stream {
        let changed = Arc::new(Notify::new());
        let mut state = self.shared.lock();
        let id = state.next;
        state.next += 1;
        let body = Body {
            md5: Some(md5),
            pieces: VecDeque::new(),
            changed: Arc::clone(&changed),
            awaited: false,
            urgent: false,
            lost: false,
        };
        state.bodies.insert(id, body);
        let shared = Arc::clone(&self.shared);
        Md5Stream {
            shared,
            id,
            changed,
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> LaneCounts {
        self.shared.lock().counts
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Md5Stream {
    /// Posts the next bytes; `held` lives until they are hashed. Waits while too many wait.
    ///
    /// # Errors
    /// When the digest cannot be had any more.
    pub async fn push(&mut self, bytes: Bytes, held: Held) -> Result<(), Lost> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.wait_for(false, |body| body.pieces.len() < PIECES_MAX)
            .await?;
        let mut state = self.shared.lock();
        let begins = state.ready.is_empty();
        let body = state.bodies.get_mut(&self.id).ok_or(Lost)?;
        let idle = body.md5.is_some() && body.pieces.is_empty();
        body.pieces.push_back(Piece { bytes, at: 0, held });
        if idle {
            state.ready.push_back(self.id);
        }
        state.weigh(self.id);
        // The first of them is waited for with a limit.
        let wake = begins || state.is_due(self.shared.kernel);
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits until all bytes are hashed, and nothing of them is held any more.
    ///
    /// # Errors
    /// When the digest cannot be had any more.
    pub async fn settle(&mut self) -> Result<(), Lost> {
        self.wait_for(true, |body| body.pieces.is_empty() && body.md5.is_some())
            .await
    }

    /// MD5 of all bytes.
    ///
    /// # Errors
    /// When the digest cannot be had any more.
    pub async fn finish(mut self) -> Result<[u8; 16], Lost> {
        self.settle().await?;
        let md5 = self
            .shared
            .lock()
            .bodies
            .get_mut(&self.id)
            .map(|body| body.md5.take());
        Ok(md5.flatten().ok_or(Lost)?.finish())
    }

    /// Waits until the body is as wanted.
    async fn wait_for(&mut self, urgent: bool, wanted: impl Fn(&Body) -> bool) -> Result<(), Lost> {
        loop {
            {
                let mut state = self.shared.lock();
                let closed = state.closed;
                let body = state.bodies.get_mut(&self.id).ok_or(Lost)?;
                if body.lost || closed {
                    return Err(Lost);
                }
                let done = wanted(body);
                body.awaited = urgent && !done;
                state.weigh(self.id);
                if done {
                    return Ok(());
                }
                if state.is_due(self.shared.kernel) {
                    self.shared.work.notify_one();
                }
            }
            self.changed.notified().await;
        }
    }
}

impl Drop for Md5Stream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let body = state.bodies.remove(&self.id);
        if body.as_ref().is_some_and(|body| body.urgent) {
            state.urgent -= 1;
        }
        let id = self.id;
        state.ready.retain(|ready| *ready != id);
        drop(state);
        // Its pieces go here, outside the lock.
        drop(body);
    }
}

impl State {
    /// Counts a body as urgent, or not.
    fn weigh(&mut self, id: u64) {
        let Some(body) = self.bodies.get_mut(&id) else {
            return;
        };
        let urgent = body.awaited && !body.pieces.is_empty() || body.pieces.len() >= PIECES_URGENT;
        match (std::mem::replace(&mut body.urgent, urgent), urgent) {
            (false, true) => self.urgent += 1,
            (true, false) => self.urgent -= 1,
            _ => {}
        }
    }

    /// Whether a thread should begin now.
    fn is_due(&self, kernel: Kernel) -> bool {
        let ready = self.ready.len();
        if ready == 0 || kernel == Kernel::Single || ready >= kernel.row() {
            return ready > 0;
        }
        // Another thread makes a row fuller sooner than a second, half empty row does.
        let others = self.bodies.len().saturating_sub(self.taken);
        self.taken == 0 && (self.urgent > 0 || ready >= others)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if so all the same, counts may be wrong, digests not.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for body in state.bodies.values() {
            body.changed.notify_one();
        }
        self.work.notify_all();
    }

    /// Hashes until the lanes are closed.
    fn serve(&self) {
        let mut jobs: Vec<Job> = Vec::with_capacity(self.kernel.lanes());
        let mut done: Vec<Piece> = Vec::new();
        while self.take(&mut jobs) {
            let row_blocks = self.run(&mut jobs);
            self.give_back(&mut jobs, &mut done, row_blocks);
            // Leases that end wake others: outside the lock.
            done.clear();
        }
    }

    /// Waits for bodies that are due, and takes the next pieces of some; false when closed.
    fn take(&self, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        let mut lingered = false;
        while !state.is_due(self.kernel) {
            // Of several threads, one at a time makes do with an incomplete row.
            if lingered && !state.ready.is_empty() && state.taken == 0 {
                break;
            }
            if state.closed {
                return false;
            }
            (state, lingered) = if state.ready.is_empty() || state.taken > 0 {
                let woken = self.work.wait(state);
                (woken.unwrap_or_else(PoisonError::into_inner), false)
            } else {
                let woken = self.work.wait_timeout(state, LINGER);
                let (state, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
                (state, timeout.timed_out())
            };
        }
        while jobs.len() < self.kernel.lanes()
            && let Some(id) = state.ready.pop_front()
        {
            let Some(body) = state.bodies.get_mut(&id) else {
                continue;
            };
            if let (Some(md5), Some(piece)) = (body.md5.take(), body.pieces.front_mut()) {
                let piece = piece.clone();
                jobs.push(Job {
                    id,
                    md5,
                    piece,
                    lost: false,
                });
            }
        }
        state.taken += jobs.len();
        // There may be enough for another thread.
        if state.is_due(self.kernel) {
            self.work.notify_one();
        }
        true
    }

    /// Hashes a turn of each job. Returns the blocks that a row of lanes was run for.
    fn run(&self, jobs: &mut [Job]) -> u64 {
        let mut count = TURN_BLOCKS;
        for job in jobs.iter_mut() {
            let (all, at) = (job.piece.bytes.len(), job.piece.at);
            let rest = job.md5.fill_tail(&job.piece.bytes[at..]).len();
            job.piece.at = all - rest;
            if rest > 0 {
                count = count.min(rest / BLOCK);
            }
        }
        let mut going: Vec<&mut Job> = jobs.iter_mut().filter(|job| job.left() > 0).collect();
        if going.is_empty() {
            return 0;
        }
        let before: Vec<Md5> = going.iter().map(|job| job.md5.clone()).collect();
        let together = catch_unwind(AssertUnwindSafe(|| self.compress(&mut going, count)));
        if together.is_err() {
            // One by one from where they were: only the one that fails is lost.
            for (job, before) in going.iter_mut().zip(before) {
                job.md5 = before;
                let alone = || self.compress(std::slice::from_mut(job), count);
                let failed = catch_unwind(AssertUnwindSafe(alone)).is_err();
                job.lost = failed;
            }
        }
        let rows = going.len().div_ceil(self.kernel.row());
        for job in going {
            job.md5.advance(count);
            job.piece.at += count * BLOCK;
            // What is less than a block.
            let rest = job.md5.fill_tail(if job.left() < BLOCK {
                &job.piece.bytes[job.piece.at..]
            } else {
                &[]
            });
            if job.left() < BLOCK {
                debug_assert!(rest.is_empty());
                job.piece.at = job.piece.bytes.len();
            }
        }
        (rows * count) as u64
    }

    fn compress(&self, jobs: &mut [&mut Job], count: usize) {
        let mut lanes: Vec<Lane<'_>> = jobs
            .iter_mut()
            .map(|job| {
                let Job { md5, piece, .. } = &mut **job;
                let blocks = &piece.bytes[piece.at..piece.at + count * BLOCK];
                md5.lane(blocks.as_chunks().0)
            })
            .collect();
        (self.compress)(&mut lanes);
    }

    /// Puts bodies back, those with more pieces at the end of the queue.
    fn give_back(&self, jobs: &mut Vec<Job>, done: &mut Vec<Piece>, row_blocks: u64) {
        let mut state = self.lock();
        state.taken -= jobs.len();
        state.counts.row_blocks += row_blocks;
        for job in jobs.drain(..) {
            let at = job.piece.at;
            done.push(job.piece);
            let State {
                bodies,
                ready,
                counts,
                ..
            } = &mut *state;
            let Some(body) = bodies.get_mut(&job.id) else {
                continue;
            };
            body.md5 = Some(job.md5);
            body.lost |= job.lost;
            let whole = done.len();
            if body.lost {
                done.extend(body.pieces.drain(..));
            } else if let Some(first) = body.pieces.front_mut() {
                counts.bytes += (at - first.at) as u64;
                first.at = at;
                if at == first.bytes.len() {
                    done.extend(body.pieces.pop_front());
                }
            }
            if done.len() > whole {
                body.changed.notify_one();
            }
            if !body.pieces.is_empty() {
                ready.push_back(job.id);
            }
            state.weigh(job.id);
        }
    }
}

impl Job {
    fn left(&self) -> usize {
        self.piece.bytes.len() - self.piece.at
    }
}

#[cfg(test)]
mod tests;
