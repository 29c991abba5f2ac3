//! How fast this CPU computes digests: GB/s of one core, by the CPU time of one thread.

use std::hint::black_box;

use enfilade_cluster::api::record::ChecksumAlgorithm;

use super::Sha;
use super::crc::Crc;
use super::kernel::{BLOCK, Kernel, Lane, START, Words};

/// Bodies that are hashed side by side.
pub const BODIES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Bytes of each body that is hashed again and again: with 32 of them, what a second-level cache
/// holds.
const BODY: usize = 32 << 10;

/// CPU time of one measurement, in seconds; the best of [`ROUNDS`] counts.
const TIME: f64 = 0.08;
const ROUNDS: usize = 5;

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// What is computed, and by what: `md5 avx512`.
    pub what: String,
    /// Bytes a second and core, all bodies together, for each of [`BODIES`]; as many as it has for
    /// digests that know no lanes: one.
    pub bytes_per_second: Vec<f64>,
}

/// Measures every digest, and MD5 by every kernel that this CPU runs. Takes about 15 seconds.
pub fn run() -> Vec<Rate> {
    let data = noise(BODIES[BODIES.len() - 1] * BODY);
    let mut rates: Vec<Rate> = Kernel::available()
        .into_iter()
        .map(|kernel| Rate {
            what: format!("md5 {}", kernel.name()),
            bytes_per_second: BODIES.map(|bodies| md5_rate(kernel, bodies, &data)).into(),
        })
        .collect();
    let body = &data[..4 * BODY];
    for (what, crc) in [
        ("crc64nvme", Crc::Crc64Nvme),
        ("crc32c", Crc::Crc32c),
        ("crc32", Crc::Crc32),
    ] {
        let rate = rate(body.len(), || {
            black_box(crc.of_bytes(black_box(body)));
        });
        rates.push(Rate {
            what: what.to_owned(),
            bytes_per_second: vec![rate],
        });
    }
    for (what, algorithm) in [
        ("sha256", ChecksumAlgorithm::Sha256),
        ("sha1", ChecksumAlgorithm::Sha1),
    ] {
        let rate = rate(body.len(), || {
            if let Some(mut sha) = Sha::of(algorithm) {
                sha.update(black_box(body));
                black_box(sha.finish());
            }
        });
        rates.push(Rate {
            what: what.to_owned(),
            bytes_per_second: vec![rate],
        });
    }
    rates
}

/// Bytes a second and core of MD5 over so many bodies at once.
pub fn md5_rate(kernel: Kernel, bodies: usize, data: &[u8]) -> f64 {
    let mut states = vec![START; bodies];
    rate(bodies * BODY, || hash(kernel, &mut states, data))
}

/// Hashes the next blocks of every body: what is measured.
pub fn hash(kernel: Kernel, states: &mut [Words], data: &[u8]) {
    let mut lanes: Vec<Lane<'_>> = states
        .iter_mut()
        .zip(data.chunks_exact(BODY))
        .map(|(words, body)| Lane {
            words,
            blocks: body.as_chunks::<BLOCK>().0,
        })
        .collect();
    for lanes in lanes.chunks_mut(kernel.lanes()) {
        kernel.compress(black_box(lanes));
    }
}

/// Bytes that look like noise.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}

/// The best of several measurements: other load only ever makes it worse.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut best = 0_f64;
    for _ in 0..ROUNDS {
        let began = thread_seconds();
        let (mut done, mut spent) = (0, 0.0);
        while spent < TIME {
            for _ in 0..(8 << 20) / bytes + 1 {
                work();
                done += bytes;
            }
            spent = thread_seconds() - began;
        }
        best = best.max(done as f64 / spent);
    }
    best
}

/// CPU time of this thread, in seconds (Linux; elsewhere the time of day).
fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match stat
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse::<u64>().ok())
    {
        Some(nanos) => nanos as f64 / 1e9,
        None => std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0.0, |time| time.as_secs_f64()),
    }
}
