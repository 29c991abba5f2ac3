//! AVX-512 with GFNI: two chunks at a time, one register of their low and one of their high bytes.

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_xor_si512,
};

use super::Work;
use crate::erasure::field;
use crate::erasure::kernel::{CHUNK_BYTES, Mode, bit_matrix};

/// Bytes of a fragment in one step.
const STEP: usize = 2 * CHUNK_BYTES;

/// Fills at most 8 outputs.
#[target_feature(enable = "avx512f,gfni")]
pub(super) fn multiply(tables: &[u64], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    match outputs.len() {
        1 => rows::<1>(tables, work, outputs),
        2 => rows::<2>(tables, work, outputs),
        3 => rows::<3>(tables, work, outputs),
        4 => rows::<4>(tables, work, outputs),
        5 => rows::<5>(tables, work, outputs),
        6 => rows::<6>(tables, work, outputs),
        7 => rows::<7>(tables, work, outputs),
        count => {
            assert_eq!(count, 8, "more rows than registers");
            rows::<8>(tables, work, outputs);
        }
    }
}

#[target_feature(enable = "avx512f,gfni")]
fn rows<const N: usize>(tables: &[u64], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    let twist = _mm512_set1_epi64(bit_matrix(&field::twist()).cast_signed());
    let (tables, _) = tables.as_chunks::<N>();
    for at in work.span.clone().step_by(STEP) {
        let mut lows = [_mm512_setzero_si512(); N];
        let mut highs = [_mm512_setzero_si512(); N];
        for (source, factors) in work.sources.iter().zip(tables) {
            let (low, high) = load(source, at);
            let low = _mm512_xor_si512(low, _mm512_gf2p8affine_epi64_epi8::<0>(high, twist));
            for row in 0..N {
                let factor = _mm512_set1_epi64(factors[row].cast_signed());
                let product = _mm512_gf2p8affine_epi64_epi8::<0>(low, factor);
                lows[row] = _mm512_xor_si512(lows[row], product);
                let product = _mm512_gf2p8affine_epi64_epi8::<0>(high, factor);
                highs[row] = _mm512_xor_si512(highs[row], product);
            }
        }
        for (row, output) in outputs.iter_mut().enumerate().take(N) {
            let twisted = _mm512_gf2p8affine_epi64_epi8::<0>(highs[row], twist);
            let low = _mm512_xor_si512(lows[row], twisted);
            store(output, at, low, highs[row], work.mode);
        }
    }
}

/// The low and the high bytes of two chunks.
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "vectors are loaded through pointers")]
fn load(source: &[u8], at: usize) -> (__m512i, __m512i) {
    debug_assert!(at + STEP <= source.len());
    // SAFETY: Work::check asserted that every source has the span, in which there is a whole step
    // at `at`. The loads take any alignment.
    let (first, second) = unsafe {
        let from = source.as_ptr().add(at);
        (
            _mm512_loadu_si512(from.cast()),
            _mm512_loadu_si512(from.add(CHUNK_BYTES).cast()),
        )
    };
    unzip(first, second)
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "vectors are stored through pointers")]
fn store(output: &mut [u8], at: usize, low: __m512i, high: __m512i, mode: Mode) {
    debug_assert!(at + STEP <= output.len());
    let (mut first, mut second) = unzip(low, high);
    // SAFETY: Work::check asserted that every output has the span, in which there is a whole step
    // at `at`. Loads and stores take any alignment.
    unsafe {
        let to = output.as_mut_ptr().add(at);
        if mode == Mode::Add {
            first = _mm512_xor_si512(first, _mm512_loadu_si512(to.cast()));
            second = _mm512_xor_si512(second, _mm512_loadu_si512(to.add(CHUNK_BYTES).cast()));
        }
        _mm512_storeu_si512(to.cast(), first);
        _mm512_storeu_si512(to.add(CHUNK_BYTES).cast(), second);
    }
}

/// The first halves of both, and the second halves of both. Its own inverse.
#[target_feature(enable = "avx512f")]
#[inline]
fn unzip(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
    (
        _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b),
        _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b),
    )
}
