//! Repair of a shard that lost something of which it is not known what it was: the other members
//! tell what it should hold.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_cluster::api::root::{LedgerRange, RootCommand};
use enfilade_placement::BlobId;

use super::{Left, Patient, tell};
use crate::agent::{Context, faults};
use crate::api::Owner;
use crate::rebuild::Rebuild;

/// Blobs of one page of an inventory.
const PAGE: u32 = 512;
/// Beyond so many entries that must wait, the shard stays entered as a whole.
pub(in crate::agent) const WAITING_MAX: usize = 1000;

/// A blob that waits: whom it was written for, if anybody can tell, and runs of its stripes.
type Waiting = (BlobId, Option<Box<Owner>>, Vec<(u32, u32)>);

/// Stripes of blobs that wait for their owners, up to one range more than the ledger takes.
#[derive(Default)]
struct Waits {
    list: Vec<Waiting>,
    ranges: usize,
}

impl Waits {
    fn push(&mut self, blob: BlobId, owner: Option<Box<Owner>>, lacking: Vec<(u32, u32)>) {
        if self.ranges <= WAITING_MAX {
            self.ranges += lacking.len();
            self.list.push((blob, owner, lacking));
        }
    }
}

impl Patient {
    /// Finds what the shard lacks by what the other members hold, and makes it whole. What waits
    /// for its owner (a blob that is not committed) stays in the ledger, fragment by fragment.
    pub(super) async fn repair_partial(
        &self,
        context: &Context,
        rebuild: &Rebuild,
    ) -> Result<(), Left> {
        let waiting = self.make_whole(context, rebuild).await?;
        if waiting.len() > WAITING_MAX {
            return Err(Left::MuchWaits);
        }
        let key = self.target.key;
        self.target.engine.accounted(key).await?;
        tracing::info!(
            ?key,
            waiting = waiting.len(),
            "what a shard lost was rebuilt"
        );
        let command = RootCommand::RefineFaults {
            volume: key.volume,
            member: key.member,
            drive: self.target.engine.id(),
            ranges: waiting,
        };
        tell(context, command).await
    }

    /// Makes what the other members hold whole in this shard, and what the ledger lists of it; what
    /// it goes on to lack, since nothing references it yet, or nothing is left of it: at most one
    /// range more than the ledger takes of a shard.
    ///
    /// A blob lies on at least m + 1 members, so that k others which know all that they were given
    /// cannot all be without it. When fewer do, what is known is rebuilt, and the shard does not
    /// count as whole.
    pub(in crate::agent) async fn make_whole(
        &self,
        context: &Context,
        rebuild: &Rebuild,
    ) -> Result<Vec<LedgerRange>, Left> {
        let (mut after, mut waits, mut left) = (None, Waits::default(), None);
        let mut listed = self.listed(context).await?;
        let (enough, mut least) = (self.volume.profile.k(), usize::MAX);
        loop {
            let (others, end, complete) = self.sources.inventory(after, PAGE).await;
            least = least.min(complete);
            let mut stripes: BTreeMap<BlobId, BTreeSet<(u32, u32)>> = BTreeMap::new();
            for held in others {
                stripes.entry(held.blob).or_default().extend(held.stripes);
            }
            // What none of the others knows is listed all the same.
            let past = end.and_then(|end| end.get().checked_add(1).map(BlobId::new));
            let rest = past.map_or_else(BTreeMap::new, |past| listed.split_off(&past));
            for (blob, runs) in std::mem::replace(&mut listed, rest) {
                stripes.entry(blob).or_default().extend(runs);
            }
            for (blob, runs) in stripes {
                let lacking = self.lacking(blob, runs).await?;
                if lacking.is_empty() {
                    continue;
                }
                match self.repair_blob(context, rebuild, blob, &lacking).await {
                    Ok(()) => {}
                    Err(Left::NotYetReferenced(_, owner)) => {
                        waits.push(blob, Some(owner), lacking);
                    }
                    Err(Left::Nowhere(_)) => waits.push(blob, None, lacking),
                    Err(error) => left = Some(error),
                }
            }
            match end {
                Some(_) => after = end,
                None => break,
            }
        }
        match left {
            Some(left) => Err(left),
            None if least < enough => Err(Left::TooFewAnswer),
            None => self.still(context, waits).await,
        }
    }

