//! The life of a volume (PROTOCOLS 12 and 14).

use enfilade_placement::{
    DriveId, DriveState, EnclosureId, EnclosureState, Epoch, Volume, VolumeId, VolumeState,
};

use crate::api::root::{RootCommand, RootOutcome, RootRefusal, RootReply};
use crate::root::read;

use super::harness::{Root, fenced, open};

fn state_of(outcome: &RootOutcome) -> (VolumeState, u64) {
    match outcome {
        Ok(RootReply::Volume(volume)) => (volume.state, volume.epoch.get()),
        other => panic!("{other:?}"),
    }
}

const fn suspend(volume: VolumeId, epoch: Epoch) -> RootCommand {
    RootCommand::SuspendVolume { volume, epoch }
}

const fn resume(volume: VolumeId, epoch: Epoch) -> RootCommand {
    RootCommand::ResumeVolume { volume, epoch }
}

const fn seal(volume: VolumeId, epoch: Epoch) -> RootCommand {
    RootCommand::SealVolume { volume, epoch }
}

const fn retire(volume: VolumeId, epoch: Epoch) -> RootCommand {
    RootCommand::RetireVolume { volume, epoch }
}

#[test]
fn a_volume_opens_over_distinct_healthy_drives_and_never_fewer_than_can_ack() {
    let mut root = Root::with_drives();
    let volume = root.volume();
    assert_eq!((volume.id, volume.epoch), (VolumeId::new(1), Epoch::FIRST));
    assert_eq!(
        state_of(&root.open(&[1, 3, 5, 7, 9, 0])),
        (VolumeState::Open, 1)
    );
    let (drive, state) = (DriveId::new(2), DriveState::Full);
    assert!(root.command(RootCommand::SetDrive { drive, state }).is_ok());
    let (id, state) = (EnclosureId::new(2), EnclosureState::Suspect);
    assert!(
        root.command(RootCommand::SetEnclosure { id, state })
            .is_ok()
    );
    for members in [
        &[1, 5, 7, 9, 11][..],
        &[1, 5, 7, 9, 11, 6, 8],
        &[1, 5, 7, 9, 11, 1],
        &[1, 5, 7, 9, 11, 99],
        &[1, 5, 7, 9, 0, 0],
        &[2, 5, 7, 9, 11, 6],
        &[3, 5, 7, 9, 11, 6],
    ] {
        let outcome = root.idle(open(members));
        assert!(
            matches!(outcome, Err(RootRefusal::UnfitMembers(_))),
            "{members:?}"
        );
    }
    assert_eq!(root.view().volumes.len(), 2);
}

