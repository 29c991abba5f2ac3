//! Repair by the agents of a small cluster.

mod absent;
mod returned;

use bytes::Bytes;
use enfilade_cluster::api::command::{Conditions, KeyOp};
use enfilade_cluster::api::record::{Blob, Layout};
use enfilade_cluster::api::root::{LedgerRange, RootCommand};

use super::ward::{UNIT, Ward, root, until};
use super::*;
use crate::api::read::FragmentFault;

#[tokio::test]
async fn a_rotten_fragment_is_rebuilt_from_exactly_k_others_and_closed() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(77, 5 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    for (member, stripe) in [(0u8, 1u32), (3, 4)] {
        let before = ward.read_for_repair(member);
        ward.rot(member, blob.id, stripe);
        let corrupt = ward.read(member, blob.id, stripe).await;
        assert_eq!(corrupt, Err(FragmentFault::Corrupt));
        // Entered, rebuilt, closed.
        until("it is rebuilt", || async {
            ward.read(member, blob.id, stripe).await.is_ok()
        })
        .await;
        ward.until_clear().await;
        let back = ward.read(member, blob.id, stripe).await.unwrap();
        assert_eq!(back, members[usize::from(member)][stripe as usize]);
        let read = ward.read_for_repair(member) - before;
        assert_eq!(read, 2 * u64::from(UNIT), "k fragments, no more");
    }
    ward.stop().await;
}

#[tokio::test]
async fn a_fragment_of_a_shortened_stripe_is_rebuilt_from_one_other() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(78, 4000, Layout::Shortened).await;
    ward.commit(&blob).await;
    for member in [0u8, 2, 3] {
        ward.rot(member, blob.id, 0);
        let before = ward.read_for_repair(member);
        assert!(ward.read(member, blob.id, 0).await.is_err());
        until("it is rebuilt", || async {
            ward.read(member, blob.id, 0).await.is_ok()
        })
        .await;
        let back = ward.read(member, blob.id, 0).await.unwrap();
        assert_eq!(back, members[usize::from(member)][0]);
        ward.until_clear().await;
        assert_eq!(ward.read_for_repair(member) - before, u64::from(UNIT));
    }
    ward.stop().await;
}

#[tokio::test]
async fn missing_fragments_of_a_referenced_blob_are_rebuilt() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(79, 5 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    // As after a gateway met them missing. What lies outside the extents is not looked for.
    let key = ward.key(1);
    ward.engine(1)
        .delete(key, blob.id, Vec::new())
        .await
        .unwrap();
    let row = ward.row(1, LedgerRange::stripes(blob.id, 0..=9));
    root(&ward.metadata, RootCommand::ReportFaults(vec![row])).await;
    ward.until_clear().await;
    for stripe in 0..5 {
        let back = ward.read(1, blob.id, stripe).await.unwrap();
        assert_eq!(back, members[1][stripe as usize], "{stripe}");
    }
    let missing = ward.read(1, blob.id, 5).await;
    assert_eq!(missing, Err(FragmentFault::Missing));
    ward.stop().await;
}

#[tokio::test]
async fn an_entry_whose_fragment_is_whole_already_is_closed_without_reading_others() {
    let ward = Ward::new().await;
    let (blob, _) = ward.write(80, 3 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    // As after a crash between the rebuilt fragment and the end of its entry.
    let row = ward.row(2, LedgerRange::stripes(blob.id, 0..=2));
    root(&ward.metadata, RootCommand::ReportFaults(vec![row])).await;
    ward.until_clear().await;
    assert_eq!(ward.read_for_repair(2), 0);
    ward.stop().await;
}

#[tokio::test]
async fn what_nothing_references_is_no_entry_until_it_is_committed() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(81, 2 * 8192, Layout::Full).await;
    ward.rot(0, blob.id, 1);
    assert!(ward.read(0, blob.id, 1).await.is_err());
    until("it was entered and taken out", || async {
        let aside = !ward.stations[&1].agent.context.ledger.is_empty();
        aside && ward.ledger().await.is_empty()
    })
    .await;
    assert_eq!(ward.read_for_repair(0), 0);
    assert!(ward.read(0, blob.id, 1).await.is_err());
    ward.commit(&blob).await;
    until("it is rebuilt", || async {
        ward.read(0, blob.id, 1).await.is_ok()
    })
    .await;
    assert_eq!(ward.read(0, blob.id, 1).await.unwrap(), members[0][1]);
    ward.until_clear().await;
    ward.stop().await;
}

