//! Sizes in bytes, for people: parsed from and printed with binary units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(u64);

/// A size could not be read from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: write a number and B, KiB, MiB, GiB, TiB or PiB")]
pub struct ParseSizeError(String);

const UNITS: [(&str, u32); 6] = [
    ("PiB", 50),
    ("TiB", 40),
    ("GiB", 30),
    ("MiB", 20),
    ("KiB", 10),
    ("B", 0),
];

impl ByteSize {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many KiB.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// So many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// So many GiB.
    pub const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    /// With the largest unit of which there is at least one, to one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |shift: u32| self.0 >> shift > 0;
        match UNITS.iter().find(|(_, shift)| fits(*shift)) {
            None | Some((_, 0)) => write!(f, "{} B", self.0),
            Some((unit, shift)) => {
                let whole = self.0 >> shift;
                let tenth = ((self.0 >> (shift - 10)) & 1023) * 10 / 1024;
                write!(f, "{whole}.{tenth} {unit}")
            }
        }
    }
}

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    /// Reads `64KiB`, `64 KiB` or plain bytes; no fractions.
    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let error = || ParseSizeError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let number: u64 = number.parse().map_err(|_| error())?;
        let unit = unit.trim();
        let shift = match unit {
            "" => 0,
            _ => {
                UNITS
                    .iter()
                    .find(|(name, _)| *name == unit)
                    .ok_or_else(error)?
                    .1
            }
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_and_print_with_their_unit() {
        assert_eq!("64KiB".parse(), Ok(ByteSize::kib(64)));
        assert_eq!("3 GiB".parse(), Ok(ByteSize::gib(3)));
        assert_eq!("512".parse(), Ok(ByteSize::bytes(512)));
        assert_eq!(ByteSize::bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteSize::bytes(7).to_string(), "7 B");
    }

    #[test]
    fn bad_sizes_are_refused() {
        for text in [
            "",
            "KiB",
            "-1",
            "1.5GiB",
            "1 parsec",
            "99999999999999999999",
            "99999999PiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
