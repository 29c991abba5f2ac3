//! Locks, threads and waiting as the engine uses them: the seam at which tests choose the schedule.
//!
//! Outside tests these are the plain ones of std and tokio. In a test that runs under shuttle, all
//! threads of an engine are coroutines of one thread, and every lock, wait and access to a drive is
//! a place where another one may go on: a run follows from its seed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use tokio::sync::mpsc;

#[cfg(test)]
pub(crate) mod schedule;

/// Takes a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    schedule::before_lock(mutex);
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place where another thread may go on, in tests that choose the schedule.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn point() {
    #[cfg(test)]
    schedule::point();
}

/// Starts a thread that ends by itself.
///
/// # Errors
/// When the system has no more of them.
pub(crate) fn spawn(name: String, act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[cfg(test)]
    if schedule::is_chosen() {
        schedule::spawn(act);
        return Ok(());
    }
    thread::Builder::new().name(name).spawn(act)?;
    Ok(())
}

/// Waits for a message, on a thread that may block; none when there will be no more.
pub(crate) fn receive<T>(queue: &mut mpsc::Receiver<T>) -> Option<T> {
    #[cfg(test)]
    if schedule::is_chosen() {
        return schedule::wait(queue.recv());
    }
    queue.blocking_recv()
}

/// Does what blocks on a thread that may; none when it did not come to an end.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    #[cfg(test)]
    if schedule::is_chosen() {
        schedule::point();
        return Some(act());
    }
    tokio::task::spawn_blocking(act).await.ok()
}
