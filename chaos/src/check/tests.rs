//! Violations that are planted into histories must be found, and sound histories must pass.

use super::*;
use crate::history::{AUDITOR, Entry, Outcome, Value};

fn value(name: &str) -> Value {
    Value {
        length: 10,
        digest: name.to_owned(),
        etag: format!("etag-{name}"),
    }
}

fn operation(number: u64, start: u64, action: Action) -> Operation {
    Operation {
        number,
        client: 0,
        start,
        end: start + 10,
        action,
        outcome: Outcome::Acked,
    }
}

fn put(number: u64, start: u64, name: &str) -> Operation {
    let (key, value) = ("k".to_owned(), value(name));
    operation(number, start, Action::Put { key, value })
}

fn delete(number: u64, start: u64) -> Operation {
    let key = "k".to_owned();
    operation(number, start, Action::Delete { key })
}

fn get(number: u64, start: u64, name: &str) -> Operation {
    let value = (!name.is_empty()).then(|| value(name));
    let key = "k".to_owned();
    operation(number, start, Action::Get { key, value })
}

fn audit(number: u64, start: u64, name: &str) -> Operation {
    Operation {
        client: AUDITOR,
        ..get(number, start, name)
    }
}

fn list(number: u64, start: u64, entries: &[(&str, &str)]) -> Operation {
    let listed = entries
        .iter()
        .map(|(key, name)| Entry {
            key: (*key).to_owned(),
            length: 10,
            etag: format!("etag-{name}"),
        })
        .collect();
    let prefix = String::new();
    operation(number, start, Action::List { prefix, listed })
}

fn unknown(mut operation: Operation) -> Operation {
    let why = "timed out".to_owned();
    operation.outcome = Outcome::Unknown { why };
    operation
}

fn kinds(operations: &[Operation]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = all(operations).iter().map(|finding| finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn a_sound_history_passes() {
    let operations = [
        get(1, 0, ""),
        put(2, 20, "a"),
        get(3, 40, "a"),
        list(4, 60, &[("k", "a")]),
        put(5, 80, "b"),
        delete(6, 100),
        get(7, 120, ""),
        list(8, 140, &[]),
        put(9, 160, "c"),
        audit(10, 180, "c"),
    ];
    assert_eq!(all(&operations), []);
}

#[test]
fn an_acked_write_that_is_gone_is_a_lost_ack() {
    let operations = [put(1, 0, "a"), audit(2, 20, "")];
    assert_eq!(kinds(&operations), [Kind::LostAck, Kind::NotLinearizable]);
}

#[test]
fn an_audit_that_finds_the_older_value_is_a_lost_ack_and_a_reader_stale() {
    let writes = [put(1, 0, "a"), put(2, 20, "b")];
    let mut operations = writes.to_vec();
    operations.push(audit(3, 40, "a"));
    assert_eq!(kinds(&operations), [Kind::LostAck, Kind::NotLinearizable]);
    let mut operations = writes.to_vec();
    operations.push(get(3, 40, "a"));
    assert_eq!(kinds(&operations), [Kind::StaleRead, Kind::NotLinearizable]);
}

#[test]
fn a_deleted_object_that_comes_back_is_stale() {
    let operations = [put(1, 0, "a"), delete(2, 20), get(3, 40, "a")];
    assert_eq!(kinds(&operations), [Kind::StaleRead, Kind::NotLinearizable]);
}

#[test]
fn bytes_of_no_write_and_a_wrong_etag_are_wrong_bytes() {
    let operations = [put(1, 0, "a"), audit(2, 20, "x")];
    assert_eq!(kinds(&operations), [Kind::WrongBytes]);
    let mut read = audit(2, 20, "a");
    if let Action::Get { value, .. } = &mut read.action {
        value.as_mut().unwrap().etag = "other".to_owned();
    }
    assert_eq!(kinds(&[put(1, 0, "a"), read]), [Kind::WrongBytes]);
}

#[test]
fn objects_from_nowhere_and_from_the_future_are_phantoms() {
    assert_eq!(kinds(&[get(1, 0, "x")]), [Kind::Phantom]);
    assert_eq!(kinds(&[list(1, 0, &[("k", "x")])]), [Kind::Phantom]);
    let operations = [get(1, 0, "a"), put(2, 20, "a")];
    assert_eq!(kinds(&operations), [Kind::Phantom, Kind::NotLinearizable]);
}

#[test]
fn a_write_that_was_refused_must_not_be_seen() {
    let mut refused = put(2, 20, "b");
    refused.outcome = Outcome::Conflict;
    let operations = [put(1, 0, "a"), refused, get(3, 40, "b")];
    assert_eq!(kinds(&operations), [Kind::WrongBytes]);
}

#[test]
fn a_write_of_unknown_outcome_may_have_happened_or_not_and_late() {
    let doubtful = unknown(put(2, 20, "b"));
    for seen in ["a", "b"] {
        let operations = [put(1, 0, "a"), doubtful.clone(), audit(3, 40, seen)];
        assert_eq!(all(&operations), []);
    }
    let late = [
        put(1, 0, "a"),
        doubtful.clone(),
        get(3, 40, "a"),
        audit(4, 60, "b"),
    ];
    assert_eq!(all(&late), []);
    let back = [put(1, 0, "a"), doubtful, get(3, 40, "b"), audit(4, 60, "a")];
    assert_eq!(kinds(&back), [Kind::NotLinearizable]);
}

#[test]
fn an_unknown_delete_explains_that_an_object_is_gone() {
    let operations = [put(1, 0, "a"), unknown(delete(2, 20)), audit(3, 40, "")];
    assert_eq!(all(&operations), []);
    let again = [
        put(1, 0, "a"),
        unknown(delete(2, 20)),
        get(3, 40, ""),
        audit(4, 60, "a"),
    ];
    assert_eq!(kinds(&again), [Kind::NotLinearizable]);
}

#[test]
fn a_listing_without_an_acked_object_or_with_an_old_one_is_found() {
    let operations = [put(1, 0, "a"), list(2, 20, &[])];
    assert_eq!(kinds(&operations), [Kind::LostAck, Kind::NotLinearizable]);
    let operations = [put(1, 0, "a"), put(2, 20, "b"), list(3, 40, &[("k", "a")])];
    assert_eq!(kinds(&operations), [Kind::StaleRead, Kind::NotLinearizable]);
    let operations = [put(1, 0, "a"), list(2, 20, &[("k", "x")])];
    assert_eq!(kinds(&operations), [Kind::WrongBytes]);
}

#[test]
fn a_listing_with_a_key_twice_is_found() {
    let twice = [("k", "a"), ("k", "a")];
    let operations = [put(1, 0, "a"), list(2, 20, &twice)];
    assert_eq!(kinds(&operations), [Kind::BadListing]);
}

#[test]
fn an_order_that_no_pair_of_operations_forbids_can_still_be_impossible() {
    // Two writes overlap; one reader sees a then b, another b then a.
    let mut first = put(1, 0, "a");
    let mut second = put(2, 0, "b");
    (first.end, second.end) = (1000, 1000);
    let operations = [
        first,
        second,
        get(3, 20, "a"),
        get(4, 40, "b"),
        get(5, 60, "a"),
    ];
    assert_eq!(kinds(&operations), [Kind::NotLinearizable]);
}

#[test]
fn a_wrong_etag_that_a_writer_was_given_is_found() {
    let what = format!("{WRONG_ETAG} k: acked with etag 'x'");
    let operations = [operation(1, 0, Action::Fault { what })];
    assert_eq!(kinds(&operations), [Kind::WrongBytes]);
}
