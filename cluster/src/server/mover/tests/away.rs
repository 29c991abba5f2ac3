//! Plans while drives are away for a moment, come back, or are written to.

use enfilade_placement::Incarnation;

use super::*;
use crate::api::heartbeat::{DriveBeat, Heartbeat};

/// As long as an intent goes on, nothing else is planned for its shard.
#[tokio::test]
async fn moves_to_an_enclosure_that_is_down_are_cancelled_and_planned_anew() {
    let mut leader = Leader::new(8, 40).await;
    leader.settle().await;
    leader.stuck = true;
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    leader.turn().await;
    leader.turn().await;
    let target = leader.view().await.moves.intents[0].to;
    let down = u32::try_from(target.get() / 100).unwrap();
    leader.set_enclosure(down, EnclosureState::Down).await;
    leader.turn().await;
    let there = |intents: &[Intent]| intents.iter().any(|one| one.to.get() / 100 == down.into());
    assert!(!there(&leader.view().await.moves.intents));
    leader.stuck = false;
    leader.settle().await;
    assert_eq!(leader.shards().await.get(&DriveId::new(100)), None);
}

/// PROTOCOLS 23.
#[tokio::test]
async fn a_flapping_enclosure_does_not_keep_repairs_from_being_begun() {
    let mut leader = Leader::new(8, 60).await;
    leader.settle().await;
    leader.settings.moves_at_once = 2;
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    for turn in 0..60 {
        let state = match turn % 2 {
            0 => EnclosureState::Down,
            _ => EnclosureState::Up,
        };
        leader.set_enclosure(8, state).await;
        leader.turn().await;
    }
    assert_eq!(leader.shards().await.get(&DriveId::new(100)), None);
}

/// PROTOCOLS 23: what only restarts is attached anew, under another generation.
#[tokio::test]
async fn the_rest_of_a_plan_is_kept_while_drives_are_away_for_a_moment() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    leader.add_enclosure().await;
    leader.stuck = true;
    leader.settings.moves_at_once = 1;
    leader.turn().await;
    leader.turn().await;
    let queued = leader.keeper.queue.len();
    assert!(queued > 10);
    leader.settings.plans = Duration::from_secs(3600);
    leader.set_enclosure(2, EnclosureState::Suspect).await;
    leader.turn().await;
    leader.set_enclosure(2, EnclosureState::Up).await;
    leader.turn().await;
    assert!(leader.keeper.queue.len() + 20 >= queued);
    assert!(!leader.keeper.queue.is_empty());
    leader.add_enclosure().await;
    leader.turn().await;
    assert!(leader.keeper.queue.is_empty(), "it is for another cluster");
}

#[tokio::test]
async fn nothing_is_left_of_a_plan_whose_shards_were_smaller_when_they_were_moved() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    leader.add_enclosure().await;
    leader.moved = SHARD - 4096;
    leader.settings.plans = Duration::from_secs(3600);
    leader.settle().await;
    let moves = leader.view().await.moves;
    assert!(moves.moved_bytes > 0);
    assert_eq!(moves.backlog_bytes(), 0);
}

#[tokio::test]
async fn what_is_dead_in_logs_or_waits_to_be_dropped_moves_nothing() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    let before = leader.flipped;
    for logs in [40 * SHARD, 0] {
        let (drive, used) = (DriveId::new(100), 40 * SHARD);
        let beat = DriveBeat {
            logs,
            ..DriveBeat::new(drive, DriveState::Healthy, 1 << 40, used)
        };
        let heard = Heartbeat {
            cluster: ClusterId::new(1),
            incarnation: Incarnation::new(1),
            enclosure: EnclosureId::new(1),
            drives: vec![beat],
            shards: Vec::new(),
        };
        let heard = (leader.now, heard);
        leader.beats.insert(EnclosureId::new(1), heard);
        leader.add_volume(logs).await;
        leader.settle().await;
        assert_eq!(leader.flipped == before, logs > 0);
    }
}

#[tokio::test]
async fn drives_are_made_evenly_full_only_now_and_then_while_others_are_written_to() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    leader.add_enclosure().await;
    leader.settle().await;
    let before = leader.flipped;
    leader.settings.evenings = Duration::from_secs(3600);
    for _ in 0..12 {
        let members = (1..=6).map(|id| Some(DriveId::new(id * 100 + 1)));
        leader.add_volume_on(members.collect()).await;
    }
    for _ in 0..5 {
        leader.turn().await;
    }
    assert_eq!(leader.flipped, before);
    leader.now += leader.settings.evenings;
    leader.settle().await;
    assert!(leader.flipped > before);
}
