//! The shortened code of small blobs: one data fragment, the others implied zero (PROTOCOLS 17).
//!
//! Every fragment is then the data fragment times one coefficient of the generator's column, and no
//! coefficient of an MDS code is zero, so that any one fragment gives all others.

use super::decode::IndexSet;
use super::error::ErasureError;
use super::matrix::Matrix;
use super::{Inner, check_below, check_count, check_lengths, field};

/// Fills `parity` from the one data fragment; see `Codec::encode_shortened`.
pub(super) fn encode(
    codec: &Inner,
    index: usize,
    data: &[u8],
    parity: &mut [&mut [u8]],
) -> Result<(), ErasureError> {
    check_below(index, codec.k)?;
    check_count(codec.m, parity.len())?;
    check_lengths(std::iter::once(data.len()).chain(parity.iter().map(|p| p.len())))?;
    let column = (0..codec.m)
        .map(|row| codec.generator.row(row)[index])
        .collect();
    codec.kernel.apply(&Matrix::column(column), &[data], parity);
    Ok(())
}

/// Fills `wanted` from one fragment; see `Codec::reconstruct_shortened`.
pub(super) fn reconstruct(
    codec: &Inner,
    index: usize,
    (present, fragment): (usize, &[u8]),
    wanted: &mut [(usize, &mut [u8])],
) -> Result<(), ErasureError> {
    check_below(index, codec.k)?;
    codec.check_index(present)?;
    IndexSet::distinct(codec, wanted.iter().map(|&(index, _)| index))?;
    check_lengths(std::iter::once(fragment.len()).chain(wanted.iter().map(|(_, w)| w.len())))?;
    let inverse = field::invert(coefficient(codec, index, present))
        .ok_or(ErasureError::ImpliedFragment { index: present })?;
    let (column, mut outputs): (Vec<u16>, Vec<&mut [u8]>) = wanted
        .iter_mut()
        .map(|(w, output)| {
            (
                field::multiply(coefficient(codec, index, *w), inverse),
                &mut **output,
            )
        })
        .unzip();
    codec
        .kernel
        .apply(&Matrix::column(column), &[fragment], &mut outputs);
    Ok(())
}

/// What the data fragment at `index` is multiplied by to give `fragment`.
fn coefficient(codec: &Inner, index: usize, fragment: usize) -> u16 {
    match fragment.checked_sub(codec.k) {
        Some(row) => codec.generator.row(row)[index],
        None => u16::from(fragment == index),
    }
}
