//! Moves and rebuilds of whole shards (PROTOCOLS 12, 20 and 21).

use enfilade_cluster::api::moves::{Flip, Intent, MoveOrder, Reason};
use enfilade_cluster::api::record::{Blob, Layout};
use enfilade_cluster::api::root::{Addresses, RootCommand, RootReply};
use enfilade_placement::ChainId;

use super::ward::{UNIT, Ward, open, root, settings, until};
use super::*;
use crate::api::error::ShardError;
use crate::api::read::{FragmentFault, FragmentRange, InventoryRequest, ReadRequest};
use crate::engine::Append;

/// The number of the enclosure, and drive, that shards move to.
const SPARE: u32 = 5;

type Written = Vec<(Blob, Vec<Vec<bytes::Bytes>>)>;

/// A ward with a sealed volume of some blobs and a drive that is no member; the last blob is not
/// committed.
async fn sealed() -> (Ward, Written) {
    let ward = Ward::new().await;
    let mut written = Vec::new();
    for (id, len, layout) in [
        (50, 5 * 8192, Layout::Full),
        (51, 4000, Layout::Shortened),
        (52, 8192 + 300, Layout::Full),
        (53, 2 * 8192, Layout::Full),
    ] {
        written.push(ward.write(id, len, layout).await);
    }
    for (blob, _) in &written[..3] {
        ward.commit(blob).await;
    }
    (seal_and_add(ward).await, written)
}

/// Seals the volume, and adds the drive that is no member.
async fn seal_and_add(mut ward: Ward) -> Ward {
    let (volume, epoch) = (ward.volume.id, ward.volume.epoch);
    root(&ward.metadata, RootCommand::SealVolume { volume, epoch }).await;
    until("it is sealed", || async {
        now(&ward).await.state == VolumeState::Sealed
    })
    .await;
    ward.volume = now(&ward).await;
    let join = RootCommand::JoinEnclosure {
        id: None,
        chain: ChainId::new(1),
        addresses: Addresses::default(),
    };
    root(&ward.metadata, join).await;
    let drive = MemoryDrive::default();
    superblock::store(&drive, &block(DriveId::new(SPARE.into()))).unwrap();
    let station = open(&ward.metadata, &ward.nodes, SPARE, drive).await;
    ward.stations.insert(SPARE, station);
    ward
}

async fn now(ward: &Ward) -> Volume {
    let volumes = ward.metadata.volumes(&[ward.volume.id]).await.unwrap();
    volumes.into_iter().next().unwrap()
}

async fn begin(ward: &Ward, member: u8, reason: Reason) -> Intent {
    let order = MoveOrder {
        volume: ward.volume.id,
        member,
        from: now(ward).await.members[usize::from(member)],
        to: DriveId::new(SPARE.into()),
        reason,
    };
    match root(&ward.metadata, RootCommand::BeginMoves(vec![order])).await {
        RootReply::Intents(mut intents) => intents.remove(0),
        other => panic!("{other:?}"),
    }
}

async fn until_moved(ward: &Ward, member: u8) {
    until("the intent has ended", || async {
        let view = ward.metadata.watch(0, Duration::ZERO).await.unwrap();
        let there = now(ward).await.members[usize::from(member)];
        view.moves.intents.is_empty() && there == Some(DriveId::new(SPARE.into()))
    })
    .await;
}

fn engine_of(ward: &Ward, number: u32) -> Arc<Engine> {
    ward.stations[&number].node.engines().remove(0)
}

/// A shard as a volume once had it, at a station.
async fn address(ward: &Ward, number: u32, volume: &Volume, member: u8) -> ShardAddress {
    let view = ward.metadata.watch(0, Duration::ZERO).await.unwrap();
    let drive = DriveId::new(number.into());
    ShardAddress {
        cluster: CLUSTER,
        incarnation: Incarnation::new(1),
        drive,
        generation: view.topology.drives[&drive].generation,
        volume: volume.id,
        epoch: volume.epoch,
        member,
    }
}

/// A whole fragment as the drive of a station has it.
async fn read_at(
    ward: &Ward,
    number: u32,
    volume: &Volume,
    (member, blob, stripe, len): (u8, BlobId, u32, usize),
) -> Result<bytes::Bytes, FragmentFault> {
    let at = address(ward, number, volume, member).await;
    let ranges = vec![FragmentRange {
        stripe,
        offset: 0,
        len: u32::try_from(len).unwrap(),
    }];
    let request = ReadRequest::get(at, blob, ranges);
    let node = &ward.stations[&number].node;
    node.read(request).await.unwrap().remove(0)
}

