//! Encoding with `reed-solomon-simd`, column by column: for many parity fragments its transform
//! takes fewer look-ups than a matrix.
//!
//! Columns are of 4 KiB, because the encoder walks its work area several times and that area must
//! stay in the cache: whole fragments take up to twice as long. It copies them there and back.

use std::sync::{Mutex, PoisonError};

use reed_solomon_simd::ReedSolomonEncoder;

use super::error::ErasureError;
use super::kernel::{CHUNK_BYTES, Kernel};

/// Bytes of a fragment that are encoded at a time.
const COLUMN_BYTES: usize = 4096;

/// From so many parity fragments on, the crate is faster than tables of nibbles. Measured on AVX2:
/// 16+6 at 5.8 GB/s of user data against 6.8, 16+7 at 6.2 against 5.9, 16+16 at 3.4 against 2.6.
const PARITY_LEAST: usize = 7;

/// Encoders that wait for the next stripe. Each holds a work area of about `k + m` columns (128 KiB
/// for 20+4); more than this many at once are made and dropped.
const IDLE_ENCODERS_MAX: usize = 8;

/// The encoders of one profile: one for every thread that encodes at the moment.
pub(super) struct EncoderPool {
    k: usize,
    m: usize,
    idle: Mutex<Vec<Encoder>>,
}

/// An encoder of the crate and the column width that it is set to.
struct Encoder {
    inner: ReedSolomonEncoder,
    width: usize,
}

impl EncoderPool {
    /// The encoders of a profile, where they are faster than the kernel.
    pub(super) fn if_faster(k: usize, m: usize, kernel: Kernel) -> Option<Self> {
        let look_ups = matches!(kernel, Kernel::Avx2 | Kernel::Neon);
        (look_ups && m >= PARITY_LEAST).then(|| Self {
            k,
            m,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Whether fragments of this length can be encoded: the crate arranges the last bytes of other
    /// lengths in a way of its own.
    pub(super) fn takes(length: usize) -> bool {
        length.is_multiple_of(CHUNK_BYTES)
    }

    /// Fills `parity`. Counts and lengths are checked by the caller.
    pub(super) fn encode(
        &self,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
    ) -> Result<(), ErasureError> {
        debug_assert!(data.iter().all(|fragment| Self::takes(fragment.len())));
        // An encoder that failed may hold half a column: it is dropped, not returned.
        let mut encoder = self
            .take()
            .map_err(|source| ErasureError::Encoder { source })?;
        self.encode_columns(&mut encoder, data, parity)
            .map_err(|source| ErasureError::Encoder { source })?;
        self.give_back(encoder);
        Ok(())
    }

    fn encode_columns(
        &self,
        encoder: &mut Encoder,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
    ) -> Result<(), reed_solomon_simd::Error> {
        let length = data.first().map_or(0, |fragment| fragment.len());
        for start in (0..length).step_by(COLUMN_BYTES) {
            let range = start..length.min(start + COLUMN_BYTES);
            if encoder.width != range.len() {
                encoder.inner.reset(self.k, self.m, range.len())?;
                encoder.width = range.len();
            }
            for fragment in data {
                encoder.inner.add_original_shard(&fragment[range.clone()])?;
            }
            let result = encoder.inner.encode()?;
            for (output, column) in parity.iter_mut().zip(result.recovery_iter()) {
                output[range.clone()].copy_from_slice(column);
            }
        }
        Ok(())
    }

    fn take(&self) -> Result<Encoder, reed_solomon_simd::Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(encoder) => Ok(encoder),
            None => Ok(Encoder {
                inner: ReedSolomonEncoder::new(self.k, self.m, COLUMN_BYTES)?,
                width: COLUMN_BYTES,
            }),
        }
    }

    fn give_back(&self, encoder: Encoder) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_ENCODERS_MAX {
            idle.push(encoder);
        }
    }
}
