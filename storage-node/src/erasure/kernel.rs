//! The inner loop: fragments times a matrix.
//!
//! The portable kernel multiplies with `Engine::mul` of `reed-solomon-simd`: split tables of four
//! nibbles an element, looked up by AVX2, SSSE3 or NEON shuffles, chosen at run time, or by scalar
//! code. Measured on one thread of a Sapphire Rapids class Xeon (AVX2), in user data a second, with
//! units of 64 KiB: 4+2 restores one loss at 13 GB/s and two at 7, 20+4 one at 15 and four at 3.8.
//! Kernels that need no scratch space take its place here.

use reed_solomon_simd::engine::{DefaultEngine, Engine, utils};

use super::field;
use super::matrix::Matrix;

/// Bytes of a fragment that are worked on before the next fragment: small enough that the columns
/// of all fragments of a stripe stay in the first two levels of cache.
pub(super) const COLUMN_BYTES: usize = 4096;

/// The elements' grouping in a fragment: 32 low bytes, then 32 high bytes.
pub(super) const CHUNK_BYTES: usize = 64;

type Chunk = [u8; CHUNK_BYTES];

/// Multiplies fragments by matrices.
pub(super) struct Kernel {
    engine: DefaultEngine,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self {
            engine: DefaultEngine::new(),
        }
    }

    /// `outputs = matrix * sources`: one output a row, one source a column. All slices have one
    /// length, a multiple of [`CHUNK_BYTES`], which the callers have checked.
    pub(super) fn apply(&self, matrix: &Matrix, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
        debug_assert_eq!(
            (matrix.rows(), matrix.columns()),
            (outputs.len(), sources.len())
        );
        let length = sources.first().map_or(0, |source| source.len());
        let mut scratch = [[0; CHUNK_BYTES]; COLUMN_BYTES / CHUNK_BYTES];
        for start in (0..length).step_by(COLUMN_BYTES) {
            let range = start..length.min(start + COLUMN_BYTES);
            for (row, output) in outputs.iter_mut().enumerate() {
                let (output, _) = output[range.clone()].as_chunks_mut();
                output.fill([0; CHUNK_BYTES]);
                for (source, &factor) in sources.iter().zip(matrix.row(row)) {
                    let (source, _) = source[range.clone()].as_chunks();
                    self.add_product(output, source, factor, &mut scratch);
                }
            }
        }
    }

    /// `output += factor * source`, for at most a column.
    fn add_product(
        &self,
        output: &mut [Chunk],
        source: &[Chunk],
        factor: u16,
        scratch: &mut [Chunk],
    ) {
        match field::logarithm(factor) {
            None => {}
            Some(0) => utils::xor(output, source),
            Some(log) => {
                let scratch = &mut scratch[..source.len()];
                scratch.copy_from_slice(source);
                self.engine.mul(scratch, log);
                utils::xor(output, scratch);
            }
        }
    }
}
