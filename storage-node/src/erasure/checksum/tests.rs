//! Golden values, and a bit by bit CRC32C as the reference.

use super::*;

const SEED: FragmentSeed = FragmentSeed {
    volume: 0x0102_0304_0506_0708,
    blob: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
    stripe: 0x0a0b_0c0d,
    index: 5,
};

/// CRC32C one bit at a time, as RFC 3720 (appendix B.4) defines it.
fn reference(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82F6_3B78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn reference_block(seed: FragmentSeed, block: u32, bytes: &[u8]) -> u32 {
    let mut all = Vec::new();
    all.extend(seed.volume.to_le_bytes());
    all.extend(seed.blob.to_le_bytes());
    all.extend(seed.stripe.to_le_bytes());
    all.push(seed.index);
    all.extend(block.to_le_bytes());
    assert_eq!(all.len(), 33);
    all.extend(bytes);
    reference(all)
}

fn fragment(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn checksums(seed: FragmentSeed, fragment: &[u8]) -> Vec<u32> {
    fragment_checksums(seed, fragment).collect()
}

#[test]
fn the_reference_is_the_crc_of_the_standard() {
    assert_eq!(reference(*b"123456789"), 0xE306_9283);
    assert_eq!(reference([0; 32]), 0x8A91_36AA);
}

/// Checksums are stored for ever. These come from another implementation, bit by bit.
#[test]
fn checksums_are_the_ones_on_the_drives() {
    let pinned = [0x3882_192c, 0xc49f_f526, 0x9fa6_3d5f];
    assert_eq!(checksums(SEED, &fragment(9000)), pinned);
    let zero = FragmentSeed {
        volume: 0,
        blob: 0,
        stripe: 0,
        index: 0,
    };
    assert_eq!(checksums(zero, &[0; 4096]), [0x2151_31ca]);
    assert_eq!(block_checksum(SEED, 0, &[]), 0x3de0_b894);
}

#[test]
fn checksums_equal_the_reference_at_every_length() {
    for length in (0..=640).chain([4095, 4096, 4097, 8192, 8320, 65536]) {
        let bytes = fragment(length);
        let expected: Vec<u32> = (0..)
            .zip(bytes.chunks(CHECKSUM_BLOCK_BYTES))
            .map(|(block, bytes)| reference_block(SEED, block, bytes))
            .collect();
        assert_eq!(checksums(SEED, &bytes), expected, "{length} bytes");
        assert_eq!(expected.len(), checksum_count(length));
        assert_eq!(verify(SEED, &bytes, &expected), Ok(()));
    }
}

#[test]
fn a_flipped_bit_is_found_in_its_block() {
    let mut bytes = fragment(9000);
    let sums = checksums(SEED, &bytes);
    for (position, block) in [
        (0, 0),
        (4095, 0),
        (4096, 1),
        (8191, 1),
        (8192, 2),
        (8999, 2),
    ] {
        bytes[position] ^= 0x10;
        assert_eq!(
            verify(SEED, &bytes, &sums),
            Err(ChecksumError::Mismatch { block })
        );
        bytes[position] ^= 0x10;
    }
    assert_eq!(verify(SEED, &bytes, &sums), Ok(()));
}

#[test]
fn right_bytes_in_the_wrong_place_are_found() {
    let bytes = fragment(4096);
    let sums = checksums(SEED, &bytes);
    let elsewhere = [
        FragmentSeed {
            volume: SEED.volume + 1,
            ..SEED
        },
        FragmentSeed {
            blob: SEED.blob ^ (1 << 127),
            ..SEED
        },
        FragmentSeed {
            stripe: SEED.stripe + 1,
            ..SEED
        },
        FragmentSeed {
            index: SEED.index + 1,
            ..SEED
        },
    ];
    for seed in elsewhere {
        assert_eq!(
            verify(seed, &bytes, &sums),
            Err(ChecksumError::Mismatch { block: 0 })
        );
    }
    let mismatch = Err(ChecksumError::Mismatch { block: 1 });
    assert_eq!(verify_blocks(SEED, 1, &bytes, &sums), mismatch);
}

#[test]
fn a_run_of_blocks_is_verified_by_itself() {
    let bytes = fragment(4 * CHECKSUM_BLOCK_BYTES + 128);
    let sums = checksums(SEED, &bytes);
    let run = &bytes[2 * CHECKSUM_BLOCK_BYTES..];
    assert_eq!(verify_blocks(SEED, 2, run, &sums[2..]), Ok(()));
    let mismatch = Err(ChecksumError::Mismatch { block: 1 });
    assert_eq!(verify_blocks(SEED, 1, run, &sums[2..]), mismatch);
    let far = verify_blocks(SEED, u32::MAX, run, &sums[2..]);
    assert_eq!(far, Err(ChecksumError::Mismatch { block: u32::MAX }));
}

#[test]
fn a_wrong_number_of_checksums_is_refused() {
    let bytes = fragment(4097);
    let sums = checksums(SEED, &bytes);
    let count = |actual| {
        Err(ChecksumError::Count {
            expected: 2,
            actual,
        })
    };
    assert_eq!(verify(SEED, &bytes, &sums[..1]), count(1));
    assert_eq!(verify(SEED, &bytes, &[sums[0], sums[1], 0]), count(3));
    assert_eq!(verify(SEED, &[], &[]), Ok(()));
}
