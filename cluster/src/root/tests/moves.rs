//! Moves of members (PROTOCOLS 12 and 21).

use enfilade_placement::{DriveId, DriveState, EnclosureId, EnclosureState, Epoch, Volume};

use crate::api::moves::{Flip, Intent, MoveOrder, Reason, Stage, Subject};
use crate::api::root::{LedgerRange, LedgerRow, RootCommand, RootRefusal, RootReply};
use crate::root::read;

use super::harness::Root;

fn order(volume: &Volume, member: u8, to: u128, reason: Reason) -> MoveOrder {
    MoveOrder {
        volume: volume.id,
        member,
        from: volume.members.get(usize::from(member)).copied().flatten(),
        to: DriveId::new(to),
        reason,
    }
}

fn begin(root: &mut Root, orders: Vec<MoveOrder>) -> Vec<Intent> {
    match root.command(RootCommand::BeginMoves(orders)) {
        Ok(RootReply::Intents(intents)) => intents,
        other => panic!("{other:?}"),
    }
}

fn begin_none(root: &mut Root, order: &MoveOrder) -> bool {
    let outcome = root.idle(RootCommand::BeginMoves(vec![order.clone()]));
    outcome == Ok(RootReply::Intents(vec![]))
}

fn flip(intent: &Intent, epoch: Epoch) -> RootCommand {
    RootCommand::FlipMember(Flip {
        intent: intent.id,
        volume: intent.volume,
        epoch,
        member: intent.member,
        bytes: 7,
        lacks: Vec::new(),
    })
}

fn set_drive(root: &mut Root, drive: u128, state: DriveState) {
    let drive = DriveId::new(drive);
    root.command(RootCommand::SetDrive { drive, state })
        .unwrap();
}

fn volume_now(root: &Root, volume: &Volume) -> Volume {
    read::volumes(&root.rows, &[volume.id]).unwrap().remove(0)
}

#[test]
fn a_member_is_flipped_by_compare_and_set_on_epoch_and_intent() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    let intents = begin(&mut root, vec![order(&volume, 2, 6, Reason::Rebalance)]);
    assert_eq!(root.view().moves.intents, intents);
    assert_eq!(volume_now(&root, &volume), volume, "nothing moves before");
    let stale = root.idle(flip(&intents[0], volume.epoch.next()));
    assert!(matches!(stale, Err(RootRefusal::StaleEpoch(_))));
    let Ok(RootReply::Volume(flipped)) = root.command(flip(&intents[0], volume.epoch)) else {
        panic!("not flipped");
    };
    assert_eq!(flipped.members[2], Some(DriveId::new(6)));
    assert_eq!(flipped.epoch, volume.epoch.next());
    let moves = root.view().moves;
    assert_eq!((moves.moved_bytes, moves.rebuilt_bytes), (7, 0));
    assert_eq!(moves.intents[0].stage, Stage::Check);
    let again = root.idle(flip(&intents[0], flipped.epoch));
    assert_eq!(again, Err(RootRefusal::IntentEnded(intents[0].id)));
    // Until it was looked through, it does not move on.
    let on = order(&flipped, 2, 2, Reason::Rebalance);
    assert!(begin_none(&mut root, &on));
    root.command(RootCommand::EndMoves(vec![intents[0].id]))
        .unwrap();
    assert!(root.view().moves.intents.is_empty());
    assert_eq!(begin(&mut root, vec![on]).len(), 1);
}

#[test]
fn a_shard_that_is_lost_before_it_was_looked_through_is_rebuilt() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    let intents = begin(&mut root, vec![order(&volume, 2, 6, Reason::Rebalance)]);
    // What is not made yet does not end well by saying so, nor what is made by giving it up.
    root.idle(RootCommand::EndMoves(vec![intents[0].id]))
        .unwrap();
    root.command(flip(&intents[0], volume.epoch)).unwrap();
    root.idle(RootCommand::CancelMoves(vec![intents[0].id]))
        .unwrap();
    let now = volume_now(&root, &volume);
    let repair = order(&now, 2, 2, Reason::Repair);
    assert!(begin_none(&mut root, &repair));
    set_drive(&mut root, 6, DriveState::Gone);
    let begun = begin(&mut root, vec![repair]);
    assert_eq!(root.view().moves.intents, begun);
}

#[test]
fn a_flip_of_another_member_ends_no_intent_but_asks_for_the_new_epoch() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    let orders = vec![
        order(&volume, 0, 2, Reason::Rebalance),
        order(&volume, 1, 4, Reason::Rebalance),
    ];
    let intents = begin(&mut root, orders);
    root.command(flip(&intents[0], volume.epoch)).unwrap();
    let stale = root.idle(flip(&intents[1], volume.epoch));
    assert!(matches!(stale, Err(RootRefusal::StaleEpoch(_))));
    root.command(flip(&intents[1], volume.epoch.next()))
        .unwrap();
    let now = volume_now(&root, &volume);
    assert_eq!(
        now.members[..2],
        [Some(DriveId::new(2)), Some(DriveId::new(4))]
    );
}

