//! The shortened code of small blobs: one data fragment, the others implied zero (PROTOCOLS 17).
//!
//! Every fragment is then the data fragment times one coefficient of the generator's column, and no
//! coefficient of an MDS code is zero, so that any one fragment gives all others.

use super::cache::{IndexSet, Pattern, Use};
use super::decode::no_outputs;
use super::error::ErasureError;
use super::kernel::Mode;
use super::{Inner, check_below, check_count, check_lengths};

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
    let pattern = Pattern {
        method: Use::Column(index),
        sources: IndexSet::one(index),
        wanted: (codec.k..codec.k + codec.m).collect(),
    };
    let product = codec.cache.product(codec, pattern);
    product.apply(&[data], parity, Mode::Set);
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
    let set = IndexSet::distinct(codec, wanted.iter().map(|&(index, _)| index))?;
    check_lengths(std::iter::once(fragment.len()).chain(wanted.iter().map(|(_, w)| w.len())))?;
    if present < codec.k && present != index {
        return Err(ErasureError::ImpliedFragment { index: present });
    }
    if set.is_empty() {
        return Ok(());
    }
    let mut outputs = no_outputs();
    for (index, output) in wanted {
        outputs[set.rank(*index)] = output;
    }
    let pattern = Pattern {
        method: Use::Column(index),
        sources: IndexSet::one(present),
        wanted: set,
    };
    let product = codec.cache.product(codec, pattern);
    product.apply(&[fragment], &mut outputs[..set.len()], Mode::Set);
    Ok(())
}
