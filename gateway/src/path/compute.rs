//! Work on bytes, away from the threads that serve requests: at most as much at once as there are
//! cores, so that a thousand bodies do not become a thousand threads.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Runs jobs of one kind on threads of the runtime that may block.
#[derive(Clone)]
pub(super) struct Compute {
    slots: Arc<Semaphore>,
}

impl Compute {
    /// As many jobs at once as there are cores.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            slots: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Begins a job as soon as a core is free. A job runs to its end, even if nobody waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let output = job();
            drop(slot);
            output
        })
    }
}