#[test]
fn only_members_of_sealed_volumes_move_and_only_to_drives_that_take_them() {
    let mut root = Root::with_drives();
    let open = root.volume();
    let volume = root.sealed();
    set_drive(&mut root, 4, DriveState::Slow);
    let (subject, on) = (Subject::Enclosure(EnclosureId::new(4)), true);
    root.command(RootCommand::Drain { subject, on }).unwrap();
    let unfit = vec![
        order(&open, 0, 2, Reason::Rebalance),
        order(&volume, 9, 2, Reason::Rebalance),
        order(&volume, 0, 3, Reason::Rebalance),
        order(&volume, 0, 4, Reason::Rebalance),
        order(&volume, 0, 8, Reason::Rebalance),
        order(&volume, 0, 99, Reason::Rebalance),
        // It is not lost.
        order(&volume, 0, 2, Reason::Repair),
        MoveOrder {
            from: Some(DriveId::new(2)),
            ..order(&volume, 0, 2, Reason::Rebalance)
        },
    ];
    let outcome = root.idle(RootCommand::BeginMoves(unfit));
    assert_eq!(outcome, Ok(RootReply::Intents(vec![])));
    let twice = vec![
        order(&volume, 0, 2, Reason::Rebalance),
        order(&volume, 0, 10, Reason::Rebalance),
        order(&volume, 1, 2, Reason::Rebalance),
    ];
    assert_eq!(begin(&mut root, twice).len(), 1);
}

#[test]
fn what_was_lost_is_rebuilt_elsewhere_and_leaves_the_ledger() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    set_drive(&mut root, 5, DriveState::Gone);
    let row = |what| LedgerRow {
        volume: volume.id,
        member: 2,
        what,
    };
    let faults = RootCommand::ReportFaults(vec![row(LedgerRange::Whole)]);
    root.command(faults).unwrap();
    let intents = begin(&mut root, vec![order(&volume, 2, 6, Reason::Repair)]);
    assert_eq!(intents[0].from, Some(DriveId::new(5)));
    root.command(flip(&intents[0], volume.epoch)).unwrap();
    let view = root.view();
    assert_eq!((view.ledger_rows, view.moves.rebuilt_bytes), (0, 7));
}

#[test]
fn intents_end_when_they_are_cancelled_their_volume_retires_or_their_target_is_to_be_emptied() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    let orders = || {
        vec![
            order(&volume, 0, 2, Reason::Drain),
            order(&volume, 1, 4, Reason::Rebalance),
        ]
    };
    let intents = begin(&mut root, orders());
    root.command(RootCommand::CancelMoves(vec![intents[0].id]))
        .unwrap();
    assert_eq!(root.view().moves.intents, [intents[1].clone()]);
    root.idle(RootCommand::CancelMoves(vec![intents[0].id]))
        .unwrap();
    let drain = |drive: u128, on| RootCommand::Drain {
        subject: Subject::Drive(DriveId::new(drive)),
        on,
    };
    root.command(drain(4, true)).unwrap();
    assert!(root.view().moves.intents.is_empty());
    root.command(drain(4, false)).unwrap();
    // What is drained no longer stays where it is.
    root.command(drain(1, true)).unwrap();
    assert_eq!(begin(&mut root, orders()).len(), 2);
    root.command(drain(1, false)).unwrap();
    assert_eq!(root.view().moves.intents.len(), 1);
    let (volume, epoch) = (volume.id, volume.epoch);
    root.command(RootCommand::RetireVolume { volume, epoch })
        .unwrap();
    assert!(root.view().moves.intents.is_empty());
}

#[test]
fn what_is_to_be_emptied_takes_no_volumes() {
    let mut root = Root::with_drives();
    let subject = Subject::Enclosure(EnclosureId::new(2));
    root.command(RootCommand::Drain { subject, on: true })
        .unwrap();
    let leaving: Vec<u128> = {
        let view = root.view();
        let leaving = view.moves.leaving(&view.topology);
        leaving.iter().map(|drive| drive.get()).collect()
    };
    assert_eq!(leaving, [3, 4]);
    let refused = root.open(&[1, 3, 5, 7, 9, 11]);
    assert!(matches!(refused, Err(RootRefusal::UnfitMembers(_))));
    root.command(RootCommand::Drain { subject, on: false })
        .unwrap();
    assert!(root.open(&[1, 3, 5, 7, 9, 11]).is_ok());
    let unknown = Subject::Drive(DriveId::new(99));
    let unknown = root.idle(RootCommand::Drain {
        subject: unknown,
        on: true,
    });
    assert!(matches!(unknown, Err(RootRefusal::NotFound(_))));
}

#[test]
fn moves_are_paused_until_they_go_on() {
    let mut root = Root::with_drives();
    root.command(RootCommand::PauseMoves(true)).unwrap();
    root.idle(RootCommand::PauseMoves(true)).unwrap();
    assert!(root.view().moves.paused);
    root.command(RootCommand::PauseMoves(false)).unwrap();
    assert!(!root.view().moves.paused);
}

#[test]
fn a_drive_in_an_enclosure_that_is_out_counts_as_lost() {
    let mut root = Root::with_drives();
    let volume = root.sealed();
    let (id, state) = (EnclosureId::new(3), EnclosureState::Out);
    root.command(RootCommand::SetEnclosure { id, state })
        .unwrap();
    let orders = vec![order(&volume, 2, 2, Reason::Repair)];
    assert_eq!(begin(&mut root, orders).len(), 1);
}
