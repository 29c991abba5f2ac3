//! Which operation a writer does next, from its seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::keys;

/// The least size of a part of a multipart upload but the last, as in S3.
const PART_BYTES: usize = 5 << 20;

/// No write is shorter, so that its bytes tell it from all others.
const SHORTEST_BYTES: usize = 24;

/// One operation, not yet numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Put { key: String, length: usize },
    Multipart { key: String, lengths: Vec<usize> },
    Create { key: String, length: usize },
    Delete { key: String },
    Get { key: String },
    List { prefix: String },
}

/// How much of what a load does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Decides every choice and every byte of the run.
    pub(crate) seed: u64,
    /// The load's number within the run: the same clients, but other choices.
    pub(crate) round: u32,
    pub(crate) writers: u32,
    /// Keys that each writer has for itself.
    pub(crate) keys: usize,
    /// Keys that all writers overwrite, and as many that they create and delete.
    pub(crate) shared: usize,
    /// Bytes of the largest object but those by multipart, which are larger.
    pub(crate) largest: usize,
    /// How long a writer rests after each operation.
    pub(crate) pause: Duration,
}

/// The endless series of one writer's operations.
#[derive(Debug)]
pub(crate) struct Steps {
    writer: u32,
    plan: Plan,
    rng: StdRng,
    /// Own keys that were written so far: the first ones.
    written: usize,
}

impl Steps {
    pub(crate) fn new(plan: Plan, writer: u32) -> Steps {
        let client = u64::from(plan.round) << 32 | u64::from(writer);
        let seed = plan.seed.wrapping_mul(1_000_003) ^ client;
        Steps {
            writer,
            plan,
            rng: StdRng::seed_from_u64(seed),
            written: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Step {
        let shared = self.rng.random_range(0..self.plan.shared.max(1));
        let (shared, once) = (keys::shared(shared), keys::once(shared));
        match self.rng.random_range(0..100) {
            0..45 => self.put_own(),
            45..59 => Step::Put {
                key: shared,
                length: self.short(),
            },
            59..64 => Step::Create {
                key: once,
                length: self.short(),
            },
            64..70 => Step::Delete { key: self.known() },
            70..72 => Step::Delete { key: shared },
            72..75 => Step::Delete { key: once },
            75..87 => Step::Get { key: self.known() },
            87..95 => Step::Get { key: shared },
            95..98 => Step::Get { key: once },
            98 => Step::List {
                prefix: keys::prefix(self.writer),
            },
            _ => Step::List {
                prefix: "shared/".to_owned(),
            },
        }
    }

    /// The one write of a key that is kept.
    pub(crate) fn keep(&mut self, index: usize) -> Step {
        self.put(keys::kept(index))
    }

    /// New keys first, then overwrites.
    fn put_own(&mut self) -> Step {
        let key = if self.written < self.plan.keys && self.rng.random_bool(0.8) {
            self.written += 1;
            keys::own(self.writer, self.written - 1)
        } else {
            self.known()
        };
        self.put(key)
    }

    fn put(&mut self, key: String) -> Step {
        if self.rng.random_range(0..100) == 0 {
            let tail = self.rng.random_range(1..3 << 20);
            let lengths = vec![PART_BYTES, PART_BYTES, tail];
            return Step::Multipart { key, lengths };
        }
        let length = self.length();
        Step::Put { key, length }
    }

    fn known(&mut self) -> String {
        let index = self.rng.random_range(0..self.written.max(1));
        keys::own(self.writer, index)
    }

    /// Sizes of every path through the product: inline, shortened code, stripes, runs of stripes.
    fn length(&mut self) -> usize {
        let length = match self.rng.random_range(0..100) {
            0..45 => self.rng.random_range(SHORTEST_BYTES..=16 << 10),
            45..68 => self.rng.random_range(16 << 10..=64 << 10),
            68..70 => self.edge(),
            70..95 => self.rng.random_range(64 << 10..=1 << 20),
            _ => self.rng.random_range(1 << 20..=8 << 20),
        };
        length.min(self.plan.largest).max(SHORTEST_BYTES)
    }

    /// Just below, at and above the sizes where the path changes.
    fn edge(&mut self) -> usize {
        let edges = [16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
        edges[self.rng.random_range(0..edges.len())] + self.rng.random_range(0..3) - 1
    }

    fn short(&mut self) -> usize {
        let length = match self.rng.random_range(0..10) {
            0..7 => self.rng.random_range(SHORTEST_BYTES..=16 << 10),
            7..9 => self.rng.random_range(16 << 10..=64 << 10),
            _ => self.rng.random_range(64 << 10..=512 << 10),
        };
        length.min(self.plan.largest).max(SHORTEST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            seed: 7,
            round: 1,
            writers: 2,
            keys: 50,
            shared: 4,
            largest: 8 << 20,
            pause: Duration::ZERO,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_steps_and_each_writer_its_own() {
        let (mut a, mut b) = (Steps::new(plan(), 1), Steps::new(plan(), 1));
        let mut other = Steps::new(plan(), 2);
        let first: Vec<Step> = (0..100).map(|_| a.next()).collect();
        assert_eq!(first, (0..100).map(|_| b.next()).collect::<Vec<_>>());
        assert_ne!(first, (0..100).map(|_| other.next()).collect::<Vec<_>>());
    }

    #[test]
    fn every_kind_of_step_comes_and_no_write_is_too_short_or_too_long() {
        let mut steps = Steps::new(plan(), 0);
        let mut kinds = [0usize; 6];
        for _ in 0..5000 {
            let (kind, length) = match steps.next() {
                Step::Put { length, .. } => (0, length),
                Step::Multipart { lengths, .. } => {
                    assert!(lengths[0] == PART_BYTES && lengths.len() == 3);
                    (1, lengths[2].max(SHORTEST_BYTES))
                }
                Step::Create { length, .. } => (2, length),
                Step::Delete { .. } => (3, SHORTEST_BYTES),
                Step::Get { .. } => (4, SHORTEST_BYTES),
                Step::List { .. } => (5, SHORTEST_BYTES),
            };
            kinds[kind] += 1;
            assert!((SHORTEST_BYTES..=8 << 20).contains(&length));
        }
        assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
    }
}
