//! Matrices over GF(2^8): the generator of the code, and its inverse for one erasure pattern.

use reed_solomon_simd::ReedSolomonEncoder;

use super::error::ErasureError;
use super::field;
use super::kernel::CHUNK_BYTES;

/// Coefficients, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    fn zero(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            cells: vec![0; rows * columns],
        }
    }

    /// A matrix of so many columns, given row by row.
    pub(super) fn new(columns: usize, cells: Vec<u8>) -> Self {
        debug_assert!(cells.len().is_multiple_of(columns));
        Self { columns, cells }
    }

    /// The `m` rows of `k` coefficients that make parity of data, read out of the crate by encoding
    /// the unit vectors: fragment `j` has the element 1, all others 0.
    ///
    /// # Errors
    /// [`ErasureError::UnsupportedProfile`] when the crate has no code, or one with factors outside
    /// of the subfield that the kernels multiply in.
    pub(super) fn generator(k: usize, m: usize) -> Result<Self, ErasureError> {
        let refused = |source| ErasureError::Encoder { source };
        let mut encoder = ReedSolomonEncoder::new(k, m, CHUNK_BYTES).map_err(refused)?;
        let mut generator = Self::zero(m, k);
        for column in 0..k {
            for index in 0..k {
                let mut fragment = [0_u8; CHUNK_BYTES];
                fragment[0] = u8::from(index == column);
                encoder.add_original_shard(fragment).map_err(refused)?;
            }
            let parity = encoder.encode().map_err(refused)?;
            for (row, fragment) in parity.recovery_iter().enumerate() {
                if fragment[CHUNK_BYTES / 2] != 0 {
                    return Err(ErasureError::UnsupportedProfile { k, m });
                }
                generator.cells[row * k + column] = fragment[0];
            }
        }
        Ok(generator)
    }

    pub(super) fn rows(&self) -> usize {
        self.cells.len() / self.columns
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.cells[row * self.columns..(row + 1) * self.columns]
    }

    fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.cells[row * self.columns..(row + 1) * self.columns]
    }

    /// With `self` as the generator: the rows that make the `wanted` fragments of the `survivors`.
    ///
    /// Both lists hold distinct indices below `k + m` in ascending order; there are `k` survivors.
    pub(super) fn decode_rows(&self, survivors: &[usize], wanted: &[usize]) -> Self {
        let k = self.columns;
        let data = self.data_rows(survivors);
        let mut rows = Self::zero(wanted.len(), k);
        for (row, &index) in wanted.iter().enumerate() {
            let target = rows.row_mut(row);
            if index < k {
                target.copy_from_slice(data.row(index));
            } else {
                for (source, &factor) in self.row(index - k).iter().enumerate() {
                    add_multiple(target, data.row(source), factor);
                }
            }
        }
        rows
    }

    /// All `k` data fragments in terms of the survivors. The `e` lost ones are the unknowns of `e`
    /// equations, one for each surviving parity fragment:
    /// `sum over lost of g * lost = parity + sum over surviving data of g * data`.
    fn data_rows(&self, survivors: &[usize]) -> Self {
        let k = self.columns;
        let lost: Vec<usize> = (0..k)
            .filter(|i| survivors.binary_search(i).is_err())
            .collect();
        let parity = survivors.iter().filter(|&&index| index >= k);
        let mut equations = Self::zero(lost.len(), lost.len() + k);
        for (row, &index) in parity.enumerate() {
            let generator = self.row(index - k);
            let (unknown, known) = equations.row_mut(row).split_at_mut(lost.len());
            for (cell, &data) in unknown.iter_mut().zip(&lost) {
                *cell = generator[data];
            }
            for (cell, &survivor) in known.iter_mut().zip(survivors) {
                *cell = generator
                    .get(survivor)
                    .copied()
                    .unwrap_or(u8::from(survivor == index));
            }
        }
        equations.eliminate(lost.len());

        let mut data = Self::zero(k, k);
        for (column, &survivor) in survivors
            .iter()
            .enumerate()
            .filter(|&(_, &index)| index < k)
        {
            data.row_mut(survivor)[column] = 1;
        }
        for (row, &index) in lost.iter().enumerate() {
            data.row_mut(index)
                .copy_from_slice(&equations.row(row)[lost.len()..]);
        }
        data
    }

    /// Gauss-Jordan: turns the first `unknowns` columns into the identity.
    fn eliminate(&mut self, unknowns: usize) {
        for pivot in 0..unknowns {
            let (row, inverse) = (pivot..self.rows())
                .find_map(|row| Some((row, field::invert(self.row(row)[pivot])?)))
                .expect("every square part of the generator of an MDS code has an inverse");
            for column in 0..self.columns {
                self.cells
                    .swap(row * self.columns + column, pivot * self.columns + column);
            }
            for cell in self.row_mut(pivot) {
                *cell = field::multiply(*cell, inverse);
            }
            let pivot_row = self.row(pivot).to_vec();
            for other in (0..self.rows()).filter(|&other| other != pivot) {
                let factor = self.row(other)[pivot];
                add_multiple(self.row_mut(other), &pivot_row, factor);
            }
        }
    }
}

/// `target += factor * source`, element by element.
fn add_multiple(target: &mut [u8], source: &[u8], factor: u8) {
    for (cell, &value) in target.iter_mut().zip(source) {
        *cell ^= field::multiply(value, factor);
    }
}
