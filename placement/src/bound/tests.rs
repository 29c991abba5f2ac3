use std::collections::BTreeMap;

use crate::ids::{DriveId, EnclosureId, Epoch, VolumeId};
use crate::plan::level::{Goal, goal};
use crate::plan::sites::{Sites, VACANT};
use crate::plan::table::Table;
use crate::plan::{Input, Plan, apply, plan};
use crate::profile::Profile;
use crate::seed::SplitMix64;
use crate::simulate::World;
use crate::topology::EnclosureState;
use crate::volume::{Volume, VolumeState};

const SHARD: u64 = 1000;

/// A cluster so small that all that can be done in it can be tried.
struct Small {
    world: World,
    same: bool,
}

impl Small {
    fn draw(random: &mut SplitMix64) -> Self {
        let profile = Profile::new(1 + u8::try_from(random.index(2)).unwrap(), 1).unwrap();
        let mut world = World::new(profile, SHARD, random.bits());
        let (mut drives, chains) = (0, 1 + random.index(3));
        while drives < 6 && (drives < 4 || random.index(3) > 0) {
            let count = (1 + random.index(3)).min(6 - drives);
            let capacity = SHARD * (4 + u64::try_from(random.index(6)).unwrap());
            let chain = 1 + u32::try_from(random.index(chains)).unwrap();
            world.add(chain, u32::try_from(count).unwrap(), capacity);
            drives += count;
        }
        let same = random.index(3) > 0;
        let ids: Vec<DriveId> = world.topology.drives.keys().copied().collect();
        for id in 1..=2 + u64::try_from(random.index(3)).unwrap() {
            let mut members = ids.clone();
            random.shuffle(&mut members);
            let mut members: Vec<_> = members.into_iter().map(Some).collect();
            members.truncate(profile.width());
            if random.index(6) == 0 {
                members[0] = None;
            }
            let volume = Volume {
                id: VolumeId::new(id),
                profile,
                members,
                epoch: Epoch::FIRST,
                state: VolumeState::Sealed,
                bytes: if same || random.index(2) == 0 {
                    SHARD
                } else {
                    SHARD / 2
                },
                violation: false,
            };
            world.volumes.insert(volume.id, volume);
        }
        match random.index(5) {
            0 => drop(world.fail_drive()),
            1 => drop(world.leaving.insert(ids[0])),
            2 => {
                let first = world.topology.enclosures.get_mut(&EnclosureId::new(1));
                first.unwrap().state = EnclosureState::Down;
            }
            3 => {
                let chains = world.topology.chains.values_mut();
                chains.for_each(|chain| chain.closed = true);
            }
            _ => {}
        }
        Self { world, same }
    }
}

/// All that decides whether a state is as good as what a plan reaches.
struct Aim<'a> {
    sites: &'a Sites,
    goal: Goal,
    before: &'a Table,
    after: &'a Table,
}

