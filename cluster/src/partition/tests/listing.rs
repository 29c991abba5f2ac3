//! Listings against a naive one.

use std::collections::BTreeSet;

use enfilade_placement::{BucketId, UploadId};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use crate::api::command::{KeyOp, PartitionCommand};
use crate::api::query::{ListEntry, ListQuery, PAGE_MAX, UploadsQuery};
use crate::partition::read;
use crate::rows::Txn;

use super::harness::{BUCKET, GROUP, Machine, at, create_upload, inline, put};

/// Texts that meet: few letters, a zero byte, the delimiter, letters beyond ASCII.
fn text(most: usize) -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        3 => Just("a"), 2 => Just("b"), 3 => Just("/"), 1 => Just("\0"), 1 => Just("\u{ff}"),
        1 => Just("\u{10ffff}"), 1 => Just(".")
    ];
    vec(letter, 0..=most).prop_map(|letters| letters.concat())
}

fn filled(keys: &BTreeSet<String>, op: impl Fn(u128) -> KeyOp) -> Machine {
    let mut machine = Machine::new();
    let mut envelopes = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let command = machine.key_command(key, op(index as u128 + 1));
        envelopes.push(machine.envelope(command));
    }
    // Neighbours that must not show.
    for bucket in [BUCKET.get() - 1, BUCKET.get() + 1] {
        let command = PartitionCommand::Key {
            bucket: BucketId::new(bucket),
            revision: 1,
            key: "a".to_owned(),
            op: op(1_000 + u128::from(bucket)),
        };
        envelopes.push(machine.envelope(command));
    }
    let mut txn = Txn::new(&machine.rows);
    for envelope in &envelopes {
        assert!(
            crate::partition::apply(&mut txn, GROUP, envelope)
                .unwrap()
                .is_ok()
        );
    }
    let writes = txn.into_writes();
    machine.rows.commit(writes);
    machine
}

/// Names of objects and folded prefixes, by the words of [`ListQuery`].
fn naive(keys: &BTreeSet<String>, query: &ListQuery) -> Vec<(String, bool)> {
    let delimiter = query
        .delimiter
        .as_deref()
        .filter(|delimiter| !delimiter.is_empty());
    let entries = keys
        .iter()
        .filter(|key| key.starts_with(&query.prefix))
        .map(|key| {
            let rest = &key[query.prefix.len()..];
            let end = delimiter.and_then(|d| Some(query.prefix.len() + rest.find(d)? + d.len()));
            end.map_or((key.clone(), false), |end| (key[..end].to_owned(), true))
        });
    let entries: BTreeSet<(String, bool)> = entries.collect();
    let after = |name: &str| {
        let after = query.after.as_ref();
        after.is_none_or(|after| name.as_bytes() > after.as_bytes())
    };
    entries
        .into_iter()
        .filter(|(name, _)| after(name))
        .collect()
}

fn names(entries: &[ListEntry]) -> Vec<(String, bool)> {
    let name = |entry: &ListEntry| match entry {
        ListEntry::Object(object) => (object.key.clone(), false),
        ListEntry::Prefix(prefix) => (prefix.clone(), true),
    };
    entries.iter().map(name).collect()
}

