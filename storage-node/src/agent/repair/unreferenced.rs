//! Repair of stripes that nothing references yet: their blob may still be committed, and most often
//! its writer died.
//!
//! What enough others hold is rebuilt as if it were referenced. What a member that knows all that
//! it was given was never given was not acked (PROTOCOLS 11), and once the volume is sealed never
//! will be: nothing of it is missing. The rest stays in the ledger.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_cluster::api::record::Layout;
use enfilade_cluster::api::root::LedgerRange;
use enfilade_placement::{BlobId, VolumeState};

use super::{Left, Patient};
use crate::agent::{Context, faults};
use crate::api::Owner;
use crate::api::shape::Shape;
use crate::rebuild::{Holding, Rebuild, RebuildError};

/// What is to be done about a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is made of others, as stripes of this layout are; bytes of a fragment.
    Rebuild(Layout, u32),
    /// It was never acked, or this shard is not to hold it: nothing is missing.
    Nothing,
    /// Nobody can tell yet.
    Waits,
}

impl Patient {
    /// Makes whole what can be of runs of stripes that nothing references.
    pub(super) async fn repair_unreferenced(
        &self,
        context: &Context,
        rebuild: &Rebuild,
        (id, owner): (BlobId, Box<Owner>),
        runs: &[(u32, u32)],
    ) -> Result<(), Left> {
        let waits = |owner| Err(Left::NotYetReferenced(id, owner));
        if self.volume.state != VolumeState::Sealed {
            return waits(owner);
        }
        // In this order: what a member loses or is given back meanwhile is in doubt.
        let listed = self.listed_of_others(context, id).await?;
        let holdings = self.sources.holdings(id).await;
        if !self.is_as_it_was(context).await? {
            return waits(owner);
        }
        let judge = Judge {
            shape: self.shape(id, Layout::Full),
            member: usize::from(self.target.key.member),
            holdings,
            listed,
        };
        let (mut full, mut short) = (Vec::new(), Vec::new());
        let mut all = true;
        for stripe in runs.iter().flat_map(|(first, last)| *first..=*last) {
            match judge.judge(stripe) {
                Verdict::Rebuild(Layout::Full, len) => full.push((stripe, len)),
                Verdict::Rebuild(Layout::Shortened, len) => short.push((stripe, len)),
                Verdict::Nothing => {}
                Verdict::Waits => all = false,
            }
        }
        for (layout, stripes) in [(Layout::Full, full), (Layout::Shortened, short)] {
            let shape = self.shape(id, layout);
            let restored = rebuild
                .restore_listed(&self.target, &self.sources, (shape, &owner), &stripes)
                .await;
            match restored {
                Ok(_) => {}
                Err(RebuildError::TooFew { .. }) => all = false,
                Err(error) => return Err(error.into()),
            }
        }
        if all { Ok(()) } else { waits(owner) }
    }

    fn shape(&self, blob: BlobId, layout: Layout) -> Shape {
        Shape {
            blob,
            profile: self.volume.profile,
            layout,
        }
    }

    /// Whether no member was flipped since the volume was asked for.
    async fn is_as_it_was(&self, context: &Context) -> Result<bool, Left> {
        let now = context.metadata.volumes(&[self.volume.id]).await?;
        let same = |now: &enfilade_placement::Volume| {
            now.epoch == self.volume.epoch && now.members == self.volume.members
        };
        Ok(now.first().is_some_and(same))
    }

    /// The stripes of a blob that the ledger lists of other members.
    async fn listed_of_others(
        &self,
        context: &Context,
        id: BlobId,
    ) -> Result<BTreeMap<usize, Listed>, Left> {
        let mut listed: BTreeMap<usize, Listed> = BTreeMap::new();
        for row in faults::rows_of(context, &BTreeSet::from([self.volume.id])).await? {
            let of = listed.entry(usize::from(row.member)).or_default();
            match row.what {
                LedgerRange::Whole => of.whole = true,
                LedgerRange::Stripes { blob, first, last } if blob == id => {
                    of.runs.push((first, last));
                }
                LedgerRange::Stripes { .. } => {}
            }
        }
        Ok(listed)
    }
}

/// What the ledger lists of a shard, as far as it matters to a blob.
#[derive(Debug, Default)]
struct Listed {
    whole: bool,
    runs: Vec<(u32, u32)>,
}

impl Listed {
    fn has(&self, stripe: u32) -> bool {
        self.whole || has(&self.runs, stripe)
    }
}

fn has(runs: &[(u32, u32)], stripe: u32) -> bool {
    runs.iter().any(|run| (run.0..=run.1).contains(&stripe))
}

