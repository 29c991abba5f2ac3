//! The least bytes that any scheme must move: the oracle of promise P6.
//!
//! The aim of every scheme: each drive holds between `low` and `high` bytes (one shard or two
//! percent around the lowest level of fill that capacity and spread allow), no domain has more
//! members of a volume than the topology makes necessary, and nothing is left on drives that go.
//! Where a plan does not get there, the aim is a state as good as the one that it reaches.
//!
//! The bound is a weak dual. Whatever price `p` a drive asks for each byte that it holds, a volume
//! pays no less than the cheapest set of drives that it may be on, where a drive that it is on
//! already costs its price, and another its price and one for the move. All volumes together pay
//! what they move, plus `p` times what each drive holds, which is at most `p * high`, or `p * low`
//! if the price is negative. So for *any* prices
//!
//! > moved >= sum over volumes of the cheapest set - sum over drives of `p * high` or `p * low`
//!
//! Sets of drives with limits by chain and enclosure form a matroid, so that taking the cheapest
//! drive that still fits finds the cheapest set. Prices of one on drives that hold too much count
//! what must leave, of minus one on drives that hold too little what must enter, none what is lost
//! or crowded; prices from a finished plan ([`crate::plan`]) account for all of it at once. The
//! largest of these is told, and that of whole shards ([`whole`]). Tests compare it with an
//! exhaustive search.

mod whole;

use crate::plan::level::Goal;
use crate::plan::sites::{Role, Sites, VACANT};
use crate::plan::table::Table;
use crate::plan::tally::is_doubled;
use crate::plan::{self, finish::Prices};

/// What a plan started from and where it got.
pub(crate) struct Case<'a> {
    pub(crate) sites: &'a Sites,
    pub(crate) goal: &'a Goal,
    /// With the members at first and after the plan.
    pub(crate) table: &'a Table,
    /// Bytes on each drive before and after.
    pub(crate) before: &'a [u64],
    pub(crate) after: &'a [u64],
    /// By volume; filled in here.
    pub(crate) can_stay: Vec<bool>,
}

/// The least bytes that any scheme must move or rebuild; see the module.
pub(crate) fn least(mut case: Case<'_>, prices: Option<&Prices>) -> u64 {
    case.can_stay = case.which_can_stay();
    let count = case.sites.len();
    let priced = |price: &dyn Fn(u32) -> i64| -> Prices { case.sites.all().map(price).collect() };
    let even = |drive: u32| matches!(case.sites.role(drive), Role::Takes | Role::Gives);
    let before = |drive: u32| case.before[drive as usize];
    let leaves = priced(&|d| i64::from(even(d) && before(d) > case.high(d)));
    let enters = priced(&|d| -i64::from(even(d) && before(d) < case.low(d)));
    let both: Prices = leaves.iter().zip(&enters).map(|(a, b)| a + b).collect();
    let nothing = vec![0; count];
    let known = [&nothing, &leaves, &enters, &both];
    let all = known.into_iter().chain(prices);
    let all: Vec<_> = all.collect();
    let most = all
        .into_iter()
        .map(|prices| case.dual(prices))
        .max()
        .unwrap_or(0);
    u64::try_from(most).unwrap_or(0).max(case.whole())
}

/// Drives that a volume may go to, cheapest first.
struct Market {
    drives: Vec<u32>,
    cheapest: i64,
}

