//! Volumes that are spread less than their profile wants, counted for a summary.

use super::Violated;
use super::sites::{Role, Sites};
use super::table::Table;
use super::tally::{Tally, is_doubled};
use crate::profile::Profile;

/// Members that a profile wants in one chain at most, as [`crate::spread::wanted`] says.
fn wanted_in_chain(sites: &Sites, profile: Profile) -> usize {
    let there = |enclosures: &&Vec<u32>| {
        let drives = enclosures
            .iter()
            .flat_map(|e| &sites.drives_in[*e as usize]);
        drives.into_iter().any(|d| sites.role(*d) != Role::Lost)
    };
    let chains = sites.enclosures_in.iter().filter(there).count();
    let share = profile.width().div_ceil(chains.max(1));
    share.max(profile.m())
}

/// Volumes that are spread less than their profile wants: where their members were at first, or are
/// now. What is lost does not count.
pub(crate) fn violated(sites: &Sites, table: &Table, first: bool) -> Violated {
    let profiles = table.profiles.iter();
    let wanted: Vec<(usize, usize)> = profiles
        .map(|profile| (wanted_in_chain(sites, *profile), profile.m()))
        .collect();
    let mut violated = Violated::default();
    let mut tally = Tally::new(sites);
    for volume in 0..table.len() {
        let members = match first {
            true => table.origins(volume),
            false => table.members(volume),
        };
        let worst = tally.worst(members, |drive| sites.role(drive) != Role::Lost);
        let (chain, m) = wanted[table.profile(volume)];
        violated.drive += usize::from(worst.enclosure > 1 && is_doubled(members));
        violated.enclosure += usize::from(worst.enclosure > 1);
        violated.one_enclosure_loses += usize::from(worst.enclosure > m);
        violated.chain += usize::from(worst.chain > chain);
    }
    violated
}
