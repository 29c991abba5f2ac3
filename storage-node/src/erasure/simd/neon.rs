//! NEON: the products of nibbles are looked up in tables of 16 bytes, half a chunk at a time.
//!
//! Written from the same tables as the AVX2 kernel. It passed the tests under emulation, but no ARM
//! CPU has run it yet: docs/performance.md says so, and gives no figures.

use std::arch::aarch64::{
    uint8x16_t, vandq_u8, vdupq_n_u8, veorq_u8, vld1q_u8, vqtbl1q_u8, vshrq_n_u8, vst1q_u8,
};

use super::Work;
use crate::erasure::field;
use crate::erasure::kernel::{CHUNK_BYTES, Mode, Nibbles};

/// Bytes of a register.
const WIDTH: usize = 16;

/// Fills at most 4 outputs.
#[target_feature(enable = "neon")]
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

#[target_feature(enable = "neon")]
fn rows<const N: usize>(tables: &[Nibbles], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    let twist = Nibbles::new(&field::twist());
    let (tables, _) = tables.as_chunks::<N>();
    for chunk in work.span.clone().step_by(CHUNK_BYTES) {
        for at in [chunk, chunk + WIDTH] {
            let mut lows = [vdupq_n_u8(0); N];
            let mut highs = [vdupq_n_u8(0); N];
            for (source, factors) in work.sources.iter().zip(tables) {
                let (low, high) = load(source, at);
                let high = split(high);
                let low = split(veorq_u8(low, look_up(high, table(&twist))));
                for row in 0..N {
                    let factor = table(&factors[row]);
                    lows[row] = veorq_u8(lows[row], look_up(low, factor));
                    highs[row] = veorq_u8(highs[row], look_up(high, factor));
                }
            }
            for (row, output) in outputs.iter_mut().enumerate().take(N) {
                let twisted = look_up(split(highs[row]), table(&twist));
                store(
                    output,
                    at,
                    veorq_u8(lows[row], twisted),
                    highs[row],
                    work.mode,
                );
            }
        }
    }
}

/// The low and the high nibbles of 16 bytes.
#[target_feature(enable = "neon")]
#[inline]
fn split(bytes: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
    (vandq_u8(bytes, vdupq_n_u8(0x0F)), vshrq_n_u8::<4>(bytes))
}

/// The images of 16 bytes, given their nibbles and the tables of both.
#[target_feature(enable = "neon")]
#[inline]
fn look_up(nibbles: (uint8x16_t, uint8x16_t), tables: (uint8x16_t, uint8x16_t)) -> uint8x16_t {
    veorq_u8(
        vqtbl1q_u8(tables.0, nibbles.0),
        vqtbl1q_u8(tables.1, nibbles.1),
    )
}

/// Both tables of a factor.
#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "vectors are loaded through pointers")]
fn table(nibbles: &Nibbles) -> (uint8x16_t, uint8x16_t) {
    let from = nibbles.0.as_ptr();
    // SAFETY: `Nibbles` has 32 bytes.
    unsafe { (vld1q_u8(from), vld1q_u8(from.add(WIDTH))) }
}

/// Half of the low bytes of a chunk, and the high bytes that belong to them.
#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "vectors are loaded through pointers")]
fn load(source: &[u8], at: usize) -> (uint8x16_t, uint8x16_t) {
    debug_assert!(at + CHUNK_BYTES / 2 + WIDTH <= source.len());
    // SAFETY: Work::check asserted that every source has the span, and `at` is where one of its
    // chunks begins, or a quarter of a chunk after that; the loads end 48 bytes later. They take
    // any alignment.
    unsafe {
        let from = source.as_ptr().add(at);
        (vld1q_u8(from), vld1q_u8(from.add(CHUNK_BYTES / 2)))
    }
}

/// Puts bytes where [`load`] takes them from.
#[target_feature(enable = "neon")]
#[inline]
#[expect(unsafe_code, reason = "vectors are stored through pointers")]
fn store(output: &mut [u8], at: usize, mut low: uint8x16_t, mut high: uint8x16_t, mode: Mode) {
    debug_assert!(at + CHUNK_BYTES / 2 + WIDTH <= output.len());
    // SAFETY: as in `load`, for the outputs.
    unsafe {
        let to_low = output.as_mut_ptr().add(at);
        let to_high = to_low.add(CHUNK_BYTES / 2);
        if mode == Mode::Add {
            low = veorq_u8(low, vld1q_u8(to_low));
            high = veorq_u8(high, vld1q_u8(to_high));
        }
        vst1q_u8(to_low, low);
        vst1q_u8(to_high, high);
    }
}
