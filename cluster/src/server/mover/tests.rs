//! Moves as the root leader begins them, against a root state machine in memory; its nodes make
//! every shard at once.

use enfilade_placement::{
    ChainId, ClusterId, EnclosureId, Epoch, Generation, Profile, RequestId, VolumeState,
};

use super::*;
use crate::api::MetadataClient;
use crate::api::memory::MemoryMetadata;
use crate::api::moves::{Flip, Subject};
use crate::api::root::{Addresses, Birth, RootOutcome, RootRefusal, RootReply};
use crate::env::Env;

const SHARD: u64 = 1 << 30;
const DRIVES: u32 = 4;

struct Leader {
    root: MemoryMetadata,
    keeper: MoveKeeper,
    settings: KeeperSettings,
    now: Duration,
    requests: u128,
    flipped: u64,
    beats: HeardBeats,
    /// Bytes of a shard when it has been moved.
    moved: u64,
    /// Intents are begun but not carried out.
    stuck: bool,
    braked: BTreeSet<EnclosureId>,
    replicas_leave: BTreeSet<EnclosureId>,
}

/// The table in pages of seven.
fn pages(all: &[Volume]) -> Pages {
    let all = all.to_vec();
    Arc::new(move |after| {
        let rest = all.iter().filter(|one| Some(one.id) > after);
        Ok(rest.take(7).cloned().collect())
    })
}

impl Leader {
    async fn new(enclosures: u32, volumes: u32) -> Self {
        let birth = Birth {
            cluster: ClusterId::new(1),
            profile: Profile::new(4, 2).unwrap(),
            volume_target: SHARD,
            open_volumes: 1,
            replicas: vec![EnclosureId::new(1)],
        };
        let mut leader = Self {
            root: MemoryMetadata::born(birth, Env::seeded(3)),
            keeper: MoveKeeper::default(),
            settings: KeeperSettings {
                evenings: Duration::ZERO,
                ..KeeperSettings::default()
            },
            now: Duration::from_secs(100),
            requests: 0,
            flipped: 0,
            beats: HeardBeats::default(),
            moved: SHARD,
            stuck: false,
            braked: BTreeSet::new(),
            replicas_leave: BTreeSet::new(),
        };
        for _ in 0..enclosures {
            leader.add_enclosure().await;
        }
        for seed in 0..u64::from(volumes) {
            leader.add_volume(seed).await;
        }
        leader
    }

    async fn command(&mut self, command: RootCommand) -> RootOutcome {
        self.requests += 1;
        let request = RequestId::new(self.requests);
        self.root.root(request, command).await.unwrap()
    }

    async fn add_enclosure(&mut self) {
        let join = RootCommand::JoinEnclosure {
            id: None,
            chain: ChainId::new(1),
            addresses: Addresses::default(),
        };
        let Ok(RootReply::Enclosure(enclosure)) = self.command(join).await else {
            panic!("not joined");
        };
        for slot in 0..DRIVES {
            let attach = RootCommand::AttachDrive {
                drive: DriveId::new(u128::from(enclosure.get() * 100 + slot)),
                enclosure,
                slot,
                capacity: 1 << 40,
                generation: Generation::default(),
            };
            self.command(attach).await.unwrap();
        }
    }

    /// A sealed volume of one shard's bytes.
    async fn add_volume(&mut self, seed: u64) {
        let view = self.view().await;
        let mut fill = enfilade_placement::choose::Fill::default();
        for volume in self.volumes().await {
            for (_, drive) in volume.present() {
                *fill.used.entry(drive).or_default() += SHARD;
            }
        }
        let profile = view.profile.unwrap();
        let choice =
            enfilade_placement::choose::choose(&view.topology, &fill, profile, seed).unwrap();
        self.add_volume_on(choice.members).await;
    }

