//! Multipart uploads.

use enfilade_placement::UploadId;

use crate::api::command::{ChosenPart, Conditions, ETags, KeyOp, KeyReply, Refusal, Versioning};
use crate::api::query::{PartsQuery, UploadsQuery};
use crate::api::record::{Blob, Checksum, ChecksumAlgorithm, ChecksumScope};
use crate::partition::read;
use crate::rows::Table;

use super::harness::{
    BUCKET, GROUP, Machine, at, create_upload, etag, inline, put, put_part, striped,
};

const MIB: u64 = 1024 * 1024;

pub(super) fn complete(upload: u128, parts: &[(u16, String)]) -> KeyOp {
    complete_if(upload, parts, Conditions::default())
}

fn complete_if(upload: u128, parts: &[(u16, String)], conditions: Conditions) -> KeyOp {
    KeyOp::CompleteUpload {
        upload: UploadId::new(upload),
        parts: parts
            .iter()
            .map(|(number, etag)| ChosenPart {
                number: *number,
                etag: etag.clone(),
                checksum: None,
            })
            .collect(),
        etag: format!("whole-{}", parts.len()),
        checksum: None,
        modified_ms: 5_000,
        conditions,
    }
}

fn named(number: u16, blob: &Blob) -> (u16, String) {
    (number, etag(blob))
}

fn with_parts(machine: &mut Machine, key: &str, upload: u128, parts: &[(u16, Blob)]) {
    assert_eq!(
        machine.op(key, create_upload(upload)),
        Ok(KeyReply::UploadCreated)
    );
    for (number, blob) in parts {
        let outcome = machine.op(key, put_part(upload, *number, blob.clone()));
        assert_eq!(outcome, Ok(KeyReply::PartPut));
    }
}

#[test]
fn named_parts_become_the_object_and_the_others_garbage() {
    let mut machine = Machine::new();
    let old = striped(9, 10, &[9]);
    machine.put("a", old);
    let first = striped(1, 5 * MIB, &[1]);
    let unnamed = striped(2, 5 * MIB, &[2]);
    let last = inline(3, 4);
    let parts = [(1, first.clone()), (2, unnamed), (10_000, last.clone())];
    with_parts(&mut machine, "a", 77, &parts);
    let op = complete(77, &[named(1, &first), named(10_000, &last)]);
    let len = 5 * MIB + 4;
    let reply = machine.op("a", op.clone()).unwrap();
    assert!(matches!(&reply, KeyReply::Completed { len: l, etag, .. }
        if *l == len && etag == "whole-2"));
    let record = machine.found("a").unwrap().record;
    assert_eq!(
        (record.len, record.parts.as_slice()),
        (len, [5 * MIB, 4].as_slice())
    );
    assert_eq!(
        (machine.count(Table::Uploads), machine.count(Table::Parts)),
        (0, 0)
    );
    assert_eq!(
        (machine.count(Table::Blobs), machine.count(Table::Inline)),
        (1, 1)
    );
    // Asked again within 7 days, under another request: the same answer, and nothing changes.
    machine.tick(7 * 24 * 60 * 60 * 1000);
    assert_eq!(machine.op("a", op.clone()), Ok(reply));
    machine.tick(1);
    assert_eq!(machine.op("a", op), Err(Refusal::NoSuchUpload));
    assert_eq!(machine.current("a"), Some(record.stamp.get()));
}

#[test]
fn a_completed_upload_stays_completed() {
    let mut machine = Machine::new();
    let blob = inline(1, 1);
    with_parts(&mut machine, "a", 7, &[(1, blob.clone())]);
    assert!(machine.op("a", complete(7, &[named(1, &blob)])).is_ok());
    let gone = Err(Refusal::NoSuchUpload);
    assert_eq!(machine.op("a", create_upload(7)), gone);
    assert_eq!(machine.op("a", put_part(7, 1, inline(2, 1))), gone);
    let abort = KeyOp::AbortUpload {
        upload: UploadId::new(7),
    };
    assert_eq!(machine.op("a", abort), gone);
}

#[test]
fn wrong_parts_are_refused_and_the_upload_stays() {
    let mut machine = Machine::new();
    let (small, big) = (striped(1, 5 * MIB - 1, &[1]), striped(2, 5 * MIB, &[1]));
    with_parts(
        &mut machine,
        "a",
        7,
        &[(1, small.clone()), (2, big.clone())],
    );
    for (parts, refusal) in [
        (vec![], Refusal::InvalidPartOrder),
        (
            vec![named(2, &big), named(1, &small)],
            Refusal::InvalidPartOrder,
        ),
        (
            vec![named(2, &big), named(2, &big)],
            Refusal::InvalidPartOrder,
        ),
        (
            vec![named(2, &big), named(3, &big)],
            Refusal::InvalidPart(3),
        ),
        (vec![named(2, &small)], Refusal::InvalidPart(2)),
        (
            vec![named(1, &small), named(2, &big)],
            Refusal::PartTooSmall(1),
        ),
    ] {
        assert_eq!(machine.op("a", complete(7, &parts)), Err(refusal));
    }
    assert_eq!(
        machine.op("a", complete(8, &[named(2, &big)])),
        Err(Refusal::NoSuchUpload)
    );
    for number in [0, 10_001, u16::MAX] {
        let outcome = machine.op("a", put_part(7, number, striped(5, 1, &[1])));
        assert_eq!(outcome, Err(Refusal::InvalidPart(number)));
    }
    let any = Conditions {
        if_match: Some(ETags::Any),
        if_none_match: None,
    };
    let outcome = machine.op("a", complete_if(7, &[named(2, &big)], any));
    assert_eq!(outcome, Err(Refusal::NoSuchKey));
    assert!(machine.op("a", complete(7, &[named(2, &big)])).is_ok());
}

