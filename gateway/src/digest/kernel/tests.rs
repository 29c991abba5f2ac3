//! Every kernel that this CPU runs, against the md-5 crate.

use md5::{Digest as _, Md5 as Reference};
use proptest::prelude::*;

use super::*;
use crate::digest::md5::Md5;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}

fn reference(bytes: &[u8]) -> [u8; 16] {
    Reference::digest(bytes).into()
}

#[test]
fn a_stream_alone_has_the_digest_of_the_reference_at_every_length() {
    for len in (0..300).chain([4095, 4096, 4097]) {
        let bytes = noise(len, 1);
        for cut in [0, 1, 55, 56, 63, 64, 65, 128] {
            let (first, second) = bytes.split_at(cut.min(len));
            let mut md5 = Md5::default();
            md5.update(first);
            md5.update(second);
            assert_eq!(md5.finish(), reference(&bytes), "{cut} of {len}");
        }
    }
}

#[test]
fn every_kernel_fills_any_number_of_lanes_at_any_alignment() {
    for kernel in Kernel::available() {
        for count in 1..=kernel.lanes() {
            let blocks = [0, 1, 2, 33][count % 4];
            let buffers: Vec<Vec<u8>> = (0..count)
                .map(|lane| noise(blocks * BLOCK + lane, lane as u64))
                .collect();
            let mut streams = vec![Md5::default(); count];
            let mut lanes: Vec<Lane<'_>> = streams
                .iter_mut()
                .zip(&buffers)
                .enumerate()
                .map(|(lane, (stream, buffer))| stream.lane(buffer[lane..].as_chunks().0))
                .collect();
            kernel.compress(&mut lanes);
            for (lane, (mut stream, buffer)) in streams.into_iter().zip(&buffers).enumerate() {
                stream.advance(blocks);
                let what = (kernel.name(), count, lane);
                assert_eq!(stream.finish(), reference(&buffer[lane..]), "{what:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "lane.blocks.len() == count")]
fn lanes_of_unequal_length_are_refused() {
    let (mut one, mut two) = (START, START);
    let blocks = [[0; BLOCK]; 2];
    Kernel::best().compress(&mut [
        Lane {
            words: &mut one,
            blocks: &blocks,
        },
        Lane {
            words: &mut two,
            blocks: &blocks[..1],
        },
    ]);
}

proptest! {
    /// States go in and out of lanes of every kernel in any order, with other neighbours each time.
    #[test]
    fn streams_may_change_kernels_and_neighbours(
        lens in prop::collection::vec(0usize..40, 1..=8),
        turns in prop::collection::vec((any::<prop::sample::Index>(), 1usize..20), 0..12),
    ) {
        let kernels = Kernel::available();
        let bodies: Vec<Vec<u8>> = lens
            .iter()
            .enumerate()
            .map(|(at, blocks)| noise(blocks * BLOCK + at * 9 % 64, at as u64))
            .collect();
        let mut streams = vec![(Md5::default(), 0); bodies.len()];
        for (kernel, count) in turns {
            let left = |at: usize, done: usize| (bodies[at].len() - done) / BLOCK;
            let going: Vec<usize> =
                (0..bodies.len()).filter(|at| left(*at, streams[*at].1) > 0).collect();
            let shortest = going.iter().map(|at| left(*at, streams[*at].1)).min();
            let count = count.min(shortest.unwrap_or(0));
            let mut lanes: Vec<Lane<'_>> = streams
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| going.contains(at))
                .map(|(at, (md5, done))| md5.lane(&bodies[at][*done..].as_chunks().0[..count]))
                .collect();
            let kernel = kernels[kernel.index(kernels.len())];
            for lanes in lanes.chunks_mut(kernel.lanes()) {
                kernel.compress(lanes);
            }
            for at in going {
                streams[at].0.advance(count);
                streams[at].1 += count * BLOCK;
            }
        }
        for ((mut md5, done), body) in streams.into_iter().zip(&bodies) {
            md5.update(&body[done..]);
            prop_assert_eq!(md5.finish(), reference(body));
        }
    }
}
