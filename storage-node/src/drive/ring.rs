//! Reads that complete by themselves: io_uring, one ring a process, whose completions wake the
//! tasks that wait for them. No thread waits for the device, and a read changes threads once, as
//! one of a thread that blocks does.
//!
//! The caller submits. A task of the runtime that reads first watches the ring; when that runtime
//! ends, one of another takes over. Where the system has no io_uring, or forbids it, there is no
//! ring, and callers read on threads that may block.
//!
//! What the kernel writes to belongs to the ring until it is done: a caller that goes away leaves
//! its buffer, its file and its hold (room in memory, a turn at the drive) there.

use std::any::Any;
use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use io_uring::{IoUring, Probe, opcode, types};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::buffer::Buffer;

/// Reads in flight, in the whole process; more go to threads that may block.
const READS_MAX: u32 = 512;

/// After so many runtimes without I/O of their own there is no ring.
const UNWATCHABLE_MAX: u32 = 8;

/// Something that is to live as long as a read does, whoever waits for it.
pub type Hold = Arc<dyn Any + Send + Sync>;

static RING: LazyLock<Option<Ring>> = LazyLock::new(Ring::new);

struct Ring {
    uring: IoUring,
    table: Mutex<Table>,
    /// Whether a task watches it.
    watched: AtomicBool,
    /// How often in a row a runtime could not watch it.
    unwatchable: AtomicU32,
}

/// The reads that were submitted, by the number that the kernel knows them by. Whoever touches the
/// queues of the ring holds its lock.
#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

enum Slot {
    Free,
    /// The kernel has it.
    Flying {
        buffer: Buffer,
        _file: Arc<File>,
        _hold: Hold,
        waker: Option<Waker>,
        /// Whether somebody still waits.
        wanted: bool,
    },
    /// The kernel is done.
    Landed {
        buffer: Buffer,
        result: i32,
    },
}

/// What came of a read.
pub(super) enum Outcome {
    /// All that was asked for.
    Read(Bytes),
    /// The file does not take reads like this one.
    Refused,
    /// It failed, or ended early: to be read again where a thread may wait, to find out why.
    Failed,
}

