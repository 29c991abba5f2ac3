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

fn becomes(root: &mut Root, command: RootCommand, state: VolumeState, epoch: u64) {
    assert_eq!(state_of(&root.command(command)), (state, epoch));
}

fn stays(root: &mut Root, command: RootCommand, state: VolumeState, epoch: u64) {
    assert_eq!(state_of(&root.idle(command)), (state, epoch));
}

fn wrong_state(root: &mut Root, commands: impl IntoIterator<Item = RootCommand>) {
    for command in commands {
        let outcome = root.idle(command);
        assert!(matches!(outcome, Err(RootRefusal::WrongState(_))));
    }
}

fn stale_epoch(root: &mut Root, commands: impl IntoIterator<Item = RootCommand>) {
    for command in commands {
        let outcome = root.idle(command);
        assert!(matches!(outcome, Err(RootRefusal::StaleEpoch(_))));
    }
}

#[test]
fn a_volume_is_suspended_and_resumed_at_its_epoch() {
    let mut root = Root::with_drives();
    let Volume { id, epoch, .. } = root.volume();
    becomes(&mut root, suspend(id, epoch), VolumeState::Suspended, 1);
    stays(&mut root, suspend(id, epoch), VolumeState::Suspended, 1);
    becomes(&mut root, resume(id, epoch), VolumeState::Open, 1);
    stays(&mut root, resume(id, epoch), VolumeState::Open, 1);
    wrong_state(&mut root, [retire(id, epoch), fenced(id, epoch, 0, 5)]);
    let next = epoch.next();
    stale_epoch(
        &mut root,
        [suspend(id, next), seal(id, next), retire(id, next)],
    );
}

#[test]
fn a_volume_that_is_being_sealed_stays_so_until_a_member_has_fenced() {
    let mut root = Root::with_drives();
    let Volume { id, epoch, .. } = root.volume();
    let next = epoch.next();
    becomes(&mut root, seal(id, epoch), VolumeState::Sealing, 2);
    // Again, by one who knows the old epoch, and by one who knows the new one.
    stays(&mut root, seal(id, epoch), VolumeState::Sealing, 2);
    stays(&mut root, seal(id, next), VolumeState::Sealing, 2);
    let late = [
        suspend(id, epoch),
        resume(id, epoch),
        fenced(id, epoch, 0, 5),
    ];
    stale_epoch(&mut root, late);
    stale_epoch(&mut root, [seal(id, next.next())]);
    wrong_state(
        &mut root,
        [suspend(id, next), resume(id, next), retire(id, next)],
    );
    assert_eq!(root.view().volumes.len(), 1);
}

#[test]
fn a_sealed_volume_leaves_the_view_and_keeps_the_most_bytes_until_it_is_retired() {
    let mut root = Root::with_drives();
    let Volume { id, epoch, .. } = root.volume();
    let next = epoch.next();
    becomes(&mut root, seal(id, epoch), VolumeState::Sealing, 2);
    becomes(&mut root, fenced(id, next, 3, 5), VolumeState::Sealed, 2);
    assert!(root.view().volumes.is_empty());
    assert_eq!(root.view().sealed_volumes, 1);
    stays(&mut root, fenced(id, next, 1, 4), VolumeState::Sealed, 2);
    becomes(&mut root, fenced(id, next, 2, 9), VolumeState::Sealed, 2);
    stays(&mut root, seal(id, epoch), VolumeState::Sealed, 2);
    assert_eq!(read::volumes(&root.rows, &[id]).unwrap()[0].bytes, 9);
    becomes(&mut root, retire(id, next), VolumeState::Retired, 2);
    stays(&mut root, retire(id, next), VolumeState::Retired, 2);
    assert_eq!(root.view().sealed_volumes, 0);
    wrong_state(
        &mut root,
        [seal(id, next), fenced(id, next, 0, 5), suspend(id, next)],
    );
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
