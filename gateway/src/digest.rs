//! Digests of bodies: MD5 for the ETag, CRC-64/NVME for the record, and what the client asked for.

use crc_fast::{CrcAlgorithm, Digest as Crc};
use enfilade_cluster::api::record::ChecksumAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Takes in the bytes of a body, in order, and gives its digests.
pub struct Digester {
    md5: Md5,
    crc64: Crc,
    asked: Vec<(ChecksumAlgorithm, Asked)>,
}

/// The digests of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// MD5.
    pub md5: [u8; 16],
    /// CRC-64/NVME.
    pub crc64: u64,
    /// The others that were asked for, in that order, as raw bytes (CRCs big endian).
    pub asked: Vec<(ChecksumAlgorithm, Vec<u8>)>,
}

enum Asked {
    Crc(Box<Crc>),
    /// The one that is computed anyway.
    Crc64Nvme,
    Sha1(Box<Sha1>),
    Sha256(Box<Sha256>),
}

impl Digester {
    /// Computes MD5, CRC-64/NVME, and these beside.
    pub fn new(asked: &[ChecksumAlgorithm]) -> Self {
        Self {
            md5: Md5::new(),
            crc64: Crc::new(CrcAlgorithm::Crc64Nvme),
            asked: asked
                .iter()
                .map(|algorithm| (*algorithm, Asked::new(*algorithm)))
                .collect(),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc64.update(bytes);
        for (_, digest) in &mut self.asked {
            digest.update(bytes);
        }
        self.md5.update(bytes);
    }

    /// The digests of all bytes so far.
    pub fn finish(self) -> Digests {
        let crc64 = self.crc64.finalize();
        let finish = |(algorithm, digest): (_, Asked)| (algorithm, digest.finish(crc64));
        Digests {
            md5: self.md5.finalize().into(),
            crc64,
            asked: self.asked.into_iter().map(finish).collect(),
        }
    }
}

impl Asked {
    fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Crc32 => Self::Crc(Box::new(Crc::new(CrcAlgorithm::Crc32IsoHdlc))),
            ChecksumAlgorithm::Crc32c => Self::Crc(Box::new(Crc::new(CrcAlgorithm::Crc32Iscsi))),
            ChecksumAlgorithm::Crc64Nvme => Self::Crc64Nvme,
            ChecksumAlgorithm::Sha1 => Self::Sha1(Box::default()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest) => digest.update(bytes),
            Self::Crc64Nvme => {}
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self, crc64: u64) -> Vec<u8> {
        match self {
            // The other two CRCs have 32 bits, in the low half.
            Self::Crc(digest) => digest.finalize().to_be_bytes()[4..].to_vec(),
            Self::Crc64Nvme => crc64.to_be_bytes().to_vec(),
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ChecksumAlgorithm; 5] = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];

    /// The check values of the catalogue of CRCs, and those of RFC 1321 and FIPS 180 by coreutils.
    #[test]
    fn digests_of_the_nine_digits_are_the_published_ones() {
        let mut digester = Digester::new(&ALL);
        digester.update(b"1234");
        digester.update(b"");
        digester.update(b"56789");
        let digests = digester.finish();
        assert_eq!(hex::encode(digests.md5), "25f9e794323b453885f5181f1b624d0b");
        assert_eq!(digests.crc64, 0xae8b_1486_0a79_9888);
        let asked: Vec<String> = digests
            .asked
            .iter()
            .map(|(_, value)| hex::encode(value))
            .collect();
        assert_eq!(
            asked,
            [
                "cbf43926",
                "e3069283",
                "ae8b14860a799888",
                "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ]
        );
        assert_eq!(
            digests
                .asked
                .iter()
                .map(|(algorithm, _)| *algorithm)
                .collect::<Vec<_>>(),
            ALL
        );
    }
}