    /// What of all that was found to wait still does: finding it took its time.
    async fn still(&self, context: &Context, waits: Waits) -> Result<Vec<LedgerRange>, Left> {
        let mut waiting = Vec::new();
        let many = waits.ranges > WAITING_MAX;
        for (blob, owner, lacking) in waits.list {
            let gone = match &owner {
                Some(owner) if !many => self.is_gone(context, blob, owner).await?,
                _ => false,
            };
            if !gone {
                let stripes = |run: &(u32, u32)| LedgerRange::stripes(blob, run.0..=run.1);
                waiting.extend(lacking.iter().map(stripes));
            }
        }
        waiting.truncate(WAITING_MAX + 1);
        Ok(waiting)
    }

    /// What the ledger lists of the shard, by fragment.
    async fn listed(
        &self,
        context: &Context,
    ) -> Result<BTreeMap<BlobId, BTreeSet<(u32, u32)>>, Left> {
        let (volume, member) = (self.volume.id, self.target.key.member);
        let mut listed: BTreeMap<BlobId, BTreeSet<(u32, u32)>> = BTreeMap::new();
        for row in faults::rows_of(context, &BTreeSet::from([volume])).await? {
            if let LedgerRange::Stripes { blob, first, last } = row.what
                && row.member == member
            {
                listed.entry(blob).or_default().insert((first, last));
            }
        }
        Ok(listed)
    }

    /// The stripes of some runs that this shard does not hold, or not intact.
    pub(in crate::agent) async fn lacking(
        &self,
        blob: BlobId,
        runs: BTreeSet<(u32, u32)>,
    ) -> Result<Vec<(u32, u32)>, Left> {
        let here = self.here(blob).await?;
        let (held, bad) = here.map_or((Vec::new(), Vec::new()), |here| (here.stripes, here.bad));
        let mut whole = held;
        for stripe in bad {
            whole = whole
                .into_iter()
                .flat_map(|run| cut(run, (stripe, stripe)))
                .collect();
        }
        let mut lacking = union(runs);
        for run in whole {
            lacking = lacking
                .into_iter()
                .flat_map(|left| cut(left, run))
                .collect();
        }
        Ok(lacking)
    }
}

/// Runs (first and last) that overlap or touch as one, in order.
fn union(runs: BTreeSet<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, u32)> = Vec::new();
    for (first, last) in runs {
        match all.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => all.push((first, last)),
        }
    }
    all
}

/// What is left of a run without another.
fn cut((a, b): (u32, u32), (first, last): (u32, u32)) -> Vec<(u32, u32)> {
    if last < a || b < first {
        return vec![(a, b)];
    }
    let before = first
        .checked_sub(1)
        .filter(|end| *end >= a)
        .map(|end| (a, end));
    let after = last
        .checked_add(1)
        .filter(|start| *start <= b)
        .map(|start| (start, b));
    before.into_iter().chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_joined_and_cut() {
        let runs = |list: &[(u32, u32)]| union(list.iter().copied().collect());
        assert_eq!(runs(&[(5, 7), (0, 2), (3, 3), (6, 9)]), [(0, 3), (5, 9)]);
        assert_eq!(cut((2, 8), (4, 5)), [(2, 3), (6, 8)]);
        assert_eq!(cut((2, 8), (0, 2)), [(3, 8)]);
        assert_eq!(cut((2, 8), (8, 9)), [(2, 7)]);
        assert_eq!(cut((2, 8), (0, 9)), []);
        assert_eq!(cut((2, 8), (9, 9)), [(2, 8)]);
        assert_eq!(cut((0, u32::MAX), (0, u32::MAX)), []);
    }
}
