//! The codec against the crate that defines the code, against itself, and against bad arguments.

use proptest::prelude::{Just, ProptestConfig, Strategy, proptest};
use proptest::sample::subsequence;

use super::cache::{COEFFICIENT_BYTES, PATTERN_BYTES_MAX, PATTERNS_MAX};
use super::*;

const COLUMN_BYTES: usize = 4096;

/// Random but repeatable bytes (xorshift64).
fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ ((seed as u64 + 1) << 17);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn refs(fragments: &[Vec<u8>]) -> Vec<&[u8]> {
    fragments.iter().map(Vec::as_slice).collect()
}

fn muts(fragments: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    fragments.iter_mut().map(Vec::as_mut_slice).collect()
}

/// All fragments of one stripe, by the codec.
fn stripe(codec: &Codec, data: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0xAA; data[0].len()]; codec.m()];
    codec.encode(&refs(&data), &mut muts(&mut parity)).unwrap();
    data.into_iter().chain(parity).collect()
}

fn noisy_stripe(codec: &Codec, length: usize) -> Vec<Vec<u8>> {
    stripe(
        codec,
        (0..codec.k()).map(|index| noise(length, index)).collect(),
    )
}

/// Asserts that `wanted` come back, in that order, from the fragments at `present`.
#[track_caller]
fn check(codec: &Codec, stripe: &[Vec<u8>], present: &[usize], wanted: &[usize]) {
    let given: Vec<_> = present
        .iter()
        .map(|&index| (index, stripe[index].as_slice()))
        .collect();
    let mut restored = vec![vec![0x55; stripe[0].len()]; wanted.len()];
    let mut outputs: Vec<_> = wanted.iter().copied().zip(muts(&mut restored)).collect();
    codec.reconstruct(&given, &mut outputs).unwrap();
    for (index, fragment) in wanted.iter().zip(&restored) {
        assert!(
            *fragment == stripe[*index],
            "{codec:?}: {index} of {wanted:?} from {present:?}"
        );
    }
}

/// The parity that the crate gives to fragments of any length, by our rule: padded with zeros to
/// whole chunks, then cut.
fn parity_by_crate(m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let length = data[0].len();
    let mut padded = data.to_vec();
    for fragment in &mut padded {
        fragment.resize(length.next_multiple_of(64), 0);
    }
    let mut parity = reed_solomon_simd::encode(data.len(), m, &padded).unwrap();
    for fragment in &mut parity {
        assert!(fragment[length..].iter().all(|&byte| byte == 0));
        fragment.truncate(length);
    }
    parity
}

#[test]
fn every_kernel_gives_the_crates_parity_for_all_profiles_to_20_and_4_and_100_and_8() {
    let profiles = (2..=20).flat_map(|k| (1..=4).map(move |m| (k, m)));
    for (k, m) in profiles.chain([(9, 7), (16, 16), (100, 8)]) {
        for length in [1, 31, 33, 64, 100, 128, 191, 1001, 4096, 4352] {
            let data: Vec<_> = (0..k).map(|index| noise(length, index + length)).collect();
            let expected = parity_by_crate(m, &data);
            for kernel in Kernel::available() {
                let codec = Codec::with_kernel(k, m, kernel).unwrap();
                let mut parity = vec![vec![0xAA; length]; m];
                codec.encode(&refs(&data), &mut muts(&mut parity)).unwrap();
                assert!(parity == expected, "{kernel}, {k}+{m}, {length} bytes");
            }
        }
    }
}

#[test]
fn wide_profiles_and_mirrors_keep_the_crates_parity() {
    for (k, m) in [
        (1, 1),
        (1, 3),
        (3, 5),
        (4, 4),
        (100, 8),
        (100, 16),
        (240, 16),
    ] {
        let codec = Codec::new(k, m).unwrap();
        let stripe = noisy_stripe(&codec, 256);
        let parity = reed_solomon_simd::encode(k, m, &stripe[..k]).unwrap();
        assert!(stripe[k..] == parity, "{k}+{m}");
        let present: Vec<usize> = (m..k + m).collect();
        check(&codec, &stripe, &present, &(0..m).collect::<Vec<_>>());
    }
}

