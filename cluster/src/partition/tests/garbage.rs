//! Dead blobs, and condemned ones.

use enfilade_placement::{BlobId, Epoch, Stamp, VolumeId};

use crate::api::command::{KeyReply, PartitionCommand, Refusal, Versioning};
use crate::api::garbage::{GarbageAck, GarbageEntry, GarbageQuery};
use crate::api::record::{Blob, Place};
use crate::partition::{GARBAGE_GRACE_MS, read};
use crate::rows::Table;

use super::harness::{
    GROUP, Machine, condemn, create_upload, delete, inline, put, put_part, striped,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn due(machine: &Machine, shards: &[(u64, u8)], limit: u32) -> Vec<GarbageEntry> {
    let shard = |(volume, member): &(u64, u8)| (VolumeId::new(*volume), *member);
    let query = GarbageQuery {
        partition: GROUP,
        shards: shards.iter().map(shard).collect(),
        limit,
    };
    read::garbage(&machine.rows, &query, GARBAGE_GRACE_MS).unwrap()
}

fn blobs(entries: &[GarbageEntry]) -> Vec<u128> {
    entries.iter().map(|entry| entry.blob.get()).collect()
}

fn ack(machine: &mut Machine, entries: &[GarbageEntry], members: &[u8]) {
    let ack = |entry: &GarbageEntry| GarbageAck {
        sequence: entry.sequence,
        volume: entry.volume,
        epoch: Epoch::FIRST,
        members: members.to_vec(),
    };
    let acks = entries.iter().map(ack).collect();
    let outcome = machine.command(PartitionCommand::AckGarbage(acks));
    assert_eq!(outcome, Ok(KeyReply::Done));
}

#[test]
fn a_dead_blob_waits_for_the_grace_and_for_every_member() {
    let mut machine = Machine::new();
    machine.put("a", striped(1, 9, &[4, 5, 4]));
    machine.put("a", inline(2, 1));
    machine.tick(GARBAGE_GRACE_MS - 1);
    assert_eq!(due(&machine, &[(4, 0), (5, 3)], 10), []);
    machine.tick(1);
    let found = due(&machine, &[(4, 0), (5, 3), (6, 0)], 10);
    assert_eq!(blobs(&found), [1, 1]);
    let volumes: Vec<_> = found.iter().map(|e| (e.volume.get(), e.member)).collect();
    assert_eq!(volumes, [(4, 0), (5, 3)]);
    ack(&mut machine, &found[..1], &[0]);
    assert_eq!(due(&machine, &[(4, 0)], 10), []);
    // Twice, and for a member that no volume has: nothing happens.
    ack(&mut machine, &found[..1], &[0, 200, 127]);
    for member in 1..6 {
        let entries = due(&machine, &[(4, member)], 10);
        assert_eq!(entries.len(), 1, "{member}");
        ack(&mut machine, &entries, &[member]);
    }
    ack(&mut machine, &found[1..], &[0, 1, 2, 3, 4, 5]);
    let settled = [Machine::new().count(Table::Side) + 2 * 2 + 1];
    assert_eq!(
        [machine.count(Table::Side)],
        settled,
        "two results with their expiry, and the bucket's usage"
    );
}

#[test]
fn a_page_goes_on_where_the_member_has_acked() {
    let mut machine = Machine::new();
    for id in 1..=20 {
        machine.put("a", striped(id, 9, &[4]));
    }
    machine.put("a", inline(99, 1));
    machine.tick(GARBAGE_GRACE_MS);
    let mut seen = Vec::new();
    loop {
        let page = due(&machine, &[(4, 2)], 6);
        if page.is_empty() {
            break;
        }
        seen.extend(blobs(&page));
        ack(&mut machine, &page, &[2]);
    }
    assert_eq!(seen, (1..=20).collect::<Vec<u128>>());
    // Acks out of order hide nothing.
    let page = due(&machine, &[(4, 3)], 20);
    ack(&mut machine, &page[10..], &[3]);
    assert_eq!(
        blobs(&due(&machine, &[(4, 3)], 20)),
        (1..=10).collect::<Vec<u128>>()
    );
    machine.put("b", striped(50, 9, &[4]));
    machine.delete("b");
    machine.tick(GARBAGE_GRACE_MS);
    assert_eq!(blobs(&due(&machine, &[(4, 2)], 20)), [50]);
    assert_eq!(due(&machine, &[(4, 0), (4, 1)], 30).len(), 30);
    assert_eq!(due(&machine, &[(4, 0)], 0), []);
}

#[test]
fn a_blob_that_nothing_references_is_condemned_for_thirty_days() {
    let mut machine = Machine::new();
    assert_eq!(machine.op("a", condemn(1)), Ok(KeyReply::Condemned));
    assert_eq!(machine.op("a", condemn(1)), Ok(KeyReply::Condemned));
    let late = striped(1, 9, &[1]);
    assert_eq!(
        machine.op("a", put(late.clone())),
        Err(Refusal::BlobCondemned)
    );
    assert!(machine.op("a", create_upload(7)).is_ok());
    assert_eq!(
        machine.op("a", put_part(7, 1, late)),
        Err(Refusal::BlobCondemned)
    );
    let rows = machine.count(Table::Side);
    machine.tick(30 * DAY_MS);
    assert_eq!(machine.op("a", condemn(1)), Ok(KeyReply::Condemned));
    machine.tick(1);
    assert!(machine.count(Table::Side) < rows);
}

fn extents(blob: &Blob) -> KeyReply {
    match &blob.place {
        Place::Striped { extents, .. } => KeyReply::Referenced(extents.clone()),
        Place::Inline => panic!("inline"),
    }
}

#[test]
fn a_referenced_blob_is_not_condemned_whatever_references_it() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let all: Vec<Blob> = (1..=3).map(|id| striped(id, 9, &[1, 2])).collect();
    let stamp = machine.put("a", all[0].clone());
    machine.put("a", all[1].clone());
    assert!(machine.op("a", create_upload(7)).is_ok());
    assert!(machine.op("a", put_part(7, 1, all[2].clone())).is_ok());
    for blob in &all {
        assert_eq!(machine.op("a", condemn(blob.id.get())), Ok(extents(blob)));
        // Another key knows nothing of it; its owner is the one to ask.
        assert_eq!(
            machine.op("b", condemn(blob.id.get())),
            Ok(KeyReply::Condemned)
        );
    }
    assert!(machine.op("a", delete(Some(stamp))).is_ok());
    assert_eq!(machine.op("a", condemn(1)), Ok(KeyReply::Condemned));
    let stamp = Stamp::new(stamp);
    assert!(
        read::object(&machine.rows, &super::harness::at("a"), Some(stamp.into()))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_blob_has_one_reference() {
    let mut machine = Machine::new();
    machine.put("a", striped(1, 9, &[1]));
    machine.put("b", inline(2, 9));
    assert_eq!(
        machine.op("a", put(striped(1, 9, &[1]))),
        Err(Refusal::BlobReferenced)
    );
    assert_eq!(
        machine.op("b", put(inline(2, 9))),
        Err(Refusal::BlobReferenced)
    );
    assert!(machine.op("a", create_upload(7)).is_ok());
    let part = put_part(7, 1, striped(1, 9, &[1]));
    assert_eq!(machine.op("a", part), Err(Refusal::BlobReferenced));
    assert_eq!(
        read::inline(&machine.rows, &super::harness::at("b"), BlobId::new(2))
            .unwrap()
            .unwrap()
            .len(),
        9
    );
}
