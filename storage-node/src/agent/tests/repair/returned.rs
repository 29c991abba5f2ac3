//! Drives that come back after they were given up (PROTOCOLS 26).

use enfilade_cluster::api::record::{Blob, Layout, Place};
use enfilade_cluster::api::root::{LedgerRange, RootCommand};
use enfilade_placement::EnclosureState;

use super::*;
use crate::agent::tests::ward::{Ward, open, root, until};

/// A drive as the root group has it.
async fn state_of(ward: &Ward, drive: u128) -> (DriveState, Generation) {
    let view = ward.metadata.watch(0, Duration::ZERO).await.unwrap();
    let drive = &view.topology.drives[&DriveId::new(drive)];
    (drive.state, drive.generation)
}

async fn set_enclosure(ward: &Ward, id: u32, state: EnclosureState) {
    let id = EnclosureId::new(id);
    root(&ward.metadata, RootCommand::SetEnclosure { id, state }).await;
}

async fn seal(ward: &Ward) {
    let (volume, epoch) = (ward.volume.id, ward.volume.epoch);
    root(&ward.metadata, RootCommand::SealVolume { volume, epoch }).await;
    until("the volume is sealed", || async {
        let volumes = ward.metadata.volumes(&[volume]).await.unwrap();
        volumes[0].state == VolumeState::Sealed
    })
    .await;
}

#[tokio::test]
async fn a_drive_that_came_back_counts_when_it_holds_what_it_should_and_not_before() {
    let mut ward = Ward::new().await;
    let (whole, _) = ward.write(21, 3 * 8192, Layout::Full).await;
    ward.commit(&whole).await;
    let (lost, members) = ward.write(22, 3 * 8192, Layout::Full).await;
    ward.commit(&lost).await;
    // Of this one only the first stripe is referenced.
    let (mut shorter, _) = ward.write(23, 3 * 8192, Layout::Full).await;
    shorter.len = 8192;
    if let Place::Striped { extents, .. } = &mut shorter.place {
        extents[0].stripes = 1;
    }
    ward.commit(&shorter).await;
    seal(&ward).await;
    // Drive 4 leaves, loses a blob, and is given up; two of the others are away, too.
    let engine = ward.engine(3);
    engine
        .delete(ward.key(3), lost.id, Vec::new())
        .await
        .unwrap();
    drop(engine);
    set_enclosure(&ward, 4, EnclosureState::Out).await;
    let mut away = Vec::new();
    for number in [2, 3] {
        let station = ward.stations.remove(&number).unwrap();
        station.agent.shutdown().await;
        ward.nodes.remove(EnclosureId::new(number));
        away.push((number, station.drive));
    }
    ward.restart(3).await;
    set_enclosure(&ward, 4, EnclosureState::Up).await;
    // It is back, and not trusted, because too few others tell what it should hold.
    let put_off = ward.stations[&4]
        .node
        .host()
        .metrics()
        .repair
        .put_off
        .clone();
    until("it is compared", || async { put_off.get() >= 2 }).await;
    assert_eq!(ward.ledger().await, [ward.row(3, LedgerRange::Whole)]);
    let (state, generation) = state_of(&ward, 4).await;
    assert_eq!(state, DriveState::Returned);
    let early = RootCommand::ReconcileDrive {
        drive: DriveId::new(4),
        generation,
    };
    let early = ward.metadata.root(RequestId::new(1), early).await.unwrap();
    assert!(early.is_err(), "{early:?}");
    for (number, drive) in away {
        let station = open(&ward.metadata, &ward.nodes, number, drive).await;
        ward.stations.insert(number, station);
    }
    until("it is reconciled", || async {
        state_of(&ward, 4).await == (DriveState::Healthy, generation)
    })
    .await;
    assert_eq!(ward.ledger().await, []);
    let engine = ward.engine(3);
    let held = async |blob: &Blob| engine.stripes(ward.key(3), blob.id).await.unwrap();
    assert_eq!(held(&whole).await, [(0, 2)]);
    assert_eq!(held(&lost).await, [(0, 2)]);
    assert_eq!(held(&shorter).await, [(0, 0)]);
    let place = engine.locate(ward.key(3), lost.id, 1);
    assert!(place.is_some() && !members[3][1].is_empty());
    let rebuilt = ward.stations[&4].node.host().metrics().repair.rebuilt.get();
    assert_eq!(rebuilt, 3, "what was lost, and no more");
    drop(engine);
    ward.stop().await;
}

#[tokio::test]
async fn an_enclosure_that_was_given_up_and_answers_again_is_reconciled_without_a_restart() {
    let ward = Ward::new().await;
    let (blob, _) = ward.write(31, 2 * 8192, Layout::Full).await;
    ward.commit(&blob).await;
    seal(&ward).await;
    let (_, generation) = state_of(&ward, 2).await;
    set_enclosure(&ward, 2, EnclosureState::Out).await;
    assert_eq!(state_of(&ward, 2).await.0, DriveState::Healthy);
    set_enclosure(&ward, 2, EnclosureState::Up).await;
    until("it is reconciled", || async {
        state_of(&ward, 2).await.0 == DriveState::Healthy
    })
    .await;
    assert_eq!(state_of(&ward, 2).await.1, generation);
    assert_eq!(ward.ledger().await, []);
    let rebuilt = ward.stations[&2].node.host().metrics().repair.rebuilt.get();
    assert_eq!(rebuilt, 0);
    ward.stop().await;
}
