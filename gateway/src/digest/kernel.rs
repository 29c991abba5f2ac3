//! MD5 of many streams at once: each 32-bit lane of a vector register holds one stream.
//!
//! MD5 is serial within a stream: every step waits for the one before. So a core hashes 16 streams
//! in about the time of one. The crate md5-simd, whose x86 assembly hashes lone streams here, takes
//! lanes only for whole messages of equal length; bodies come in pieces, which needs states that
//! go in and come out.

// The vector kernels are the one place of this crate that needs it.
#![expect(unsafe_code, reason = "vector intrinsics have no safe form")]

/// Bytes that MD5 takes at a time.
pub const BLOCK: usize = 64;

/// The state of MD5 between two blocks.
pub type Words = [u32; 4];

/// The state before the first block.
pub const START: Words = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The longest row of lanes of any kernel.
pub const LANES_MAX: usize = 32;

/// The next blocks of one stream.
#[derive(Debug)]
pub struct Lane<'a> {
    /// Its state.
    pub words: &'a mut Words,
    /// The blocks.
    pub blocks: &'a [[u8; BLOCK]],
}

/// A way to compress blocks of several streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// One stream after the other.
    Single,
    /// Two rows of 8 lanes (x86-64 with AVX2).
    Avx2,
    /// Two rows of 16 lanes (x86-64 with AVX-512F and AVX2, which takes up to 8 streams).
    Avx512,
}

impl Kernel {
    /// Those that this CPU runs, the fastest for many streams last.
    pub fn available() -> Vec<Self> {
        let all = [Self::Single, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|kernel| kernel.runs()).collect()
    }