impl Aim<'_> {
    /// The least bytes to be moved from the start to any state that is as good.
    fn least(&self) -> u64 {
        let choices: Vec<Vec<(u64, Vec<u32>)>> =
            (0..self.before.len()).map(|v| self.choices(v)).collect();
        let (used, _) = self.after.used(self.sites);
        let in_place = |d: &u32| self.sites.must_go(*d);
        let mut low = Vec::new();
        let mut high = Vec::new();
        for drive in self.sites.all() {
            let index = drive as usize;
            let used = if in_place(&drive) { 0 } else { used[index] };
            low.push(self.goal.low[index].min(used));
            high.push(self.goal.high[index].max(used));
        }
        let mut best = u64::MAX;
        let mut held = vec![0; self.sites.len()];
        self.search(&choices, 0, &mut held, (&low, &high), &mut best);
        best
    }

    /// Sets of drives that a volume may be on, with the bytes to be moved.
    fn choices(&self, volume: usize) -> Vec<(u64, Vec<u32>)> {
        let (origins, after) = (self.before.origins(volume), self.after.origins(volume));
        let stays = |drive: &&u32| **drive != VACANT && !self.sites.must_go(**drive);
        let placed = after.iter().filter(stays).count();
        let worst = self.worst(after.iter().filter(stays));
        let limits = self.goal.limits[self.before.profile(volume)];
        let frozen = |drive: u32| !matches!(self.sites.role(drive), super::Role::Takes);
        (0u32..1 << self.sites.len())
            .map(|set| {
                self.sites
                    .all()
                    .filter(|d| set >> d & 1 == 1)
                    .collect::<Vec<u32>>()
            })
            .filter(|set| set.len() == placed && !set.iter().any(|d| self.sites.must_go(*d)))
            .filter(|set| {
                let keeps = |drive: &u32| set.contains(drive) || !frozen(*drive);
                let comes = set.iter().all(|d| origins.contains(d) || !frozen(*d));
                comes && origins.iter().filter(stays).all(keeps)
            })
            .filter(|set| {
                let now = self.worst(set.iter());
                now.0 <= worst.0.max(limits.enclosure) && now.1 <= worst.1.max(limits.chain)
            })
            .map(|set| {
                let new = set.iter().filter(|d| !origins.contains(d)).count();
                (new as u64 * self.before.bytes[volume], set)
            })
            .collect()
    }

    fn worst<'b>(&self, drives: impl Iterator<Item = &'b u32>) -> (usize, usize) {
        let (mut near, mut far) = (BTreeMap::new(), BTreeMap::new());
        for drive in drives {
            let enclosure = self.sites.enclosure(*drive);
            let chain = self.sites.chain(enclosure);
            *near.entry(enclosure).or_insert(0usize) += 1;
            *far.entry(chain).or_insert(0usize) += usize::from(!self.sites.closed[chain as usize]);
        }
        let most = |counts: BTreeMap<u32, usize>| counts.into_values().max().unwrap_or(0);
        (most(near), most(far))
    }

    fn search(
        &self,
        choices: &[Vec<(u64, Vec<u32>)>],
        moved: u64,
        held: &mut Vec<u64>,
        bounds: (&[u64], &[u64]),
        best: &mut u64,
    ) {
        if moved >= *best {
            return;
        }
        let volume = self.before.len() - choices.len();
        let Some((first, rest)) = choices.split_first() else {
            let mut drives = held.iter().zip(bounds.0).zip(bounds.1);
            if drives.all(|((held, low), high)| held >= low && held <= high) {
                *best = moved;
            }
            return;
        };
        for (bytes, set) in first {
            set.iter()
                .for_each(|d| held[*d as usize] += self.before.bytes[volume]);
            self.search(rest, moved + bytes, held, bounds, best);
            set.iter()
                .for_each(|d| held[*d as usize] -= self.before.bytes[volume]);
        }
    }
}

/// The least that an exhaustive search finds to get as far as a plan does.
fn least_of_all(world: &World, plan: &Plan) -> u64 {
    let nothing = (BTreeMap::new(), BTreeMap::new());
    let input = Input {
        topology: &world.topology,
        leaving: &world.leaving,
        waiting: &nothing.0,
        other: &nothing.1,
        seed: 7,
    };
    let sites = Sites::new(&input);
    let before = Table::new(&sites, world.volumes.values());
    let mut volumes = world.volumes.clone();
    apply(plan, &mut volumes);
    let after = Table::new(&sites, volumes.values());
    let (used, vacant) = before.used(&sites);
    let aim = Aim {
        sites: &sites,
        goal: goal(&sites, &before, &used, vacant),
        before: &before,
        after: &after,
    };
    aim.least()
}

#[test]
fn the_bound_is_what_an_exhaustive_search_finds_and_the_plan_moves_no_more() {
    let mut random = SplitMix64::new(2);
    let mut moved = 0;
    for case in 0..3_000 {
        let small = Small::draw(&mut random);
        let plan = small.world.plan();
        let summary = plan.summary;
        let least = least_of_all(&small.world, &plan);
        assert!(
            summary.bound_bytes <= least,
            "case {case}: {least}, {summary:?}"
        );
        assert!(
            least <= summary.moved_bytes,
            "case {case}: {least}, {summary:?}"
        );
        if small.same {
            assert_eq!(least, summary.moved_bytes, "case {case}: {summary:?}");
            assert_eq!(least, summary.bound_bytes, "case {case}: {summary:?}");
        }
        moved += usize::from(least > 0);
    }
    assert!(moved > 1_000, "{moved}");
}

