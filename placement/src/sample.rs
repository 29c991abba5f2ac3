//! Sample topologies for tests, also of other crates (feature `test-util`).

use crate::ids::{ChainId, DriveId, EnclosureId, Generation};
use crate::topology::{Chain, Drive, DriveState, Enclosure, EnclosureState, Topology};

/// Bytes that every sample drive holds.
pub const CAPACITY: u64 = 1 << 40;

/// Chains of enclosures, given by how many drives each has: `&[&[4, 4], &[2]]` is a chain of two
/// enclosures with four drives each and a chain of one with two. Everything is up and healthy;
/// enclosures, chains and drives are numbered from 1 in the order given, addresses are empty.
///
/// # Panics
/// Beyond `u32::MAX` of anything.
pub fn topology(chains: &[&[u32]]) -> Topology {
    let mut topology = Topology::default();
    for (index, enclosures) in chains.iter().enumerate() {
        let id = ChainId::new(u32::try_from(index + 1).expect("few chains"));
        topology.chains.insert(id, Chain { id, closed: false });
        for (position, drives) in enclosures.iter().enumerate() {
            add_enclosure(&mut topology, id, position, *drives);
        }
    }
    topology
}

fn add_enclosure(topology: &mut Topology, chain: ChainId, position: usize, drives: u32) {
    let number = topology.enclosures.len() + 1;
    let id = EnclosureId::new(u32::try_from(number).expect("few enclosures"));
    let enclosure = Enclosure {
        id,
        chain,
        position: u32::try_from(position).expect("few enclosures"),
        state: EnclosureState::Up,
        shard_address: String::new(),
        meta_address: String::new(),
        admin_address: String::new(),
    };
    topology.enclosures.insert(id, enclosure);
    for slot in 0..drives {
        let drive = DriveId::new(topology.drives.len() as u128 + 1);
        topology.drives.insert(
            drive,
            Drive {
                id: drive,
                enclosure: id,
                slot,
                capacity: CAPACITY,
                state: DriveState::Healthy,
                generation: Generation::new(1),
            },
        );
    }
}
