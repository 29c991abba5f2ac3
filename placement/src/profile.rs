//! Erasure-coding profiles and the geometry that follows from one.
//!
//! A blob of `len` bytes is cut into stripes of `k * unit` bytes, numbered from 0. The last stripe
//! may be short: its unit shrinks to `ceil(rest / k)`, rounded up to [`UNIT_ALIGN`] bytes, and its
//! data is padded with zeros to `k` units. Fragment `i < k` of a stripe is its `i`-th unit of data;
//! fragments `k..k+m` are parity. Fragment `i` lives on member `i` of the stripe's volume.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Every unit is a multiple of this many bytes, as the codec's kernels need it (DESIGN §2).
pub const UNIT_ALIGN: u32 = 128;

/// The unit of a profile unless set otherwise: small enough for a stripe to stay in the L2 cache.
pub const UNIT_DEFAULT: u32 = 64 * 1024;

const UNIT_MAX: u32 = 1024 * 1024;
const DATA_MAX: u8 = 100;
const PARITY_MAX: u8 = 16;

/// An erasure-coding scheme `k+m`: any `k` of the `k + m` fragments of a stripe give its data back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Profile {
    k: u8,
    m: u8,
    unit: u32,
}

/// The fields of a profile as they come from a file or another process.
#[derive(Deserialize)]
struct Unchecked {
    k: u8,
    m: u8,
    unit: u32,
}

impl TryFrom<Unchecked> for Profile {
    type Error = ProfileError;

    fn try_from(Unchecked { k, m, unit }: Unchecked) -> Result<Self, ProfileError> {
        Self::new(k, m)?.with_unit(unit)
    }
}

/// A profile that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not of the form `k+m`.
    #[error("'{0}' is not a profile: write k+m, for instance 4+2")]
    Syntax(String),
    /// `k` or `m` out of range.
    #[error("profile {k}+{m}: k must be 1 to {DATA_MAX} and m 1 to {PARITY_MAX}")]
    Range {
        /// Data fragments asked for.
        k: u8,
        /// Parity fragments asked for.
        m: u8,
    },
    /// The unit is not a multiple of [`UNIT_ALIGN`] within 4 KiB to 1 MiB.
    #[error("unit of {0} bytes: must be a multiple of {UNIT_ALIGN}, 4096 to {UNIT_MAX}")]
    Unit(u32),
}

impl Profile {
    /// A profile with the default unit.
    ///
    /// # Errors
    /// When `k` or `m` is out of range.
    pub const fn new(k: u8, m: u8) -> Result<Self, ProfileError> {
        if k == 0 || k > DATA_MAX || m == 0 || m > PARITY_MAX {
            return Err(ProfileError::Range { k, m });
        }
        Ok(Self {
            k,
            m,
            unit: UNIT_DEFAULT,
        })
    }

    /// The same profile with another unit, in bytes.
    ///
    /// # Errors
    /// When the unit is not a multiple of [`UNIT_ALIGN`] from 4 KiB to 1 MiB.
    pub const fn with_unit(self, unit: u32) -> Result<Self, ProfileError> {
        if unit < 4096 || unit > UNIT_MAX || !unit.is_multiple_of(UNIT_ALIGN) {
            return Err(ProfileError::Unit(unit));
        }
        Ok(Self { unit, ..self })
    }

    /// Data fragments of a stripe.
    pub const fn k(self) -> usize {
        self.k as usize
    }

    /// Parity fragments of a stripe: how many may be lost.
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// Fragments of a stripe, and members of a volume.
    pub const fn width(self) -> usize {
        self.k() + self.m()
    }

    /// Bytes of one fragment of a full stripe.
    pub const fn unit(self) -> u32 {
        self.unit
    }

    /// Bytes of data in a full stripe.
    pub const fn stripe_len(self) -> u64 {
        self.k as u64 * self.unit as u64
    }

    /// The fewest members that must have synced a stripe before it may be acked (PROTOCOLS 11).
    pub const fn ack_floor(self) -> usize {
        self.k() + 1
    }

