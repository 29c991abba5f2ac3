//! Decoding by the matrix method.

use super::cache::{IndexSet, Pattern, Use};
use super::error::ErasureError;
use super::kernel::Mode;
use super::{FRAGMENTS_MAX, Inner, check_lengths};

/// Fills `wanted` from `present`; see `Codec::reconstruct`.
pub(super) fn reconstruct(
    codec: &Inner,
    present: &[(usize, &[u8])],
    wanted: &mut [(usize, &mut [u8])],
) -> Result<(), ErasureError> {
    let lengths = present.iter().map(|(_, fragment)| fragment.len());
    check_lengths(lengths.chain(wanted.iter().map(|(_, fragment)| fragment.len())))?;
    let there = IndexSet::distinct(codec, present.iter().map(|&(index, _)| index))?;
    let asked = IndexSet::distinct(codec, wanted.iter().map(|&(index, _)| index))?;
    let missing = asked.without(there);
    if !missing.is_empty() && present.len() < codec.k {
        return Err(ErasureError::TooFewFragments {
            needed: codec.k,
            present: present.len(),
        });
    }

    let survivors = there.first(codec.k);
    let mut sources: [&[u8]; FRAGMENTS_MAX] = [&[]; FRAGMENTS_MAX];
    for &(index, fragment) in present {
        if survivors.contains(index) {
            sources[survivors.rank(index)] = fragment;
        }
    }
    let mut outputs = no_outputs();
    for (index, output) in wanted {
        if missing.contains(*index) {
            outputs[missing.rank(*index)] = output;
        } else if let Some((_, fragment)) = present.iter().find(|(there, _)| there == index) {
            output.copy_from_slice(fragment);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let pattern = Pattern {
        method: Use::Whole,
        sources: survivors,
        wanted: missing,
    };
    let product = codec.cache.product(codec, pattern);
    let outputs = &mut outputs[..missing.len()];
    product.apply(&sources[..codec.k], outputs, Mode::Set);
    Ok(())
}

/// Adds what a change of one data fragment does to parity; see `Codec::update_parity`.
pub(super) fn update_parity(
    codec: &Inner,
    index: usize,
    delta: &[u8],
    parity: &mut [(usize, &mut [u8])],
) -> Result<(), ErasureError> {
    super::check_below(index, codec.k)?;
    check_lengths(std::iter::once(delta.len()).chain(parity.iter().map(|(_, p)| p.len())))?;
    let wanted = IndexSet::distinct(codec, parity.iter().map(|&(index, _)| index))?;
    if let Some((index, _)) = parity.iter().find(|(index, _)| *index < codec.k) {
        return Err(ErasureError::NotParity { index: *index });
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut outputs = no_outputs();
    for (index, output) in parity {
        outputs[wanted.rank(*index)] = output;
    }
    let pattern = Pattern {
        method: Use::Column(index),
        sources: IndexSet::one(index),
        wanted,
    };
    let product = codec.cache.product(codec, pattern);
    product.apply(&[delta], &mut outputs[..wanted.len()], Mode::Add);
    Ok(())
}

/// Room for the outputs of any profile, on the stack.
pub(super) fn no_outputs<'a>() -> [&'a mut [u8]; FRAGMENTS_MAX] {
    std::array::from_fn(|_| <&mut [u8]>::default())
}
