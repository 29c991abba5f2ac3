//! The kernel of plain code. It also does the last bytes of fragments for all other kernels.

use std::ops::Range;

use super::field::{self, ByteMap};
use super::kernel::{CHUNK_BYTES, Mode};

/// Bytes of a chunk of one kind, low or high.
const HALF: usize = CHUNK_BYTES / 2;

/// Rows whose sums are kept at the same time.
const ROWS: usize = 4;

type Half = [u8; HALF];

/// Fills `outputs` with the products of `span` of the sources. `factors` has, for each source, one
/// factor for each output. A chunk that the span cuts off counts as padded with zeros.
pub(super) fn multiply(
    factors: &[u8],
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
    span: Range<usize>,
    mode: Mode,
) {
    let products = field::products();
    let twist = field::twist();
    let count = outputs.len();
    assert!(count <= ROWS);
    for start in span.clone().step_by(CHUNK_BYTES) {
        let range = start..span.end.min(start + CHUNK_BYTES);
        let (mut lows, mut highs) = ([[0; HALF]; ROWS], [[0; HALF]; ROWS]);
        for (source, factors) in sources.iter().zip(factors.chunks_exact(count)) {
            let (mut low, high) = load(&source[range.clone()]);
            add_image(&mut low, &high, &twist);
            for (row, &factor) in factors.iter().enumerate() {
                let map = &products[usize::from(factor)];
                add_image(&mut lows[row], &low, map);
                add_image(&mut highs[row], &high, map);
            }
        }
        for (output, (low, high)) in outputs.iter_mut().zip(lows.iter_mut().zip(&highs)) {
            add_image(low, high, &twist);
            store(&mut output[range.clone()], low, high, mode);
        }
    }
}

fn load(bytes: &[u8]) -> (Half, Half) {
    let (mut low, mut high) = ([0; HALF], [0; HALF]);
    let (from_low, from_high) = bytes.split_at(bytes.len().min(HALF));
    low[..from_low.len()].copy_from_slice(from_low);
    high[..from_high.len()].copy_from_slice(from_high);
    (low, high)
}

/// What would be stored past the end is zero, as the sources are there.
fn store(bytes: &mut [u8], low: &Half, high: &Half, mode: Mode) {
    for (byte, value) in bytes.iter_mut().zip(low.iter().chain(high)) {
        *byte = match mode {
            Mode::Set => *value,
            Mode::Add => *byte ^ value,
        };
    }
}

/// `sum += map(source)`, for all bytes at once: a bit's image where the bit is set.
#[inline]
fn add_image(sum: &mut Half, source: &Half, map: &ByteMap) {
    for (bit, &image) in map.iter().enumerate() {
        for (sum, byte) in sum.iter_mut().zip(source) {
            *sum ^= (byte >> bit & 1).wrapping_neg() & image;
        }
    }
}
