//! How likely data is to last a year: a Markov chain for a volume, and a simulation that checks it.
//!
//! The state of a volume is how many of its members are lost in each of its enclosures. A member
//! is lost with its drive or with its enclosure, for good, at constant rates, and restored at a
//! constant rate of its own (repair is declustered: lost members are rebuilt side by side). With
//! more than `m` members lost at once the volume is gone. Enclosures that hold equally many members
//! are interchangeable, so that the states are few.
//!
//! What an object's year looks like follows from its volume alone, so that the share of data that a
//! year costs is the mean over volumes, by bytes. Cuts of a chain lose nothing for good and do not
//! count; silent rot is found by the scrub and does not count either.

use std::collections::BTreeMap;

use crate::ids::EnclosureId;
use crate::profile::Profile;
use crate::seed::SplitMix64;
use crate::topology::Topology;
use crate::volume::{Volume, VolumeState};

const HOURS_A_YEAR: f64 = 8766.0;

/// More states than that are counted as if all enclosures held as many members as the fullest.
const STATES: usize = 1200;

/// What fails how often, and how fast it is repaired.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Failures of a drive a year: 0.01 is one in a hundred drives.
    pub drive_a_year: f64,
    /// Losses of a whole enclosure with all its drives, for good, a year.
    pub enclosure_a_year: f64,
    /// Mean hours from a loss to the end of the rebuild of a member, the wait for `out` included.
    pub repair_hours: f64,
}

impl Rates {
    /// Mean hours to restore what a drive held, from the bytes on it, the measured rate of repair
    /// of the whole cluster in bytes a second, and the hours until it is given up.
    pub fn repair_hours(drive_bytes: u64, bytes_a_second: f64, wait_hours: f64) -> f64 {
        wait_hours + drive_bytes as f64 / bytes_a_second.max(1.0) / 3600.0
    }
}

/// How likely data is to last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Durability {
    /// The share of the data that is lost within a year, as it is to be expected.
    pub annual_loss: f64,
    /// The same of the volume that is worst off.
    pub worst_volume: f64,
}

impl Durability {
    /// As the number of nines: 11 is 99.999999999 % a year.
    pub fn nines(&self) -> f64 {
        nines(self.annual_loss)
    }
}

/// A probability of loss as a number of nines, at most 99.
pub fn nines(loss: f64) -> f64 {
    (-loss.max(1e-99).log10()).max(0.0)
}

/// Members of a volume by enclosure: how many it has there and how many of them are lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layout {
    /// Sorted.
    groups: Vec<(u8, u8)>,
    /// Members that may be lost.
    spare: u8,
}

impl Layout {
    /// A layout from the members and lost members of each enclosure.
    pub fn new(profile: Profile, groups: impl IntoIterator<Item = (u8, u8)>) -> Self {
        let mut groups: Vec<(u8, u8)> = groups.into_iter().collect();
        groups.sort_unstable();
        Self {
            groups,
            spare: u8::try_from(profile.m()).unwrap_or(u8::MAX),
        }
    }

    /// The layout of a volume; a vacant member counts as lost, in an enclosure of its own.
    pub fn of(topology: &Topology, volume: &Volume) -> Self {
        let mut groups: BTreeMap<EnclosureId, (u8, u8)> = BTreeMap::new();
        let mut alone = Vec::new();
        for member in &volume.members {
            let there = member.and_then(|drive| topology.enclosure_of(drive));
            let lost = u8::from(!member.is_some_and(|drive| topology.is_present(drive)));
            match there {
                Some(enclosure) => {
                    let group = groups.entry(enclosure.id).or_default();
                    group.0 += 1;
                    group.1 += lost;
                }
                None => alone.push((1, 1)),
            }
        }
        Self::new(volume.profile, groups.into_values().chain(alone))
    }

    fn lost(&self) -> usize {
        self.groups.iter().map(|group| usize::from(group.1)).sum()
    }

    fn whole(&self) -> Self {
        let groups = self.groups.iter().map(|group| (group.0, 0));
        Self {
            groups: groups.collect(),
            spare: self.spare,
        }
    }

    /// As if every enclosure held as many members as the fullest.
    fn pessimistic(&self) -> Self {
        let most = self.groups.iter().map(|group| group.0).max().unwrap_or(1);
        let groups = self.groups.iter().map(|group| (most, group.1));
        let mut layout = Self {
            groups: groups.collect(),
            spare: self.spare,
        };
        layout.groups.sort_unstable();
        layout
    }

