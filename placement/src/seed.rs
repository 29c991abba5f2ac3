//! Randomness that replays: the same seed gives the same draws on every machine and version.
//!
//! Decisions of this crate are committed and re-derived (tests, simulation, audits), so that their
//! source of randomness must never change under them, as that of a library may.

/// The generator SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// OOPSLA 2014). Not for secrets.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0. The bias is below `bound / 2^128`.
    pub fn below(&mut self, bound: u128) -> u128 {
        let wide = u128::from(self.bits()) << 64 | u128::from(self.bits());
        wide.checked_rem(bound).unwrap_or(0)
    }

    /// An index into a slice of `len` elements; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        let index = self.below(len as u128);
        usize::try_from(index).expect("below a usize")
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_the_published_generator() {
        let mut random = SplitMix64::new(1_234_567);
        let draws = [random.bits(), random.bits(), random.bits()];
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(draws, published);
    }

    #[test]
    fn a_shuffle_keeps_all_items_and_moves_each_everywhere() {
        let mut random = SplitMix64::new(7);
        let mut seen = [[0u32; 4]; 4];
        for _ in 0..4_000 {
            let mut items = [0, 1, 2, 3];
            random.shuffle(&mut items);
            for (place, item) in items.into_iter().enumerate() {
                seen[place][item] += 1;
            }
        }
        assert!(
            seen.iter().flatten().all(|n| (850..1150).contains(n)),
            "{seen:?}"
        );
    }

    #[test]
    fn an_empty_range_draws_zero() {
        assert_eq!(SplitMix64::new(1).below(0), 0);
        assert_eq!(SplitMix64::new(1).index(0), 0);
    }
}
