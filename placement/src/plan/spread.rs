//! Members of volumes by domain: which are crowded, counted for a summary.

use super::Violated;
use super::sites::{Role, Sites, VACANT};
use super::table::Table;

/// What a profile wants of its volumes here, as [`crate::spread::wanted`] says.
fn wanted_chain(sites: &Sites, k_m: (usize, usize)) -> usize {
    let there = |enclosures: &&Vec<u32>| {
        let drives = enclosures
            .iter()
            .flat_map(|e| &sites.drives_in[*e as usize]);
        drives
            .into_iter()
            .any(|drive| sites.role(*drive) != Role::Lost)
    };
    let chains = sites.enclosures_in.iter().filter(there).count();
    (k_m.0 + k_m.1).div_ceil(chains.max(1)).max(k_m.1)
}

/// Volumes that are spread less than their profile wants: where their members were at first, or are
/// now.
pub(crate) fn violated(sites: &Sites, table: &Table, first: bool) -> Violated {
    let profiles = table.profiles.iter();
    let parts: Vec<(usize, usize)> = profiles
        .map(|p| (wanted_chain(sites, (p.k(), p.m())), p.m()))
        .collect();
    let mut violated = Violated::default();
    let mut places: Vec<(u32, u32, u32)> = Vec::new();
    for volume in 0..table.len() {
        let members = match first {
            true => table.origins(volume),
            false => table.members(volume),
        };
        places.clear();
        let there = members.iter().filter(|drive| **drive != VACANT);
        let there = there.filter(|drive| sites.role(**drive) != Role::Lost);
        places.extend(there.map(|drive| {
            let enclosure = sites.enclosure(*drive);
            (sites.chain(enclosure), enclosure, *drive)
        }));
        places.sort_unstable();
        let (chain, m) = parts[table.profile(volume)];
        let open = |place: &&(u32, u32, u32)| !sites.closed[place.0 as usize];
        let near = longest(places.iter().map(|place| place.1));
        violated.drive += usize::from(longest(places.iter().map(|place| place.2)) > 1);
        violated.enclosure += usize::from(near > 1);
        violated.one_enclosure_loses += usize::from(near > m);
        let far = longest(places.iter().filter(open).map(|place| place.0));
        violated.chain += usize::from(far > chain);
    }
    violated
}

/// The longest run of equals.
fn longest(items: impl Iterator<Item = u32>) -> usize {
    let (mut best, mut run, mut last) = (0, 0, None);
    for item in items {
        run = if last == Some(item) { run + 1 } else { 1 };
        last = Some(item);
        best = best.max(run);
    }
    best
}
