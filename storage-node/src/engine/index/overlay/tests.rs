//! An overlay reads as the index will after its commit.

use proptest::prelude::*;

use super::*;
use crate::engine::index::MemoryIndex;

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..3u8, 0..4)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, value)| Change::Put(key, vec![value])),
        3 => key().prop_map(Change::Delete),
        1 => (key(), key()).prop_map(|(a, b)| {
            let (from, to) = if a < b { (a, b) } else { (b, a) };
            Change::DeleteRange(from, to)
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_read_through_it_is_what_a_commit_would_leave(
        before in prop::collection::vec(change(), 0..20),
        after in prop::collection::vec(change(), 0..20),
        queries in prop::collection::vec((key(), key(), 0..5usize), 1..20),
    ) {
        let (base, expected) = (MemoryIndex::default(), MemoryIndex::default());
        for index in [&base, &expected] {
            index.write(Batch { changes: before.clone() }).unwrap();
        }
        expected.write(Batch { changes: after.clone() }).unwrap();
        let overlay = Overlay::new(&base);
        overlay.write(Batch { changes: after }).unwrap();
        for round in 0..2 {
            for (a, b, limit) in &queries {
                prop_assert_eq!(overlay.get(a), expected.get(a));
                prop_assert_eq!(overlay.last(a, b), expected.last(a, b), "{:?}", round);
                prop_assert_eq!(overlay.scan(a, b, *limit), expected.scan(a, b, *limit));
            }
            overlay.commit().unwrap();
        }
        prop_assert_eq!(base.scan(&[], &[9], 100), expected.scan(&[], &[9], 100));
    }

    #[test]
    fn over_an_empty_base_it_reads_the_same_without_asking(
        changes in prop::collection::vec(change(), 0..20),
        queries in prop::collection::vec((key(), key(), 0..5usize), 1..20),
    ) {
        let (base, expected) = (MemoryIndex::default(), MemoryIndex::default());
        let overlay = Overlay::new(&base);
        overlay.set_alone();
        overlay.write(Batch { changes: changes.clone() }).unwrap();
        expected.write(Batch { changes }).unwrap();
        for round in 0..2 {
            for (a, b, limit) in &queries {
                prop_assert_eq!(overlay.get(a), expected.get(a));
                prop_assert_eq!(overlay.last(a, b), expected.last(a, b), "{:?}", round);
                prop_assert_eq!(overlay.scan(a, b, *limit), expected.scan(a, b, *limit));
            }
            overlay.commit().unwrap();
        }
    }
}
