//! The erasure codec and the checksums of fragments: plain functions over borrowed bytes, no I/O.
//!
//! # The code
//!
//! A stripe of `k` data fragments gets `m` parity fragments from a systematic Reed-Solomon code
//! over GF(2^16). The code is defined by the crate `reed-solomon-simd` 3.1, which implements the
//! one of Lin, Al-Naffouri, Han and Chung, "Novel Polynomial Basis With Fast Fourier Transform
//! and Its Application to Reed-Solomon Erasure Codes" (IEEE Trans. Inf. Theory 62, 2016), as C.
//! Taylor's Leopard-RS does: polynomial 0x1002D, Cantor basis. It is maximum distance separable:
//! any `k` of the `k + m` fragments hold the whole stripe. Each 64 bytes of a fragment are 32
//! elements: their 32 low bytes, then their 32 high bytes.
//!
//! Parity on drives is these bytes for ever. A golden test pins the generator, so that an upgrade
//! of the crate that changes the code fails before it is shipped.
//!
//! # Matrices
//!
//! The code is linear, so its generator matrix is read out of the crate once, by encoding unit
//! vectors. Encoding multiplies data by it. Decoding inverts it for the erasure pattern by Gauss
//! elimination, keeps the rows that are wanted in a bounded cache, and multiplies the fragments
//! that are there by them; this restores parity in the same pass as data. The crate's decoder,
//! which transforms 65,536 points (about 270 us) before the first byte, is never called. Its
//! encoder is a third as fast as a matrix and less, but for many parity fragments without GFNI,
//! where `columns` calls it; for all others the crate defines the code and checks it in tests.
//!
//! All coefficients lie in a subfield of 256 elements; what that is worth stands in `field`.
//!
//! # Lengths
//!
//! A fragment may have any length but zero; all of one call have the same. If it is no multiple of
//! 64 bytes, the fragments count as padded with zeros to the next one. What parity would have past
//! the same length is then zero too, so that it is not stored and not needed: parity of `n` bytes
//! is the first `n` bytes of the parity of the padded fragments, and the same holds for all that is
//! restored. A range of columns may be coded on its own when it begins at a multiple of 64 bytes,
//! and ends at one or with the fragment.
//!
//! # Shortened stripes
//!
//! A small blob fills one data fragment; the others are zero, implied and not stored (PROTOCOLS
//! 17). [`Codec::encode_shortened`] and [`Codec::reconstruct_shortened`] give exactly the bytes
//! of the full code with zero fragments, but touch only what exists.
//!
//! # Checksums
//!
//! [`checksum`] computes and compares the CRC32C of every 4 KiB block of a fragment (PROTOCOLS 18).
//!
//! # Kernels
//!
//! The multiplication is done by one of several [`Kernel`]s, which take instructions of different
//! CPUs and give the same bytes. The process uses the fastest that its CPU runs, unless another is
//! chosen at the start.
//!
//! Architecture invariant: everything that knows how bytes are multiplied is behind `kernel`; what
//! is unsafe is in `simd`, and nowhere else.

mod cache;
pub mod checksum;
mod columns;
mod decode;
mod error;
mod field;
mod kernel;
mod matrix;
mod portable;
mod shortened;
mod simd;
#[cfg(test)]
mod tests;

pub use self::error::ErasureError;
pub use self::kernel::{Kernel, KernelError};

use std::fmt;
use std::sync::Arc;

use self::cache::PatternCache;
use self::columns::EncoderPool;
use self::kernel::{Mode, Product};
use self::matrix::Matrix;

/// The most fragments of one stripe, `k + m`: a member index is one byte.
pub const FRAGMENTS_MAX: usize = 256;

/// Encoder and decoder of one profile `k + m`.
///
/// A clone is a pointer to the same codec: it shares the generator and the cache of matrices. No
/// call allocates unless its erasure pattern is new, and none copies fragments but where `columns`
/// is used. Fragment indices are member indices: data `0..k`, parity `k..k + m`.
/// Arguments are checked before any output is written. An error leaves every output as it was.
#[derive(Clone)]
pub struct Codec {
    inner: Arc<Inner>,
}

struct Inner {
    k: usize,
    m: usize,
    /// `m` rows of `k` coefficients: parity is this matrix times data.
    generator: Matrix,
    kernel: Kernel,
    encoder: Product,
    columns: Option<EncoderPool>,
    cache: PatternCache,
}

impl Codec {
    /// Prepares the code of a profile with `k` data and `m` parity fragments, for the kernel of
    /// this process. Costs `k` encodes of 64 bytes, and in the first call of a process the crate's
    /// tables (8 MiB).
    ///
    /// # Errors
    ///
    /// [`ErasureError::UnsupportedProfile`] when `k` or `m` is zero, or their sum passes
    /// [`FRAGMENTS_MAX`] once the smaller of them is rounded up to a power of two: all profiles to
    /// 100+16 and more are below.
    pub fn new(k: usize, m: usize) -> Result<Self, ErasureError> {
        Self::with_kernel(k, m, Kernel::in_use())
    }

