//! Members of one volume counted by domain, for a million volumes one after another.

use super::sites::{Sites, VACANT};

/// The most members of a volume in any one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Worst {
    pub(crate) enclosure: usize,
    /// Of the open chains; in a ring one cut strands nothing.
    pub(crate) chain: usize,
}

/// Counters for all enclosures and chains, zero between volumes.
pub(crate) struct Tally<'a> {
    sites: &'a Sites,
    enclosures: Vec<u8>,
    chains: Vec<u8>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(sites: &'a Sites) -> Self {
        Self {
            sites,
            enclosures: vec![0; sites.drives_in.len()],
            chains: vec![0; sites.enclosures_in.len()],
        }
    }

    /// Counts the drives of a volume of which `counts` is true.
    pub(crate) fn worst(&mut self, drives: &[u32], counts: impl Fn(u32) -> bool) -> Worst {
        let mut worst = Worst::default();
        for drive in drives {
            if *drive == VACANT || !counts(*drive) {
                continue;
            }
            let enclosure = self.sites.enclosure(*drive);
            let chain = self.sites.chain(enclosure) as usize;
            let near = &mut self.enclosures[enclosure as usize];
            *near = near.saturating_add(1);
            worst.enclosure = worst.enclosure.max(usize::from(*near));
            if !self.sites.closed[chain] {
                let far = &mut self.chains[chain];
                *far = far.saturating_add(1);
                worst.chain = worst.chain.max(usize::from(*far));
            }
        }
        for drive in drives.iter().filter(|drive| **drive != VACANT) {
            let enclosure = self.sites.enclosure(*drive);
            self.enclosures[enclosure as usize] = 0;
            self.chains[self.sites.chain(enclosure) as usize] = 0;
        }
        worst
    }
}

/// Whether a volume has two members on one drive.
pub(crate) fn is_doubled(drives: &[u32]) -> bool {
    let there = drives.iter().enumerate().filter(|(_, d)| **d != VACANT);
    there
        .into_iter()
        .any(|(index, drive)| drives[..index].contains(drive))
}