    async fn add_volume_on(&mut self, members: Vec<Option<DriveId>>) {
        let open = RootCommand::OpenVolume {
            profile: Profile::new(4, 2).unwrap(),
            members,
            violation: false,
        };
        let Ok(RootReply::Volume(volume)) = self.command(open).await else {
            panic!("not opened");
        };
        let (id, epoch) = (volume.id, volume.epoch);
        self.command(RootCommand::SealVolume { volume: id, epoch })
            .await
            .unwrap();
        let fenced = RootCommand::VolumeFenced {
            volume: id,
            epoch: epoch.next(),
            member: 0,
            bytes: SHARD,
        };
        self.command(fenced).await.unwrap();
    }

    async fn view(&self) -> RootView {
        self.root.watch(0, Duration::ZERO).await.unwrap()
    }

    async fn volumes(&self) -> Vec<Volume> {
        self.root.all_volumes(None, usize::MAX).await.unwrap()
    }

    /// One turn of the leader, and all that nodes do after it.
    async fn turn(&mut self) {
        self.now += Duration::from_secs(6);
        let (view, all) = (Arc::new(self.view().await), self.volumes().await);
        let scene = Scene {
            settings: &self.settings,
            view: &view,
            beats: &self.beats,
            braked: &self.braked,
            replicas_leave: &self.replicas_leave,
            now: self.now,
            seed: 7,
        };
        let find = |id| Ok::<_, ()>(all.iter().find(|volume| volume.id == id).cloned());
        let commands = self.keeper.keep(&scene, find, &pages(&all)).await.unwrap();
        if let Some((_, plan)) = &self.keeper.planning {
            while !plan.is_finished() {
                tokio::task::yield_now().await;
            }
        }
        for command in commands {
            self.command(command).await.unwrap();
        }
        let intents = self.view().await.moves.intents;
        self.assert_within_limits(&intents);
        if !self.stuck {
            for intent in intents {
                self.carry_out(&intent).await;
            }
        }
    }

    fn assert_within_limits(&self, intents: &[Intent]) {
        let mut busy: BTreeMap<DriveId, u32> = BTreeMap::new();
        let making = |one: &&Intent| one.stage == Stage::Make && one.reason != Reason::Repair;
        let intents: Vec<&Intent> = intents.iter().filter(making).collect();
        for drive in intents
            .iter()
            .flat_map(|one| one.from.iter().chain([&one.to]))
        {
            *busy.entry(*drive).or_default() += 1;
        }
        assert!(intents.len() <= self.settings.moves_at_once as usize);
        assert!(
            busy.values()
                .all(|count| *count <= self.settings.moves_per_drive)
        );
    }

    /// What the node of the target does, if it can.
    async fn carry_out(&mut self, intent: &Intent) {
        let there = self.view().await.topology.is_present(intent.to);
        if !there || intent.stage == Stage::Check {
            return;
        }
        let mut epoch = self.epoch(intent.volume).await;
        loop {
            let flip = Flip {
                intent: intent.id,
                volume: intent.volume,
                epoch,
                member: intent.member,
                bytes: self.moved,
                lacks: Vec::new(),
            };
            match self.command(RootCommand::FlipMember(flip)).await {
                Err(RootRefusal::StaleEpoch(volume)) => epoch = volume.epoch,
                outcome => {
                    outcome.unwrap();
                    break;
                }
            }
        }
        self.flipped += 1;
        self.command(RootCommand::EndMoves(vec![intent.id]))
            .await
            .unwrap();
    }

    async fn epoch(&self, id: VolumeId) -> Epoch {
        let found = self.root.volumes(&[id]).await.unwrap();
        found[0].epoch
    }

