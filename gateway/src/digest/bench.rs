//! What the benchmarks of digests share: `enfilade bench digest` and `benches/digest.rs`.

use std::hint::black_box;

use super::kernel::{BLOCK, Kernel, Lane, Words};

/// Bodies that are hashed side by side.
pub const BODIES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Bytes of each body that is hashed again and again: with 32 of them, what a second-level cache
/// holds.
pub const BODY: usize = 32 << 10;

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
