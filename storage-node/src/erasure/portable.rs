//! The kernel of plain code. It also does the last bytes of fragments for all other kernels.

use std::ops::Range;

use super::field::{self, ByteMap};
use super::kernel::{CHUNK_BYTES, Mode};

/// Bytes of a chunk of one kind, low or high.
const HALF: usize = CHUNK_BYTES / 2;

/// Eight bytes at a time.
const WORDS: usize = HALF / size_of::<u64>();

/// The low or the high bytes of a chunk.
type Half = [u64; WORDS];

/// The lowest bit of every byte of a word.
const LOWEST_BITS: u64 = 0x0101_0101_0101_0101;

/// Fills at most 8 outputs with the products of `span` of the sources. `factors` has, for each
/// source, one factor for each output. A chunk that the span cuts off counts as padded with zeros.
pub(super) fn multiply(
    factors: &[u8],
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
    span: Range<usize>,
    mode: Mode,
) {
    match outputs.len() {
        1 => rows::<1>(factors, sources, outputs, span, mode),
        2 => rows::<2>(factors, sources, outputs, span, mode),
        3 => rows::<3>(factors, sources, outputs, span, mode),
        4 => rows::<4>(factors, sources, outputs, span, mode),
        5 => rows::<5>(factors, sources, outputs, span, mode),
        6 => rows::<6>(factors, sources, outputs, span, mode),
        7 => rows::<7>(factors, sources, outputs, span, mode),
        count => {
            assert_eq!(count, 8, "the rows of a group");
            rows::<8>(factors, sources, outputs, span, mode);
        }
    }
}

fn rows<const N: usize>(
    factors: &[u8],
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
    span: Range<usize>,
    mode: Mode,
) {
    let products = field::products();
    let twist = field::twist();
    let (factors, _) = factors.as_chunks::<N>();
    for start in span.clone().step_by(CHUNK_BYTES) {
        let range = start..span.end.min(start + CHUNK_BYTES);
        let (mut lows, mut highs) = ([[0; WORDS]; N], [[0; WORDS]; N]);
        for (source, factors) in sources.iter().zip(factors) {
            let maps = factors.map(|factor| &products[usize::from(factor)]);
            let (mut low, high) = load(&source[range.clone()]);
            add_images([&mut low], &high, [&twist]);
            add_images(lows.each_mut(), &low, maps);
            add_images(highs.each_mut(), &high, maps);
        }
        for (output, (low, high)) in outputs.iter_mut().zip(lows.iter_mut().zip(&highs)) {
            add_images([low], high, [&twist]);
            store(&mut output[range.clone()], low, high, mode);
        }
    }
}

/// Adds the image of `source` under each map to the sum of that map: a bit's image where the bit is
/// set, for all bytes at once.
#[inline]
fn add_images<const N: usize>(mut sums: [&mut Half; N], source: &Half, maps: [&ByteMap; N]) {
    for bit in 0..8 {
        let set = source.map(|word| word >> bit & LOWEST_BITS);
        let masks = set.map(|set| (set << 8).wrapping_sub(set));
        for (sum, map) in sums.iter_mut().zip(maps) {
            let image = u64::from(map[bit]).wrapping_mul(LOWEST_BITS);
            for (sum, mask) in sum.iter_mut().zip(masks) {
                *sum ^= mask & image;
            }
        }
    }
}

fn load(bytes: &[u8]) -> (Half, Half) {
    let mut padded = [0; CHUNK_BYTES];
    padded[..bytes.len()].copy_from_slice(bytes);
    let (words, _) = padded.as_chunks();
    let half = |from: usize| std::array::from_fn(|word| u64::from_le_bytes(words[from + word]));
    (half(0), half(WORDS))
}

/// What would be stored past the end is zero, as the sources are there.
fn store(bytes: &mut [u8], low: &Half, high: &Half, mode: Mode) {
    let mut values = [0; CHUNK_BYTES];
    let words = values.chunks_exact_mut(size_of::<u64>());
    for (bytes, word) in words.zip(low.iter().chain(high)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    match mode {
        Mode::Set => bytes.copy_from_slice(&values[..bytes.len()]),
        Mode::Add => bytes
            .iter_mut()
            .zip(values)
            .for_each(|(byte, value)| *byte ^= value),
    }
}
