//! Enclosures and drives.

use enfilade_placement::{ChainId, DriveId, DriveState, EnclosureId, EnclosureState, Generation};

use crate::api::root::{Addresses, RootCommand, RootRefusal, RootReply};

use super::harness::{CHAIN, Root, attach};

fn addresses(shard: &str) -> Addresses {
    Addresses {
        shard: shard.to_owned(),
        ..Addresses::default()
    }
}

#[test]
fn an_enclosure_joins_at_the_end_of_its_chain_and_keeps_its_place() {
    let mut root = Root::new();
    for (id, chain, position) in [(1, 1, 0), (2, 1, 1), (3, 2, 0), (4, 1, 2)] {
        let chain = ChainId::new(chain);
        let joined = root.command(RootCommand::JoinEnclosure {
            id: None,
            chain,
            addresses: addresses("old"),
        });
        let id = EnclosureId::new(id);
        assert_eq!(joined, Ok(RootReply::Enclosure(id)));
        let enclosure = &root.view().topology.enclosures[&id];
        assert_eq!((enclosure.chain, enclosure.position), (chain, position));
        assert_eq!(enclosure.state, EnclosureState::Up);
    }
    let id = EnclosureId::new(2);
    let state = EnclosureState::Down;
    assert!(
        root.command(RootCommand::SetEnclosure { id, state })
            .is_ok()
    );
    assert!(root.idle(RootCommand::SetEnclosure { id, state }).is_ok());
    let again = |chain, text| RootCommand::JoinEnclosure {
        id: Some(id),
        chain,
        addresses: addresses(text),
    };
    assert_eq!(
        root.command(again(CHAIN, "new")),
        Ok(RootReply::Enclosure(id))
    );
    assert_eq!(root.idle(again(CHAIN, "new")), Ok(RootReply::Enclosure(id)));
    let enclosure = root.view().topology.enclosures[&id].clone();
    assert_eq!(
        (enclosure.position, enclosure.state),
        (1, EnclosureState::Down)
    );
    assert_eq!(enclosure.shard_address, "new");
    let moved = root.idle(again(ChainId::new(2), "new"));
    assert!(matches!(moved, Err(RootRefusal::NotFound(_))));
    assert_eq!(root.view().topology.chains.len(), 2);
}

#[test]
fn an_enclosure_that_brings_its_id_is_entered_under_it() {
    let mut root = Root::new();
    assert_eq!(
        root.join(Some(5)),
        Ok(RootReply::Enclosure(EnclosureId::new(5)))
    );
    assert_eq!(
        root.join(Some(2)),
        Ok(RootReply::Enclosure(EnclosureId::new(2)))
    );
    assert_eq!(
        root.join(None),
        Ok(RootReply::Enclosure(EnclosureId::new(6)))
    );
    assert!(root.join(Some(0)).is_err());
    assert!(root.join(Some(u32::MAX)).is_err());
    assert!(root.join(Some(u32::MAX - 1)).is_ok());
    assert!(root.join(None).is_err());
}

#[test]
fn a_drive_is_attached_by_compare_and_set() {
    let mut root = Root::with_drives();
    let stale = |attached, offered| {
        Err(RootRefusal::StaleGeneration {
            drive: DriveId::new(1),
            attached: Generation::new(attached),
            offered: Generation::new(offered),
        })
    };
    assert_eq!(root.attach(1, 1, 0), stale(1, 0));
    assert_eq!(root.attach(1, 1, 2), stale(1, 2));
    // To another enclosure.
    assert_eq!(
        root.attach(1, 2, 1),
        Ok(RootReply::Attached(Generation::new(2)))
    );
    assert_eq!(root.attach(1, 1, 1), stale(2, 1));
    let drive = root.view().topology.drives[&DriveId::new(1)].clone();
    assert_eq!(
        (drive.enclosure, drive.generation.get()),
        (EnclosureId::new(2), 2)
    );
    assert!(matches!(
        root.attach(99, 77, 0),
        Err(RootRefusal::NotFound(_))
    ));
    let unknown = root.attach(99, 1, 3);
    assert!(matches!(unknown, Err(RootRefusal::StaleGeneration { .. })));
}

#[test]
fn a_node_that_crashed_before_its_superblock_is_answered_again_however_late() {
    let mut root = Root::with_drives();
    let envelope = root.envelope(attach(1, 1, 1));
    let attached = Ok(RootReply::Attached(Generation::new(2)));
    assert_eq!(root.apply(&envelope), attached);
    root.command(RootCommand::Tick {
        elapsed_ms: 100 * 60 * 60 * 1000,
    })
    .unwrap();
    // The same request, with a deadline of its own.
    let mut again = root.envelope(attach(1, 1, 1));
    again.request = envelope.request;
    assert_eq!(root.apply(&again), attached);
    assert!(root.attach(1, 1, 1).is_err());
    assert_eq!(
        root.attach(1, 1, 2),
        Ok(RootReply::Attached(Generation::new(3)))
    );
}