#[test]
fn any_prices_give_a_lower_bound() {
    let mut random = SplitMix64::new(3);
    for case in 0..500 {
        let small = Small::draw(&mut random);
        let world = &small.world;
        let nothing = (BTreeMap::new(), BTreeMap::new());
        let input = Input {
            topology: &world.topology,
            leaving: &world.leaving,
            waiting: &nothing.0,
            other: &nothing.1,
            seed: 7,
        };
        let sites = Sites::new(&input);
        let mut table = Table::new(&sites, world.volumes.values());
        let (before, vacant) = table.used(&sites);
        let goal = goal(&sites, &table, &before, vacant);
        let plan = plan(&input, world.volumes.values());
        for step in &plan.moves {
            let volume = table.ids.iter().position(|id| *id == step.volume).unwrap();
            let place = table.place(volume, usize::from(step.member));
            table.put(place, sites.index(step.to).unwrap());
        }
        let (after, _) = table.used(&sites);
        for _ in 0..20 {
            let case_of = super::Case {
                sites: &sites,
                goal: &goal,
                table: &table,
                before: &before,
                after: &after,
                can_stay: Vec::new(),
            };
            let price = |_| i64::try_from(random.index(7)).unwrap() - 3;
            let prices = sites.all().map(price).collect();
            let bound = super::least(case_of, Some(&prices));
            assert!(bound <= plan.summary.moved_bytes, "case {case}");
        }
    }
}

#[test]
fn with_shards_of_mixed_sizes_a_plan_moves_at_most_one_shard_more_than_the_least() {
    let mut random = SplitMix64::new(2);
    let (mut moved, mut least_of, mut bound) = (0, 0, 0);
    for case in 0..3_000 {
        let small = Small::draw(&mut random);
        if small.same {
            continue;
        }
        let plan = small.world.plan();
        let least = least_of_all(&small.world, &plan);
        let summary = plan.summary;
        assert!(
            summary.moved_bytes <= least + SHARD,
            "case {case}: {least}, {summary:?}"
        );
        moved += summary.moved_bytes;
        least_of += least;
        bound += summary.bound_bytes;
    }
    let all = format!("{moved} moved, {least_of} at least, {bound} by the bound");
    assert!(moved * 100 <= least_of * 102, "{all}");
    assert!(bound * 100 >= least_of * 96, "{all}");
}

#[test]
fn with_shards_of_any_sizes_plan_and_bound_are_near_the_least() {
    let mut random = SplitMix64::new(5);
    let (mut moved, mut least_of, mut bound, mut far, mut count) = (0, 0, 0, 0, 0);
    for case in 0..3_000 {
        let mut small = Small::draw(&mut random);
        for volume in small.world.volumes.values_mut() {
            volume.bytes = 20 + 10 * random.index(99) as u64;
        }
        let plan = small.world.plan();
        let least = least_of_all(&small.world, &plan);
        let summary = plan.summary;
        let what = format!("case {case}: {least}, {summary:?}");
        assert!(summary.bound_bytes <= least, "{what}");
        assert!(least <= summary.moved_bytes, "{what}");
        moved += summary.moved_bytes;
        least_of += least;
        bound += summary.bound_bytes;
        far += usize::from(summary.moved_bytes * 100 > least * 105);
        count += usize::from(least > 0);
    }
    let all = format!("{moved} moved, {least_of} at least, {bound} by the bound, {far} of {count}");
    assert!(moved * 1000 <= least_of * 1003, "{all}");
    assert!(bound * 1000 >= least_of * 985, "{all}");
    assert!(far * 100 <= count, "{all}");
}
