//! Versions as S3 keeps them.

use crate::api::command::{Conditions, ETags, KeyOp, KeyReply, Refusal, Versioning};
use crate::api::query::{ListedVersion, VersionsQuery};
use crate::api::record::{Lock, VersionKind};
use crate::partition::read;
use crate::rows::Table;

use super::harness::{BUCKET, GROUP, Machine, at, delete, inline, object, put, put_if, striped};

fn etags(texts: &[&str]) -> Option<ETags> {
    Some(ETags::These(
        texts.iter().map(|text| (*text).to_owned()).collect(),
    ))
}

#[test]
fn without_versioning_an_overwrite_replaces() {
    let mut machine = Machine::new();
    let first = machine.put("a", inline(1, 5));
    let second = machine.put("a", inline(2, 6));
    assert!(second > first);
    assert_eq!(
        (machine.current("a"), machine.count(Table::Inline)),
        (Some(second), 1)
    );
    assert_eq!(machine.delete("a"), (None, true));
    assert_eq!(machine.delete("a"), (None, false));
    assert_eq!(machine.count(Table::Inline), 0);
    assert_eq!(machine.found("a"), None);
}

#[test]
fn an_inline_object_is_found_with_its_bytes() {
    let mut machine = Machine::new();
    machine.put("a", inline(1, 5));
    machine.put("none", inline(2, 0));
    let found = machine.found("a").unwrap();
    assert_eq!((&*found.inline, found.record.len), (b"xxxxx".as_slice(), 5));
    assert!(machine.found("none").unwrap().inline.is_empty());
    machine.put("b", striped(3, 50, &[1, 2]));
    assert!(machine.found("b").unwrap().inline.is_empty());
}

#[test]
fn with_versioning_everything_stays_and_a_marker_hides() {
    let mut machine = Machine::new();
    let null = machine.put("a", inline(1, 5));
    machine.versioning(Versioning::Enabled);
    let second = machine.put("a", inline(2, 6));
    let (marker, existed) = machine.delete("a");
    assert!(existed && marker.unwrap() > second);
    let found = machine.found("a").unwrap().record;
    assert_eq!(
        (found.kind, Some(found.stamp.get())),
        (VersionKind::DeleteMarker, marker)
    );
    for stamp in [null, second] {
        let stamp = enfilade_placement::Stamp::new(stamp);
        let old = read::object(&machine.rows, &at("a"), Some(stamp.into()))
            .unwrap()
            .unwrap();
        assert_eq!(old.record.stamp, stamp);
    }
    // The marker goes: the object is back.
    let gone = machine.op("a", delete(marker));
    let marker = marker.map(enfilade_placement::Stamp::new);
    assert_eq!(
        gone,
        Ok(KeyReply::Deleted {
            marker,
            existed: true
        })
    );
    assert_eq!(machine.current("a"), Some(second));
    // So does the latest version: the one before takes its place.
    assert!(machine.op("a", delete(Some(second))).is_ok());
    assert_eq!(machine.current("a"), Some(null));
    assert!(machine.op("a", delete(Some(null))).is_ok());
    assert_eq!(machine.current("a"), None);
    let (marker, existed) = (None, false);
    assert_eq!(
        machine.op("a", delete(Some(null))),
        Ok(KeyReply::Deleted { marker, existed })
    );
}

#[test]
fn a_version_under_a_marker_stays_hidden_when_another_goes() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let first = machine.put("a", inline(1, 5));
    let second = machine.put("a", inline(2, 5));
    let marker = machine.delete("a").0;
    assert!(machine.op("a", delete(Some(second))).is_ok());
    assert_eq!(machine.current("a"), marker);
    let again = machine.delete("a").0;
    assert!(machine.op("a", delete(again)).is_ok());
    assert_eq!(machine.current("a"), marker);
    assert!(machine.op("a", delete(marker)).is_ok());
    assert_eq!(machine.current("a"), Some(first));
}

#[test]
fn suspended_versioning_replaces_the_null_version_wherever_it_is() {
    let mut machine = Machine::new();
    let null = machine.put("a", striped(1, 5, &[1]));
    machine.versioning(Versioning::Enabled);
    let kept = machine.put("a", inline(2, 6));
    machine.versioning(Versioning::Suspended);
    let second = machine.put("a", inline(3, 7));
    let version = |machine: &Machine, stamp| {
        let stamp = enfilade_placement::Stamp::new(stamp);
        read::object(&machine.rows, &at("a"), Some(stamp.into())).unwrap()
    };
    assert!(version(&machine, null).is_none());
    assert!(version(&machine, kept).is_some());
    let (marker, _) = machine.delete("a");
    assert!(version(&machine, second).is_none());
    assert!(
        version(&machine, marker.unwrap())
            .unwrap()
            .record
            .null_version
    );
    assert!(machine.op("a", delete(marker)).is_ok());
    assert_eq!(machine.current("a"), Some(kept));
}