    /// The states that can follow, and how often a year they do; none: the volume is gone.
    fn next(&self, rates: Rates) -> Vec<(Option<Self>, f64)> {
        let mut next = Vec::new();
        let with = |index: usize, lost: u8| {
            let mut layout = self.clone();
            layout.groups[index].1 = lost;
            layout.groups.sort_unstable();
            (layout.lost() <= usize::from(self.spare)).then_some(layout)
        };
        for (index, (members, lost)) in self.groups.iter().copied().enumerate() {
            let left = members - lost;
            if left > 0 {
                let rate = f64::from(left) * rates.drive_a_year;
                next.push((with(index, lost + 1), rate));
                next.push((with(index, members), rates.enclosure_a_year));
            }
            if lost > 0 {
                let rate = f64::from(lost) * HOURS_A_YEAR / rates.repair_hours;
                next.push((with(index, lost - 1), rate));
            }
        }
        next
    }
}

/// States and rates between them; the last column is the loss of the volume.
struct Markov {
    rates: Vec<Vec<f64>>,
    /// What a visit of each state adds to the time before the loss, by its rate of leaving.
    time: Vec<f64>,
}

impl Markov {
    /// The chain of a layout with nothing lost as state 0 and the layout itself as state 1, if it
    /// differs; none when it has too many states.
    fn new(layout: &Layout, rates: Rates) -> Option<Self> {
        let mut states = vec![layout.whole()];
        let mut known = BTreeMap::from([(layout.whole(), 0usize)]);
        if layout.lost() > 0 {
            states.push(layout.clone());
            known.insert(layout.clone(), 1);
        }
        let mut edges: Vec<Vec<(Option<usize>, f64)>> = Vec::new();
        while let Some(state) = states.get(edges.len()).cloned() {
            let mut row = Vec::new();
            for (next, rate) in state.next(rates) {
                let index = next.map(|next| {
                    *known.entry(next).or_insert_with_key(|next| {
                        states.push(next.clone());
                        states.len() - 1
                    })
                });
                row.push((index, rate));
            }
            edges.push(row);
            if states.len() > STATES {
                return None;
            }
        }
        let count = states.len();
        let mut matrix = vec![vec![0.0; count + 1]; count];
        for (row, edges) in matrix.iter_mut().zip(edges) {
            for (to, rate) in edges {
                row[to.unwrap_or(count)] += rate;
            }
        }
        Some(Self {
            rates: matrix,
            time: vec![1.0; count],
        })
    }

    /// Takes states away, from the last, until so many are left: whoever went there goes on to
    /// where it leads. Nothing is ever subtracted (Grassmann, Taksar, Heyman 1985), so that a
    /// probability of 1e-30 comes out as exact as one of 0.1.
    fn reduce(&mut self, left: usize) {
        let loss = self.rates.len();
        for state in (left..self.rates.len()).rev() {
            let leaves: f64 = (0..state).map(|to| self.rates[state][to]).sum();
            let leaves = leaves + self.rates[state][loss];
            if leaves <= 0.0 {
                continue;
            }
            let row = std::mem::take(&mut self.rates[state]);
            for from in 0..state {
                let share = self.rates[from][state] / leaves;
                if share > 0.0 {
                    for to in (0..state).filter(|to| *to != from).chain([loss]) {
                        self.rates[from][to] += share * row[to];
                    }
                    self.time[from] += share * self.time[state];
                }
            }
        }
    }
}

/// The mean years until a volume that has lost nothing yet is gone, by the Markov chain.
pub fn years_to_loss(layout: &Layout, rates: Rates) -> f64 {
    let layout = layout.whole();
    let markov = Markov::new(&layout, rates);
    let Some(mut markov) = markov.or_else(|| Markov::new(&layout.pessimistic(), rates)) else {
        return 0.0;
    };
    let loss = markov.rates.len();
    markov.reduce(1);
    markov.time[0] / markov.rates[0][loss]
}

