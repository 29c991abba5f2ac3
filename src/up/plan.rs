//! What follows from a description: where metadata replicas go, and what to warn about.

use std::collections::BTreeMap;

use enfilade_placement::replicas::{choose_replicas, replica_count};
use enfilade_placement::spread::{achievable, wanted};
use enfilade_placement::{
    Chain, Drive, DriveState, Enclosure, EnclosureId, EnclosureState, Generation, Topology,
};

use crate::up::description::Description;

/// The enclosures that hold metadata replicas: one in a cluster of one process, else as many as
/// PROTOCOLS 1 says.
pub(crate) fn replicas(description: &Description) -> Vec<EnclosureId> {
    let enclosures = description.members.len();
    let count = if description.processes {
        replica_count(description.profile.m(), enclosures)
    } else {
        1
    };
    choose_replicas(&topology(description), count)
}

/// What is worth a warning, though it works.
pub(crate) fn warnings(description: &Description) -> Vec<String> {
    let topology = topology(description);
    let profile = description.profile;
    let (best, wished) = (achievable(&topology, profile), wanted(&topology, profile));
    if best.enclosure <= wished.enclosure {
        return Vec::new();
    }
    vec![format!(
        "{} enclosures cannot hold the {} members of a volume of profile {profile} one each: the \
         loss of an enclosure takes several fragments of a stripe",
        description.members.len(),
        profile.width(),
    )]
}

/// The topology that a description is going to have.
fn topology(description: &Description) -> Topology {
    let mut topology = Topology::default();
    let mut positions: BTreeMap<_, u32> = BTreeMap::new();
    for member in &description.members {
        let chain = Chain {
            id: member.chain,
            closed: false,
        };
        topology.chains.insert(member.chain, chain);
        let position = positions.entry(member.chain).or_default();
        let enclosure = Enclosure {
            id: member.id,
            chain: member.chain,
            position: *position,
            state: EnclosureState::Up,
            shard_address: String::new(),
            meta_address: String::new(),
            admin_address: String::new(),
        };
        *position += 1;
        topology.enclosures.insert(member.id, enclosure);
        for (slot, drive) in (0..).zip(&member.drives) {
            let drive = Drive {
                id: *drive,
                enclosure: member.id,
                slot,
                capacity: 1,
                state: DriveState::Healthy,
                generation: Generation::default(),
            };
            topology.drives.insert(drive.id, drive);
        }
    }
    topology
}

#[cfg(test)]
mod tests {
    use enfilade_cluster::env::Env;
    use enfilade_placement::ClusterId;

    use super::*;
    use crate::up::description::Wish;

    fn description(wish: Wish) -> Description {
        Description::new(wish, ClusterId::new(1), &Env::seeded(1)).unwrap()
    }

    #[test]
    fn five_of_six_processes_hold_replicas_and_one_of_one_process() {
        let processes = description(Wish {
            processes: true,
            ..Wish::default()
        });
        assert_eq!(replicas(&processes).len(), 5);
        assert_eq!(
            processes
                .members
                .iter()
                .filter(|member| member.meta)
                .count(),
            5
        );
        let one = description(Wish::default());
        assert_eq!(replicas(&one), [EnclosureId::new(1)]);
    }

    #[test]
    fn too_few_enclosures_for_the_profile_are_warned_about() {
        assert_eq!(
            warnings(&description(Wish::default())),
            Vec::<String>::new()
        );
        let few = description(Wish {
            enclosures: Some(3),
            ..Wish::default()
        });
        assert!(warnings(&few)[0].contains("3 enclosures cannot hold the 6 members"));
    }
}