#[test]
fn a_volume_is_suspended_resumed_sealed_and_retired() {
    let mut root = Root::with_drives();
    let Volume { id, epoch, .. } = root.volume();
    assert_eq!(
        state_of(&root.command(suspend(id, epoch))),
        (VolumeState::Suspended, 1)
    );
    assert_eq!(
        state_of(&root.idle(suspend(id, epoch))),
        (VolumeState::Suspended, 1)
    );
    assert_eq!(
        state_of(&root.command(resume(id, epoch))),
        (VolumeState::Open, 1)
    );
    assert_eq!(
        state_of(&root.idle(resume(id, epoch))),
        (VolumeState::Open, 1)
    );
    assert!(root.idle(retire(id, epoch)).is_err());
    assert!(root.idle(fenced(id, epoch, 0, 5)).is_err());
    assert_eq!(
        state_of(&root.command(seal(id, epoch))),
        (VolumeState::Sealing, 2)
    );
    let next = epoch.next();
    // Again, by one who knows the old epoch, and by one who knows the new one.
    assert_eq!(
        state_of(&root.idle(seal(id, epoch))),
        (VolumeState::Sealing, 2)
    );
    assert_eq!(
        state_of(&root.idle(seal(id, next))),
        (VolumeState::Sealing, 2)
    );
    for command in [
        suspend(id, epoch),
        resume(id, epoch),
        fenced(id, epoch, 0, 5),
    ] {
        assert!(matches!(
            root.idle(command),
            Err(RootRefusal::StaleEpoch(_))
        ));
    }
    for command in [suspend(id, next), resume(id, next), retire(id, next)] {
        assert!(matches!(
            root.idle(command),
            Err(RootRefusal::WrongState(_))
        ));
    }
    assert!(matches!(
        root.idle(seal(id, next.next())),
        Err(RootRefusal::StaleEpoch(_))
    ));
    assert_eq!(root.view().volumes.len(), 1);
    assert_eq!(
        state_of(&root.command(fenced(id, next, 3, 5))),
        (VolumeState::Sealed, 2)
    );
    assert_eq!(
        (root.view().volumes.len(), root.view().sealed_volumes),
        (0, 1)
    );
    assert_eq!(
        state_of(&root.idle(fenced(id, next, 1, 4))),
        (VolumeState::Sealed, 2)
    );
    assert_eq!(
        state_of(&root.command(fenced(id, next, 2, 9))),
        (VolumeState::Sealed, 2)
    );
    assert_eq!(
        state_of(&root.idle(seal(id, epoch))),
        (VolumeState::Sealed, 2)
    );
    assert_eq!(read::volumes(&root.rows, &[id]).unwrap()[0].bytes, 9);
    assert_eq!(
        state_of(&root.command(retire(id, next))),
        (VolumeState::Retired, 2)
    );
    assert_eq!(
        state_of(&root.idle(retire(id, next))),
        (VolumeState::Retired, 2)
    );
    assert_eq!(root.view().sealed_volumes, 0);
    for command in [seal(id, next), fenced(id, next, 0, 5), suspend(id, next)] {
        assert!(matches!(
            root.idle(command),
            Err(RootRefusal::WrongState(_))
        ));
    }
}

#[test]
fn a_suspended_volume_can_be_sealed_and_only_a_present_member_fences() {
    let mut root = Root::with_drives();
    let Ok(RootReply::Volume(volume)) = root.open(&[1, 3, 5, 7, 9, 0]) else {
        panic!("not opened");
    };
    let (id, epoch) = (volume.id, volume.epoch);
    assert!(root.command(suspend(id, epoch)).is_ok());
    assert_eq!(
        state_of(&root.command(seal(id, epoch))),
        (VolumeState::Sealing, 2)
    );
    for member in [5, 6, 255] {
        let outcome = root.idle(fenced(id, epoch.next(), member, 5));
        assert!(matches!(outcome, Err(RootRefusal::NotFound(_))), "{member}");
    }
    assert!(root.command(fenced(id, epoch.next(), 4, 5)).is_ok());
}

#[test]
fn volumes_are_found_by_id_and_in_pages() {
    let mut root = Root::with_drives();
    for _ in 0..5 {
        root.volume();
    }
    root.sealed();
    let ids = |volumes: Vec<Volume>| volumes.iter().map(|v| v.id.get()).collect::<Vec<_>>();
    let page = |after: Option<u64>, limit| {
        ids(read::all_volumes(&root.rows, after.map(VolumeId::new), limit).unwrap())
    };
    assert_eq!(page(None, 4), [1, 2, 3, 4]);
    assert_eq!(page(Some(4), 4), [5, 6]);
    assert_eq!(
        (page(Some(6), 4), page(Some(u64::MAX), 4), page(None, 0)),
        (vec![], vec![], vec![])
    );
    let named = [6, 99, 1].map(VolumeId::new);
    assert_eq!(ids(read::volumes(&root.rows, &named).unwrap()), [6, 1]);
    let unknown = root.idle(suspend(VolumeId::new(99), Epoch::FIRST));
    assert!(matches!(unknown, Err(RootRefusal::NotFound(_))));
}