    /// Stripes of a blob of `len` bytes.
    pub const fn stripes(self, len: u64) -> u64 {
        len.div_ceil(self.stripe_len())
    }

    /// Bytes of data (without padding) in stripe `stripe` of a blob of `len` bytes; 0 past its end.
    pub fn data_len(self, stripe: u64, len: u64) -> u64 {
        let start = stripe.saturating_mul(self.stripe_len());
        len.saturating_sub(start).min(self.stripe_len())
    }

    /// Bytes of one fragment of a stripe that holds `data_len` bytes of data; those beyond a full
    /// stripe do not count.
    pub fn unit_for(self, data_len: u64) -> u32 {
        let data_len = data_len.min(self.stripe_len());
        let unit = data_len
            .div_ceil(self.k as u64)
            .next_multiple_of(u64::from(UNIT_ALIGN));
        u32::try_from(unit).map_or(self.unit, |unit| unit.min(self.unit))
    }

    /// Bytes of one fragment of stripe `stripe` of a blob of `len` bytes.
    pub fn unit_at(self, stripe: u64, len: u64) -> u32 {
        self.unit_for(self.data_len(stripe, len))
    }

    /// The stripes that hold the bytes `range` of a blob.
    pub const fn stripes_of(self, range: &Range<u64>) -> Range<u64> {
        if range.start >= range.end {
            return 0..0;
        }
        range.start / self.stripe_len()..range.end.div_ceil(self.stripe_len())
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let syntax = || ProfileError::Syntax(text.to_owned());
        let (k, m) = text.split_once('+').ok_or_else(syntax)?;
        let k = k.trim().parse().map_err(|_| syntax())?;
        let m = m.trim().parse().map_err(|_| syntax())?;
        Self::new(k, m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_profile_reads_back_from_its_text() {
        let profile: Profile = "4+2".parse().unwrap();
        assert_eq!(
            (profile.k(), profile.m(), profile.to_string().as_str()),
            (4, 2, "4+2")
        );
    }

    #[test]
    fn impossible_profiles_are_refused() {
        for text in [
            "", "4", "4+", "+2", "0+2", "4+0", "101+2", "4+17", "4-2", "-4+2", "999+1",
        ] {
            assert!(text.parse::<Profile>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_stripe_shrinks_its_unit_to_keep_the_overhead() {
        let profile = Profile::new(4, 2).unwrap();
        assert_eq!(profile.unit_at(0, 20_000), 5_120);
        assert_eq!(profile.unit_at(0, 262_144), 65_536);
        assert_eq!(profile.unit_at(1, 262_145), 128);
    }

    #[test]
    fn a_profile_from_outside_is_checked() {
        let profile = Profile::new(4, 2).unwrap();
        let bytes = postcard::to_allocvec(&profile).unwrap();
        assert_eq!(bytes, [4, 2, 0x80, 0x80, 4]);
        assert_eq!(postcard::from_bytes(&bytes), Ok(profile));
        for bad in [
            [0, 2, 0x80, 0x80, 4],
            [4, 0, 0x80, 0x80, 4],
            [4, 2, 0x81, 0x80, 4],
        ] {
            assert!(postcard::from_bytes::<Profile>(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_fragment_is_never_longer_than_the_unit() {
        assert_eq!(Profile::new(1, 1).unwrap().unit_for(u64::MAX), 65_536);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn stripes_cover_a_blob_exactly(k in 1u8..=20, m in 1u8..=4, len in any::<u32>()) {
            let (profile, len) = (Profile::new(k, m).unwrap(), u64::from(len));
            let stripes = profile.stripes(len);
            let sum: u64 = (0..stripes).map(|s| profile.data_len(s, len)).sum();
            prop_assert_eq!(sum, len);
            for stripe in stripes.saturating_sub(2)..stripes {
                let unit = u64::from(profile.unit_at(stripe, len));
                prop_assert!(unit * profile.k() as u64 >= profile.data_len(stripe, len));
                prop_assert_eq!(unit % u64::from(UNIT_ALIGN), 0);
            }
            prop_assert_eq!(profile.data_len(stripes, len), 0);
        }
    }
}
