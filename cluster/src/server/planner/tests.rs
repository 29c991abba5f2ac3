use std::collections::BTreeMap;
use std::time::Duration;

use enfilade_placement::{
    Chain, ChainId, Drive, DriveId, DriveState, Enclosure, EnclosureId, EnclosureState, Epoch,
    Generation, Incarnation, Profile, Volume, VolumeId, VolumeState,
};

use super::{HeardBeats, Situation, drive_changes, plan};
use crate::api::heartbeat::{DriveBeat, Heartbeat, ShardBeat};
use crate::api::root::{RootCommand, RootView};

/// Six enclosures with one drive each, in one chain; drive i is in enclosure i.
fn view() -> RootView {
    let mut view = RootView {
        revision: 1,
        profile: Some(Profile::new(4, 2).unwrap()),
        volume_target: 1000,
        open_volumes: 2,
        ..RootView::default()
    };
    let chain = ChainId::new(1);
    view.topology.chains.insert(
        chain,
        Chain {
            id: chain,
            closed: false,
        },
    );
    for number in 1..=6u32 {
        let (id, drive) = (EnclosureId::new(number), DriveId::new(u128::from(number)));
        let enclosure = Enclosure {
            id,
            chain,
            position: number - 1,
            state: EnclosureState::Up,
            shard_address: String::new(),
            meta_address: String::new(),
            admin_address: String::new(),
        };
        view.topology.enclosures.insert(id, enclosure);
        let drive = Drive {
            id: drive,
            enclosure: id,
            slot: 0,
            capacity: 1 << 40,
            state: DriveState::Healthy,
            generation: Generation::new(1),
        };
        view.topology.drives.insert(drive.id, drive);
    }
    view
}

fn with_volume(view: &mut RootView, id: u64, state: VolumeState) -> VolumeId {
    let id = VolumeId::new(id);
    let volume = Volume {
        id,
        profile: Profile::new(4, 2).unwrap(),
        members: (1..=6).map(|n| Some(DriveId::new(n))).collect(),
        epoch: Epoch::FIRST,
        state,
        bytes: 0,
        violation: false,
    };
    view.volumes.insert(id, volume);
    id
}

fn beats(shard: Option<ShardBeat>) -> HeardBeats {
    let beat = |number: u32| {
        let id = DriveId::new(u128::from(number));
        let drive = DriveBeat::new(id, DriveState::Healthy, 1 << 40, 0);
        let beat = Heartbeat {
            cluster: RootView::default().cluster,
            incarnation: Incarnation::new(1),
            enclosure: EnclosureId::new(number),
            drives: vec![drive],
            shards: shard.clone().into_iter().collect(),
        };
        (EnclosureId::new(number), (Duration::ZERO, beat))
    };
    (1..=6).map(beat).collect()
}

fn check(view: &RootView, beats: &HeardBeats, waited: u64, expect: &[RootCommand]) {
    let ids = view.volumes.keys();
    let suspended: BTreeMap<_, _> = ids.map(|id| (*id, Duration::from_secs(waited))).collect();
    let situation = Situation {
        beats,
        suspended: &suspended,
        suspended_min: Duration::from_secs(5),
        suspended_max: Duration::from_secs(600),
        new_max: 0,
        seed: 1,
    };
    assert_eq!(plan(view, &situation), expect);
}

#[test]
fn as_many_volumes_are_opened_as_should_be_open_within_the_limit() {
    let mut view = view();
    with_volume(&mut view, 1, VolumeState::Sealing);
    for (new_max, opened) in [(9, 2), (1, 1), (0, 0)] {
        let (beats, suspended) = (beats(None), BTreeMap::new());
        let situation = Situation {
            beats: &beats,
            suspended: &suspended,
            suspended_min: Duration::ZERO,
            suspended_max: Duration::ZERO,
            new_max,
            seed: 1,
        };
        let commands = plan(&view, &situation);
        assert_eq!(commands.len(), opened);
        for command in commands {
            let RootCommand::OpenVolume {
                members, violation, ..
            } = command
            else {
                panic!("{command:?}");
            };
            assert_eq!((members.iter().flatten().count(), violation), (6, false));
        }
    }
}