#[tokio::test]
async fn an_entry_of_a_blob_that_nobody_has_stays_until_it_is_known_to_be_dead() {
    let ward = Ward::new().await;
    let (blob, _) = ward.write(70, 2 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    // As when all drives forgot what they had synced, and a reader met that.
    for member in 0..4 {
        let engine = ward.engine(member);
        let gone = engine.delete(ward.key(member), blob.id, Vec::new());
        gone.await.unwrap();
    }
    let row = ward.row(0, LedgerRange::stripes(blob.id, 0..=1));
    root(&ward.metadata, RootCommand::ReportFaults(vec![row.clone()])).await;
    let metrics = ward.stations[&1].node.host().metrics().clone();
    until("it was tried", || async {
        metrics.repair.put_off.get() > 0
    })
    .await;
    assert_eq!(ward.ledger().await, [row]);
    let delete = KeyOp::Delete {
        version: None,
        conditions: Conditions::default(),
        modified_ms: 0,
    };
    ward.key_op(blob.id, delete).await;
    ward.metadata.advance(Duration::from_secs(3600));
    ward.until_clear().await;
    ward.stop().await;
}

#[tokio::test]
async fn an_entry_stays_while_too_few_others_can_be_read() {
    let ward = Ward::new().await;
    let (blob, members) = ward.write(82, 2 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    for number in 2..=4 {
        ward.nodes.remove(EnclosureId::new(number));
    }
    ward.nodes.insert(&ward.stations[&2].node);
    ward.rot(0, blob.id, 0);
    assert!(ward.read(0, blob.id, 0).await.is_err());
    ward.until_listed().await;
    let metrics = ward.stations[&1].node.host().metrics().clone();
    until("it was tried", || async {
        metrics.repair.put_off.get() > 0
    })
    .await;
    assert_eq!(ward.read_for_repair(0), 0, "nothing is read in vain");
    assert!(!ward.ledger().await.is_empty());
    assert!(ward.read(0, blob.id, 0).await.is_err());
    for number in 3..=4 {
        ward.nodes.insert(&ward.stations[&number].node);
    }
    ward.until_clear().await;
    assert_eq!(ward.read(0, blob.id, 0).await.unwrap(), members[0][0]);
    ward.stop().await;
}

#[tokio::test]
async fn a_damaged_log_is_made_whole_by_what_the_others_hold() {
    let mut ward = Ward::new().await;
    let mut written = Vec::new();
    for id in 90..96 {
        written.push(ward.write(id, 2 * 8192, Layout::Full).await);
    }
    for (blob, _) in &written[..5] {
        ward.commit(blob).await;
    }
    // The header of a record in the middle is gone, and the index with it.
    let (blob, members) = &written[2];
    let place = ward.engine(1).locate(ward.key(1), blob.id, 0).unwrap();
    let drive = ward.stations[&2].drive.clone();
    assert!(drive.rot(&place.0, place.1 - 100));
    ward.restart(1).await;
    until("it is whole", || async {
        ward.read(1, blob.id, 1).await.is_ok()
    })
    .await;
    assert_eq!(ward.read(1, blob.id, 0).await.unwrap(), members[1][0]);
    ward.until_clear().await;
    assert_eq!(ward.engine(1).shard_stats(ward.key(1)).unwrap().damaged, 0);
    let rebuilt = ward.stations[&2].node.host().metrics().repair.rebuilt.get();
    assert_eq!(rebuilt, 2, "what was lost, and no more");
    ward.stop().await;
}

#[tokio::test]
async fn traffic_is_counted_by_what_it_is_for() {
    use crate::api::Cause::{Compaction, Get, Put, Repair, Scrub};
    let ward = Ward::new().await;
    let (blob, _) = ward.write(77, 4 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    let metrics = ward.stations[&1].node.host().metrics().clone();
    let bytes = || {
        let causes = [Put, Get, Scrub, Compaction, Repair];
        causes.map(|cause| ["read", "write"].map(|way| metrics.traffic(cause, way)))
    };
    let unit = u64::from(UNIT);
    let put = [0, 4 * unit];
    assert_eq!(bytes(), [put, [0; 2], [0; 2], [0; 2], [0; 2]]);
    ward.engine(0).scrub(ward.key(0)).await.unwrap();
    let [_, get, [scrubbed, 0], compacted, repaired] = bytes() else {
        panic!("scrub writes nothing: {:?}", bytes());
    };
    assert!((4 * unit..5 * unit).contains(&scrubbed), "{scrubbed}");
    assert_eq!((get, compacted, repaired), ([0; 2], [0; 2], [0; 2]));
    ward.read(0, blob.id, 1).await.unwrap();
    ward.engine(0).compact(ward.key(0)).await.unwrap();
    let [_, _, _, [read, written], _] = bytes();
    assert!((4 * unit..5 * unit).contains(&read) && read == written);
    let others = [put, [unit, 0], [scrubbed, 0], [read, written], [0; 2]];
    assert_eq!(bytes(), others);
    // The others read for it; what it reads itself is to verify what it wrote.
    ward.rot(0, blob.id, 2);
    assert!(ward.read(0, blob.id, 2).await.is_err());
    until("it is rebuilt", || async {
        metrics.repair.rebuilt.get() == 1
    })
    .await;
    ward.until_clear().await;
    assert_eq!(ward.read_for_repair(0), 2 * unit);
    let repaired = [
        metrics.traffic(Repair, "read"),
        metrics.traffic(Repair, "write"),
    ];
    assert_eq!(repaired, [unit; 2]);
    assert_eq!(metrics.traffic(Get, "read"), unit);
    ward.stop().await;
}