fn delimiter() -> impl Strategy<Value = Option<String>> {
    let delimiters = prop_oneof![5 => Just("/"), 1 => Just("a/"), 1 => Just("\0"), 1 => Just("")];
    option::of(delimiters.prop_map(str::to_owned))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pages_together_are_the_naive_listing(
        keys in btree_set(text(5).prop_filter("no empty keys", |key| !key.is_empty()), 0..30),
        prefix in text(2), delimiter in delimiter(), after in option::of(text(4)), limit in 1u32..6,
    ) {
        let machine = filled(&keys, |id| put(inline(id, 1)));
        let mut query = ListQuery { prefix, delimiter, after, inside: false, limit };
        let expected = naive(&keys, &query);
        let mut seen = Vec::new();
        loop {
            let page = read::list(&machine.rows, GROUP, BUCKET, &query).unwrap();
            prop_assert!(page.entries.len() <= limit as usize);
            seen.extend(names(&page.entries));
            let Some(next) = page.next else { break };
            prop_assert!(!page.entries.is_empty());
            (query.after, query.inside) = (Some(next), page.inside);
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn uploads_are_listed_as_keys_are(
        keys in btree_set(text(4).prop_filter("no empty keys", |key| !key.is_empty()), 0..15),
        prefix in text(2), delimiter in delimiter(), limit in 1u32..5,
    ) {
        let mut machine = filled(&keys, create_upload);
        // A second upload of every other key.
        for (index, key) in keys.iter().enumerate().filter(|(index, _)| index % 2 == 0) {
            machine.op(key, create_upload(500 - index as u128)).unwrap();
        }
        let query = ListQuery { prefix, delimiter, after: None, inside: false, limit };
        let mut expected = Vec::new();
        for (name, folded) in naive(&keys, &query) {
            let index = keys.iter().position(|key| *key == name).unwrap_or_default() as u128;
            match folded {
                true => expected.push((name, None)),
                false => {
                    expected.push((name.clone(), Some(UploadId::new(index + 1))));
                    if index.is_multiple_of(2) {
                        expected.push((name, Some(UploadId::new(500 - index))));
                    }
                }
            }
        }
        let mut seen = Vec::new();
        let ListQuery { prefix, delimiter, .. } = query;
        let mut query = UploadsQuery { prefix, delimiter, after: None, limit };
        loop {
            let page = read::uploads(&machine.rows, GROUP, BUCKET, &query).unwrap();
            prop_assert!(page.uploads.len() + page.prefixes.len() <= limit as usize);
            let uploads = page.uploads.iter().map(|one| (one.key.clone(), Some(one.upload)));
            let prefixes = page.prefixes.iter().map(|prefix| (prefix.clone(), None));
            let mut entries: Vec<_> = uploads.chain(prefixes).collect();
            entries.sort();
            seen.extend(entries);
            if page.next.is_none() { break }
            query.after = page.next;
        }
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn a_page_is_bounded_and_an_empty_one_ends() {
    let keys: BTreeSet<String> = (0..PAGE_MAX + 5).map(|n| format!("{n:05}")).collect();
    let machine = filled(&keys, |id| put(inline(id, 1)));
    let query = |limit| ListQuery {
        limit,
        ..ListQuery::default()
    };
    let page = read::list(&machine.rows, GROUP, BUCKET, &query(u32::MAX)).unwrap();
    assert_eq!(
        (page.entries.len(), page.next.as_deref()),
        (PAGE_MAX as usize, Some("00999"))
    );
    let page = read::list(&machine.rows, GROUP, BUCKET, &query(0)).unwrap();
    assert_eq!((page.entries.len(), page.next), (0, None));
}

#[test]
fn the_longest_keys_are_listed_and_found() {
    let keys: BTreeSet<String> = ["\0", "\u{ff}", "\u{1f980}", "x"]
        .iter()
        .flat_map(|letter| [1024, 1020].map(|len| letter.repeat(len / letter.len())))
        .collect();
    let machine = filled(&keys, |id| put(inline(id, 1)));
    let query = ListQuery {
        limit: 3,
        ..ListQuery::default()
    };
    let page = read::list(&machine.rows, GROUP, BUCKET, &query).unwrap();
    let next = ListQuery {
        after: page.next,
        limit: 100,
        ..ListQuery::default()
    };
    let rest = read::list(&machine.rows, GROUP, BUCKET, &next).unwrap();
    let seen = names(&[page.entries, rest.entries].concat());
    assert!(seen.iter().map(|(name, _)| name).eq(keys.iter()));
    assert!(keys.iter().all(|key| machine.found(key).is_some()));
}

#[test]
fn a_partition_lists_its_range_only() {
    let keys: BTreeSet<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
    let mut machine = Machine::over(at("b").row_prefix(), Some(at("d").row_prefix()));
    // Rows of other partitions lie in the same tables.
    machine.rows = {
        let mut rows = filled(&keys, |id| put(inline(id, 1))).rows;
        let side = super::harness::dump(&machine.rows);
        rows.commit(
            side.into_iter()
                .map(|(table, key, value)| crate::rows::RowWrite {
                    table,
                    key,
                    value: Some(value),
                })
                .collect(),
        );
        rows
    };
    let query = ListQuery {
        limit: 10,
        ..ListQuery::default()
    };
    let page = read::list(&machine.rows, GROUP, BUCKET, &query).unwrap();
    assert_eq!(
        names(&page.entries),
        [("b".to_owned(), false), ("c".to_owned(), false)]
    );
    assert!(!read::is_empty(&machine.rows, GROUP, BUCKET).unwrap());
    let next = BucketId::new(BUCKET.get() + 1);
    assert!(read::is_empty(&machine.rows, GROUP, next).unwrap());
}