#[test]
fn what_once_kept_versions_keeps_those_it_has() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let kept = machine.put("a", inline(1, 5));
    machine.versioning(Versioning::Off);
    machine.put("a", inline(2, 5));
    let marker = machine.delete("a").0;
    assert!(machine.op("a", delete(marker)).is_ok());
    assert_eq!(machine.current("a"), Some(kept));
}

#[test]
fn conditions_are_decided_on_the_current_object() {
    let mut machine = Machine::new();
    let if_match = |etags| Conditions {
        if_match: etags,
        if_none_match: None,
    };
    let if_none_match = |etags| Conditions {
        if_match: None,
        if_none_match: etags,
    };
    let failed = Err(Refusal::PreconditionFailed);
    let absent = Err(Refusal::NoSuchKey);
    assert_eq!(
        machine.op("a", put_if(inline(1, 1), if_match(Some(ETags::Any)))),
        absent
    );
    assert_eq!(
        machine.op("a", put_if(inline(1, 1), if_match(etags(&["x"])))),
        absent
    );
    assert!(
        machine
            .op("a", put_if(inline(1, 1), if_none_match(Some(ETags::Any))))
            .is_ok()
    );
    assert_eq!(
        machine.op("a", put_if(inline(2, 1), if_none_match(Some(ETags::Any)))),
        failed
    );
    let mine = etags(&["y", "etag-1"]);
    assert_eq!(
        machine.op("a", put_if(inline(2, 1), if_none_match(mine.clone()))),
        failed
    );
    assert_eq!(
        machine.op("a", put_if(inline(2, 1), if_match(etags(&["y"])))),
        failed
    );
    assert!(
        machine
            .op("a", put_if(inline(2, 1), if_match(mine)))
            .is_ok()
    );
    assert!(
        machine
            .op("a", put_if(inline(3, 1), if_none_match(etags(&["etag-1"]))))
            .is_ok()
    );
    let delete_if = |conditions| KeyOp::Delete {
        version: None,
        conditions,
        modified_ms: 0,
    };
    assert_eq!(
        machine.op("a", delete_if(if_match(etags(&["etag-1"])))),
        failed
    );
    assert!(
        machine
            .op("a", delete_if(if_match(etags(&["etag-3"]))))
            .is_ok()
    );
    assert_eq!(
        machine.op("a", delete_if(if_match(etags(&["etag-3"])))),
        absent
    );
}

#[test]
fn a_delete_marker_is_no_object_to_conditions() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    machine.put("a", inline(1, 1));
    machine.delete("a");
    let any = Conditions {
        if_match: None,
        if_none_match: Some(ETags::Any),
    };
    assert!(machine.op("a", put_if(inline(2, 1), any)).is_ok());
}

#[test]
fn a_locked_version_is_neither_deleted_nor_replaced() {
    let mut machine = Machine::new();
    for (key, lock) in [
        (
            "retained",
            Lock {
                retain_until: Some((2_001, true)),
                legal_hold: false,
            },
        ),
        (
            "held",
            Lock {
                retain_until: None,
                legal_hold: true,
            },
        ),
    ] {
        let mut new = object(inline(1, 1));
        new.attributes.lock = lock;
        let conditions = Conditions::default();
        let Ok(KeyReply::Put { stamp, .. }) = machine.op(
            key,
            KeyOp::Put {
                object: new,
                conditions,
            },
        ) else {
            panic!("not put");
        };
        assert_eq!(machine.op(key, delete(None)), Err(Refusal::Locked));
        assert_eq!(
            machine.op(key, delete(Some(stamp.get()))),
            Err(Refusal::Locked)
        );
        assert_eq!(machine.op(key, put(inline(2, 1))), Err(Refusal::Locked));
        machine.versioning(Versioning::Enabled);
        assert!(machine.op(key, delete(None)).is_ok());
        assert!(machine.op(key, put(inline(3, 1))).is_ok());
        machine.versioning(Versioning::Suspended);
        assert_eq!(machine.op(key, put(inline(4, 1))), Err(Refusal::Locked));
    }
    // Retention ends; a hold does not.
    let late = |version| KeyOp::Delete {
        version,
        conditions: Conditions::default(),
        modified_ms: 2_001,
    };
    let stamp = enfilade_placement::Stamp::new(1);
    assert!(machine.op("retained", late(Some(stamp.into()))).is_ok());
}

#[test]
fn the_newest_version_is_told_as_such_also_on_the_page_after_a_removed_row() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    machine.put("b", inline(1, 5));
    let (marker, _) = machine.delete("b");
    let after = |stamp| VersionsQuery {
        after: Some(("b".to_owned(), Some(enfilade_placement::Stamp::new(stamp)))),
        limit: 10,
        ..VersionsQuery::default()
    };
    let currents = |stamp| {
        let page = read::versions(&machine.rows, GROUP, BUCKET, &after(stamp)).unwrap();
        let current = |version: &ListedVersion| version.current;
        page.versions.iter().map(current).collect::<Vec<_>>()
    };
    // The page before ended where the row of the current object was removed.
    assert_eq!(currents(u64::MAX), [true, false]);
    assert_eq!(currents(marker.unwrap()), [false]);
}