#[test]
fn an_enclosure_that_takes_part_in_no_open_volume_gets_one() {
    let mut view = view();
    view.open_volumes = 1;
    with_volume(&mut view, 1, VolumeState::Open);
    let (beats, suspended) = (beats(None), BTreeMap::new());
    let situation = Situation {
        beats: &beats,
        suspended: &suspended,
        suspended_min: Duration::ZERO,
        suspended_max: Duration::ZERO,
        new_max: 9,
        seed: 1,
    };
    assert_eq!(plan(&view, &situation), []);
    let (added, drive) = (EnclosureId::new(7), DriveId::new(7));
    let mut enclosure = view.topology.enclosures[&EnclosureId::new(6)].clone();
    (enclosure.id, enclosure.position) = (added, 6);
    view.topology.enclosures.insert(added, enclosure);
    let mut new = view.topology.drives[&DriveId::new(6)].clone();
    (new.id, new.enclosure) = (drive, added);
    view.topology.drives.insert(drive, new);
    let commands = plan(&view, &situation);
    let [RootCommand::OpenVolume { members, .. }] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert!(members.contains(&Some(drive)), "{members:?}");
}

#[test]
fn a_volume_is_suspended_when_a_member_goes_down_and_resumed_when_it_is_back() {
    let mut view = view();
    let volume = with_volume(&mut view, 7, VolumeState::Open);
    let epoch = Epoch::FIRST;
    check(&view, &beats(None), 0, &[]);
    view.topology
        .enclosures
        .get_mut(&EnclosureId::new(3))
        .unwrap()
        .state = EnclosureState::Down;
    check(
        &view,
        &beats(None),
        0,
        &[RootCommand::SuspendVolume { volume, epoch }],
    );
    with_volume(&mut view, 7, VolumeState::Suspended);
    check(&view, &beats(None), 100, &[]);
    view.topology
        .enclosures
        .get_mut(&EnclosureId::new(3))
        .unwrap()
        .state = EnclosureState::Up;
    check(&view, &beats(None), 1, &[]);
    check(
        &view,
        &beats(None),
        5,
        &[RootCommand::ResumeVolume { volume, epoch }],
    );
}

#[test]
fn a_volume_is_sealed_when_full_or_suspended_for_long_or_missing_a_failed_drive() {
    let mut view = view();
    let (epoch, member) = (Epoch::FIRST, 1);
    let volume = with_volume(&mut view, 7, VolumeState::Open);
    let seal = RootCommand::SealVolume { volume, epoch };
    let full = ShardBeat {
        volume,
        member,
        epoch,
        bytes: 1000,
    };
    check(&view, &beats(Some(full)), 0, std::slice::from_ref(&seal));
    with_volume(&mut view, 7, VolumeState::Suspended);
    check(&view, &beats(None), 600, std::slice::from_ref(&seal));
    view.topology
        .drives
        .get_mut(&DriveId::new(2))
        .unwrap()
        .state = DriveState::Failing;
    check(&view, &beats(None), 0, &[seal]);
}

#[test]
fn a_member_that_fenced_keeps_its_volume_from_being_resumed() {
    let mut view = view();
    let volume = with_volume(&mut view, 7, VolumeState::Suspended);
    let fenced = ShardBeat {
        volume,
        member: 0,
        epoch: Epoch::new(2),
        bytes: 0,
    };
    check(&view, &beats(Some(fenced)), 100, &[]);
}

#[test]
fn drives_follow_what_their_own_node_says_unless_they_returned() {
    let mut view = view();
    view.topology
        .drives
        .get_mut(&DriveId::new(1))
        .unwrap()
        .state = DriveState::Gone;
    view.topology
        .drives
        .get_mut(&DriveId::new(2))
        .unwrap()
        .state = DriveState::Returned;
    view.topology
        .drives
        .get_mut(&DriveId::new(3))
        .unwrap()
        .enclosure = EnclosureId::new(4);
    view.topology
        .drives
        .get_mut(&DriveId::new(3))
        .unwrap()
        .state = DriveState::Gone;
    let state = DriveState::Healthy;
    let expect = [RootCommand::SetDrive {
        drive: DriveId::new(1),
        state,
    }];
    assert_eq!(drive_changes(&view, &beats(None)), expect);
}

