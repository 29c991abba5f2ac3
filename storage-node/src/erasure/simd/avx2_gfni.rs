//! AVX2 with GFNI: one chunk at a time, one register of its low and one of its high bytes.

use std::arch::x86_64::{
    __m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::Work;
use crate::erasure::field;
use crate::erasure::kernel::{CHUNK_BYTES, Mode, bit_matrix};

/// Fills at most 4 outputs.
#[target_feature(enable = "avx2,gfni")]
pub(super) fn multiply(tables: &[u64], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
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

#[target_feature(enable = "avx2,gfni")]
fn rows<const N: usize>(tables: &[u64], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    let twist = _mm256_set1_epi64x(bit_matrix(&field::twist()).cast_signed());
    let (tables, _) = tables.as_chunks::<N>();
    for at in work.span.clone().step_by(CHUNK_BYTES) {
        let mut lows = [_mm256_setzero_si256(); N];
        let mut highs = [_mm256_setzero_si256(); N];
        for (source, factors) in work.sources.iter().zip(tables) {
            let (low, high) = load(source, at);
            let low = _mm256_xor_si256(low, _mm256_gf2p8affine_epi64_epi8::<0>(high, twist));
            for row in 0..N {
                let factor = _mm256_set1_epi64x(factors[row].cast_signed());
                let product = _mm256_gf2p8affine_epi64_epi8::<0>(low, factor);
                lows[row] = _mm256_xor_si256(lows[row], product);
                let product = _mm256_gf2p8affine_epi64_epi8::<0>(high, factor);
                highs[row] = _mm256_xor_si256(highs[row], product);
            }
        }
        for (row, output) in outputs.iter_mut().enumerate().take(N) {
            let twisted = _mm256_gf2p8affine_epi64_epi8::<0>(highs[row], twist);
            let low = _mm256_xor_si256(lows[row], twisted);
            store(output, at, low, highs[row], work.mode);
        }
    }
}

/// The low and the high bytes of a chunk.
#[target_feature(enable = "avx2")]
#[inline]
#[expect(unsafe_code, reason = "vectors are loaded through pointers")]
pub(super) fn load(source: &[u8], at: usize) -> (__m256i, __m256i) {
    debug_assert!(at + CHUNK_BYTES <= source.len());
    // SAFETY: Work::check asserted that every source has the span, in which there is a whole chunk
    // at `at`. The loads take any alignment.
    unsafe {
        let from = source.as_ptr().add(at);
        (
            _mm256_loadu_si256(from.cast()),
            _mm256_loadu_si256(from.add(CHUNK_BYTES / 2).cast()),
        )
    }
}

/// Puts the low and the high bytes of a chunk in their places.
#[target_feature(enable = "avx2")]
#[inline]
#[expect(unsafe_code, reason = "vectors are stored through pointers")]
pub(super) fn store(output: &mut [u8], at: usize, mut low: __m256i, mut high: __m256i, mode: Mode) {
    debug_assert!(at + CHUNK_BYTES <= output.len());
    // SAFETY: Work::check asserted that every output has the span, in which there is a whole chunk
    // at `at`. Loads and stores take any alignment.
    unsafe {
        let to_low = output.as_mut_ptr().add(at);
        let to_high = to_low.add(CHUNK_BYTES / 2);
        if mode == Mode::Add {
            low = _mm256_xor_si256(low, _mm256_loadu_si256(to_low.cast()));
            high = _mm256_xor_si256(high, _mm256_loadu_si256(to_high.cast()));
        }
        _mm256_storeu_si256(to_low.cast(), low);
        _mm256_storeu_si256(to_high.cast(), high);
    }
}
