//! The matrices of recent erasure patterns, ready for the kernel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ErasureError;
use super::kernel::Product;
use super::matrix::Matrix;
use super::{FRAGMENTS_MAX, Inner, field};

/// Patterns kept for one profile: all single losses of 20+4 with each of its parities, and room for
/// double ones. Making one anew costs microseconds.
pub(super) const PATTERNS_MAX: usize = 256;

/// Bytes of matrices kept for one profile; binding only for very wide profiles.
pub(super) const PATTERN_BYTES_MAX: usize = 2 << 20;

/// The most bytes that one coefficient takes in any kernel's form: itself and two tables of 16.
pub(super) const COEFFICIENT_BYTES: usize = 33;

/// A set of fragment indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct IndexSet([u64; FRAGMENTS_MAX / 64]);

impl IndexSet {
    /// The set of one index.
    pub(super) fn one(index: usize) -> Self {
        std::iter::once(index).collect()
    }

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

    pub(super) fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// What is in `self` and not in `other`.
    pub(super) fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// The lowest indices, at most `count` of them.
    pub(super) fn first(self, count: usize) -> Self {
        if self.len() <= count {
            return self;
        }
        self.iter().take(count).collect()
    }

    /// How many indices of the set are lower.
    pub(super) fn rank(&self, index: usize) -> usize {
        let whole = self.0[..index / 64].iter().map(|word| word.count_ones());
        let part = self.0[index / 64] & ((1 << (index % 64)) - 1);
        (whole.sum::<u32>() + part.count_ones()) as usize
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Ascending. Works on a copy of the set.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
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

/// What the fragments that are not named are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Use {
    /// Lost or not needed: `k` sources give everything.
    Whole,
    /// Zero, but for this data fragment and parity: one source gives everything.
    Column(usize),
}

/// Which fragments are used, and which are made of them, both in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    pub(super) method: Use,
    pub(super) sources: IndexSet,
    pub(super) wanted: IndexSet,
}

impl Pattern {
    fn matrix(&self, codec: &Inner) -> Matrix {
        match self.method {
            Use::Whole => {
                let sources: Vec<usize> = self.sources.iter().collect();
                let wanted: Vec<usize> = self.wanted.iter().collect();
                codec.generator.decode_rows(&sources, &wanted)
            }
            Use::Column(index) => {
                let factor = |fragment| coefficient(codec, index, fragment);
                let divisor = self.sources.iter().map(factor).find_map(field::invert);
                let divisor = divisor.expect("an MDS code has no coefficient of zero");
                let wanted = self.wanted.iter().map(factor);
                Matrix::new(1, wanted.map(|f| field::multiply(f, divisor)).collect())
            }
        }
    }
}

/// What the data fragment at `index` is multiplied by to give its part of `fragment`.
fn coefficient(codec: &Inner, index: usize, fragment: usize) -> u8 {
    match fragment.checked_sub(codec.k) {
        Some(row) => codec.generator.row(row)[index],
        None => u8::from(fragment == index),
    }
}

/// The matrices of the patterns used last, at most `capacity`. Threads share it.
pub(super) struct PatternCache {
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    clock: u64,
    products: HashMap<Pattern, (u64, Arc<Product>)>,
}

impl PatternCache {
    pub(super) fn new(k: usize, m: usize) -> Self {
        // With k survivors at most m fragments are missing, each a row of k coefficients.
        let matrix_bytes = k * m * COEFFICIENT_BYTES;
        let capacity = (PATTERN_BYTES_MAX / matrix_bytes).clamp(1, PATTERNS_MAX);
        Self {
            capacity,
            entries: Mutex::default(),
        }
    }

    /// The matrix of a pattern.
    pub(super) fn product(&self, codec: &Inner, pattern: Pattern) -> Arc<Product> {
        if let Some(product) = self.lock().get(&pattern) {
            return product;
        }
        // Outside the lock: two threads may both make it, with the same result.
        let product = Arc::new(Product::new(codec.kernel, &pattern.matrix(codec)));
        self.lock()
            .insert(pattern, Arc::clone(&product), self.capacity);
        product
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many matrices are kept at the moment.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().products.len()
    }

    /// Whether the matrix of an erasure pattern is kept.
    #[cfg(test)]
    pub(super) fn holds(&self, survivors: &[usize], wanted: &[usize]) -> bool {
        let [sources, wanted] = [survivors, wanted].map(|list| list.iter().copied().collect());
        self.lock().products.contains_key(&Pattern {
            method: Use::Whole,
            sources,
            wanted,
        })
    }
}

impl Entries {
    fn get(&mut self, pattern: &Pattern) -> Option<Arc<Product>> {
        self.clock += 1;
        let (used, product) = self.products.get_mut(pattern)?;
        *used = self.clock;
        Some(Arc::clone(product))
    }

    fn insert(&mut self, pattern: Pattern, product: Arc<Product>, capacity: usize) {
        self.clock += 1;
        self.products.insert(pattern, (self.clock, product));
        if self.products.len() > capacity {
            let oldest = self.products.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(pattern) = oldest.map(|(pattern, _)| *pattern) {
                self.products.remove(&pattern);
            }
        }
    }
}
