//! Random operations with faults against a reference model (after the method of AWS ShardStore,
//! SOSP 2021).
//!
//! The reference (`reference`) knows of everything that an engine can be asked what the answer may
//! be: one thing after an ack, several after a fault, until the engine has answered once. Sequences
//! (`ops`) follow from a seed, the schedule of the engine's threads and the faults of its drive
//! (`run`) as well: `ENFILADE_SEED=N` runs one again, see docs/testing.md.

mod ops;
mod reference;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::*;
use crate::sync::schedule;

/// Sequences of one run of the test.
fn sequences() -> u64 {
    match std::env::var_os("ENFILADE_SOAK") {
        Some(_) => 500_000,
        None => 10_000,
    }
}

/// Runs the sequence of a seed; if it fails, makes it shorter and says how to run it again.
fn try_seed(seed: u64) -> Result<(), String> {
    let bytes: Vec<u8> = (0..4u64)
        .flat_map(|part| (seed ^ (part << 56)).to_le_bytes())
        .collect();
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    let sequence = ops::sequence()
        .new_tree(&mut runner)
        .map_err(|reason| reason.to_string())?;
    // Most need nothing of what shrinking needs.
    let ran = runner.run_one(sequence, |sequence| {
        let sequence = Arc::new(sequence);
        schedule::run(seed, move || {
            let sequence = Arc::clone(&sequence);
            schedule::wait(run::run(sequence));
        });
        Ok(())
    });
    match ran {
        Ok(_) => Ok(()),
        Err(TestError::Fail(reason, least)) => Err(format!(
            "seed {seed}: {reason}\nthe shortest sequence that fails: {least:#?}\nto run it again: \
             ENFILADE_SEED={seed} cargo test --release -p enfilade-storage-node --lib \
             the_engine_does_what_its_model_does"
        )),
        Err(TestError::Abort(reason)) => Err(format!("seed {seed}: {reason}")),
    }
}

#[test]
fn the_engine_does_what_its_model_does() {
    if let Some(seed) = std::env::var("ENFILADE_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
    {
        return try_seed(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    let next = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let work = || {
        while lock(&failure).is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= sequences() {
                break;
            }
            if let Err(failed) = try_seed(seed) {
                lock(&failure).get_or_insert(failed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    if let Some(failure) = lock(&failure).take() {
        panic!("{failure}");
    }
}
