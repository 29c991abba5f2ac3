//! CRCs: computed piece by piece wherever the bytes are in the cache, and put together.
//!
//! The CRC of two pieces follows from theirs and the length of the second, so pieces may be summed
//! in any order, on any core, and the parts of an upload need not be read again.

use crc_fast::{CrcAlgorithm, Digest};
use enfilade_cluster::api::record::ChecksumAlgorithm;

/// A CRC that can be put together of those of pieces. All of them begin and end with all ones and
/// are reflected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crc {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (iSCSI).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
}

/// Powers of x that are kept: x^(2^i) for every bit of a length in bits.
const POWERS: usize = 67;

impl Crc {
    /// The CRC of that name; none for the other digests.
    pub const fn of(algorithm: ChecksumAlgorithm) -> Option<Self> {
        match algorithm {
            ChecksumAlgorithm::Crc32 => Some(Self::Crc32),
            ChecksumAlgorithm::Crc32c => Some(Self::Crc32c),
            ChecksumAlgorithm::Crc64Nvme => Some(Self::Crc64Nvme),
            ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
        }
    }

    /// Begins one.
    pub fn begin(self) -> Digest {
        Digest::new(match self {
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
            Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
        })
    }

    /// The CRC of some bytes.
    pub fn of_bytes(self, bytes: &[u8]) -> u64 {
        let mut digest = self.begin();
        digest.update(bytes);
        digest.finalize()
    }

    /// The CRC of two pieces in a row; `len` is the length of the second, in bytes.
    pub fn combine(self, first: u64, second: u64, len: u64) -> u64 {
        let powers = match self {
            Self::Crc32 => &CRC32_POWERS,
            Self::Crc32c => &CRC32C_POWERS,
            Self::Crc64Nvme => &CRC64_POWERS,
        };
        // The first, times x for every bit of the second.
        let mut product = first;
        let mut left = len;
        for power in &powers[3..] {
            if left == 0 {
                break;
            }
            if left & 1 == 1 {
                product = multiply(product, *power, self.polynomial());
            }
            left >>= 1;
        }
        product ^ second
    }

    /// The value as clients write it: big endian.
    pub fn to_bytes(self, value: u64) -> Vec<u8> {
        let skip = match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 0,
        };
        value.to_be_bytes()[skip..].to_vec()
    }

    /// Which polynomial, reflected, and its highest power: the bit of x^0.
    const fn polynomial(self) -> Polynomial {
        match self {
            Self::Crc32 => (0xedb8_8320, 1 << 31),
            Self::Crc32c => (0x82f6_3b78, 1 << 31),
            Self::Crc64Nvme => (0x9a6c_9329_ac4b_c9b5, 1 << 63),
        }
    }
}

/// The polynomial, reflected, and the bit of x^0.
type Polynomial = (u64, u64);

static CRC32_POWERS: [u64; POWERS] = powers(Crc::Crc32.polynomial());
static CRC32C_POWERS: [u64; POWERS] = powers(Crc::Crc32c.polynomial());
static CRC64_POWERS: [u64; POWERS] = powers(Crc::Crc64Nvme.polynomial());

/// x^(2^i) modulo the polynomial, for every i.
const fn powers(polynomial: Polynomial) -> [u64; POWERS] {
    let mut powers = [0; POWERS];
    let mut power = polynomial.1 >> 1;
    let mut i = 0;
    while i < POWERS {
        powers[i] = power;
        power = multiply(power, power, polynomial);
        i += 1;
    }
    powers
}

/// The product modulo the polynomial.
const fn multiply(a: u64, mut b: u64, (polynomial, one): Polynomial) -> u64 {
    let (mut product, mut bit) = (0, one);
    while bit > 0 {
        if a & bit > 0 {
            product ^= b;
        }
        b = (b >> 1) ^ (polynomial & 0_u64.wrapping_sub(b & 1));
        bit >>= 1;
    }
    product
}

/// The CRCs of some bytes of a body: CRC-64/NVME, and the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crcs {
    /// CRC-64/NVME.
    pub crc64: u64,
    /// The other.
    pub asked: Option<(Crc, u64)>,
    /// Of how many bytes.
    pub len: u64,
}

/// The CRCs of a piece, under way.
pub struct CrcDigester {
    crc64: Digest,
    asked: Option<(Crc, Digest)>,
    len: u64,
}

impl CrcDigester {
    /// Begins a piece.
    pub fn new(asked: Option<Crc>) -> Self {
        let asked = asked.filter(|crc| *crc != Crc::Crc64Nvme);
        Self {
            crc64: Crc::Crc64Nvme.begin(),
            asked: asked.map(|crc| (crc, crc.begin())),
            len: 0,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc64.update(bytes);
        if let Some((_, digest)) = &mut self.asked {
            digest.update(bytes);
        }
        self.len += bytes.len() as u64;
    }

    /// The CRCs of the piece.
    pub fn finish(self) -> Crcs {
        Crcs {
            crc64: self.crc64.finalize(),
            asked: self.asked.map(|(crc, digest)| (crc, digest.finalize())),
            len: self.len,
        }
    }
}

impl Crcs {
    /// Those of no bytes.
    pub fn empty(asked: Option<Crc>) -> Self {
        CrcDigester::new(asked).finish()
    }

    /// Those of these bytes and, after them, `next`, of which the same was asked.
    pub fn then(&self, next: &Self) -> Self {
        let asked = self.asked.zip(next.asked);
        Self {
            crc64: Crc::Crc64Nvme.combine(self.crc64, next.crc64, next.len),
            asked: asked.map(|((crc, first), (_, second))| {
                let whole = crc.combine(first, second, next.len);
                (crc, whole)
            }),
            len: self.len + next.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [(Crc, CrcAlgorithm); 3] = [
        (Crc::Crc32, CrcAlgorithm::Crc32IsoHdlc),
        (Crc::Crc32c, CrcAlgorithm::Crc32Iscsi),
        (Crc::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
    ];

    proptest! {
        #[test]
        fn crcs_of_pieces_make_that_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for asked in [None, Some(Crc::Crc32), Some(Crc::Crc32c)] {
                let of = |bytes: &[u8]| {
                    let mut digester = CrcDigester::new(asked);
                    digester.update(bytes);
                    digester.finish()
                };
                let whole = cuts.windows(2).fold(Crcs::empty(asked), |whole, cut| {
                    whole.then(&of(&bytes[cut[0]..cut[1]]))
                });
                prop_assert_eq!(whole, of(&bytes));
            }
        }

        /// Lengths far beyond what a test can hash; crc-fast squares matrices.
        #[test]
        fn combining_agrees_with_crc_fast(first: u64, second: u64, len: u64) {
            for (crc, algorithm) in ALL {
                let mask = if crc == Crc::Crc64Nvme { u64::MAX } else { u64::from(u32::MAX) };
                let (first, second) = (first & mask, second & mask);
                // Longer than that overflows there.
                let len = len >> 8;
                prop_assert_eq!(
                    crc.combine(first, second, len),
                    crc_fast::checksum_combine(algorithm, first, second, len)
                );
            }
        }
    }
}
