//! Decoding by the matrix method, with the matrices of recent erasure patterns kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ErasureError;
use super::matrix::Matrix;
use super::{FRAGMENTS_MAX, Inner, check_lengths};

/// Patterns kept for one profile: all single losses of 20+4 with each of its parities, and room for
/// double ones. Making one anew costs microseconds.
pub(super) const PATTERNS_MAX: usize = 256;

/// Bytes of matrices kept for one profile; binding only for very wide profiles.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Fills `wanted` from `present`; see `Codec::reconstruct`.
pub(super) fn reconstruct(
    codec: &Inner,
    present: &[(usize, &[u8])],
    wanted: &mut [(usize, &mut [u8])],
) -> Result<(), ErasureError> {
    let lengths = present.iter().map(|(_, fragment)| fragment.len());
    check_lengths(lengths.chain(wanted.iter().map(|(_, fragment)| fragment.len())))?;
    let mut slots: Vec<Option<&[u8]>> = vec![None; codec.k + codec.m];
    for &(index, fragment) in present {
        codec.check_index(index)?;
        if slots[index].replace(fragment).is_some() {
            return Err(ErasureError::DuplicateIndex { index });
        }
    }
    let mut missing = IndexSet::distinct(codec, wanted.iter().map(|&(index, _)| index))?;
    missing.retain(|index| slots[index].is_none());
    if !missing.is_empty() && present.len() < codec.k {
        return Err(ErasureError::TooFewFragments {
            needed: codec.k,
            present: present.len(),
        });
    }

    let mut outputs: Vec<(usize, &mut [u8])> = Vec::with_capacity(codec.m);
    for (index, output) in wanted {
        match slots[*index] {
            Some(fragment) => output.copy_from_slice(fragment),
            None => outputs.push((*index, output)),
        }
    }
    if outputs.is_empty() {
        return Ok(());
    }
    outputs.sort_unstable_by_key(|&(index, _)| index);
    let mut outputs: Vec<&mut [u8]> = outputs.into_iter().map(|(_, output)| output).collect();
    let (survivors, sources): (Vec<usize>, Vec<&[u8]>) = slots
        .iter()
        .enumerate()
        .filter_map(|(i, slot)| Some((i, (*slot)?)))
        .take(codec.k)
        .unzip();
    let matrix = codec.decoders.matrix(&codec.generator, &survivors, missing);
    codec.kernel.apply(&matrix, &sources, &mut outputs);
    Ok(())
}

/// A set of fragment indices, as the key of an erasure pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct IndexSet([u64; FRAGMENTS_MAX / 64]);

impl IndexSet {
    /// Collects indices that must exist in the profile and differ from one another.
    pub(super) fn distinct(
        codec: &Inner,
        indices: impl Iterator<Item = usize>,
    ) -> Result<Self, ErasureError> {
        let mut set = Self::default();
        for index in indices {
            codec.check_index(index)?;
            if set.contains(index) {
                return Err(ErasureError::DuplicateIndex { index });
            }
            set.insert(index);
        }
        Ok(set)
    }

    fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        for index in self.iter().filter(|&index| !keep(index)) {
            self.0[index / 64] &= !(1 << (index % 64));
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Ascending. Works on a copy of the set.
    fn iter(self) -> impl Iterator<Item = usize> {
        (0..FRAGMENTS_MAX).filter(move |&index| self.contains(index))
    }
}

impl FromIterator<usize> for IndexSet {
    fn from_iter<T: IntoIterator<Item = usize>>(indices: T) -> Self {
        let mut set = Self::default();
        indices.into_iter().for_each(|index| set.insert(index));
        set
    }
}

/// Which fragments are used, and which are made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pattern {
    survivors: IndexSet,
    wanted: IndexSet,
}

/// The decode matrices of the patterns used last, at most `capacity`.
pub(super) struct DecodeCache {
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    clock: u64,
    matrices: HashMap<Pattern, (u64, Arc<Matrix>)>,
}

impl DecodeCache {
    pub(super) fn new(k: usize, m: usize) -> Self {
        // With k survivors at most m fragments are missing, each a row of k coefficients.
        let matrix_bytes = k * m * size_of::<u16>();
        let capacity = (PATTERN_BYTES_MAX / matrix_bytes).clamp(1, PATTERNS_MAX);
        Self {
            capacity,
            entries: Mutex::default(),
        }
    }

    fn matrix(&self, generator: &Matrix, survivors: &[usize], wanted: IndexSet) -> Arc<Matrix> {
        let pattern = Pattern {
            survivors: survivors.iter().copied().collect(),
            wanted,
        };
        if let Some(matrix) = self.lock().get(&pattern) {
            return matrix;
        }
        // Outside the lock: two threads may both make it, with the same result.
        let wanted: Vec<usize> = wanted.iter().collect();
        let matrix = Arc::new(generator.decode_rows(survivors, &wanted));
        self.lock()
            .insert(pattern, Arc::clone(&matrix), self.capacity);
        matrix
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many matrices are kept at the moment.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().matrices.len()
    }

    /// Whether the matrix of a pattern is kept.
    #[cfg(test)]
    pub(super) fn holds(&self, survivors: &[usize], wanted: &[usize]) -> bool {
        let [survivors, wanted] = [survivors, wanted].map(|list| list.iter().copied().collect());
        self.lock()
            .matrices
            .contains_key(&Pattern { survivors, wanted })
    }
}

impl Entries {
    fn get(&mut self, pattern: &Pattern) -> Option<Arc<Matrix>> {
        self.clock += 1;
        let (used, matrix) = self.matrices.get_mut(pattern)?;
        *used = self.clock;
        Some(Arc::clone(matrix))
    }

    fn insert(&mut self, pattern: Pattern, matrix: Arc<Matrix>, capacity: usize) {
        self.clock += 1;
        self.matrices.insert(pattern, (self.clock, matrix));
        if self.matrices.len() > capacity {
            let oldest = self.matrices.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(pattern) = oldest.map(|(pattern, _)| *pattern) {
                self.matrices.remove(&pattern);
            }
        }
    }
}