#[test]
fn a_part_must_have_the_checksum_that_is_named() {
    let mut machine = Machine::new();
    assert!(machine.op("a", create_upload(7)).is_ok());
    let KeyOp::PutPart {
        upload,
        mut part,
        inline,
    } = put_part(7, 1, inline(1, 1))
    else {
        panic!("not a part");
    };
    part.checksum = Some(Checksum {
        algorithm: ChecksumAlgorithm::Crc32,
        scope: ChecksumScope::Composite,
        value: "right".to_owned(),
    });
    let etag = part.etag.clone();
    assert!(
        machine
            .op(
                "a",
                KeyOp::PutPart {
                    upload,
                    part,
                    inline
                }
            )
            .is_ok()
    );
    for (value, fits) in [("wrong", false), ("right", true)] {
        let KeyOp::CompleteUpload {
            upload,
            mut parts,
            etag,
            checksum,
            modified_ms,
            conditions,
        } = complete(7, &[(1, etag.clone())])
        else {
            panic!("not a completion");
        };
        parts[0].checksum = Some(value.to_owned());
        let op = KeyOp::CompleteUpload {
            upload,
            parts,
            etag,
            checksum,
            modified_ms,
            conditions,
        };
        assert_eq!(machine.op("a", op).is_ok(), fits, "{value}");
    }
}

#[test]
fn a_part_is_replaced_and_an_abort_drops_all() {
    let mut machine = Machine::new();
    with_parts(
        &mut machine,
        "a",
        7,
        &[(1, striped(1, 9, &[1])), (2, inline(2, 9))],
    );
    assert!(machine.op("a", put_part(7, 1, striped(3, 9, &[1]))).is_ok());
    assert!(machine.op("a", put_part(7, 2, inline(4, 9))).is_ok());
    assert_eq!(
        (machine.count(Table::Blobs), machine.count(Table::Inline)),
        (1, 1)
    );
    let upload = UploadId::new(7);
    assert_eq!(
        machine.op("a", KeyOp::AbortUpload { upload }),
        Ok(KeyReply::UploadAborted)
    );
    assert_eq!(
        machine.op("a", KeyOp::AbortUpload { upload }),
        Err(Refusal::NoSuchUpload)
    );
    let left = [Table::Uploads, Table::Parts, Table::Blobs, Table::Inline];
    assert!(left.iter().all(|table| machine.rows.is_empty(*table)));
}

#[test]
fn a_completed_object_is_versioned_as_a_put_is() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let old = machine.put("a", inline(1, 1));
    let blob = inline(2, 1);
    with_parts(&mut machine, "a", 7, &[(5, blob.clone())]);
    let reply = machine.op("a", complete(7, &[named(5, &blob)])).unwrap();
    assert!(matches!(
        reply,
        KeyReply::Completed {
            versioned: true,
            ..
        }
    ));
    let old = enfilade_placement::Stamp::new(old);
    assert!(
        read::object(&machine.rows, &at("a"), Some(old.into()))
            .unwrap()
            .is_some()
    );
}

#[test]
fn parts_are_listed_in_pages() {
    let mut machine = Machine::new();
    let parts: Vec<(u16, Blob)> = (1..=7).map(|n| (n, inline(n.into(), 1))).collect();
    with_parts(&mut machine, "a", 7, &parts);
    let page = |upload, after, limit| {
        let upload = UploadId::new(upload);
        let query = PartsQuery {
            upload,
            after,
            limit,
        };
        read::parts(&machine.rows, &at("a"), &query).unwrap()
    };
    let numbers = |page: &crate::api::query::PartsPage| {
        page.parts
            .iter()
            .map(|part| part.number)
            .collect::<Vec<_>>()
    };
    let first = page(7, 0, 3).unwrap();
    assert_eq!((numbers(&first), first.more), (vec![1, 2, 3], true));
    let last = page(7, 4, 3).unwrap();
    assert_eq!((numbers(&last), last.more), (vec![5, 6, 7], false));
    assert_eq!(page(7, u16::MAX, 3).unwrap().parts, []);
    assert!(!page(7, 0, 0).unwrap().more);
    assert_eq!(page(8, 0, 3), None);
}

#[test]
fn a_fenced_bucket_loses_its_uploads_and_nothing_else() {
    let mut machine = Machine::new();
    machine.put("a", inline(1, 1));
    for (upload, key) in [(7, "a"), (8, "b"), (9, "b")] {
        with_parts(
            &mut machine,
            key,
            upload,
            &[(1, striped(upload + 10, 9, &[1]))],
        );
    }
    machine.settings(Versioning::Off, true, true);
    assert!(machine.rows.is_empty(Table::Uploads) && machine.rows.is_empty(Table::Parts));
    assert!(machine.found("a").is_some());
    assert!(!read::is_empty(&machine.rows, GROUP, BUCKET).unwrap());
    let query = UploadsQuery {
        limit: 10,
        ..UploadsQuery::default()
    };
    let page = read::uploads(&machine.rows, GROUP, BUCKET, &query).unwrap();
    assert_eq!(page, crate::api::query::UploadsPage::default());
    machine.settings(Versioning::Off, false, false);
    assert!(machine.op("a", put(inline(2, 1))).is_ok());
}
