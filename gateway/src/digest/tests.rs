//! SHA and ETags; the rest is tested where it is.

use super::*;

/// The published values: FIPS 180 by coreutils.
#[test]
fn sha_of_the_nine_digits_is_the_published_one() {
    for (algorithm, expected) in [
        (
            ChecksumAlgorithm::Sha1,
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        ),
        (
            ChecksumAlgorithm::Sha256,
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ),
    ] {
        let mut sha = Sha::of(algorithm).unwrap();
        sha.update(b"1234");
        sha.update(b"");
        sha.update(b"56789");
        assert_eq!(hex::encode(sha.finish()), expected);
    }
    assert!(Sha::of(ChecksumAlgorithm::Crc32).is_none());
}

/// The check values of the catalogue of CRCs.
#[test]
fn crcs_of_the_nine_digits_are_the_published_ones() {
    for (crc, expected) in [
        (crc::Crc::Crc32, "cbf43926"),
        (crc::Crc::Crc32c, "e3069283"),
        (crc::Crc::Crc64Nvme, "ae8b14860a799888"),
    ] {
        let value = crc.of_bytes(b"123456789");
        assert_eq!(hex::encode(crc.to_bytes(value)), expected);
    }
}

#[test]
fn a_fast_etag_has_32_digits_and_a_dash_and_tells_lengths_apart() {
    let etag = fast_etag(0xae8b_1486_0a79_9888, 9);
    assert_eq!(etag, "ae8b14860a7998880000000000000009-1");
    assert_ne!(fast_etag(0, 0), fast_etag(0, 1));
}
