//! Volumes: containers of stripes with a fixed, ordered membership per epoch.

use serde::{Deserialize, Serialize};

use crate::ids::{DriveId, Epoch, VolumeId};
use crate::profile::Profile;

/// Where a volume is in its life (PROTOCOLS 12 and 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VolumeState {
    /// Takes appends.
    Open,
    /// A member was late: takes no new extents until all members are back, or it is sealed.
    Suspended,
    /// Its epoch was raised; waits for the first member to fence.
    Sealing,
    /// Immutable; may move.
    Sealed,
    /// Gone: holds nothing that is referenced.
    Retired,
}

/// A container of stripes: one profile and `k + m` ordered members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Its erasure code.
    pub profile: Profile,
    /// The drive of each member, or none where it is vacant. Always `profile.width()` long.
    pub members: Vec<Option<DriveId>>,
    /// The version of the membership; older ones are refused.
    pub epoch: Epoch,
    /// Where it is in its life.
    pub state: VolumeState,
    /// Bytes of its fullest shard when last reported; grows only.
    pub bytes: u64,
    /// Whether its members are spread less than the profile wants, because of the topology.
    pub violation: bool,
}

impl Volume {
    /// The member index that a drive has here.
    pub fn member_of(&self, drive: DriveId) -> Option<usize> {
        self.members
            .iter()
            .position(|member| *member == Some(drive))
    }

    /// The drives of the members that are not vacant, with their index.
    pub fn present(&self) -> impl Iterator<Item = (usize, DriveId)> + '_ {
        self.members
            .iter()
            .enumerate()
            .filter_map(|(index, member)| Some((index, (*member)?)))
    }

    /// How many members are vacant.
    pub fn vacant(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.is_none())
            .count()
    }
}
