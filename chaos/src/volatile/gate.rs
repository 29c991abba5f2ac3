//! The door of the file system: open, held shut, or gone.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Requests wait.
    Frozen,
    /// Requests fail.
    Gone,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    inside: usize,
}

/// Lets requests in, and stops all of them in one moment.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// A request at work.
pub(super) struct Pass<'a>(&'a Gate);

impl Gate {
    /// Lets a request in; `None` when the power is gone.
    pub(super) fn enter(&self) -> Option<Pass<'_>> {
        let mut state = self.lock();
        while state.phase == Phase::Frozen {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.phase == Phase::Gone {
            return None;
        }
        state.inside += 1;
        Some(Pass(self))
    }

    /// Holds back every request that is not at work yet, and waits for those that are.
    pub(super) fn freeze(&self) {
        let mut state = self.lock();
        state.phase = Phase::Frozen;
        while state.inside > 0 {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fails all that wait and all that come.
    pub(super) fn close(&self) {
        self.lock().phase = Phase::Gone;
        self.changed.notify_all();
    }

    pub(super) fn open(&self) {
        self.lock().phase = Phase::Open;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.changed.notify_all();
    }
}