/// All fragments that a member is to have are on the spare drive.
async fn assert_whole(ward: &Ward, member: u8, written: &[(Blob, Vec<Vec<bytes::Bytes>>)]) {
    let volume = now(ward).await;
    for (blob, members) in written {
        let shape = crate::api::shape::Shape::of(blob).unwrap();
        if !shape.stores(usize::from(member)) {
            continue;
        }
        for (stripe, bytes) in (0..).zip(&members[usize::from(member)]) {
            let what = (member, blob.id, stripe, bytes.len());
            let read = read_at(ward, SPARE, &volume, what).await;
            assert_eq!(read.as_ref(), Ok(bytes), "{} {stripe}", blob.id);
        }
    }
}

#[tokio::test]
async fn a_shard_is_copied_flipped_and_dropped_where_it_was_and_nothing_reads_as_missing() {
    for member in [1u8, 3] {
        let (ward, written) = sealed().await;
        let before = now(&ward).await;
        begin(&ward, member, Reason::Rebalance).await;
        until_moved(&ward, member).await;
        // Also what was not committed yet.
        assert_whole(&ward, member, &written).await;
        assert_eq!(ward.ledger().await, []);
        assert_eq!(ward.read_for_repair(9), 0, "copied, not rebuilt");
        let old = u32::from(member) + 1;
        let key = ward.key(member);
        until("the old shard is dropped", || async {
            engine_of(&ward, old).shard_stats(key).is_none()
        })
        .await;
        let what = (member, written[0].0.id, 0, UNIT as usize);
        let read = read_at(&ward, old, &before, what).await;
        assert_eq!(read, Err(FragmentFault::Moved(before.epoch.next())));
        // Nor does it tell those who rebuild others that there is nothing.
        let request = InventoryRequest {
            at: address(&ward, old, &before, member).await,
            after: None,
            limit: 9,
        };
        let told = ward.stations[&old].node.inventory(request).await;
        assert!(
            matches!(told, Err(ShardError::StaleEpoch { .. })),
            "{told:?}"
        );
        ward.stop().await;
    }
}

#[tokio::test]
async fn a_lost_shard_is_rebuilt_from_exactly_k_others() {
    let (mut ward, written) = sealed().await;
    let station = ward.stations.remove(&2).unwrap();
    station.agent.shutdown().await;
    ward.nodes.remove(EnclosureId::new(2));
    let (drive, state) = (DriveId::new(2), DriveState::Gone);
    root(&ward.metadata, RootCommand::SetDrive { drive, state }).await;
    begin(&ward, 1, Reason::Repair).await;
    until_moved(&ward, 1).await;
    // What is not committed may yet be: it is rebuilt, too.
    assert_eq!(ward.ledger().await, []);
    assert_whole(&ward, 1, &written).await;
    ward.commit(&written[3].0).await;
    // Two others a stripe, and one of the shortened.
    let read = |(blob, members): &(Blob, Vec<Vec<bytes::Bytes>>)| {
        let needed = crate::api::shape::Shape::of(blob).unwrap().needed() as u64;
        let own = members[1].iter().map(|bytes| bytes.len() as u64);
        own.sum::<u64>() * needed
    };
    let expect: u64 = written.iter().map(read).sum();
    let spare = ward.stations[&SPARE].node.host().metrics();
    let own = spare.traffic(crate::api::Cause::Repair, "read");
    assert_eq!(ward.read_for_repair(9) - own, expect);
    ward.stop().await;
}

#[tokio::test]
async fn what_is_rotten_where_it_was_is_rebuilt_on_the_way() {
    let (ward, written) = sealed().await;
    ward.rot(2, written[0].0.id, 3);
    begin(&ward, 2, Reason::Drain).await;
    until_moved(&ward, 2).await;
    assert_whole(&ward, 2, &written).await;
    ward.until_clear().await;
    ward.stop().await;
}

