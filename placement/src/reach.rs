//! What one cut of a chain strands.
//!
//! Enclosures are linked one behind the other: position `i` is reached through `0..i`. A cut before
//! it strands it and all behind it; in a closed chain each is reached from the other side too, so
//! that one cut strands nothing. Stranded is not lost: nothing is rebuilt for it (PROTOCOLS 23),
//! but it cannot be read meanwhile.

use crate::ids::{ChainId, EnclosureId};
use crate::topology::Topology;
use crate::volume::Volume;

/// The enclosures of a chain that a cut before `position` strands.
pub fn stranded(topology: &Topology, chain: ChainId, position: u32) -> Vec<EnclosureId> {
    if topology.chains.get(&chain).is_some_and(|c| c.closed) {
        return Vec::new();
    }
    let enclosures = topology.enclosures.values();
    enclosures
        .filter(|enclosure| enclosure.chain == chain && enclosure.position >= position)
        .map(|enclosure| enclosure.id)
        .collect()
}

/// Whether a volume can be read whatever single link is cut. A cut at the head of a chain strands
/// all that any other cut of it does.
pub fn survives_any_cut(topology: &Topology, volume: &Volume) -> bool {
    topology.chains.keys().all(|chain| {
        let stranded = stranded(topology, *chain, 0);
        let members = volume.present().filter(|(_, drive)| {
            let enclosure = topology.enclosure_of(*drive);
            topology.is_present(*drive) && enclosure.is_some_and(|e| !stranded.contains(&e.id))
        });
        members.count() >= volume.profile.k()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DriveId, Epoch, VolumeId};
    use crate::profile::Profile;
    use crate::sample;
    use crate::volume::VolumeState;

    fn volume(drives: &[u128]) -> Volume {
        Volume {
            id: VolumeId::new(1),
            profile: Profile::new(2, 1).unwrap(),
            members: drives.iter().map(|n| Some(DriveId::new(*n))).collect(),
            epoch: Epoch::FIRST,
            state: VolumeState::Sealed,
            bytes: 0,
            violation: false,
        }
    }

    #[test]
    fn a_cut_strands_the_tail_and_nothing_of_a_ring() {
        let mut topology = sample::topology(&[&[1, 1, 1, 1], &[1]]);
        let first = ChainId::new(1);
        let tail = [EnclosureId::new(3), EnclosureId::new(4)];
        assert_eq!(stranded(&topology, first, 2), tail);
        assert_eq!(stranded(&topology, first, 0).len(), 4);
        topology.chains.get_mut(&first).unwrap().closed = true;
        assert_eq!(stranded(&topology, first, 0), []);
    }

    #[test]
    fn a_volume_survives_a_cut_that_takes_no_more_than_its_parity() {
        let mut topology = sample::topology(&[&[1, 1], &[1, 1], &[1, 1]]);
        assert!(survives_any_cut(&topology, &volume(&[1, 3, 5])));
        assert!(!survives_any_cut(&topology, &volume(&[1, 2, 5])));
        topology.chains.get_mut(&ChainId::new(1)).unwrap().closed = true;
        assert!(survives_any_cut(&topology, &volume(&[1, 2, 5])));
    }
}