#[test]
fn a_drive_comes_back_healthy_unless_it_was_given_up() {
    let mut root = Root::with_drives();
    let state_of = |root: &Root| root.view().topology.drives[&DriveId::new(1)].state;
    let drive = DriveId::new(1);
    let state = DriveState::Gone;
    assert!(root.command(RootCommand::SetDrive { drive, state }).is_ok());
    assert!(root.idle(RootCommand::SetDrive { drive, state }).is_ok());
    assert_eq!(state_of(&root), DriveState::Gone);
    assert!(root.attach(1, 1, 1).is_ok());
    assert_eq!(state_of(&root), DriveState::Healthy);
    let (id, state) = (EnclosureId::new(1), EnclosureState::Out);
    assert!(
        root.command(RootCommand::SetEnclosure { id, state })
            .is_ok()
    );
    assert!(root.attach(1, 2, 2).is_ok());
    assert_eq!(state_of(&root), DriveState::Returned);
    assert!(root.attach(1, 2, 3).is_ok());
    assert_eq!(state_of(&root), DriveState::Returned);
    let (drive, id) = (DriveId::new(99), EnclosureId::new(99));
    let gone = RootCommand::SetDrive {
        drive,
        state: DriveState::Gone,
    };
    assert!(matches!(root.idle(gone), Err(RootRefusal::NotFound(_))));
    assert!(root.idle(RootCommand::SetEnclosure { id, state }).is_err());
}

#[test]
fn a_drive_is_given_up_only_when_it_is_not_in_service_and_its_slot_goes_to_another() {
    let mut root = Root::with_drives();
    let (old, new) = (DriveId::new(1), DriveId::new(77));
    let replace = RootCommand::ReplaceDrive { old, new };
    for state in [DriveState::Healthy, DriveState::Slow, DriveState::Full] {
        let set = RootCommand::SetDrive { drive: old, state };
        root.command(set).unwrap();
        let refused = root.idle(replace.clone());
        assert_eq!(refused, Err(RootRefusal::DriveInService(old)));
    }
    let state = DriveState::Gone;
    root.command(RootCommand::SetDrive { drive: old, state })
        .unwrap();
    assert!(
        root.idle(RootCommand::ReplaceDrive { old, new: old })
            .is_err()
    );
    assert_eq!(root.command(replace.clone()), Ok(RootReply::Done));
    assert_eq!(root.idle(replace), Ok(RootReply::Done));
    let state_of = |root: &Root, id| root.view().topology.drives[&id].state;
    assert_eq!(state_of(&root, old), DriveState::Replaced);
    // No heartbeat that was under way brings it back.
    let state = DriveState::Healthy;
    root.idle(RootCommand::SetDrive { drive: old, state })
        .unwrap();
    assert_eq!(state_of(&root, old), DriveState::Replaced);
    let mut attach = attach(77, 1, 0);
    if let RootCommand::AttachDrive { slot, .. } = &mut attach {
        *slot = 99;
    }
    root.command(attach).unwrap();
    let slot = |root: &Root, id| root.view().topology.drives[&id].slot;
    assert_eq!(slot(&root, new), slot(&root, old));
    assert_eq!(state_of(&root, new), DriveState::Healthy);
    // The old one comes back after all: a source, no more.
    root.attach(1, 1, 1).unwrap();
    assert_eq!(state_of(&root, old), DriveState::Returned);
}

#[test]
fn a_drive_that_moves_makes_violations_of_spread_and_heals_them() {
    let mut root = Root::with_drives();
    let (moved, beside) = (root.volume(), root.open(&[2, 4, 6, 8, 10, 12]));
    let Ok(RootReply::Volume(beside)) = beside else {
        panic!("{beside:?}");
    };
    let violation = |root: &Root, id| root.view().volumes[&id].violation;
    assert!(!violation(&root, moved.id));
    // Drive 1 goes to the enclosure that has drive 3.
    root.attach(1, 2, 1).unwrap();
    assert!(violation(&root, moved.id));
    assert!(!violation(&root, beside.id));
    root.attach(1, 2, 2).unwrap();
    assert!(violation(&root, moved.id));
    root.attach(1, 1, 3).unwrap();
    assert!(!violation(&root, moved.id));
}

#[test]
fn what_was_given_up_is_in_doubt_until_it_is_reconciled() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    let other = DriveId::new(2);
    let (id, drive) = (EnclosureId::new(1), DriveId::new(1));
    let set = |state| RootCommand::SetEnclosure { id, state };
    let state_of = |root: &Root, drive| root.view().topology.drives[&drive].state;
    root.command(set(EnclosureState::Out)).unwrap();
    assert_eq!(root.view().ledger_rows, 0);
    root.command(set(EnclosureState::Up)).unwrap();
    assert_eq!(state_of(&root, drive), DriveState::Returned);
    assert_eq!(root.view().ledger_rows, 1);
    // It fails, and comes back: still the same.
    for (state, becomes) in [
        (DriveState::Failing, DriveState::Failing),
        (DriveState::Healthy, DriveState::Returned),
    ] {
        root.command(RootCommand::SetDrive { drive, state })
            .unwrap();
        assert_eq!(state_of(&root, drive), becomes);
    }
    root.attach(1, 1, 1).unwrap();
    assert_eq!(state_of(&root, drive), DriveState::Returned);
    let reconcile = |drive, generation| RootCommand::ReconcileDrive {
        drive,
        generation: Generation::new(generation),
    };
    // One without shards is in no doubt.
    root.command(reconcile(other, 1)).unwrap();
    assert_eq!(state_of(&root, other), DriveState::Healthy);
    let refused = root.idle(reconcile(drive, 2));
    assert_eq!(refused, Err(RootRefusal::DriveInDoubt(drive)));
    let (volume, member, ranges) = (volume.id, 0, Vec::new());
    root.command(RootCommand::RefineFaults {
        volume,
        member,
        drive,
        ranges,
    })
    .unwrap();
    let stale = root.idle(reconcile(drive, 1));
    assert!(matches!(stale, Err(RootRefusal::StaleGeneration { .. })));
    root.command(reconcile(drive, 2)).unwrap();
    assert_eq!(state_of(&root, drive), DriveState::Healthy);
    root.attach(1, 1, 2).unwrap();
    assert_eq!(state_of(&root, drive), DriveState::Healthy);
}