impl Case<'_> {
    fn low(&self, drive: u32) -> u64 {
        let drive = drive as usize;
        self.goal.low[drive].min(self.after[drive])
    }

    fn high(&self, drive: u32) -> u64 {
        let drive = drive as usize;
        self.goal.high[drive].max(self.after[drive])
    }

    /// The bound that prices give.
    fn dual(&self, prices: &Prices) -> i128 {
        let mut drives: Vec<u32> = self.sites.all().collect();
        drives.retain(|drive| self.sites.role(*drive) == Role::Takes);
        drives.sort_by_key(|drive| prices[*drive as usize]);
        let market = Market {
            cheapest: drives.first().map_or(i64::MAX / 2, |d| prices[*d as usize]),
            drives,
        };
        let paid: i128 = (0..self.table.len())
            .map(|volume| {
                let price = self.cheapest(volume, prices, &market);
                i128::from(price) * i128::from(self.table.bytes[volume])
            })
            .sum();
        let held = self.sites.all().map(|drive| {
            let price = prices[drive as usize];
            let most = if price > 0 {
                self.high(drive)
            } else {
                self.low(drive)
            };
            i128::from(price) * i128::from(most)
        });
        paid - held.sum::<i128>()
    }

    /// What a volume pays for the cheapest set of drives.
    fn cheapest(&self, volume: usize, prices: &Prices, market: &Market) -> i64 {
        if !self.can_stay[volume] {
            return self.greedy(volume, prices, market);
        }
        let mut sum = 0;
        for drive in self.table.origins(volume) {
            let price = prices[*drive as usize];
            if price > market.cheapest + 1 {
                return self.greedy(volume, prices, market);
            }
            sum += price;
        }
        sum
    }

    /// By volume, whether all members can stay where they were, as far as spread goes.
    fn which_can_stay(&self) -> Vec<bool> {
        let mut tally = plan::tally::Tally::new(self.sites);
        let can_stay = |volume: usize| {
            let origins = self.table.origins(volume);
            let limits = self.goal.limits[self.table.profile(volume)];
            let worst = tally.worst(origins, |_| true);
            let doubled = worst.enclosure > 1 && is_doubled(origins);
            !doubled
                && worst.enclosure <= limits.enclosure
                && worst.chain <= limits.chain
                && !origins.iter().any(|drive| self.sites.must_go(*drive))
        };
        (0..self.table.len()).map(can_stay).collect()
    }

    fn greedy(&self, volume: usize, prices: &Prices, market: &Market) -> i64 {
        let origins = self.table.origins(volume);
        let (mut tally, placed) = self.tally(volume);
        let (mut paid, mut count) = (0, 0);
        let mut kept: Vec<(i64, u32)> = Vec::with_capacity(origins.len());
        for (index, drive) in origins.iter().enumerate() {
            match self.sites.role(*drive) {
                Role::Stays => {
                    count += usize::from(tally.add(*drive));
                    paid += prices[*drive as usize];
                }
                Role::Takes | Role::Gives if !origins[..index].contains(drive) => {
                    kept.push((prices[*drive as usize], *drive));
                }
                Role::Takes | Role::Gives | Role::Leaves | Role::Lost => {}
            }
        }
        kept.sort_unstable();
        let news = market
            .drives
            .iter()
            .filter(|drive| !origins.contains(drive));
        let mut news = news
            .map(|drive| (prices[*drive as usize] + 1, *drive))
            .peekable();
        let mut kept = kept.into_iter().peekable();
        while count < placed {
            let stays = match (kept.peek(), news.peek()) {
                (Some(stays), Some(goes)) => stays.0 <= goes.0,
                (stays, _) => stays.is_some(),
            };
            let Some((price, drive)) = (if stays { kept.next() } else { news.next() }) else {
                break;
            };
            if tally.add(drive) {
                paid += price;
                count += 1;
            }
        }
        paid
    }

    /// How many members of a volume may be where, and how many there are to be: as the limits say,
    /// or as bad as the plan got.
    fn tally(&self, volume: usize) -> (Tally<'_>, usize) {
        let limits = self.goal.limits[self.table.profile(volume)];
        let mut reached = Tally::of(self, usize::MAX, usize::MAX);
        let members = self.table.members(volume).iter();
        let placed = members.filter(|d| !self.sites.must_go(**d));
        let placed = placed.map(|drive| reached.add(*drive)).count();
        let worst = reached.worst();
        let tally = Tally::of(
            self,
            limits.enclosure.max(worst.0),
            limits.chain.max(worst.1),
        );
        (tally, placed)
    }

    /// The most members of a volume that can stay where they were.
    fn kept(&self, volume: usize) -> usize {
        let (mut tally, placed) = self.tally(volume);
        let origins = self.table.origins(volume);
        let frozen = |drive: &u32| self.sites.role(*drive) == Role::Stays;
        let mut count = 0;
        for drive in origins.iter().filter(|drive| frozen(drive)) {
            count += usize::from(tally.add(*drive));
        }
        for (index, drive) in origins.iter().enumerate() {
            let free = !frozen(drive) && !self.sites.must_go(*drive);
            let first = !origins[..index].contains(drive);
            count += usize::from(free && first && count < placed && tally.add(*drive));
        }
        count
    }
}

/// Members of one volume by domain, and how many there may be.
struct Tally<'a> {
    sites: &'a Sites,
    enclosure: usize,
    chain: usize,
    enclosures: Vec<(u32, usize)>,
    chains: Vec<(u32, usize)>,
}

impl<'a> Tally<'a> {
    fn of(case: &Case<'a>, enclosure: usize, chain: usize) -> Self {
        Self {
            sites: case.sites,
            enclosure,
            chain,
            enclosures: Vec::with_capacity(16),
            chains: Vec::with_capacity(16),
        }
    }

    /// Takes a drive in, if it fits.
    fn add(&mut self, drive: u32) -> bool {
        if drive == VACANT {
            return true;
        }
        let enclosure = self.sites.enclosure(drive);
        let chain = self.sites.chain(enclosure);
        let near = slot(&mut self.enclosures, enclosure);
        let far = slot(&mut self.chains, chain);
        let open = !self.sites.closed[chain as usize];
        if *near >= self.enclosure || (open && *far >= self.chain) {
            return false;
        }
        *near += 1;
        *far += 1;
        true
    }

    /// The most in any enclosure and in any open chain.
    fn worst(&self) -> (usize, usize) {
        let open = |chain: &&(u32, usize)| !self.sites.closed[chain.0 as usize];
        (
            self.enclosures
                .iter()
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0),
            self.chains
                .iter()
                .filter(open)
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0),
        )
    }
}

fn slot(counts: &mut Vec<(u32, usize)>, domain: u32) -> &mut usize {
    let known = counts.iter().position(|(known, _)| *known == domain);
    let index = known.unwrap_or_else(|| {
        counts.push((domain, 0));
        counts.len() - 1
    });
    &mut counts[index].1
}

#[cfg(test)]
mod tests;