    /// As [`Codec::new`], with a kernel that need not be that of the process.
    ///
    /// # Errors
    ///
    /// As [`Codec::new`].
    ///
    /// # Panics
    ///
    /// The codec panics when the CPU does not run the kernel ([`Kernel::runs_here`]).
    pub fn with_kernel(k: usize, m: usize, kernel: Kernel) -> Result<Self, ErasureError> {
        let total = k.saturating_add(m);
        if k == 0 || m == 0 || total > FRAGMENTS_MAX {
            return Err(ErasureError::UnsupportedProfile { k, m });
        }
        let generator = Matrix::generator(k, m)?;
        let inner = Inner {
            k,
            m,
            kernel,
            encoder: Product::new(kernel, &generator),
            columns: EncoderPool::if_faster(k, m, kernel),
            generator,
            cache: PatternCache::new(k, m),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The number of data fragments of a stripe.
    #[must_use]
    pub fn k(&self) -> usize {
        self.inner.k
    }

    /// The number of parity fragments of a stripe.
    #[must_use]
    pub fn m(&self) -> usize {
        self.inner.m
    }

    /// The number of fragments of a stripe, `k + m`.
    #[must_use]
    pub fn fragments(&self) -> usize {
        self.inner.k + self.inner.m
    }

    /// Computes the `m` parity fragments of `k` data fragments.
    ///
    /// # Errors
    ///
    /// [`ErasureError::FragmentCount`] unless there are `k` data and `m` parity slices,
    /// [`ErasureError::Empty`] or [`ErasureError::LengthMismatch`] unless all of them have one
    /// length that is not zero.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError> {
        check_count(self.inner.k, data.len())?;
        check_count(self.inner.m, parity.len())?;
        let lengths = data.iter().map(|fragment| fragment.len());
        check_lengths(lengths.chain(parity.iter().map(|fragment| fragment.len())))?;
        match &self.inner.columns {
            Some(columns) if EncoderPool::takes(data[0].len()) => columns.encode(data, parity)?,
            _ => self.inner.encoder.apply(data, parity, Mode::Set),
        }
        Ok(())
    }

    /// Changes parity fragments, any of them, by what a change of the data fragment at `index` does
    /// to them. `delta` is the XOR of the fragment's bytes before and after.
    ///
    /// # Errors
    ///
    /// [`ErasureError::IndexOutOfRange`] unless `index` is that of a data fragment and the others
    /// exist, [`ErasureError::NotParity`] and [`ErasureError::DuplicateIndex`] for the list, and
    /// the errors of length that [`Codec::encode`] has.
    pub fn update_parity(
        &self,
        index: usize,
        delta: &[u8],
        parity: &mut [(usize, &mut [u8])],
    ) -> Result<(), ErasureError> {
        decode::update_parity(&self.inner, index, delta, parity)
    }

    /// Restores any chosen fragments, data or parity, from any `k` fragments of the same stripe.
    ///
    /// Of more than `k` present fragments, those with the lowest indices are used. A wanted
    /// fragment that is present is copied; when only such are wanted, fewer than `k` are enough.
    /// The order of both lists is free.
    ///
    /// # Errors
    ///
    /// [`ErasureError::TooFewFragments`] when fewer than `k` fragments are present,
    /// [`ErasureError::IndexOutOfRange`] and [`ErasureError::DuplicateIndex`] for either list, and
    /// the errors of length that [`Codec::encode`] has.
    pub fn reconstruct(
        &self,
        present: &[(usize, &[u8])],
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), ErasureError> {
        decode::reconstruct(&self.inner, present, wanted)
    }

    /// Computes the `m` parity fragments of a stripe whose only non-zero data fragment is `data`,
    /// at `index` (PROTOCOLS 17). Same bytes as [`Codec::encode`] with the others zero.
    ///
    /// # Errors
    ///
    /// [`ErasureError::IndexOutOfRange`] unless `index` is that of a data fragment, and the
    /// errors of count and length that [`Codec::encode`] has.
    pub fn encode_shortened(
        &self,
        index: usize,
        data: &[u8],
        parity: &mut [&mut [u8]],
    ) -> Result<(), ErasureError> {
        shortened::encode(&self.inner, index, data, parity)
    }

    /// Restores any fragments of a stripe whose only non-zero data fragment is at `index`, from any
    /// one stored fragment of it: that data fragment or any parity fragment (PROTOCOLS 17). Wanted
    /// data fragments other than `index` come out zero.
    ///
    /// # Errors
    ///
    /// [`ErasureError::ImpliedFragment`] when `present` names one of the data fragments that are
    /// not stored, [`ErasureError::IndexOutOfRange`] unless `index` is that of a data fragment
    /// and all others exist in the profile, [`ErasureError::DuplicateIndex`] when a fragment is
    /// wanted twice, and the errors of length that [`Codec::encode`] has.
    pub fn reconstruct_shortened(
        &self,
        index: usize,
        present: (usize, &[u8]),
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), ErasureError> {
        shortened::reconstruct(&self.inner, index, present, wanted)
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec")
            .field("k", &self.inner.k)
            .field("m", &self.inner.m)
            .finish()
    }
}

impl Inner {
    fn check_index(&self, index: usize) -> Result<(), ErasureError> {
        check_below(index, self.k + self.m)
    }
}

fn check_below(index: usize, limit: usize) -> Result<(), ErasureError> {
    if index < limit {
        Ok(())
    } else {
        Err(ErasureError::IndexOutOfRange { index, limit })
    }
}

fn check_count(expected: usize, actual: usize) -> Result<(), ErasureError> {
    if expected == actual {
        Ok(())
    } else {
        Err(ErasureError::FragmentCount { expected, actual })
    }
}

/// Checks that all lengths are the same, and not zero.
fn check_lengths(mut lengths: impl Iterator<Item = usize>) -> Result<(), ErasureError> {
    let Some(expected) = lengths.next() else {
        return Ok(());
    };
    if expected == 0 {
        return Err(ErasureError::Empty);
    }
    match lengths.find(|&actual| actual != expected) {
        Some(actual) => Err(ErasureError::LengthMismatch { expected, actual }),
        None => Ok(()),
    }
}
