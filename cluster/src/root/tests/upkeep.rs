//! Maintenance, removal and figures.

use enfilade_placement::{ChainId, DriveId, EnclosureId, EnclosureState, Generation, VolumeId};

use crate::api::command::GroupTime;
use crate::api::moves::{MoveOrder, Reason, Subject};
use crate::api::root::{Addresses, RootCommand, RootRefusal, RootReply};
use crate::api::tuning::{MAINTENANCE_MAX_MS, PACE_FLOOR_MIN, Tuning};
use crate::root::read;

use super::harness::{CHAIN, Root, fenced};

/// PROTOCOLS 23.
#[test]
fn maintenance_lasts_for_its_time_of_the_group_and_is_ended_by_none() {
    let mut root = Root::with_drives();
    let id = EnclosureId::new(4);
    root.command(RootCommand::Tick { elapsed_ms: 5_000 })
        .unwrap();
    root.command(RootCommand::Maintain { id, for_ms: 60_000 })
        .unwrap();
    assert_eq!(root.view().maintenance[&id], GroupTime(65_000));
    assert!(root.view().is_maintained(id));
    root.command(RootCommand::Maintain {
        id,
        for_ms: u64::MAX,
    })
    .unwrap();
    assert_eq!(
        root.view().maintenance[&id],
        GroupTime(5_000 + MAINTENANCE_MAX_MS)
    );
    root.command(RootCommand::Maintain { id, for_ms: 0 })
        .unwrap();
    assert!(root.view().maintenance.is_empty());
    let unknown = EnclosureId::new(9);
    let refused = root.idle(RootCommand::Maintain {
        id: unknown,
        for_ms: 1,
    });
    assert!(matches!(refused, Err(RootRefusal::NotFound(_))));
}

#[test]
fn only_the_end_that_was_looked_at_ends_maintenance() {
    let mut root = Root::with_drives();
    let id = EnclosureId::new(4);
    let maintain = |for_ms| RootCommand::Maintain { id, for_ms };
    let end = |until| RootCommand::EndMaintenance {
        id,
        until: GroupTime(until),
    };
    root.command(maintain(1_000)).unwrap();
    root.command(RootCommand::Tick { elapsed_ms: 2_000 })
        .unwrap();
    // Prolonged, after the leader found that it was over.
    root.command(maintain(60_000)).unwrap();
    root.idle(end(1_000)).unwrap();
    assert_eq!(root.view().maintenance[&id], GroupTime(62_000));
    root.command(end(62_000)).unwrap();
    assert!(root.view().maintenance.is_empty());
}

/// PROTOCOLS 23.
#[test]
fn what_went_out_by_itself_is_remembered_and_only_what_was_judged_is_changed() {
    use EnclosureState::{Down, Out, Suspect, Up};
    let mut root = Root::with_drives();
    let id = EnclosureId::new(4);
    let judge = |from, to| RootCommand::JudgeEnclosure { id, from, to };
    root.command(RootCommand::Tick { elapsed_ms: 5_000 })
        .unwrap();
    root.command(judge(Up, Down)).unwrap();
    let refused = root.idle(judge(Suspect, Out));
    assert!(matches!(refused, Err(RootRefusal::Unfit(_))), "{refused:?}");
    assert!(root.view().outs.is_empty());
    root.command(judge(Down, Out)).unwrap();
    assert_eq!(root.view().topology.enclosures[&id].state, Out);
    assert_eq!(root.view().outs[&id], GroupTime(5_000));
    // It comes back: that it went is not forgotten.
    let back = RootCommand::SetEnclosure { id, state: Up };
    root.command(back).unwrap();
    assert_eq!(root.view().outs[&id], GroupTime(5_000));
    // An operator's order is no avalanche.
    let other = EnclosureId::new(5);
    let order = RootCommand::SetEnclosure {
        id: other,
        state: Out,
    };
    root.command(order).unwrap();
    assert_eq!(root.view().outs.len(), 1);
}

fn remove(root: &mut Root, subject: Subject) -> Result<RootReply, RootRefusal> {
    let revision = read::revision(&root.rows).unwrap();
    let outcome = root.command(RootCommand::Remove(subject));
    let changed = read::revision(&root.rows).unwrap() > revision;
    assert_eq!(outcome.is_ok(), changed);
    outcome
}

fn in_use(outcome: Result<RootReply, RootRefusal>, word: &str) {
    let Err(RootRefusal::Unfit(reason)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains(word), "{reason}");
}

