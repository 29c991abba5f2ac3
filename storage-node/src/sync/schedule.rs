//! Runs of engines whose schedule follows from a seed, by shuttle.

use std::cell::Cell;
use std::future::Future;
use std::sync::{Mutex, TryLockError};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Where another coroutine may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Points {
    /// Where one waits for another.
    Waits,
    /// Also at every lock and at everything that is done to a drive or an index.
    All,
}

thread_local! {
    /// All coroutines of a run share the thread; none: not under shuttle.
    static POINTS: Cell<Option<Points>> = const { Cell::new(None) };
}

/// Whether this thread runs under shuttle.
pub(super) fn is_chosen() -> bool {
    POINTS.get().is_some()
}

pub(super) fn point() {
    if POINTS.get() == Some(Points::All) {
        shuttle::thread::yield_now();
    }
}

/// Lets others go on until the lock is free: a thread that blocked would block them all.
pub(super) fn before_lock<T>(mutex: &Mutex<T>) {
    if !is_chosen() {
        return;
    }
    point();
    while let Err(TryLockError::WouldBlock) = mutex.try_lock() {
        shuttle::thread::yield_now();
    }
}

pub(super) fn spawn(act: impl FnOnce() + Send + 'static) {
    shuttle::thread::spawn(act);
}

/// Waits for a future, as the calling coroutine.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    shuttle::future::block_on(future)
}

/// Switches shuttle on for this thread while it lives.
struct Chosen(Option<Points>);

impl Chosen {
    fn new(points: Points) -> Self {
        Self(POINTS.replace(Some(points)))
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        POINTS.set(self.0);
    }
}

fn config(prints: bool) -> Config {
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    config.failure_persistence = match prints {
        true => FailurePersistence::Print,
        false => FailurePersistence::None,
    };
    config.max_steps = MaxSteps::FailAfter(5_000_000);
    config.silence_warnings = true;
    config
}

/// Runs once, with coroutines that change places only where they wait.
pub(crate) fn run(seed: u64, act: impl Fn() + Send + Sync + 'static) {
    let _chosen = Chosen::new(Points::Waits);
    Runner::new(RandomScheduler::new_from_seed(seed, 1), config(false)).run(act);
}

/// Explores schedules: half of them at random, half by probabilistic concurrency testing, which
/// finds orders that need few changes of place.
pub(crate) fn explore(seed: u64, runs: usize, act: impl Fn() + Send + Sync + Clone + 'static) {
    let _chosen = Chosen::new(Points::All);
    let random = RandomScheduler::new_from_seed(seed, runs.div_ceil(2));
    Runner::new(random, config(true)).run(act.clone());
    let pct = PctScheduler::new_from_seed(seed, 3, runs / 2);
    Runner::new(pct, config(true)).run(act);
}