#[tokio::test]
async fn a_move_that_is_broken_off_again_and_again_ends_well() {
    let mut ward = Ward::new().await;
    let mut written = Vec::new();
    for id in 100..160 {
        written.push(ward.write(id, 3 * 8192, Layout::Full).await);
        ward.commit(&written[written.len() - 1].0).await;
    }
    ward = seal_and_add(ward).await;
    let key = ward.key(0);
    begin(&ward, 0, Reason::Rebalance).await;
    let (mut broken_off, mut last) = (0, 0);
    while broken_off < 5 && now(&ward).await.members[0] != Some(DriveId::new(SPARE.into())) {
        let live = engine_of(&ward, SPARE)
            .shard_stats(key)
            .map_or(0, |shard| shard.live);
        if live > last {
            last = live;
            broken_off += 1;
            ward.restart(u8::try_from(SPARE).unwrap() - 1).await;
        }
        tokio::task::yield_now().await;
    }
    assert!(broken_off >= 2, "{broken_off}");
    until_moved(&ward, 0).await;
    assert_whole(&ward, 0, &written).await;
    assert_eq!(ward.ledger().await, []);
    ward.stop().await;
}

#[tokio::test]
async fn what_died_on_the_way_is_dropped_after_the_flip() {
    let (ward, written) = sealed().await;
    root(&ward.metadata, RootCommand::PauseMoves(true)).await;
    let intent = begin(&ward, 0, Reason::Rebalance).await;
    // As if copied before its object was deleted, and acked by the drive that it came from.
    let engine = engine_of(&ward, SPARE);
    let (key, dead) = (ward.key(0), BlobId::new(99));
    let header = append_of(ward.at(0).await, dead, 0, &sample(0..1, 4096));
    let append = Append {
        epoch: ward.volume.epoch,
        blob: dead,
        first_stripe: 0,
        fragments: header.header.fragments,
        owner: Some(ward.owner(99)),
        marks: vec![dead],
        payload: header.fragments,
    };
    let admission = engine.admit(4096).unwrap();
    engine.append(key, append, admission).await.unwrap();
    assert_eq!(engine.stripes(key, dead).await.unwrap(), [(0, 0)]);
    let flip = Flip {
        intent: intent.id,
        volume: intent.volume,
        epoch: ward.volume.epoch,
        member: 0,
        bytes: 1,
        lacks: vec![enfilade_cluster::api::root::LedgerRange::Whole],
    };
    root(&ward.metadata, RootCommand::FlipMember(flip)).await;
    until_moved(&ward, 0).await;
    assert_eq!(engine.stripes(key, dead).await.unwrap(), []);
    // And what a flip says to be lacking is repaired where it is.
    ward.commit(&written[3].0).await;
    ward.until_clear().await;
    assert_whole(&ward, 0, &written).await;
    ward.stop().await;
}

#[tokio::test]
async fn what_was_made_for_a_move_that_was_cancelled_is_dropped() {
    let (ward, written) = sealed().await;
    let settled = engine_of(&ward, SPARE);
    root(&ward.metadata, RootCommand::PauseMoves(true)).await;
    let intent = begin(&ward, 0, Reason::Rebalance).await;
    let key = ward.key(0);
    settled.fence(key, ward.volume.epoch).await.unwrap();
    tokio::time::sleep(settings().move_grace * 2).await;
    assert!(settled.shard_stats(key).is_some(), "its intent is alive");
    root(&ward.metadata, RootCommand::CancelMoves(vec![intent.id])).await;
    until("it is dropped", || async {
        settled.shard_stats(key).is_none()
    })
    .await;
    // The member's own shard is as it was.
    let what = (0, written[0].0.id, 0, UNIT as usize);
    assert!(read_at(&ward, 1, &ward.volume, what).await.is_ok());
    ward.stop().await;
}

/// PROTOCOLS 20.
#[tokio::test]
async fn a_dead_blob_whose_garbage_was_lost_is_dropped_within_the_period() {
    let (ward, written) = sealed().await;
    let engine = engine_of(&ward, 1);
    let (key, dead) = (ward.key(0), BlobId::new(99));
    let header = append_of(ward.at(0).await, dead, 0, &sample(0..1, 4096));
    let append = Append {
        epoch: now(&ward).await.epoch,
        blob: dead,
        first_stripe: 0,
        fragments: header.header.fragments,
        owner: Some(ward.owner(99)),
        marks: vec![dead],
        payload: header.fragments,
    };
    let admission = engine.admit(4096).unwrap();
    engine.append(key, append, admission).await.unwrap();
    until("it is dropped", || async {
        engine.stripes(key, dead).await.unwrap().is_empty()
    })
    .await;
    // What is referenced stays, and what may yet be committed does.
    let what = (0, written[3].0.id, 0, UNIT as usize);
    let volume = now(&ward).await;
    assert!(read_at(&ward, 1, &volume, what).await.is_ok());
    ward.stop().await;
}
