//! Logs that are gone are noticed, entered and made whole.

use super::*;
use crate::agent::tests::ward::{UNIT, profile};
use crate::api::read::InventoryRequest;
use crate::api::shape::Shape;

impl Ward {
    /// Writes and commits some blobs.
    async fn fill(&self) -> Vec<(Blob, Vec<Vec<Bytes>>)> {
        let mut written = Vec::new();
        for id in 100..104 {
            let (blob, members) = self.write(id, 2 * 8192, Layout::Full).await;
            self.commit(&blob).await;
            written.push((blob, members));
        }
        written
    }

    fn drive(&self, member: u8) -> MemoryDrive {
        self.stations[&(u32::from(member) + 1)].drive.clone()
    }

    async fn until_whole(&self, member: u8, written: &[(Blob, Vec<Vec<Bytes>>)]) {
        for (blob, members) in written {
            for stripe in 0..2u32 {
                until("it is rebuilt", || async {
                    self.read(member, blob.id, stripe).await.is_ok()
                })
                .await;
                let back = self.read(member, blob.id, stripe).await.unwrap();
                assert_eq!(back, members[usize::from(member)][stripe as usize]);
            }
        }
        self.until_clear().await;
        let stats = self.engine(member).shard_stats(self.key(member)).unwrap();
        assert_eq!(stats.damaged, 0);
    }
}

#[tokio::test]
async fn a_log_that_vanishes_under_a_running_node_is_entered_and_rebuilt() {
    let ward = Ward::new().await;
    let written = ward.fill().await;
    // Too few others answer to rebuild anything: what is entered can be seen.
    for number in [1, 3, 4] {
        ward.nodes.remove(EnclosureId::new(number));
    }
    assert!(ward.drive(1).take_away(&ward.key(1).file()));
    ward.until_listed().await;
    assert_eq!(ward.ledger().await, [ward.row(1, LedgerRange::Whole)]);
    let missing = ward.read(1, written[0].0.id, 0).await;
    assert_eq!(missing, Err(FragmentFault::Missing));
    let complete = || async {
        let (at, after, limit) = (ward.at(1).await, None, 9);
        let request = InventoryRequest { at, after, limit };
        let page = ward.stations[&2].node.inventory(request).await;
        page.unwrap().complete
    };
    assert!(!complete().await, "what it does not name may be lost");
    for number in [1, 3, 4] {
        ward.nodes.insert(&ward.stations[&number].node);
    }
    ward.until_whole(1, &written).await;
    assert!(complete().await);
    ward.stop().await;
}

#[tokio::test]
async fn a_log_that_is_gone_with_its_index_is_missed_by_what_the_root_group_says() {
    let mut ward = Ward::new().await;
    let written = ward.fill().await;
    let drive = ward.drive(2);
    let vanish = || assert!(drive.take_away(&ward.key(2).file()));
    ward.stations[&3].agent.context.stop.cancel();
    vanish();
    ward.restart(2).await;
    ward.until_whole(2, &written).await;
    let rebuilt = ward.stations[&3].node.host().metrics().repair.rebuilt.get();
    assert_eq!(rebuilt, 8, "what was lost, and no more");
    ward.stop().await;
}

#[tokio::test]
async fn a_shard_without_a_log_in_an_empty_volume_is_not_missed() {
    let mut ward = Ward::new().await;
    ward.restart(0).await;
    let asked = ward
        .metadata
        .watch(0, Duration::ZERO)
        .await
        .unwrap()
        .revision;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let view = ward.metadata.watch(0, Duration::ZERO).await.unwrap();
    assert_eq!((view.revision, view.ledger_rows), (asked, 0));
    assert!(ward.engine(0).shards().is_empty());
    ward.stop().await;
}

#[tokio::test]
async fn a_shard_in_which_no_committed_blob_stores_anything_is_not_missed() {
    let mut ward = Ward::new().await;
    // Small ones with an even id store nothing in member 1.
    for id in [100, 102] {
        let (blob, _) = ward.write(id, 8192, Layout::Shortened).await;
        ward.commit(&blob).await;
    }
    // One that is being written, and has not come to member 1 yet.
    let shape = Shape {
        blob: BlobId::new(101),
        profile: profile(),
        layout: Layout::Full,
    };
    for member in [0, 2, 3] {
        let fragment = Bytes::from(vec![7; UNIT as usize]);
        ward.append(member, shape, &[fragment]).await;
    }
    ward.restart(1).await;
    // Many looks later nothing is entered, and a log that is lost still can be repaired by the
    // rest.
    let revision = async || {
        let view = ward.metadata.watch(0, Duration::ZERO).await.unwrap();
        (view.revision, view.ledger_rows)
    };
    let before = revision().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((before.1, revision().await), (0, before));
    assert!(ward.engine(1).shards().is_empty());
    ward.stop().await;
}
