//! The volume table in a compact form: a million volumes of 14 members take about 250 MB.
//!
//! What a plan changes is a set: which drives hold a volume. Members that stay keep their index,
//! so that [`Table::put`] never moves two members where one would do.

use std::borrow::Borrow;

use super::sites::{Sites, VACANT};
use crate::ids::VolumeId;
use crate::profile::Profile;
use crate::volume::{Volume, VolumeState};

/// Volumes by index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) profiles: Vec<Profile>,
    pub(crate) ids: Vec<VolumeId>,
    /// Bytes of one shard.
    pub(crate) bytes: Vec<u64>,
    profile: Vec<u8>,
    state: Vec<VolumeState>,
    start: Vec<u32>,
    /// Where members are now and were at first, by place: the number of a member among all.
    members: Vec<u32>,
    origin: Vec<u32>,
    volume_of: Vec<u32>,
}

impl Table {
    /// Takes all volumes that hold anything.
    pub(crate) fn new<V: Borrow<Volume>>(
        sites: &Sites,
        volumes: impl IntoIterator<Item = V>,
    ) -> Self {
        let mut table = Self::default();
        for volume in volumes {
            let volume = volume.borrow();
            if volume.state != VolumeState::Retired {
                table.push(sites, volume);
            }
        }
        table.start.push(number(table.members.len()));
        table.origin = table.members.clone();
        table
    }

    fn push(&mut self, sites: &Sites, volume: &Volume) {
        let known = self.profiles.iter().position(|p| *p == volume.profile);
        let profile = known.unwrap_or_else(|| {
            self.profiles.push(volume.profile);
            self.profiles.len() - 1
        });
        // More profiles than that share their limits with the last: a cluster has a few.
        self.profile.push(u8::try_from(profile).unwrap_or(u8::MAX));
        let first = self.members.len();
        self.start.push(number(first));
        for member in &volume.members {
            let drive = member.and_then(|drive| sites.index(drive));
            self.members.push(drive.unwrap_or(VACANT));
            self.volume_of.push(number(self.ids.len()));
        }
        sites.count_urgent(&mut self.members[first..], volume.profile.k());
        self.ids.push(volume.id);
        self.bytes.push(volume.bytes);
        self.state.push(volume.state);
    }

    pub(crate) const fn len(&self) -> usize {
        self.ids.len()
    }

    fn range(&self, volume: usize) -> std::ops::Range<usize> {
        self.start[volume] as usize..self.start[volume + 1] as usize
    }

    /// The drives that a volume is on.
    pub(crate) fn members(&self, volume: usize) -> &[u32] {
        &self.members[self.range(volume)]
    }

    /// The drives that a volume was on at first.
    pub(crate) fn origins(&self, volume: usize) -> &[u32] {
        &self.origin[self.range(volume)]
    }

    /// The drives that the members of all volumes were on at first, by place.
    pub(crate) fn origins_of_all(&self) -> &[u32] {
        &self.origin
    }

    /// The number of a member among those of all volumes.
    pub(crate) fn place(&self, volume: usize, member: usize) -> u32 {
        self.start[volume] + number(member)
    }

    /// The volume and member at a place.
    pub(crate) fn at(&self, place: u32) -> (usize, usize) {
        let volume = self.volume_of[place as usize] as usize;
        (volume, (place - self.start[volume]) as usize)
    }

    /// The drive that a place is on now.
    pub(crate) fn drive(&self, place: u32) -> u32 {
        self.members[place as usize]
    }

    /// The drive that a place was on at first.
    pub(crate) fn origin(&self, place: u32) -> u32 {
        self.origin[place as usize]
    }

    /// Whether the member at a place is not where it was.
    pub(crate) fn is_moving(&self, place: u32) -> bool {
        self.members[place as usize] != self.origin[place as usize]
    }

    /// Puts the member at a place on a drive that its volume is not on. When another member came
    /// from there, that one returns, and this one goes to where the other was. Returns the places
    /// that changed.
    pub(crate) fn put(&mut self, place: u32, to: u32) -> [Option<u32>; 2] {
        let (volume, _) = self.at(place);
        let start = self.start[volume];
        let returns = self.origins(volume).iter().position(|drive| *drive == to);
        let returns = returns.map(|member| start + number(member));
        let Some(other) = returns.filter(|other| *other != place) else {
            self.members[place as usize] = to;
            return [Some(place), None];
        };
        self.members[place as usize] = self.members[other as usize];
        self.members[other as usize] = to;
        [Some(place), Some(other)]
    }

    /// The index of a volume's profile.
    pub(crate) fn profile(&self, volume: usize) -> usize {
        usize::from(self.profile[volume])
    }

    pub(crate) fn profile_of(&self, volume: usize) -> Profile {
        self.profiles[self.profile(volume)]
    }

    /// Whether it has to be sealed before anything of it moves (PROTOCOLS 12).
    pub(crate) fn is_open(&self, volume: usize) -> bool {
        matches!(
            self.state[volume],
            VolumeState::Open | VolumeState::Suspended
        )
    }

    /// Whether all shards are of one size, and all volumes sealed.
    pub(crate) fn is_alike(&self) -> bool {
        let open = (0..self.len()).any(|volume| self.is_open(volume));
        !open && self.shard_bytes_all().is_some()
    }

    /// Bytes of each shard, where all are of one size and not empty.
    pub(crate) fn shard_bytes_all(&self) -> Option<u64> {
        let first = self.bytes.first().copied().filter(|bytes| *bytes > 0)?;
        let same = self.bytes.iter().all(|bytes| *bytes == first);
        same.then_some(first)
    }

    /// Bytes of the largest shard: what "one shard" means for all tolerances.
    pub(crate) fn shard_bytes_max(&self) -> u64 {
        self.bytes.iter().copied().max().unwrap_or(0)
    }

    /// Bytes of one shard of each volume, summed by profile.
    pub(crate) fn bytes_of_profiles(&self) -> Vec<u64> {
        let mut sums = vec![0u64; self.profiles.len()];
        for volume in 0..self.len() {
            let profile = self.profile(volume);
            sums[profile] = sums[profile].saturating_add(self.bytes[volume]);
        }
        sums
    }

    /// Bytes of shards on each drive, and of members that are vacant.
    pub(crate) fn used(&self, sites: &Sites) -> (Vec<u64>, u64) {
        let (mut used, mut vacant) = (vec![0u64; sites.len()], 0u64);
        for volume in 0..self.len() {
            for member in self.members(volume) {
                let bytes = match used.get_mut(*member as usize) {
                    Some(bytes) => bytes,
                    None => &mut vacant,
                };
                *bytes = bytes.saturating_add(self.bytes[volume]);
            }
        }
        (used, vacant)
    }
}

/// As a number of 32 bits: a table never has more places.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