    /// The fastest for many streams.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Single)
    }

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The most streams that it takes at once.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Avx2 | Self::Avx512 => 2 * self.row(),
        }
    }

    /// Streams that cost it no more than one: another row costs more, if less than twice as much.
    pub const fn row(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn runs(self) -> bool {
        match self {
            Self::Single => true,
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn runs(self) -> bool {
        self == Self::Single
    }

    /// Compresses the blocks of every lane into its state.
    ///
    /// # Panics
    /// When there are more lanes than [`Kernel::lanes`], or they have not all the same number of
    /// blocks, or this CPU cannot run the kernel.
    pub fn compress(self, lanes: &mut [Lane<'_>]) {
        let Some(first) = lanes.first() else { return };
        let count = first.blocks.len();
        assert!(lanes.iter().all(|lane| lane.blocks.len() == count));
        assert!(lanes.len() <= self.lanes() && self.runs());
        match self {
            // A lone stream is faster by itself.
            _ if lanes.len() == 1 => single(lanes),
            Self::Single => single(lanes),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 if lanes.len() <= 8 => {
                // SAFETY: the CPU has AVX2; at most 8 lanes, of `count` blocks each.
                unsafe { avx2::compress::<1>(lanes, count) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                // SAFETY: the CPU has AVX2; at most 16 lanes, of `count` blocks each.
                unsafe { avx2::compress::<2>(lanes, count) }
            }
            // Few lanes are faster in narrow registers: 5.2 against 4.3 GB/s for 8 of them.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if lanes.len() <= 8 => {
                // SAFETY: the CPU has AVX2 (see `runs`); at most 8 lanes, of `count` blocks each.
                unsafe { avx2::compress::<1>(lanes, count) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if lanes.len() <= 16 => {
                // SAFETY: the CPU has AVX-512F; at most 16 lanes, of `count` blocks each.
                unsafe { avx512::compress::<1>(lanes, count) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                // SAFETY: the CPU has AVX-512F; at most 32 lanes, of `count` blocks each.
                unsafe { avx512::compress::<2>(lanes, count) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => single(lanes),
        }
    }
}

fn single(lanes: &mut [Lane<'_>]) {
    for lane in lanes {
        for block in lane.blocks {
            md5_simd::hazmat::compress_block(lane.words, block);
        }
    }
}

/// The constants of RFC 1321: the integer part of 2^32 x |sin(i + 1)|.
#[cfg(target_arch = "x86_64")]
const K: [u32; 64] = md5_simd::K;

/// Calls `$step!(a b c d, function, index of the step, word of the block, rotation)` for all steps.
#[cfg(target_arch = "x86_64")]
macro_rules! all_steps {
    ($step:ident, $a:ident $b:ident $c:ident $d:ident) => {
        all_steps!(@four $step $a $b $c $d f 0: 0 7, 1 12, 2 17, 3 22);
        all_steps!(@four $step $a $b $c $d f 4: 4 7, 5 12, 6 17, 7 22);
        all_steps!(@four $step $a $b $c $d f 8: 8 7, 9 12, 10 17, 11 22);
        all_steps!(@four $step $a $b $c $d f 12: 12 7, 13 12, 14 17, 15 22);
        all_steps!(@four $step $a $b $c $d g 16: 1 5, 6 9, 11 14, 0 20);
        all_steps!(@four $step $a $b $c $d g 20: 5 5, 10 9, 15 14, 4 20);
        all_steps!(@four $step $a $b $c $d g 24: 9 5, 14 9, 3 14, 8 20);
        all_steps!(@four $step $a $b $c $d g 28: 13 5, 2 9, 7 14, 12 20);
        all_steps!(@four $step $a $b $c $d h 32: 5 4, 8 11, 11 16, 14 23);
        all_steps!(@four $step $a $b $c $d h 36: 1 4, 4 11, 7 16, 10 23);
        all_steps!(@four $step $a $b $c $d h 40: 13 4, 0 11, 3 16, 6 23);
        all_steps!(@four $step $a $b $c $d h 44: 9 4, 12 11, 15 16, 2 23);
        all_steps!(@four $step $a $b $c $d i 48: 0 6, 7 10, 14 15, 5 21);
        all_steps!(@four $step $a $b $c $d i 52: 12 6, 3 10, 10 15, 1 21);
        all_steps!(@four $step $a $b $c $d i 56: 8 6, 15 10, 6 15, 13 21);
        all_steps!(@four $step $a $b $c $d i 60: 4 6, 11 10, 2 15, 9 21);
    };
    (@four $step:ident $a:ident $b:ident $c:ident $d:ident $f:ident $k:literal:
     $m0:literal $r0:literal, $m1:literal $r1:literal,
     $m2:literal $r2:literal, $m3:literal $r3:literal) => {
        $step!($a $b $c $d, $f, $k, $m0, $r0);
        $step!($d $a $b $c, $f, $k + 1, $m1, $r1);
        $step!($c $d $a $b, $f, $k + 2, $m2, $r2);
        $step!($b $c $d $a, $f, $k + 3, $m3, $r3);
    };
}

/// The words of lanes, a vector for each of the four; lanes that are not there repeat the last.
#[cfg(target_arch = "x86_64")]
fn gathered<const LANES: usize>(lanes: &[Lane<'_>], row: usize) -> [[u32; LANES]; 4] {
    let lane = |at: usize| &lanes[(row * LANES + at).min(lanes.len() - 1)];
    std::array::from_fn(|word| std::array::from_fn(|at| lane(at).words[word]))
}

#[cfg(target_arch = "x86_64")]
fn scatter<const LANES: usize>(lanes: &mut [Lane<'_>], row: usize, words: &[[u32; LANES]; 4]) {
    for (at, lane) in lanes.iter_mut().skip(row * LANES).take(LANES).enumerate() {
        *lane.words = std::array::from_fn(|word| words[word][at]);
    }
}

/// Where the blocks of each lane of a row begin.
#[cfg(target_arch = "x86_64")]
fn pointers<const LANES: usize>(lanes: &[Lane<'_>], row: usize) -> [*const u8; LANES] {
    let lane = |at: usize| &lanes[(row * LANES + at).min(lanes.len() - 1)];
    std::array::from_fn(|at| lane(at).blocks.as_ptr().cast())
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32,
        _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32,
        _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };

    use super::{BLOCK, K, Lane, gathered, pointers, scatter};

    const LANES: usize = 16;

    macro_rules! f {
        ($x:expr, $y:expr, $z:expr) => {
            _mm512_ternarylogic_epi32::<0xca>($x, $y, $z)
        };
    }
    macro_rules! g {
        ($x:expr, $y:expr, $z:expr) => {
            _mm512_ternarylogic_epi32::<0xe4>($x, $y, $z)
        };
    }
    macro_rules! h {
        ($x:expr, $y:expr, $z:expr) => {
            _mm512_ternarylogic_epi32::<0x96>($x, $y, $z)
        };
    }
    macro_rules! i {
        ($x:expr, $y:expr, $z:expr) => {
            _mm512_ternarylogic_epi32::<0x39>($x, $y, $z)
        };
    }

    /// Compresses `count` blocks of each of at most `ROWS` x 16 lanes. Two rows fill the waiting
    /// times of one another.
    ///
    /// # Safety
    /// The CPU has AVX-512F; there are 1 to `ROWS` x 16 lanes, each with `count` blocks at least.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn compress<const ROWS: usize>(lanes: &mut [Lane<'_>], count: usize) {
        let mut state = [[_mm512_setzero_si512(); 4]; ROWS];
        let mut from = [[std::ptr::null(); LANES]; ROWS];
        for row in 0..ROWS {
            let words = gathered::<LANES>(lanes, row);
            for (vector, words) in state[row].iter_mut().zip(&words) {
                // SAFETY: 16 words of 4 bytes are 64 bytes; any alignment will do.
                *vector = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
            }
            from[row] = pointers(lanes, row);
        }
        let mut block = [[_mm512_setzero_si512(); 16]; ROWS];
        for at in 0..count {
            for row in 0..ROWS {
                // SAFETY: every lane has `count` blocks, so block `at` lies within.
                block[row] = unsafe { transposed(&from[row], at * BLOCK) };
            }
            let [mut a, mut b, mut c, mut d] =
                std::array::from_fn(|word| state.map(|vectors| vectors[word]));
            macro_rules! step {
                ($a:ident $b:ident $c:ident $d:ident,
                 $f:ident, $k:expr, $m:literal, $r:literal) => {
                    let constant = _mm512_set1_epi32(K[$k].cast_signed());
                    for row in 0..ROWS {
                        let sum = _mm512_add_epi32($a[row], block[row][$m]);
                        let sum = _mm512_add_epi32(sum, constant);
                        let sum = _mm512_add_epi32(sum, $f!($b[row], $c[row], $d[row]));
                        $a[row] = _mm512_add_epi32($b[row], _mm512_rol_epi32::<$r>(sum));
                    }
                };
            }
            all_steps!(step, a b c d);
            for row in 0..ROWS {
                for (vector, new) in state[row].iter_mut().zip([a[row], b[row], c[row], d[row]]) {
                    *vector = _mm512_add_epi32(*vector, new);
                }
            }
        }
        for (row, vectors) in state.iter().enumerate() {
            let mut words = [[0_u32; LANES]; 4];
            for (words, vector) in words.iter_mut().zip(vectors) {
                // SAFETY: 16 words of 4 bytes are 64 bytes; any alignment will do.
                unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), *vector) };
            }
            scatter(lanes, row, &words);
        }
    }

    /// The 16 words of a block of 16 lanes, each word of all lanes in a vector.
    ///
    /// # Safety
    /// The CPU has AVX-512F; 64 bytes can be read at `offset` from each pointer.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn transposed(from: &[*const u8; LANES], offset: usize) -> [__m512i; 16] {
        // SAFETY: the caller says that 64 bytes are there; any alignment will do.
        let r = from.map(|from| unsafe { _mm512_loadu_si512(from.add(offset).cast()) });
        // Pairs of lanes by word, then quadruples: t[4 q + j] has words 4 b + j of lanes 4 q to
        // 4 q + 3 in its 128-bit part b.
        let mut t = [_mm512_setzero_si512(); 16];
        for q in 0..4 {
            let [r0, r1, r2, r3] = [r[4 * q], r[4 * q + 1], r[4 * q + 2], r[4 * q + 3]];
            let (low0, high0) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
            let (low1, high1) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
            t[4 * q] = _mm512_unpacklo_epi64(low0, low1);
            t[4 * q + 1] = _mm512_unpackhi_epi64(low0, low1);
            t[4 * q + 2] = _mm512_unpacklo_epi64(high0, high1);
            t[4 * q + 3] = _mm512_unpackhi_epi64(high0, high1);
        }
        // The 128-bit parts: a 4 x 4 transposition of them for each j.
        let mut words = [_mm512_setzero_si512(); 16];
        for j in 0..4 {
            let low0 = _mm512_shuffle_i32x4::<0x88>(t[j], t[4 + j]);
            let low1 = _mm512_shuffle_i32x4::<0x88>(t[8 + j], t[12 + j]);
            let high0 = _mm512_shuffle_i32x4::<0xdd>(t[j], t[4 + j]);
            let high1 = _mm512_shuffle_i32x4::<0xdd>(t[8 + j], t[12 + j]);
            words[j] = _mm512_shuffle_i32x4::<0x88>(low0, low1);
            words[4 + j] = _mm512_shuffle_i32x4::<0x88>(high0, high1);
            words[8 + j] = _mm512_shuffle_i32x4::<0xdd>(low0, low1);
            words[12 + j] = _mm512_shuffle_i32x4::<0xdd>(high0, high1);
        }
        words
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256,
        _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_epi32,
        _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
        _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
    };

    use super::{BLOCK, K, Lane, gathered, pointers, scatter};

    const LANES: usize = 8;

    macro_rules! f {
        ($x:expr, $y:expr, $z:expr) => {
            _mm256_xor_si256($z, _mm256_and_si256($x, _mm256_xor_si256($y, $z)))
        };
    }
    macro_rules! g {
        ($x:expr, $y:expr, $z:expr) => {
            _mm256_xor_si256($y, _mm256_and_si256($z, _mm256_xor_si256($x, $y)))
        };
    }
    macro_rules! h {
        ($x:expr, $y:expr, $z:expr) => {
            _mm256_xor_si256($x, _mm256_xor_si256($y, $z))
        };
    }
    macro_rules! i {
        ($x:expr, $y:expr, $z:expr) => {
            _mm256_xor_si256(
                $y,
                _mm256_or_si256($x, _mm256_xor_si256($z, _mm256_set1_epi32(-1))),
            )
        };
    }

    /// Compresses `count` blocks of each of at most `ROWS` x 8 lanes. Two rows fill the waiting
    /// times of one another.
    ///
    /// # Safety
    /// The CPU has AVX2; there are 1 to `ROWS` x 8 lanes, each with `count` blocks at least.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn compress<const ROWS: usize>(lanes: &mut [Lane<'_>], count: usize) {
        let mut state = [[_mm256_setzero_si256(); 4]; ROWS];
        let mut from = [[std::ptr::null(); LANES]; ROWS];
        for row in 0..ROWS {
            let words = gathered::<LANES>(lanes, row);
            for (vector, words) in state[row].iter_mut().zip(&words) {
                // SAFETY: 8 words of 4 bytes are 32 bytes; any alignment will do.
                *vector = unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
            }
            from[row] = pointers(lanes, row);
        }
        let mut block = [[_mm256_setzero_si256(); 16]; ROWS];
        for at in 0..count {
            for row in 0..ROWS {
                // SAFETY: every lane has `count` blocks, so block `at` lies within.
                block[row] = unsafe { transposed(&from[row], at * BLOCK) };
            }
            let [mut a, mut b, mut c, mut d] =
                std::array::from_fn(|word| state.map(|vectors| vectors[word]));
            macro_rules! step {
                ($a:ident $b:ident $c:ident $d:ident,
                 $f:ident, $k:expr, $m:literal, $r:literal) => {
                    let constant = _mm256_set1_epi32(K[$k].cast_signed());
                    for row in 0..ROWS {
                        let sum = _mm256_add_epi32($a[row], block[row][$m]);
                        let sum = _mm256_add_epi32(sum, constant);
                        let sum = _mm256_add_epi32(sum, $f!($b[row], $c[row], $d[row]));
                        let rotated = _mm256_or_si256(
                            _mm256_slli_epi32::<$r>(sum),
                            _mm256_srli_epi32::<{ 32 - $r }>(sum),
                        );
                        $a[row] = _mm256_add_epi32($b[row], rotated);
                    }
                };
            }
            all_steps!(step, a b c d);
            for row in 0..ROWS {
                for (vector, new) in state[row].iter_mut().zip([a[row], b[row], c[row], d[row]]) {
                    *vector = _mm256_add_epi32(*vector, new);
                }
            }
        }
        for (row, vectors) in state.iter().enumerate() {
            let mut words = [[0_u32; LANES]; 4];
            for (words, vector) in words.iter_mut().zip(vectors) {
                // SAFETY: 8 words of 4 bytes are 32 bytes; any alignment will do.
                unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), *vector) };
            }
            scatter(lanes, row, &words);
        }
    }

    /// The 16 words of a block of 8 lanes, each word of all lanes in a vector.
    ///
    /// # Safety
    /// The CPU has AVX2; 64 bytes can be read at `offset` from each pointer.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn transposed(from: &[*const u8; LANES], offset: usize) -> [__m256i; 16] {
        let mut words = [_mm256_setzero_si256(); 16];
        for half in 0..2 {
            let offset = offset + 32 * half;
            // SAFETY: the caller says that 64 bytes are there; any alignment will do.
            let r = from.map(|from| unsafe { _mm256_loadu_si256(from.add(offset).cast()) });
            // t[4 q + j] has words 4 b + j of lanes 4 q to 4 q + 3 in its 128-bit part b.
            let mut t = [_mm256_setzero_si256(); 8];
            for q in 0..2 {
                let [r0, r1, r2, r3] = [r[4 * q], r[4 * q + 1], r[4 * q + 2], r[4 * q + 3]];
                let (low0, high0) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
                let (low1, high1) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
                t[4 * q] = _mm256_unpacklo_epi64(low0, low1);
                t[4 * q + 1] = _mm256_unpackhi_epi64(low0, low1);
                t[4 * q + 2] = _mm256_unpacklo_epi64(high0, high1);
                t[4 * q + 3] = _mm256_unpackhi_epi64(high0, high1);
            }
            for j in 0..4 {
                words[8 * half + j] = _mm256_permute2x128_si256::<0x20>(t[j], t[4 + j]);
                words[8 * half + 4 + j] = _mm256_permute2x128_si256::<0x31>(t[j], t[4 + j]);
            }
        }
        words
    }
}

#[cfg(test)]
mod tests;
