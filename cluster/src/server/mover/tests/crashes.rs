//! Plans that are carried out in any order and broken off anywhere: leaders change, nodes stop
//! before and after a flip, flips are asked for twice, intents are cancelled, drives are lost.

use enfilade_placement::seed::SplitMix64;
use enfilade_placement::spread::spread;

use super::*;

/// What must hold at every moment.
struct Promise {
    /// The most members of any volume in one enclosure.
    crowd: usize,
    /// Drives that were lost; nothing else is missing.
    lost: BTreeSet<DriveId>,
}

impl Promise {
    async fn of(leader: &Leader) -> Self {
        let topology = leader.view().await.topology;
        let volumes = leader.volumes().await;
        let crowds = volumes
            .iter()
            .map(|volume| spread(&topology, &volume.members).enclosure);
        Self {
            crowd: crowds.max().unwrap_or(0),
            lost: BTreeSet::new(),
        }
    }

    async fn check(&self, leader: &Leader) {
        let topology = leader.view().await.topology;
        for volume in leader.volumes().await {
            let there = |drive: &DriveId| !self.lost.contains(drive);
            let members = volume.members.iter().map(|member| member.filter(there));
            let lies = spread(&topology, &members.collect::<Vec<_>>());
            assert_eq!(lies.drive, 1, "{volume:?}");
            assert!(lies.enclosure <= self.crowd, "{volume:?}");
            let lost = |drive: &DriveId| self.lost.contains(drive);
            let gone = volume.present().filter(|(_, drive)| lost(drive)).count();
            let left = enfilade_placement::health::survival(&topology, &volume);
            assert_eq!(left.missing.len(), gone, "{volume:?}");
        }
    }
}

impl Leader {
    /// What a node does with an intent before it stops, or root is asked again.
    async fn step(&mut self, intent: &Intent, random: &mut SplitMix64) {
        match random.index(6) {
            // It stops before its shard is whole.
            0 => {}
            // The answer to its flip is lost, or it stops before its blobs are looked up.
            1 | 2 => {
                let flip = self.flip(intent).await;
                let first = self.command(RootCommand::FlipMember(flip.clone())).await;
                self.flipped += u64::from(first.is_ok());
                let again = self.command(RootCommand::FlipMember(flip)).await;
                assert!(again.is_err(), "flipped twice: {intent:?}");
            }
            3 => {
                let cancelled = RootCommand::CancelMoves(vec![intent.id]);
                self.command(cancelled).await.unwrap();
            }
            _ if intent.stage == Stage::Check => {
                let ended = RootCommand::EndMoves(vec![intent.id]);
                self.command(ended).await.unwrap();
            }
            _ => self.carry_out(intent).await,
        }
    }

    async fn flip(&self, intent: &Intent) -> Flip {
        Flip {
            intent: intent.id,
            volume: intent.volume,
            epoch: self.epoch(intent.volume).await,
            member: intent.member,
            bytes: SHARD,
            lacks: Vec::new(),
        }
    }

    /// Intents whose target can be written to.
    async fn feasible(&self) -> Vec<Intent> {
        let view = self.view().await;
        let mut intents = view.moves.intents;
        intents.retain(|intent| view.topology.is_present(intent.to));
        intents
    }

    /// Turns in which anything may be broken off.
    async fn storm(&mut self, promise: &Promise, random: &mut SplitMix64, turns: u32) {
        self.stuck = true;
        for _ in 0..turns {
            if random.index(5) == 0 {
                self.keeper = MoveKeeper::default();
            }
            self.turn().await;
            let mut intents = self.feasible().await;
            random.shuffle(&mut intents);
            intents.truncate(random.index(intents.len() + 1));
            for intent in intents {
                // It may have ended since.
                let now = self.feasible().await;
                if let Some(intent) = now.into_iter().find(|one| one.id == intent.id) {
                    self.step(&intent, random).await;
                    promise.check(self).await;
                }
            }
        }
        self.stuck = false;
    }

    /// Lets everything come to its end.
    async fn calm(&mut self, promise: &Promise) {
        for _ in 0..200 {
            let checks = self.view().await.moves.intents;
            let checks = checks.iter().filter(|one| one.stage == Stage::Check);
            let ended = checks.map(|one| one.id).collect();
            self.command(RootCommand::EndMoves(ended)).await.unwrap();
            let before = self.view().await.revision;
            for _ in 0..3 {
                self.turn().await;
            }
            promise.check(self).await;
            if self.view().await.revision == before {
                return;
            }
        }
        panic!("it does not settle: {:?}", self.view().await.moves);
    }
}

/// What is planned for now, from nothing but the root state.
async fn plan_of(leader: &Leader) -> Plan {
    let view = leader.view().await;
    let input = plan::Input {
        topology: &view.topology,
        leaving: &view.moves.leaving(&view.topology),
        waiting: &BTreeMap::new(),
        other: &BTreeMap::new(),
        seed: 7,
    };
    plan::plan(&input, leader.volumes().await)
}

/// Promise P6, and PROTOCOLS 21.
#[tokio::test]
async fn growth_in_any_order_with_any_crash_keeps_all_redundancy_and_moves_what_it_must() {
    for seed in 0..12 {
        let mut random = SplitMix64::new(seed);
        let mut leader = Leader::new(6, 30).await;
        leader.settle().await;
        leader.add_enclosure().await;
        let drain = seed % 3 == 0;
        if drain {
            let (subject, on) = (Subject::Enclosure(EnclosureId::new(2)), true);
            let order = RootCommand::Drain { subject, on };
            leader.command(order).await.unwrap();
        }
        let bound = plan_of(&leader).await.summary.bound_bytes;
        let (promise, before) = (Promise::of(&leader).await, leader.flipped);
        leader.storm(&promise, &mut random, 25).await;
        leader.calm(&promise).await;
        let moved = (leader.flipped - before) * SHARD;
        assert!(bound > 0 && moved >= bound, "seed {seed}: {moved}, {bound}");
        let most = (bound / 100 * 105).max(bound + SHARD);
        assert!(moved <= most, "seed {seed}: {moved}, {bound}");
        let rest = plan_of(&leader).await;
        assert_eq!(rest.moves, [], "seed {seed}");
        let two = leader.shards().await;
        let in_two = two.keys().any(|id| (200..300).contains(&id.get()));
        assert_eq!(in_two, !drain, "seed {seed}");
    }
}

/// Promise P6, and PROTOCOLS 21.
#[tokio::test]
async fn repair_in_any_order_with_any_crash_loses_no_more_and_ends_whole() {
    for seed in 0..6 {
        let mut random = SplitMix64::new(seed);
        let mut leader = Leader::new(7, 30).await;
        leader.settle().await;
        let mut promise = Promise::of(&leader).await;
        leader.add_enclosure().await;
        leader.storm(&promise, &mut random, 4).await;
        for drive in [101, 302] {
            leader.set_drive(drive, DriveState::Gone).await;
            promise.lost.insert(DriveId::new(drive));
            promise.check(&leader).await;
            leader.turn().await;
            leader.now += leader.settings.drive_out;
            leader.storm(&promise, &mut random, 10).await;
        }
        leader.turn().await;
        leader.now += leader.settings.drive_out;
        leader.calm(&promise).await;
        let shards = leader.shards().await;
        for drive in &promise.lost {
            assert_eq!(shards.get(drive), None, "seed {seed}");
        }
    }
}
