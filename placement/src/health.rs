//! What is left of volumes, from the topology alone: whole members, never rot within one.

use crate::topology::Topology;
use crate::volume::{Volume, VolumeState};

/// What is left of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survival {
    /// Members that are there.
    pub present: usize,
    /// The indices of the members that are vacant or whose drive or enclosure has failed.
    pub missing: Vec<usize>,
    /// How many more members may be lost; none when the volume is not readable now.
    pub spare: Option<usize>,
}

/// What is left of many volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Volumes that have all their members.
    pub whole: usize,
    /// Volumes that miss members but may lose more.
    pub degraded: usize,
    /// Volumes that are readable and may lose no more.
    pub at_risk: usize,
    /// Volumes with fewer than k members there.
    pub unreadable: usize,
    /// Members missing, over all volumes.
    pub missing_members: usize,
}

/// The indices of the members that are vacant or not there (PROTOCOLS 22: such shards are derived
/// from the volume table, never stored).
pub fn missing_members(topology: &Topology, volume: &Volume) -> Vec<usize> {
    let members = volume.members.iter().enumerate();
    members
        .filter(|(_, member)| !member.is_some_and(|drive| topology.is_present(drive)))
        .map(|(index, _)| index)
        .collect()
}

/// What is left of a volume.
pub fn survival(topology: &Topology, volume: &Volume) -> Survival {
    let missing = missing_members(topology, volume);
    let present = volume.members.len() - missing.len();
    Survival {
        present,
        missing,
        spare: present.checked_sub(volume.profile.k()),
    }
}

/// What is left of all volumes; retired ones hold nothing and do not count.
pub fn health<'a>(topology: &Topology, volumes: impl IntoIterator<Item = &'a Volume>) -> Health {
    let mut health = Health::default();
    for volume in volumes {
        if volume.state == VolumeState::Retired {
            continue;
        }
        let survival = survival(topology, volume);
        health.missing_members += survival.missing.len();
        let class = match survival.spare {
            None => &mut health.unreadable,
            Some(_) if survival.missing.is_empty() => &mut health.whole,
            Some(0) => &mut health.at_risk,
            Some(_) => &mut health.degraded,
        };
        *class += 1;
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DriveId, EnclosureId, Epoch, VolumeId};
    use crate::profile::Profile;
    use crate::sample;
    use crate::topology::{DriveState, EnclosureState};

    fn volume(state: VolumeState) -> Volume {
        Volume {
            id: VolumeId::new(1),
            profile: Profile::new(4, 2).unwrap(),
            members: (1..=6).map(|n| Some(DriveId::new(n))).collect(),
            epoch: Epoch::FIRST,
            state,
            bytes: 0,
            violation: false,
        }
    }

    #[test]
    fn each_lost_member_lowers_what_is_spare_until_the_volume_is_unreadable() {
        let mut topology = sample::topology(&[&[1, 1, 1, 1, 1, 1]]);
        let mut volume = volume(VolumeState::Sealed);
        assert_eq!(survival(&topology, &volume).spare, Some(2));
        volume.members[5] = None;
        assert_eq!(survival(&topology, &volume).spare, Some(1));
        let drive = topology.drives.get_mut(&DriveId::new(1)).unwrap();
        drive.state = DriveState::Failing;
        assert_eq!(survival(&topology, &volume).spare, Some(0));
        let enclosure = topology.enclosures.get_mut(&EnclosureId::new(2)).unwrap();
        enclosure.state = EnclosureState::Down;
        let left = survival(&topology, &volume);
        assert_eq!(
            (left.present, left.missing, left.spare),
            (3, vec![0, 1, 5], None)
        );
    }

    #[test]
    fn volumes_are_counted_by_what_is_left_and_retired_ones_not_at_all() {
        let mut topology = sample::topology(&[&[1, 1, 1, 1, 1, 1]]);
        let volumes = [VolumeState::Open, VolumeState::Sealed, VolumeState::Retired].map(volume);
        assert_eq!(health(&topology, &volumes).whole, 2);
        let counts = (1..=3).map(|lost| {
            let enclosure = topology.enclosures.get_mut(&EnclosureId::new(lost));
            enclosure.unwrap().state = EnclosureState::Out;
            health(&topology, &volumes)
        });
        let counts: Vec<Health> = counts.collect();
        let missing: Vec<usize> = counts.iter().map(|h| h.missing_members).collect();
        assert_eq!(missing, [2, 4, 6]);
        assert_eq!(
            (
                counts[0].degraded,
                counts[1].at_risk,
                counts[2].unreadable,
                counts[2].whole
            ),
            (2, 2, 2, 0)
        );
    }

    #[test]
    fn a_member_counts_as_there_exactly_while_its_drive_is_served() {
        let mut topology = sample::topology(&[&[1, 1, 1, 1, 1, 1]]);
        let volume = volume(VolumeState::Sealed);
        let served = [
            (DriveState::Healthy, true),
            (DriveState::Slow, true),
            (DriveState::Full, true),
            (DriveState::Returned, true),
            (DriveState::Failing, false),
            (DriveState::Gone, false),
            (DriveState::Foreign, false),
            (DriveState::Replaced, false),
        ];
        for (state, there) in served {
            let drive = topology.drives.get_mut(&DriveId::new(1)).unwrap();
            drive.state = state;
            let missing = survival(&topology, &volume).missing;
            assert_eq!(missing.is_empty(), there, "{state:?}");
            let takes = topology.takes_volumes(DriveId::new(1));
            assert_eq!(takes, state == DriveState::Healthy, "{state:?}");
        }
    }

    #[test]
    fn a_drive_that_nobody_knows_is_missing() {
        let left = survival(&Topology::default(), &volume(VolumeState::Open));
        assert_eq!(left.missing.len(), 6);
    }
}