impl Ring {
    fn new() -> Option<Self> {
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(2 * READS_MAX)
            .build(READS_MAX);
        let usable = |uring: &IoUring| {
            let mut probe = Probe::new();
            uring.submitter().register_probe(&mut probe).is_ok()
                && probe.is_supported(opcode::Read::CODE)
                && uring.params().is_feature_nodrop()
                && uring.params().is_feature_native_workers()
        };
        match ring {
            Ok(uring) if usable(&uring) => Some(Self {
                uring,
                table: Mutex::default(),
                watched: AtomicBool::new(false),
                unwatchable: AtomicU32::new(0),
            }),
            Ok(_) => {
                tracing::info!("io_uring is too old here: threads read");
                None
            }
            Err(error) => {
                tracing::info!(%error, "no io_uring: threads read");
                None
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a read of `len` bytes into a new buffer; none when there are too many.
    fn begin(&self, file: &Arc<File>, (offset, len): (u64, usize), hold: &Hold) -> Option<usize> {
        let count = u32::try_from(len).ok()?;
        let mut buffer = Buffer::take(len);
        let address = buffer.address();
        let mut table = self.table();
        let key = table.free.pop().or_else(|| {
            let key = table.slots.len();
            (key < READS_MAX as usize).then(|| {
                table.slots.push(Slot::Free);
                key
            })
        })?;
        let fd = types::Fd(file.as_raw_fd());
        let entry = opcode::Read::new(fd, address.as_ptr(), count)
            .offset(offset)
            .build()
            .user_data(key as u64);
        // SAFETY: the buffer has `len` bytes or more, and stands in the table, which is never
        // dropped, with the open file, until the kernel completes the entry: only `drain` takes it
        // out. The lock is held, so nobody else touches the submission queue.
        #[expect(unsafe_code, reason = "the kernel writes to the buffer")]
        let pushed = unsafe { self.uring.submission_shared().push(&entry) };
        if pushed.is_err() {
            table.free.push(key);
            return None;
        }
        table.slots[key] = Slot::Flying {
            buffer,
            _file: Arc::clone(file),
            _hold: Arc::clone(hold),
            waker: None,
            wanted: true,
        };
        Some(key)
    }

    /// Hands what was begun to the kernel.
    fn submit(&self) -> bool {
        loop {
            match self.uring.submitter().submit() {
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Takes what the kernel completed, and wakes who waits for it.
    fn drain(&self) {
        let mut done: Vec<(Option<Waker>, Slot)> = Vec::new();
        let mut table = self.table();
        // SAFETY: the lock is held, so nobody else touches the completion queue.
        #[expect(unsafe_code, reason = "the queue is shared under a lock")]
        let completions = unsafe { self.uring.completion_shared() };
        for completion in completions {
            let key = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            let Some(place) = table.slots.get_mut(key) else {
                continue;
            };
            match std::mem::replace(place, Slot::Free) {
                Slot::Flying {
                    buffer,
                    _file,
                    _hold,
                    waker,
                    wanted: true,
                } => {
                    let result = completion.result();
                    *place = Slot::Landed { buffer, result };
                    done.push((waker, Slot::Free));
                }
                slot => {
                    table.free.push(key);
                    done.push((None, slot));
                }
            }
        }
        drop(table);
        // Out of the lock: what is let go of may wake others.
        for waker in done.into_iter().filter_map(|(waker, _)| waker) {
            waker.wake();
        }
    }

    /// Has a task of the caller's runtime watch the ring, unless one does already; whether one
    /// does.
    fn watch(&'static self) -> bool {
        if self.watched.load(Ordering::Acquire) {
            return true;
        }
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        // One without threads of its own may stand still as long as it likes.
        let works = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
        if !works || self.unwatchable.load(Ordering::Relaxed) >= UNWATCHABLE_MAX {
            return false;
        }
        if self.watched.swap(true, Ordering::AcqRel) {
            return true;
        }
        let watching = Watching(self);
        runtime.spawn(async move {
            // All of it: what ends with the task is told by its end.
            let watching = watching;
            let ring = watching.0;
            ring.unwatchable.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the ring, and its descriptor, are never closed.
            #[expect(unsafe_code, reason = "a descriptor that is only borrowed")]
            let fd =
                unsafe { AsyncFd::register_with_interest(Descriptor(ring), Interest::READABLE) };
            let Ok(fd) = fd else { return };
            ring.unwatchable.store(0, Ordering::Relaxed);
            while let Ok(mut ready) = fd.readable().await {
                // First: what completes while the queue is emptied makes it ready again.
                ready.clear_ready();
                ring.drain();
            }
        });
        true
    }
}

/// The ring as something that becomes readable when a read is complete.
struct Descriptor(&'static Ring);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.uring.as_raw_fd()
    }
}

/// Held by the task that watches the ring.
struct Watching(&'static Ring);

impl Drop for Watching {
    /// The runtime ends: whoever waits in another one has it watch the ring.
    fn drop(&mut self) {
        self.0.watched.store(false, Ordering::Release);
        let mut waiting = Vec::new();
        for slot in &mut self.0.table().slots {
            if let Slot::Flying { waker, .. } = slot {
                waiting.extend(waker.take());
            }
        }
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A read that was submitted.
pub(super) struct Reading {
    ring: &'static Ring,
    key: Option<usize>,
    part: Range<usize>,
}

/// Begins to read `len` bytes of a file, of which a part is wanted; none where that cannot be done.
pub(super) fn read(
    file: &Arc<File>,
    (offset, len): (u64, usize),
    part: Range<usize>,
    hold: &Hold,
) -> Option<Reading> {
    let ring = RING.as_ref()?;
    if !ring.watch() {
        return None;
    }
    let key = ring.begin(file, (offset, len), hold)?;
    let reading = Reading {
        ring,
        key: Some(key),
        part,
    };
    if !ring.submit() {
        // The system is short of memory for a moment. The entry stays in the queue.
        let again = async move {
            while !ring.submit() {
                tokio::task::yield_now().await;
            }
        };
        Handle::try_current().ok()?.spawn(again);
    }
    Some(reading)
}

impl Reading {
    fn outcome(&self, buffer: Buffer, result: i32) -> Outcome {
        match usize::try_from(result) {
            Ok(read) if read >= self.part.end => buffer
                .share(self.part.clone())
                .map_or(Outcome::Failed, Outcome::Read),
            Err(_) if result == -libc::EINVAL => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }
}

impl Future for Reading {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(key) = self.key else {
            return Poll::Ready(Outcome::Failed);
        };
        let ring = self.ring;
        let mut table = ring.table();
        match &mut table.slots[key] {
            Slot::Flying { waker, .. } => {
                match waker {
                    Some(known) if known.will_wake(context.waker()) => {}
                    waker => *waker = Some(context.waker().clone()),
                }
                drop(table);
                // After the waker is there: the task that watches may just have ended.
                if ring.watch() {
                    return Poll::Pending;
                }
                Poll::Ready(Outcome::Failed)
            }
            slot => {
                let landed = std::mem::replace(slot, Slot::Free);
                table.free.push(key);
                drop(table);
                self.key = None;
                Poll::Ready(match landed {
                    Slot::Landed { buffer, result } => self.outcome(buffer, result),
                    _ => Outcome::Failed,
                })
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let Some(key) = self.key else {
            return;
        };
        let mut table = self.ring.table();
        match &mut table.slots[key] {
            Slot::Flying { wanted, waker, .. } => {
                *wanted = false;
                *waker = None;
            }
            slot => {
                let landed = std::mem::replace(slot, Slot::Free);
                table.free.push(key);
                drop(table);
                drop(landed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