/// What decides about the stripes of a blob.
struct Judge {
    shape: Shape,
    /// The member that is repaired.
    member: usize,
    holdings: Vec<Holding>,
    listed: BTreeMap<usize, Listed>,
}

impl Judge {
    fn judge(&self, stripe: u32) -> Verdict {
        let short = Shape {
            layout: Layout::Shortened,
            ..self.shape
        };
        let mut lens: Vec<u32> = Vec::new();
        let (mut core_lacks, mut other_lacks) = (false, false);
        for holding in &self.holdings {
            let held = holding.held.as_ref();
            let there = held.is_some_and(|held| has(&held.stripes, stripe));
            if there {
                let intact = held.filter(|held| !held.bad.contains(&stripe));
                let len = intact.and_then(|held| held.fragments().find(|f| f.0 == stripe));
                lens.extend(len.map(|(_, len)| len));
            } else if holding.complete && !self.is_listed(holding.member, stripe) {
                // It was never given the stripe.
                let in_both = short.stores(holding.member);
                core_lacks |= in_both;
                other_lacks |= !in_both;
            }
        }
        let same = lens.windows(2).all(|pair| pair[0] == pair[1]);
        match lens.first() {
            // A shortened stripe is one whose other data fragments are zeros.
            Some(len) if same && lens.len() >= self.shape.profile.k() => {
                Verdict::Rebuild(Layout::Full, *len)
            }
            _ if core_lacks => Verdict::Nothing,
            Some(len) if same && other_lacks => match short.stores(self.member) {
                true => Verdict::Rebuild(Layout::Shortened, *len),
                false => Verdict::Nothing,
            },
            _ => Verdict::Waits,
        }
    }

    fn is_listed(&self, member: usize, stripe: u32) -> bool {
        let listed = self.listed.get(&member);
        listed.is_some_and(|listed| listed.has(stripe))
    }
}

#[cfg(test)]
mod tests {
    use enfilade_placement::Profile;

    use super::*;
    use crate::api::read::InventoryBlob;

    /// A judge of blob 0 (its data fragment, if shortened: 0) in a code of 4 + 2, for a member; the
    /// others hold stripe 0, or not, by their word: `h`eld, `b`ad, `n`ot, `l`isted, `d`amaged log,
    /// `s`ilent.
    fn judge(member: usize, others: &str) -> Verdict {
        let blob = BlobId::new(0);
        let held = |bad: bool| InventoryBlob {
            blob,
            owner: None,
            committed: false,
            stripes: vec![(0, 0)],
            lens: vec![(1, 4096)],
            bad: if bad { vec![0] } else { Vec::new() },
        };
        let (mut holdings, mut listed) = (Vec::new(), BTreeMap::new());
        let members = (0..6).filter(|other| *other != member);
        for (member, word) in members.zip(others.chars()) {
            if word == 's' {
                continue;
            }
            if word == 'l' {
                let runs = vec![(0, 3)];
                listed.insert(member, Listed { whole: false, runs });
            }
            holdings.push(Holding {
                member,
                held: "hb".contains(word).then(|| held(word == 'b')),
                complete: word != 'd',
            });
        }
        let profile = Profile::new(4, 2).unwrap();
        let layout = Layout::Full;
        let judge = Judge {
            shape: Shape {
                blob,
                profile,
                layout,
            },
            member,
            holdings,
            listed,
        };
        judge.judge(0)
    }

    #[test]
    fn what_k_others_hold_is_rebuilt_and_what_one_was_never_given_is_no_loss() {
        let full = Verdict::Rebuild(Layout::Full, 4096);
        let short = Verdict::Rebuild(Layout::Shortened, 4096);
        let (nothing, waits) = (Verdict::Nothing, Verdict::Waits);
        let cases = [
            (5, "hhhhh", full),
            (1, "hhhhs", full),
            (5, "hhhhn", full),
            // The writer died amid it.
            (5, "hhhnn", nothing),
            (5, "nnnnn", nothing),
            // Shortened: 0, 4 and 5 have it.
            (5, "hnnnh", short),
            (0, "nnnhh", short),
            (2, "hnnhh", nothing),
            // Nobody can tell.
            (5, "hhhss", waits),
            (5, "hllld", waits),
            (5, "hhhll", waits),
            (5, "bbhhh", waits),
            (0, "sssss", waits),
            (5, "lnnnl", waits),
        ];
        for (member, others, expected) in cases {
            assert_eq!(judge(member, others), expected, "{member} {others}");
        }
    }
}
