//! AVX2 without GFNI: the products of nibbles are looked up by shuffles, one chunk at a time.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_load_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi64,
    _mm256_xor_si256,
};

use super::Work;
use super::avx2_gfni::{load, store};
use crate::erasure::field;
use crate::erasure::kernel::{CHUNK_BYTES, Nibbles};

/// Fills at most 4 outputs.
#[target_feature(enable = "avx2")]
pub(super) fn multiply(tables: &[Nibbles], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    match outputs.len() {
        1 => rows::<1>(tables, work, outputs),
        2 => rows::<2>(tables, work, outputs),
        3 => rows::<3>(tables, work, outputs),
        count => {
            assert_eq!(count, 4, "more rows than registers");
            rows::<4>(tables, work, outputs);
        }
    }
}

#[target_feature(enable = "avx2")]
fn rows<const N: usize>(tables: &[Nibbles], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    let twist = Nibbles::new(&field::twist());
    let (tables, _) = tables.as_chunks::<N>();
    for at in work.span.clone().step_by(CHUNK_BYTES) {
        let mut lows = [_mm256_setzero_si256(); N];
        let mut highs = [_mm256_setzero_si256(); N];
        for (source, factors) in work.sources.iter().zip(tables) {
            let (low, high) = load(source, at);
            let high = split(high);
            let low = split(_mm256_xor_si256(low, look_up(high, table(&twist))));
            for row in 0..N {
                let factor = table(&factors[row]);
                lows[row] = _mm256_xor_si256(lows[row], look_up(low, factor));
                highs[row] = _mm256_xor_si256(highs[row], look_up(high, factor));
            }
        }
        for (row, output) in outputs.iter_mut().enumerate().take(N) {
            let twisted = look_up(split(highs[row]), table(&twist));
            let low = _mm256_xor_si256(lows[row], twisted);
            store(output, at, low, highs[row], work.mode);
        }
    }
}

/// The low and the high nibbles of 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn split(bytes: __m256i) -> (__m256i, __m256i) {
    let mask = _mm256_set1_epi8(0x0F);
    (
        _mm256_and_si256(bytes, mask),
        _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), mask),
    )
}

/// The images of 32 bytes, given their nibbles and the tables of both.
#[target_feature(enable = "avx2")]
#[inline]
fn look_up(nibbles: (__m256i, __m256i), tables: (__m256i, __m256i)) -> __m256i {
    _mm256_xor_si256(
        _mm256_shuffle_epi8(tables.0, nibbles.0),
        _mm256_shuffle_epi8(tables.1, nibbles.1),
    )
}

/// Both tables of a factor, each twice: a shuffle looks up 16 bytes at a time.
#[target_feature(enable = "avx2")]
#[inline]
#[expect(unsafe_code, reason = "vectors are loaded through pointers")]
fn table(nibbles: &Nibbles) -> (__m256i, __m256i) {
    let from: *const __m128i = nibbles.0.as_ptr().cast();
    // SAFETY: `Nibbles` has 32 bytes, at an address that is a multiple of 32.
    let (low, high) = unsafe { (_mm_load_si128(from), _mm_load_si128(from.add(1))) };
    (
        _mm256_broadcastsi128_si256(low),
        _mm256_broadcastsi128_si256(high),
    )
}