fn set_state(view: &mut RootView, drive: u128, state: DriveState) {
    let drive = view.topology.drives.get_mut(&DriveId::new(drive));
    drive.unwrap().state = state;
}

#[test]
fn what_an_operator_decided_of_a_drive_stays_whatever_its_node_says() {
    for state in [DriveState::Returned, DriveState::Replaced] {
        let mut view = view();
        set_state(&mut view, 1, state);
        assert_eq!(drive_changes(&view, &beats(None)), []);
    }
    let mut view = view();
    set_state(&mut view, 1, DriveState::Foreign);
    assert_eq!(drive_changes(&view, &beats(None)).len(), 1);
}

#[test]
fn a_volume_with_a_full_member_is_sealed() {
    for state in [VolumeState::Open, VolumeState::Suspended] {
        let mut view = view();
        let volume = with_volume(&mut view, 1, state);
        set_state(&mut view, 3, DriveState::Full);
        let epoch = Epoch::FIRST;
        let seal = [RootCommand::SealVolume { volume, epoch }];
        check(&view, &beats(None), 0, &seal);
    }
}

#[test]
fn a_volume_waits_for_a_slow_member_only_while_others_can_be_opened() {
    let epoch = Epoch::FIRST;
    let (mut view, open) = (view(), VolumeState::Open);
    let volume = with_volume(&mut view, 1, open);
    set_state(&mut view, 3, DriveState::Slow);
    // Six drives for six members: without the slow one there is no whole volume.
    check(&view, &beats(None), 0, &[]);
    let spare = Drive {
        id: DriveId::new(7),
        ..view.topology.drives[&DriveId::new(6)].clone()
    };
    view.topology.drives.insert(spare.id, spare);
    let suspend = [RootCommand::SuspendVolume { volume, epoch }];
    check(&view, &beats(None), 0, &suspend);
    let row = view.volumes.get_mut(&volume).unwrap();
    row.state = VolumeState::Suspended;
    check(&view, &beats(None), 10, &[]);
    let seal = [RootCommand::SealVolume { volume, epoch }];
    check(&view, &beats(None), 600, &seal);
    let resume = [RootCommand::ResumeVolume { volume, epoch }];
    set_state(&mut view, 3, DriveState::Healthy);
    check(&view, &beats(None), 10, &resume);
    // All are late: better a slow volume than none.
    set_state(&mut view, 3, DriveState::Slow);
    set_state(&mut view, 7, DriveState::Slow);
    check(&view, &beats(None), 10, &resume);
}

#[test]
fn a_volume_waits_for_a_drive_that_is_gone_and_not_for_one_that_was_given_up() {
    let epoch = Epoch::FIRST;
    for (state, waits) in [
        (DriveState::Gone, true),
        (DriveState::Foreign, true),
        (DriveState::Failing, false),
        (DriveState::Returned, false),
        (DriveState::Replaced, false),
    ] {
        let mut view = view();
        let volume = with_volume(&mut view, 1, VolumeState::Suspended);
        set_state(&mut view, 3, state);
        let seal = [RootCommand::SealVolume { volume, epoch }];
        check(&view, &beats(None), 10, if waits { &[] } else { &seal });
    }
}

#[test]
fn what_is_to_be_emptied_gets_no_new_volumes() {
    let mut view = view();
    let leaves = crate::api::moves::Subject::Drive(DriveId::new(3));
    view.moves.drains.insert(leaves);
    let (beats, suspended) = (beats(None), BTreeMap::new());
    let situation = Situation {
        beats: &beats,
        suspended: &suspended,
        suspended_min: Duration::from_secs(5),
        suspended_max: Duration::from_secs(600),
        new_max: 9,
        seed: 1,
    };
    let opened = |command: RootCommand| match command {
        RootCommand::OpenVolume { members, .. } => members,
        other => panic!("{other:?}"),
    };
    let opened: Vec<_> = plan(&view, &situation).into_iter().map(opened).collect();
    // Six drives for six members: with one that leaves, one is vacant.
    assert_eq!(opened.len(), 2);
    for members in opened {
        assert_eq!(members.iter().flatten().count(), 5);
        assert!(!members.contains(&Some(DriveId::new(3))));
    }
}
