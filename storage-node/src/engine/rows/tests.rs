//! Runs of fragments are split and replaced without gaps or overlaps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::edit::cut;
use super::*;

fn run(payload: u64, lens: &[(u32, u32)]) -> RunRow {
    RunRow {
        record: 0,
        header_len: 100,
        payload,
        skip: 0,
        lens: lens.to_vec(),
    }
}

#[test]
fn a_part_of_a_run_knows_where_its_bytes_are() {
    let whole = run(1000, &[(3, 100), (1, 50), (2, 10)]);
    assert_eq!((whole.count(), whole.bytes()), (6, 370));
    assert_eq!(whole.fragment(3), Some((1300, 50)));
    assert_eq!(whole.fragment(5), Some((1360, 10)));
    assert_eq!(whole.fragment(6), None);
    let part = whole.part(2, 3).unwrap();
    assert_eq!(
        part,
        RunRow {
            skip: 2,
            ..run(1200, &[(1, 100), (1, 50), (1, 10)])
        }
    );
    assert_eq!(whole.part(2, 0), None);
    assert_eq!(whole.part(6, 1), None);
}

#[test]
fn names_of_logs_are_read_back_and_others_are_not() {
    let key = ShardKey {
        volume: VolumeId::new(12),
        member: 3,
    };
    assert_eq!(key.file(), "shards/12-3.log");
    assert_eq!(ShardKey::of_file("12-3.log"), Some(key));
    for name in [
        "12-3",
        "12-3.log.new",
        "-3.log",
        "012-3.log",
        "12-300.log",
        "+12-3.log",
    ] {
        assert_eq!(ShardKey::of_file(name), None, "{name}");
    }
    assert_eq!(key.successor(), "shards/12-3.log.new");
    assert!(ShardKey::is_successor("12-3.log.new"));
    assert!(!ShardKey::is_successor("12-3.log") && !ShardKey::is_successor("x.new"));
}

proptest! {
    #[test]
    fn cutting_a_run_loses_and_doubles_no_stripe(
        start in 0..20u32, lens in prop::collection::vec((1..4u32, 1..9u32), 1..4),
        first in 0..40u32, count in 1..20u32,
    ) {
        let whole = run(1000, &lens);
        let (kept, freed) = cut(start, &whole, (first, first + count - 1));
        let mut at = BTreeMap::new();
        for (from, part) in &kept {
            for index in 0..part.count() {
                let place = (part.fragment(index), part.skip + index);
                prop_assert!(at.insert(from + index, place).is_none());
            }
        }
        for index in 0..whole.count() {
            let stripe = start + index;
            let gone = (first..first + count).contains(&stripe);
            let expected = (!gone).then(|| (whole.fragment(index), index));
            prop_assert_eq!(at.remove(&stripe), expected);
        }
        prop_assert!(at.is_empty());
        let left: u64 = kept.iter().map(|(_, part)| part.bytes()).sum();
        prop_assert_eq!(left + freed.map_or(0, |freed| freed.len), whole.bytes());
    }
}

#[test]
fn rows_have_the_bytes_that_are_on_the_drives() {
    let key = ShardKey {
        volume: VolumeId::new(0x1234),
        member: 5,
    }
    .log(0x0102_0304_0506_0708);
    let blob = BlobId::new(0xb10b);
    let shard = ShardRow {
        incarnation: 1,
        position: 4096,
        sequence: 2,
        epoch: Epoch::new(3),
        fence: Epoch::new(4),
        live: 500,
        dead: 6,
        punched: 7,
        waste: 9,
        damaged: 8,
        successor: true,
    };
    let known = BlobRow {
        owner: None,
        committed: true,
        seen_ms: 300,
    };
    let rows = [
        (key.row(b's'), encoding::encode(&shard)),
        (
            key.stripe_row(b'r', blob, 12),
            encoding::encode(&run(4352, &[(3, 4224), (1, 128)])),
        ),
        (key.blob_row(b'm', blob), encoding::encode(&known)),
        (key.stripe_row(b'b', blob, 13), Vec::new()),
        (b"c".to_vec(), encoding::encode(&1000u64)),
    ];
    let line = |(key, value)| format!("{} {}\n", hex::encode(key), hex::encode(value));
    let text: String = rows.into_iter().map(line).collect();
    assert_eq!(text, include_str!("golden.txt"));
}