/// The probability that a volume, as it is now, is gone within a year.
pub fn annual_loss(layout: &Layout, rates: Rates) -> f64 {
    if layout.lost() > usize::from(layout.spare) {
        return 1.0;
    }
    let later = -(-1.0 / years_to_loss(layout, rates)).exp_m1();
    if layout.lost() == 0 {
        return later;
    }
    // Gone before it is whole again, or later.
    let markov = Markov::new(layout, rates);
    let Some(mut markov) = markov.or_else(|| Markov::new(&layout.pessimistic(), rates)) else {
        return 1.0;
    };
    let loss = markov.rates.len();
    markov.reduce(2);
    let now = markov.rates[1][loss] / (markov.rates[1][loss] + markov.rates[1][0]);
    (now + later).min(1.0)
}

/// Bytes of volumes by their layout: few, however many volumes there are.
#[derive(Debug, Clone, Default)]
pub struct Layouts(BTreeMap<Layout, f64>);

impl Layouts {
    /// Counts a volume. Retired volumes hold nothing and do not count.
    pub fn add(&mut self, topology: &Topology, volume: &Volume) {
        if volume.state != VolumeState::Retired {
            let bytes = volume.bytes as f64 * volume.profile.k() as f64;
            *self.0.entry(Layout::of(topology, volume)).or_default() += bytes;
        }
    }

    /// What a year costs them, in expectation.
    pub fn durability(&self, rates: Rates) -> Durability {
        let (mut lost, mut all, mut worst) = (0.0, 0.0, 0.0f64);
        for (layout, bytes) in &self.0 {
            let loss = annual_loss(layout, rates);
            worst = worst.max(loss);
            lost += loss * bytes;
            all += bytes;
        }
        // Without any bytes yet, all volumes count alike.
        let mean = self
            .0
            .keys()
            .map(|layout| annual_loss(layout, rates))
            .sum::<f64>();
        let mean = mean / self.0.len().max(1) as f64;
        Durability {
            annual_loss: if all > 0.0 { lost / all } else { mean },
            worst_volume: worst,
        }
    }
}

/// What a year costs a cluster, in expectation. Retired volumes hold nothing and do not count.
pub fn durability<'a>(
    topology: &Topology,
    volumes: impl IntoIterator<Item = &'a Volume>,
    rates: Rates,
) -> Durability {
    let mut layouts = Layouts::default();
    volumes
        .into_iter()
        .for_each(|volume| layouts.add(topology, volume));
    layouts.durability(rates)
}

/// The mean years until a volume is gone, from `runs` lives member by member: what the Markov chain
/// is checked against. Takes long when losses are rare.
pub fn simulated_years_to_loss(layout: &Layout, rates: Rates, runs: u32, seed: u64) -> f64 {
    let mut random = SplitMix64::new(seed);
    let total: f64 = (0..runs).map(|_| life(layout, rates, &mut random)).sum();
    total / f64::from(runs.max(1))
}

/// One life of a volume, in years.
fn life(layout: &Layout, rates: Rates, random: &mut SplitMix64) -> f64 {
    let mut members: Vec<Vec<bool>> = Vec::new();
    members.extend(
        layout
            .groups
            .iter()
            .map(|group| vec![true; usize::from(group.0)]),
    );
    let mend = HOURS_A_YEAR / rates.repair_hours;
    let mut years = 0.0;
    loop {
        let all = members.iter().flatten();
        let lost = all.filter(|there| !**there).count();
        if lost > usize::from(layout.spare) {
            return years;
        }
        let rate = |there: bool| if there { rates.drive_a_year } else { mend };
        let sum: f64 = members.iter().flatten().map(|there| rate(*there)).sum();
        let sum = sum + rates.enclosure_a_year * members.len() as f64;
        let draw = |random: &mut SplitMix64| (random.bits() >> 11) as f64 / (1u64 << 53) as f64;
        years -= (1.0 - draw(random)).ln() / sum;
        strike(
            &mut members,
            draw(random) * sum,
            rates.enclosure_a_year,
            rate,
        );
    }
}

/// What happens next: an enclosure goes, or a member goes or comes back.
fn strike(members: &mut [Vec<bool>], mut at: f64, enclosure: f64, rate: impl Fn(bool) -> f64) {
    for group in members.iter_mut() {
        if at < enclosure {
            group.fill(false);
            return;
        }
        at -= enclosure;
        for there in group.iter_mut() {
            if at < rate(*there) {
                *there = !*there;
                return;
            }
            at -= rate(*there);
        }
    }
}

#[cfg(test)]
mod tests;