#[test]
fn an_enclosure_is_removed_when_nothing_is_there_or_on_its_way_there() {
    let mut root = Root::with_drives();
    let two = Subject::Enclosure(EnclosureId::new(2));
    let volume = root.sealed();
    in_use(
        remove(&mut root, Subject::Enclosure(EnclosureId::new(1))),
        "metadata replica",
    );
    in_use(remove(&mut root, two), "1 shards");
    // Its other drive has nothing yet, but is about to.
    let order = MoveOrder {
        volume: volume.id,
        member: 0,
        from: volume.members[0],
        to: DriveId::new(4),
        reason: Reason::Rebalance,
    };
    root.command(RootCommand::BeginMoves(vec![order])).unwrap();
    in_use(
        remove(&mut root, Subject::Drive(DriveId::new(4))),
        "on their way",
    );
    let (id, epoch) = (volume.id, volume.epoch);
    root.command(RootCommand::RetireVolume { volume: id, epoch })
        .unwrap();
    root.command(RootCommand::Drain {
        subject: two,
        on: true,
    })
    .unwrap();
    remove(&mut root, two).unwrap();
    let view = root.view();
    assert_eq!(view.topology.enclosures.len(), 5);
    assert_eq!(view.topology.drives.len(), 10);
    assert!(view.moves.drains.is_empty());
}

#[test]
fn what_was_removed_does_not_come_back_and_its_ids_are_not_given_again() {
    let mut root = Root::with_drives();
    let (drive, six) = (Subject::Drive(DriveId::new(3)), EnclosureId::new(6));
    remove(&mut root, drive).unwrap();
    remove(&mut root, Subject::Enclosure(six)).unwrap();
    let join = |id| RootCommand::JoinEnclosure {
        id,
        chain: CHAIN,
        addresses: Addresses::default(),
    };
    let removed = |outcome| matches!(outcome, Err(RootRefusal::Removed(_)));
    assert!(removed(root.command(join(Some(six)))));
    assert_eq!(
        root.command(join(None)),
        Ok(RootReply::Enclosure(EnclosureId::new(7)))
    );
    for drive in [3, 11, 12] {
        for generation in [0, 1] {
            assert!(removed(root.attach(drive, 3, generation)), "drive {drive}");
        }
    }
    assert!(removed(root.attach(99, 6, 0)));
    assert_eq!(
        root.attach(99, 7, 0),
        Ok(RootReply::Attached(Generation::new(1)))
    );
}

#[test]
fn a_chain_goes_with_its_last_enclosure() {
    let mut root = Root::with_drives();
    let joined = root.command(RootCommand::JoinEnclosure {
        id: None,
        chain: ChainId::new(2),
        addresses: Addresses::default(),
    });
    assert_eq!(joined, Ok(RootReply::Enclosure(EnclosureId::new(7))));
    remove(&mut root, Subject::Enclosure(EnclosureId::new(7))).unwrap();
    assert_eq!(root.view().topology.chains.len(), 1);
}

#[test]
fn figures_are_set_when_they_can_work_together() {
    let mut root = Root::with_drives();
    let tuning = Tuning {
        drive_failures: 20_000,
        ..Tuning::default()
    };
    root.command(RootCommand::Tune(tuning)).unwrap();
    root.idle(RootCommand::Tune(tuning)).unwrap();
    assert_eq!(root.view().tuning, tuning);
    let wrong = Tuning {
        pace_floor: 2 << 20,
        pace_ceiling: 1 << 20,
        ..tuning
    };
    let slow = Tuning {
        pace_floor: PACE_FLOOR_MIN - 1,
        ..tuning
    };
    for wrong in [wrong, slow] {
        let refused = root.idle(RootCommand::Tune(wrong));
        assert!(matches!(refused, Err(RootRefusal::Unfit(_))));
    }
}

#[test]
fn the_rate_of_work_counts_the_time_in_which_there_was_any() {
    let mut root = Root::with_drives();
    let tick = |root: &mut Root, elapsed_ms| {
        root.command(RootCommand::Tick { elapsed_ms }).unwrap();
    };
    for number in 1..=3 {
        let volume = root.sealed();
        assert_eq!(volume.id, VolumeId::new(number));
        // Nothing is under way for an hour.
        tick(&mut root, 3_600_000);
        let order = MoveOrder {
            volume: volume.id,
            member: 0,
            from: volume.members[0],
            to: DriveId::new(2),
            reason: Reason::Rebalance,
        };
        let Ok(RootReply::Intents(begun)) = root.command(RootCommand::BeginMoves(vec![order]))
        else {
            panic!("not begun");
        };
        tick(&mut root, 10_000);
        let flip = crate::api::moves::Flip {
            intent: begun[0].id,
            volume: volume.id,
            epoch: volume.epoch,
            member: 0,
            bytes: 5000,
            lacks: Vec::new(),
        };
        root.command(RootCommand::FlipMember(flip)).unwrap();
        root.command(RootCommand::EndMoves(vec![begun[0].id]))
            .unwrap();
        let moves = root.view().moves;
        assert_eq!((moves.rate, moves.repair_rate), (500, 0), "turn {number}");
    }
    let unused = fenced(VolumeId::new(9), enfilade_placement::Epoch::FIRST, 0, 1);
    assert!(root.command(unused).is_err());
}