/// Parity is stored for ever, so the code may never change. These coefficients are those of
/// reed-solomon-simd 3.1.0; if a newer version fails here, keep the older one.
#[test]
fn the_generator_is_the_one_on_the_drives() {
    let rows = |k, m| {
        let generator = Matrix::generator(k, m).unwrap();
        (0..m)
            .map(|row| generator.row(row).to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(2, 1), GOLDEN_2_1);
    assert_eq!(rows(4, 2), GOLDEN_4_2);
    assert_eq!(rows(8, 3), GOLDEN_8_3);
}

const GOLDEN_2_1: [[u8; 2]; 1] = [[0x01, 0x01]];
const GOLDEN_4_2: [[u8; 4]; 2] = [[0x03, 0x02, 0x05, 0x04], [0x02, 0x03, 0x04, 0x05]];
const GOLDEN_8_3: [[u8; 8]; 3] = [
    [0x0c, 0x0f, 0x0a, 0x08, 0x0a, 0x0f, 0x08, 0x0c],
    [0x0f, 0x0c, 0x08, 0x0a, 0x0f, 0x0a, 0x0c, 0x08],
    [0x0a, 0x08, 0x0c, 0x0f, 0x08, 0x0c, 0x0a, 0x0f],
];

/// Restores all that is lost, for every set of at most m lost fragments.
fn lose_all_that_may_be_lost(totals: std::ops::RangeInclusive<usize>, length: usize) {
    for (total, m) in totals.flat_map(|total| (1..total).map(move |m| (total, m))) {
        let codec = Codec::new(total - m, m).unwrap();
        let stripe = noisy_stripe(&codec, length);
        for erased in 1_u32..1 << total {
            if erased.count_ones() as usize <= m {
                let (lost, present): (Vec<_>, Vec<_>) =
                    (0..total).partition(|&index| erased >> index & 1 == 1);
                check(&codec, &stripe, &present, &lost);
            }
        }
    }
}

#[test]
fn every_erasure_of_up_to_m_of_at_most_13_fragments_is_restored() {
    lose_all_that_may_be_lost(2..=13, 65);
}

#[test]
fn every_erasure_of_up_to_m_of_14_fragments_is_restored() {
    lose_all_that_may_be_lost(14..=14, 64);
}

#[test]
fn every_kernel_restores_random_erasures_of_wide_profiles_at_odd_lengths() {
    for kernel in Kernel::available() {
        for (k, m) in [(10, 4), (16, 4), (20, 4), (17, 16), (100, 8), (100, 16)] {
            let codec = Codec::with_kernel(k, m, kernel).unwrap();
            let stripe = noisy_stripe(&codec, 777);
            for round in 0..20 {
                let mut order: Vec<usize> = (0..k + m).collect();
                let keys = noise(2 * (k + m), round);
                order.sort_by_key(|&index| (keys[2 * index], keys[2 * index + 1]));
                let (lost, present) = order.split_at(1 + usize::from(keys[0]) % m);
                check(&codec, &stripe, present, lost);
            }
        }
    }
}

#[test]
fn parity_follows_a_change_of_data() {
    for kernel in Kernel::available() {
        for (k, m) in [(2, 1), (4, 2), (20, 4), (100, 8)] {
            let codec = Codec::with_kernel(k, m, kernel).unwrap();
            let mut before = noisy_stripe(&codec, 200);
            for index in [0, k / 2, k - 1] {
                let mut data = before[..k].to_vec();
                data[index] = noise(200, 1000 + index);
                let after = stripe(&codec, data);
                let changed = before[index].iter().zip(&after[index]);
                let delta: Vec<u8> = changed.map(|(old, new)| old ^ new).collect();
                let mut parity: Vec<_> = (k..).zip(muts(&mut before[k..])).collect();
                parity.reverse();
                // In two calls, each for a part of the parity.
                let (some, others) = parity.split_at_mut(m / 2);
                codec.update_parity(index, &delta, some).unwrap();
                codec.update_parity(index, &delta, others).unwrap();
                assert!(
                    before[k..] == after[k..],
                    "{kernel}, {k}+{m}, data at {index}"
                );
                before = after;
            }
        }
    }
}

#[test]
fn an_update_of_parity_refuses_bad_arguments_and_writes_nothing() {
    let codec = Codec::new(2, 2).unwrap();
    let update = |index, delta: usize, parity: [(usize, usize); 2]| {
        let mut fragments = parity.map(|(_, length)| vec![0x55; length]);
        let [first, second] = &mut fragments;
        let mut outputs = [
            (parity[0].0, &mut first[..]),
            (parity[1].0, &mut second[..]),
        ];
        let refused = codec
            .update_parity(index, &vec![1; delta], &mut outputs)
            .unwrap_err();
        assert!(fragments.iter().flatten().all(|&byte| byte == 0x55));
        refused
    };
    let range = |index, limit| ErasureError::IndexOutOfRange { index, limit };
    assert_eq!(update(2, 64, [(2, 64), (3, 64)]), range(2, 2));
    assert_eq!(update(0, 64, [(2, 64), (4, 64)]), range(4, 4));
    assert_eq!(
        update(0, 64, [(2, 64), (1, 64)]),
        ErasureError::NotParity { index: 1 }
    );
    assert_eq!(
        update(0, 64, [(3, 64), (3, 64)]),
        ErasureError::DuplicateIndex { index: 3 }
    );
    assert_eq!(update(0, 0, [(2, 0), (3, 0)]), ErasureError::Empty);
    let mismatch = |expected, actual| ErasureError::LengthMismatch { expected, actual };
    assert_eq!(update(0, 64, [(2, 64), (3, 65)]), mismatch(64, 65));
    assert_eq!(codec.update_parity(0, &[1], &mut []), Ok(()));
}

#[test]
fn a_range_of_columns_between_multiples_of_64_bytes_is_coded_on_its_own() {
    let codec = Codec::new(5, 3).unwrap();
    let stripe = noisy_stripe(&codec, 4096 + 77);
    for range in [0..64, 64..128, 192..4096, 4032..4096 + 77, 4096..4096 + 77] {
        let cut: Vec<_> = stripe
            .iter()
            .map(|fragment| fragment[range.clone()].to_vec())
            .collect();
        check(&codec, &cut, &[7, 6, 5, 4, 3], &[0, 1, 2]);
        check(&codec, &cut, &[0, 1, 2, 3, 4], &[6]);
    }
}

#[test]
fn a_kernel_has_a_name_and_only_one_that_runs_here_is_chosen() {
    for kernel in Kernel::ALL {
        assert_eq!(kernel.name().parse(), Ok(kernel));
        if !kernel.runs_here() {
            assert_eq!(kernel.choose(), Err(KernelError::NotHere { kernel }));
        }
    }
    let unknown = "AVX2".parse::<Kernel>().unwrap_err().to_string();
    assert!(
        unknown.contains("'AVX2'") && unknown.ends_with("scalar"),
        "{unknown}"
    );
    let kernel = Kernel::in_use();
    assert_eq!(Some(kernel), Kernel::available().next());
    assert_eq!(kernel.choose(), Ok(()));
    if kernel != Kernel::Scalar {
        let refused = Kernel::Scalar.choose();
        assert_eq!(refused, Err(KernelError::TooLate { kernel }));
    }
}

#[test]
fn lengths_that_are_no_multiple_of_a_column_are_restored() {
    let codec = Codec::new(4, 2).unwrap();
    for length in [
        128,
        384,
        COLUMN_BYTES - 128,
        COLUMN_BYTES + 128,
        65536,
        65536 + 1152,
    ] {
        let stripe = noisy_stripe(&codec, length);
        check(&codec, &stripe, &[1, 3, 4, 5], &[0, 2]);
        check(&codec, &stripe, &[0, 1, 2, 3], &[4, 5]);
    }
}

#[test]
fn parity_and_data_come_back_together_in_any_order() {
    let codec = Codec::new(6, 3).unwrap();
    let stripe = noisy_stripe(&codec, 512);
    check(&codec, &stripe, &[8, 5, 0, 3, 2, 4], &[7, 1, 6]);
    check(&codec, &stripe, &[8, 5, 0, 3, 2, 4], &[6]);
    check(&codec, &stripe, &[0, 1, 2, 3, 4, 5, 6, 8], &[7]);
}

#[test]
fn a_wanted_fragment_that_is_present_is_copied() {
    let codec = Codec::new(4, 2).unwrap();
    let stripe = noisy_stripe(&codec, 128);
    check(&codec, &stripe, &[5], &[5]);
    check(&codec, &stripe, &[0, 1, 2, 3, 5], &[5, 4, 0]);
    check(&codec, &stripe, &[], &[]);
}

#[test]
fn a_codec_is_shared_between_threads() {
    let codec = Codec::new(8, 3).unwrap();
    let stripe = noisy_stripe(&codec, 2 * COLUMN_BYTES);
    std::thread::scope(|scope| {
        for lost in 0..11 {
            let (codec, stripe) = (codec.clone(), &stripe);
            scope.spawn(move || {
                assert!(noisy_stripe(&codec, 2 * COLUMN_BYTES) == *stripe);
                let present: Vec<_> = (0..11).filter(|&index| index != lost).collect();
                check(&codec, stripe, &present, &[lost]);
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_k_fragments_restore_any_fragments(
        (codec, present, wanted, chunks) in (1..=20_usize, 1..=4_usize).prop_flat_map(|(k, m)| {
            let all = || (0..k + m).collect::<Vec<_>>();
            let present = subsequence(all(), k..=k + m).prop_shuffle();
            let wanted = subsequence(all(), 0..=k + m).prop_shuffle();
            (Just(Codec::new(k, m).unwrap()), present, wanted, 1..=40_usize)
        })
    ) {
        let stripe = noisy_stripe(&codec, chunks * 64);
        check(&codec, &stripe, &present, &wanted);
    }
}

#[test]
fn restored_data_is_that_of_the_crates_decoder() {
    let codec = Codec::new(20, 4).unwrap();
    let stripe = noisy_stripe(&codec, 256);
    let lost = [0, 7, 13, 19];
    let data = (0..20)
        .filter(|index| !lost.contains(index))
        .map(|i| (i, &stripe[i]));
    let parity = (0..4).map(|i| (i, &stripe[20 + i]));
    let by_crate = reed_solomon_simd::decode(20, 4, data, parity).unwrap();
    let present: Vec<_> = (0..24).filter(|index| !lost.contains(index)).collect();
    check(&codec, &stripe, &present, &lost);
    assert!(lost.iter().all(|index| by_crate[index] == stripe[*index]));
}

#[test]
fn a_shortened_stripe_has_the_bytes_of_the_full_code() {
    for (k, m) in [(1, 1), (2, 1), (4, 2), (8, 3), (20, 4)] {
        let codec = Codec::new(k, m).unwrap();
        for index in 0..k {
            let mut data = vec![vec![0; 1280]; k];
            data[index] = noise(1280, index);
            let full = stripe(&codec, data);
            let mut parity = vec![vec![0xAA; 1280]; m];
            codec
                .encode_shortened(index, &full[index], &mut muts(&mut parity))
                .unwrap();
            assert!(parity == full[k..], "{k}+{m}, data at {index}");

            for present in std::iter::once(index).chain(k..k + m) {
                let mut restored = vec![vec![0x55; 1280]; k + m];
                let mut outputs: Vec<_> = muts(&mut restored).into_iter().enumerate().collect();
                let given = (present, full[present].as_slice());
                codec
                    .reconstruct_shortened(index, given, &mut outputs)
                    .unwrap();
                assert!(restored == full, "{k}+{m}, data at {index} from {present}");
            }
        }
    }
}

#[test]
fn the_cache_of_decode_matrices_is_bounded() {
    let codec = Codec::new(20, 4).unwrap();
    let stripe = noisy_stripe(&codec, 128);
    for first in 0..20 {
        for second in first + 1..24 {
            let present: Vec<_> = (0..24).filter(|&i| i != first && i != second).collect();
            check(&codec, &stripe, &present, &[first]);
            check(&codec, &stripe, &present, &[first, second]);
        }
    }
    assert_eq!(codec.inner.cache.len(), PATTERNS_MAX);

    let wide = Codec::new(100, 16).unwrap();
    let stripe = noisy_stripe(&wide, 128);
    for lost in 0..100 {
        let present: Vec<_> = (0..116).filter(|&index| index != lost).collect();
        check(&wide, &stripe, &present, &[lost]);
    }
    assert!(wide.inner.cache.len() * 100 * 16 * COEFFICIENT_BYTES <= PATTERN_BYTES_MAX);
}

#[test]
fn a_repeated_pattern_is_kept_once_and_outlives_others() {
    let codec = Codec::new(20, 4).unwrap();
    let stripe = noisy_stripe(&codec, 128);
    let (often, mut others): (Vec<usize>, usize) = ((1..21).collect(), 0);
    check(&codec, &stripe, &often, &[0]);
    check(&codec, &stripe, &often, &[0]);
    assert_eq!(codec.inner.cache.len(), 1);
    for first in 1..20 {
        for second in first + 1..20 {
            let present: Vec<_> = (0..24).filter(|&i| i != first && i != second).collect();
            check(&codec, &stripe, &present, &[first, second]);
            check(&codec, &stripe, &present, &[second]);
            check(&codec, &stripe, &often, &[0]);
            others += 2;
        }
    }
    assert!(others > PATTERNS_MAX);
    assert!(codec.inner.cache.holds(&often, &[0]));
}

#[test]
fn a_profile_without_a_code_is_refused() {
    for (k, m) in [
        (0, 1),
        (1, 0),
        (0, 0),
        (255, 2),
        (200, 56),
        (251, 5),
        (usize::MAX, 2),
        (1, usize::MAX),
    ] {
        let refused = Codec::new(k, m).unwrap_err();
        assert_eq!(refused, ErasureError::UnsupportedProfile { k, m });
    }
}

#[test]
fn encoding_refuses_wrong_counts_and_lengths_and_writes_nothing() {
    let codec = Codec::new(2, 1).unwrap();
    let encode = |data: &[usize], parity: &[usize]| {
        let data: Vec<_> = data.iter().map(|&length| vec![1; length]).collect();
        let mut parity: Vec<_> = parity.iter().map(|&length| vec![0x55; length]).collect();
        let result = codec.encode(&refs(&data), &mut muts(&mut parity));
        assert!(result.is_ok() || parity.iter().flatten().all(|&byte| byte == 0x55));
        result
    };
    assert_eq!(encode(&[128, 128], &[128]), Ok(()));
    let count = |expected, actual| Err(ErasureError::FragmentCount { expected, actual });
    assert_eq!(encode(&[128], &[128]), count(2, 1));
    assert_eq!(encode(&[128; 3], &[128]), count(2, 3));
    assert_eq!(encode(&[128; 2], &[]), count(1, 0));
    assert_eq!(encode(&[0; 2], &[0]), Err(ErasureError::Empty));
    let mismatch = |expected, actual| Err(ErasureError::LengthMismatch { expected, actual });
    assert_eq!(encode(&[128, 256], &[128]), mismatch(128, 256));
    assert_eq!(encode(&[128, 128], &[256]), mismatch(128, 256));
}

#[test]
fn reconstruction_refuses_bad_arguments_and_writes_nothing() {
    let codec = Codec::new(2, 1).unwrap();
    let reconstruct = |present: &[(usize, usize)], wanted: &[(usize, usize)]| {
        let fragments: Vec<_> = present.iter().map(|&(_, length)| vec![1; length]).collect();
        let given: Vec<_> = present.iter().map(|p| p.0).zip(refs(&fragments)).collect();
        let mut restored: Vec<_> = wanted
            .iter()
            .map(|&(_, length)| vec![0x55; length])
            .collect();
        let mut outputs: Vec<_> = wanted
            .iter()
            .map(|w| w.0)
            .zip(muts(&mut restored))
            .collect();
        let error = codec.reconstruct(&given, &mut outputs).unwrap_err();
        assert!(restored.iter().flatten().all(|&byte| byte == 0x55));
        error
    };
    let few = |present| ErasureError::TooFewFragments { needed: 2, present };
    assert_eq!(reconstruct(&[(0, 128)], &[(1, 128)]), few(1));
    assert_eq!(reconstruct(&[(0, 128)], &[(0, 128), (1, 128)]), few(1));
    assert_eq!(reconstruct(&[], &[(1, 128)]), few(0));
    let range = |index| ErasureError::IndexOutOfRange { index, limit: 3 };
    assert_eq!(reconstruct(&[(0, 128), (3, 128)], &[(1, 128)]), range(3));
    assert_eq!(
        reconstruct(&[(0, 128), (1, 128)], &[(usize::MAX, 128)]),
        range(usize::MAX)
    );
    let twice = |index| ErasureError::DuplicateIndex { index };
    assert_eq!(reconstruct(&[(0, 128), (0, 128)], &[(1, 128)]), twice(0));
    assert_eq!(
        reconstruct(&[(0, 128), (1, 128)], &[(2, 128), (2, 128)]),
        twice(2)
    );
    let mismatch = ErasureError::LengthMismatch {
        expected: 128,
        actual: 256,
    };
    assert_eq!(reconstruct(&[(0, 128), (1, 256)], &[(2, 128)]), mismatch);
    assert_eq!(reconstruct(&[(0, 128), (1, 128)], &[(2, 256)]), mismatch);
    let empty = ErasureError::Empty;
    assert_eq!(reconstruct(&[(0, 0), (1, 0)], &[(2, 0)]), empty);
}

#[test]
fn the_shortened_code_refuses_bad_arguments() {
    let codec = Codec::new(2, 1).unwrap();
    let (data, mut out, mut other) = (vec![1; 128], vec![0; 128], vec![0; 128]);
    let no_data = ErasureError::IndexOutOfRange { index: 2, limit: 2 };
    assert_eq!(
        codec.encode_shortened(2, &data, &mut [&mut out]),
        Err(no_data.clone())
    );
    let count = ErasureError::FragmentCount {
        expected: 1,
        actual: 0,
    };
    assert_eq!(codec.encode_shortened(0, &data, &mut []), Err(count));
    assert_eq!(
        codec.encode_shortened(0, &[], &mut [&mut out]),
        Err(ErasureError::Empty)
    );

    let mut restore = |index, present, wanted: [usize; 2]| {
        let mut outputs = [
            (wanted[0], out.as_mut_slice()),
            (wanted[1], other.as_mut_slice()),
        ];
        codec
            .reconstruct_shortened(index, (present, &data), &mut outputs)
            .unwrap_err()
    };
    assert_eq!(restore(2, 0, [0, 1]), no_data);
    assert_eq!(
        restore(0, 1, [0, 2]),
        ErasureError::ImpliedFragment { index: 1 }
    );
    assert_eq!(
        restore(0, 3, [0, 1]),
        ErasureError::IndexOutOfRange { index: 3, limit: 3 }
    );
    assert_eq!(
        restore(0, 2, [0, 9]),
        ErasureError::IndexOutOfRange { index: 9, limit: 3 }
    );
    assert_eq!(
        restore(0, 2, [0, 0]),
        ErasureError::DuplicateIndex { index: 0 }
    );
}