    /// Turns until nothing changes any more.
    async fn settle(&mut self) {
        for _ in 0..400 {
            let before = self.view().await.revision;
            self.turn().await;
            self.turn().await;
            self.turn().await;
            if self.view().await.revision == before {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.view().await.moves);
    }

    async fn shards(&self) -> BTreeMap<DriveId, u32> {
        let mut shards: BTreeMap<DriveId, u32> = BTreeMap::new();
        for volume in self.volumes().await {
            assert_eq!(volume.state, VolumeState::Sealed);
            assert_eq!(volume.vacant(), 0);
            for (_, drive) in volume.present() {
                *shards.entry(drive).or_default() += 1;
            }
        }
        shards
    }

    async fn set_enclosure(&mut self, id: u32, state: EnclosureState) {
        let id = EnclosureId::new(id);
        self.command(RootCommand::SetEnclosure { id, state })
            .await
            .unwrap();
    }

    async fn set_drive(&mut self, drive: u128, state: DriveState) {
        let drive = DriveId::new(drive);
        self.command(RootCommand::SetDrive { drive, state })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_added_enclosure_gets_its_share_and_then_nothing_moves() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    let before = leader.flipped;
    leader.add_enclosure().await;
    leader.settle().await;
    let (shards, moves) = (leader.shards().await, leader.view().await.moves);
    let new: u32 = shards
        .iter()
        .filter(|(id, _)| id.get() >= 700)
        .map(|(_, n)| n)
        .sum();
    let share = 60 * 6 / 7;
    assert!(
        (share - 8..=share + 8).contains(&new),
        "{new} of {share}: {shards:?}"
    );
    assert!(
        leader.flipped - before <= u64::from(new) + 4,
        "{}",
        leader.flipped
    );
    assert_eq!(moves.intents, []);
    assert_eq!(moves.backlog_bytes(), 0);
    let (done, revision) = (leader.flipped, leader.view().await.revision);
    for _ in 0..5 {
        leader.turn().await;
    }
    assert_eq!(
        (leader.flipped, leader.view().await.revision),
        (done, revision)
    );
}

#[tokio::test]
async fn what_a_lost_drive_held_is_rebuilt_once_it_was_waited_for() {
    let mut leader = Leader::new(7, 40).await;
    leader.settle().await;
    let held = leader.shards().await[&DriveId::new(100)];
    let before = leader.flipped;
    leader.set_drive(100, DriveState::Gone).await;
    for _ in 0..10 {
        leader.turn().await;
    }
    assert_eq!(leader.flipped, before, "it may be plugged in again");
    leader.now += leader.settings.drive_out;
    leader.settle().await;
    assert_eq!(leader.shards().await.get(&DriveId::new(100)), None);
    let moves = leader.view().await.moves;
    assert_eq!(moves.rebuilt_bytes, u64::from(held) * SHARD);
}

/// PROTOCOLS 1: replicas leave first, but what is lost does not wait for them.
#[tokio::test]
async fn what_is_lost_is_rebuilt_while_replicas_have_yet_to_leave_what_is_drained() {
    let mut leader = Leader::new(8, 40).await;
    leader.settle().await;
    let drained = |shards: BTreeMap<DriveId, u32>| -> u32 {
        let of = |id: &DriveId| (300..400).contains(&id.get());
        let held = shards.into_iter().filter(|(id, _)| of(id));
        held.map(|(_, count)| count).sum()
    };
    let held = drained(leader.shards().await);
    leader.replicas_leave = BTreeSet::from([EnclosureId::new(3)]);
    let (subject, on) = (Subject::Enclosure(EnclosureId::new(3)), true);
    leader
        .command(RootCommand::Drain { subject, on })
        .await
        .unwrap();
    leader.set_drive(100, DriveState::Replaced).await;
    for _ in 0..40 {
        leader.turn().await;
    }
    let shards = leader.shards().await;
    assert_eq!(shards.get(&DriveId::new(100)), None, "the lost drive");
    assert_eq!(drained(shards), held);
    leader.replicas_leave.clear();
    leader.settle().await;
    assert_eq!(drained(leader.shards().await), 0);
}

#[tokio::test]
async fn drives_beyond_one_enclosures_worth_are_waited_for_until_an_operator_decides() {
    let mut leader = Leader::new(7, 40).await;
    leader.settle().await;
    for drive in [100, 101, 102, 103, 200] {
        leader.set_drive(drive, DriveState::Gone).await;
    }
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    leader.settle().await;
    let left = leader.shards().await;
    let stays: Vec<u128> = left
        .keys()
        .map(|id| id.get())
        .filter(|id| *id < 300)
        .collect();
    assert!(stays.contains(&200) && !stays.contains(&100), "{stays:?}");
    let (subject, on) = (Subject::Drive(DriveId::new(200)), true);
    leader
        .command(RootCommand::Drain { subject, on })
        .await
        .unwrap();
    leader.settle().await;
    assert_eq!(leader.shards().await.get(&DriveId::new(200)), None);
}

#[tokio::test]
async fn a_drain_empties_and_a_pause_holds_it_but_not_a_repair() {
    let mut leader = Leader::new(8, 40).await;
    leader.settle().await;
    leader.command(RootCommand::PauseMoves(true)).await.unwrap();
    let (subject, on) = (Subject::Enclosure(EnclosureId::new(2)), true);
    leader
        .command(RootCommand::Drain { subject, on })
        .await
        .unwrap();
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    for _ in 0..20 {
        leader.turn().await;
    }
    let shards = leader.shards().await;
    assert_eq!(shards.get(&DriveId::new(100)), None);
    let of_two = |shards: &BTreeMap<DriveId, u32>| {
        let mut drives = shards.keys();
        drives.any(|id| (200..300).contains(&id.get()))
    };
    assert!(of_two(&shards), "paused");
    leader
        .command(RootCommand::PauseMoves(false))
        .await
        .unwrap();
    leader.settle().await;
    assert!(!of_two(&leader.shards().await));
}

#[tokio::test]
async fn a_repair_of_what_came_back_is_cancelled() {
    let mut leader = Leader::new(7, 40).await;
    leader.settle().await;
    let before = leader.shards().await;
    leader.stuck = true;
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    leader.turn().await;
    leader.turn().await;
    assert!(!leader.view().await.moves.intents.is_empty());
    leader.set_drive(100, DriveState::Healthy).await;
    leader.settle().await;
    let intents = leader.view().await.moves.intents;
    assert!(
        intents.iter().all(|one| one.reason != Reason::Repair),
        "{intents:?}"
    );
    assert_eq!(leader.shards().await, before);
}

#[tokio::test]
async fn moves_to_a_drive_that_is_lost_are_cancelled_and_planned_anew() {
    let mut leader = Leader::new(6, 40).await;
    leader.settle().await;
    leader.add_enclosure().await;
    leader.stuck = true;
    leader.turn().await;
    leader.turn().await;
    assert!(!leader.view().await.moves.intents.is_empty());
    for drive in 700..700 + u128::from(DRIVES) {
        leader.set_drive(drive, DriveState::Failing).await;
    }
    leader.turn().await;
    assert_eq!(leader.view().await.moves.intents, []);
    leader.stuck = false;
    leader.settle().await;
    assert!(leader.shards().await.keys().all(|id| id.get() < 700));
}

#[tokio::test]
async fn a_drive_that_dies_before_its_shards_were_looked_through_is_rebuilt() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    leader.add_enclosure().await;
    leader.stuck = true;
    leader.turn().await;
    leader.turn().await;
    let intents = leader.view().await.moves.intents;
    let dies = intents[0].to;
    for intent in intents.iter().filter(|one| one.to == dies) {
        let flip = Flip {
            intent: intent.id,
            volume: intent.volume,
            epoch: leader.epoch(intent.volume).await,
            member: intent.member,
            bytes: SHARD,
            lacks: Vec::new(),
        };
        leader.command(RootCommand::FlipMember(flip)).await.unwrap();
    }
    leader.set_drive(dies.get(), DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    leader.stuck = false;
    leader.settle().await;
    assert_eq!(leader.shards().await.get(&dies), None);
    assert_eq!(leader.view().await.moves.intents, []);
}

#[tokio::test]
async fn repairs_do_not_wait_for_other_moves() {
    let mut leader = Leader::new(6, 60).await;
    leader.settle().await;
    leader.add_enclosure().await;
    leader.stuck = true;
    leader.settings.moves_at_once = 4;
    leader.turn().await;
    leader.turn().await;
    assert_eq!(leader.view().await.moves.intents.len(), 4);
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    leader.turn().await;
    leader.turn().await;
    let intents = leader.view().await.moves.intents;
    assert!(
        intents.iter().any(|one| one.reason == Reason::Repair),
        "{intents:?}"
    );
}

/// PROTOCOLS 23.
#[tokio::test]
async fn the_brake_does_not_hold_volumes_with_no_redundant_shard_left() {
    let mut leader = Leader::new(8, 60).await;
    leader.settle().await;
    for id in [1, 2] {
        leader.set_enclosure(id, EnclosureState::Down).await;
    }
    let lost = |volume: &Volume, topology: &enfilade_placement::Topology| {
        enfilade_placement::health::survival(topology, volume)
            .missing
            .len()
    };
    let topology = leader.view().await.topology;
    let bare = leader.volumes().await;
    let bare: Vec<_> = bare
        .iter()
        .filter(|one| lost(one, &topology) == 2)
        .collect();
    assert!(bare.len() > 3);
    leader.settle().await;
    let after = leader.volumes().await;
    assert!(after.iter().all(|volume| lost(volume, &topology) < 2));
    assert!(
        after.iter().any(|volume| lost(volume, &topology) == 1),
        "others wait"
    );
}

/// PROTOCOLS 23.
#[tokio::test]
async fn what_is_under_maintenance_is_not_rebuilt_until_that_ends() {
    let mut leader = Leader::new(7, 40).await;
    leader.settle().await;
    let before = leader.flipped;
    let (id, for_ms) = (EnclosureId::new(1), 1_800_000);
    leader
        .command(RootCommand::Maintain { id, for_ms })
        .await
        .unwrap();
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out * 2;
    leader.settle().await;
    assert_eq!(leader.flipped, before);
    leader
        .command(RootCommand::Maintain { id, for_ms: 0 })
        .await
        .unwrap();
    leader.settle().await;
    assert_eq!(leader.shards().await.get(&DriveId::new(100)), None);
}

#[tokio::test]
async fn what_is_sealed_after_the_plan_is_rebuilt_although_moves_are_paused() {
    let mut leader = Leader::new(7, 40).await;
    leader.settle().await;
    let open = RootCommand::OpenVolume {
        profile: Profile::new(4, 2).unwrap(),
        members: (1..=6).map(|id| Some(DriveId::new(id * 100))).collect(),
        violation: false,
    };
    let Ok(RootReply::Volume(volume)) = leader.command(open).await else {
        panic!("not opened");
    };
    leader.add_enclosure().await;
    leader.command(RootCommand::PauseMoves(true)).await.unwrap();
    leader.set_drive(100, DriveState::Gone).await;
    leader.turn().await;
    leader.now += leader.settings.drive_out;
    for _ in 0..10 {
        leader.turn().await;
    }
    assert!(!leader.keeper.queue.is_empty(), "paused");
    // The plan has it sealed; a member fences only now.
    let sealing = &leader.view().await.volumes[&volume.id];
    assert_eq!(sealing.state, VolumeState::Sealing);
    let fenced = RootCommand::VolumeFenced {
        volume: volume.id,
        epoch: sealing.epoch,
        member: 1,
        bytes: SHARD,
    };
    leader.command(fenced).await.unwrap();
    for _ in 0..20 {
        leader.turn().await;
    }
    assert_eq!(leader.shards().await.get(&DriveId::new(100)), None);
}

#[tokio::test]
async fn a_plan_that_moves_nothing_still_tells_of_what_cannot_be_rebuilt() {
    let mut leader = Leader::new(6, 10).await;
    leader.settle().await;
    for id in [1, 2, 3] {
        leader.set_enclosure(id, EnclosureState::Out).await;
    }
    leader.settle().await;
    assert_eq!(leader.view().await.moves.plan.unreadable, 10);
}

mod away;
mod crashes;
mod large;
