//! Content beyond what a record holds, and uploads of the largest kind.

use enfilade_placement::{BlobId, Stamp, UploadId, VolumeId};

use crate::api::command::{KeyOp, KeyReply, PartitionCommand, Versioning};
use crate::api::garbage::GarbageQuery;
use crate::api::record::{Blob, CONTENT_IN_RECORD_MAX, Content};
use crate::partition::{check, read};
use crate::rows::{Table, Txn};

use super::harness::{GROUP, Machine, at, condemn, create_upload, delete, etag, put_part, striped};
use super::multipart::complete;

const MIB: u64 = 1024 * 1024;

/// Applies without the checks after each, which look at every row.
pub(super) fn fast(machine: &mut Machine, ops: Vec<(&str, KeyOp)>) {
    let mut envelopes = Vec::new();
    for (key, op) in ops {
        let command = machine.key_command(key, op);
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
}

fn many_parts(machine: &mut Machine, key: &str, upload: u128, count: u16) -> Vec<Blob> {
    let id = |number: u16| (upload << 16) + u128::from(number);
    let blobs: Vec<Blob> = (1..=count)
        .map(|n| striped(id(n), 5 * MIB, &[u64::from(n % 3)]))
        .collect();
    let parts = (1..)
        .zip(&blobs)
        .map(|(n, blob)| (key, put_part(upload, n, blob.clone())));
    let ops = std::iter::once((key, create_upload(upload)))
        .chain(parts)
        .collect();
    fast(machine, ops);
    blobs
}

#[test]
fn ten_thousand_parts_complete_in_one_command_and_are_found_by_offset() {
    let mut machine = Machine::new();
    let blobs = many_parts(&mut machine, "a", 7, 10_000);
    let named: Vec<_> = (1..).zip(&blobs).map(|(n, blob)| (n, etag(blob))).collect();
    let reply = machine.op("a", complete(7, &named)).unwrap();
    let KeyReply::Completed { stamp, len, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(len, 10_000 * 5 * MIB);
    let record = machine.found("a").unwrap().record;
    assert_eq!(record.content, Content::Rows { blobs: 10_000 });
    let found = |offset, limit| read::blobs(&machine.rows, &at("a"), stamp, offset, limit).unwrap();
    for (offset, index) in [
        (0, 0),
        (1, 0),
        (5 * MIB - 1, 0),
        (5 * MIB, 1),
        (64 * 5 * MIB - 1, 63),
        (64 * 5 * MIB, 64),
        (len - 1, 9_999),
    ] {
        let from = found(offset, 3);
        assert_eq!(from[0].blob, blobs[index], "{offset}");
        assert_eq!(from[0].offset, index as u64 * 5 * MIB);
    }
    assert_eq!(found(0, 10_000).len(), 10_000);
    assert_eq!(found(62 * 5 * MIB, 5).len(), 5);
    assert_eq!(
        (found(len, 5), found(u64::MAX, 5), found(0, 0)),
        (vec![], vec![], vec![])
    );
    let other = read::blobs(&machine.rows, &at("a"), Stamp::new(stamp.get() + 1), 0, 5).unwrap();
    assert_eq!(other, []);
    for index in [0, 63, 64, 9_999] {
        let reply = machine.op("a", condemn(blobs[index].id.get()));
        assert!(matches!(reply, Ok(KeyReply::Referenced(_))), "{index}");
    }
    assert!(machine.op("a", delete(None)).is_ok());
    assert!(machine.rows.is_empty(Table::Content) && machine.rows.is_empty(Table::Blobs));
    machine.tick(crate::partition::GARBAGE_GRACE_MS);
    let shards = (0..3).map(|volume| (VolumeId::new(volume), 0)).collect();
    let query = GarbageQuery {
        partition: GROUP,
        shards,
        limit: u32::MAX,
    };
    let due = read::garbage(&machine.rows, &query, 0).unwrap();
    assert_eq!(due.len(), 10_000);
}

#[test]
fn one_heavy_blob_gets_a_row_of_its_own() {
    let mut machine = Machine::new();
    let light: Vec<u64> = (0..CONTENT_IN_RECORD_MAX as u64).collect();
    let heavy: Vec<u64> = (0..=CONTENT_IN_RECORD_MAX as u64).collect();
    machine.put("light", striped(1, 9, &light));
    assert_eq!(machine.count(Table::Content), 0);
    let stamp = machine.put("heavy", striped(2, 9, &heavy));
    assert_eq!(machine.count(Table::Content), 1);
    let found = read::blobs(&machine.rows, &at("heavy"), Stamp::new(stamp), 3, 9).unwrap();
    assert_eq!((found.len(), found[0].blob.id), (1, BlobId::new(2)));
    assert!(
        matches!(machine.op("heavy", condemn(2)), Ok(KeyReply::Referenced(e)) if e.len() == 65)
    );

    assert!(machine.op("parts", create_upload(7)).is_ok());
    let blobs = [
        striped(11, 5 * MIB, &[1]),
        striped(12, 5 * MIB, &heavy),
        striped(13, 5 * MIB, &[1]),
    ];
    for (number, blob) in (1..).zip(&blobs) {
        assert!(
            machine
                .op("parts", put_part(7, number, blob.clone()))
                .is_ok()
        );
    }
    let named: Vec<_> = (1..).zip(&blobs).map(|(n, blob)| (n, etag(blob))).collect();
    assert!(machine.op("parts", complete(7, &named)).is_ok());
    assert_eq!(machine.count(Table::Content), 1 + 3);
}

#[test]
fn aborting_the_uploads_of_a_bucket_goes_on_with_the_ticks() {
    let mut machine = Machine::new();
    for upload in 0..5u32 {
        many_parts(
            &mut machine,
            &format!("key-{upload}"),
            u128::from(upload) + 1,
            10_000,
        );
    }
    machine.revision += 1;
    let command = PartitionCommand::Bucket {
        bucket: super::harness::BUCKET,
        revision: machine.revision,
        versioning: Versioning::Off,
        fenced: true,
        abort_uploads: true,
    };
    let mut ticks = 0;
    let mut envelope = machine.envelope(command);
    loop {
        let mut txn = Txn::new(&machine.rows);
        assert!(
            crate::partition::apply(&mut txn, GROUP, &envelope)
                .unwrap()
                .is_ok()
        );
        let writes = txn.into_writes();
        assert!(writes.len() < 200_000);
        machine.rows.commit(writes);
        if machine.rows.is_empty(Table::Uploads) {
            break;
        }
        ticks += 1;
        envelope = machine.envelope(PartitionCommand::Tick { elapsed_ms: 1 });
    }
    assert_eq!(ticks, 2);
    assert!(machine.rows.is_empty(Table::Parts) && machine.rows.is_empty(Table::Blobs));
    assert_eq!(
        check::check(&machine.rows, GROUP).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn more_results_than_a_tick_removes_go_with_the_next_ones() {
    let mut machine = Machine::new();
    let most = crate::partition::apply::tick::EXPIRED_MAX;
    let ops = (0..most + 5).map(|_| ("a", delete(None))).collect();
    fast(&mut machine, ops);
    let upload = UploadId::new(1);
    let kept = Machine::new().count(Table::Side);
    let behind = |machine: &Machine| read::info(&machine.rows, GROUP).unwrap().unwrap().behind;
    assert!(!behind(&machine));
    machine.tick(60 * 60 * 1000 + 1);
    assert_eq!(machine.count(Table::Side), kept + 2 * 5);
    assert!(behind(&machine));
    machine.tick(0);
    assert!(!behind(&machine));
    assert_eq!(machine.count(Table::Side), kept);
    assert!(machine.op("a", KeyOp::AbortUpload { upload }).is_err());
    machine.tick(1);
    assert_eq!(machine.count(Table::Side), kept + 2);
}
