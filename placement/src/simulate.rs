//! A cluster as plain data that grows, fails and is planned for: years in seconds (feature
//! `test-util`).

use std::collections::{BTreeMap, BTreeSet};

use crate::choose::{Fill, choose};
use crate::ids::{ChainId, DriveId, EnclosureId, Epoch, Generation, VolumeId};
use crate::plan::{Input, Plan, apply, plan};
use crate::profile::Profile;
use crate::seed::SplitMix64;
use crate::topology::{Chain, Drive, DriveState, Enclosure, EnclosureState, Topology};
use crate::volume::{Volume, VolumeState};

/// A cluster of one profile.
#[derive(Debug, Clone)]
pub struct World {
    /// What there is.
    pub topology: Topology,
    /// Its volumes; all sealed.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Drives to be emptied.
    pub leaving: BTreeSet<DriveId>,
    profile: Profile,
    shard: u64,
    used: BTreeMap<DriveId, u64>,
    random: SplitMix64,
}

impl World {
    /// Nothing yet. Each shard of a full volume has `shard` bytes.
    pub fn new(profile: Profile, shard: u64, seed: u64) -> Self {
        Self {
            topology: Topology::default(),
            volumes: BTreeMap::new(),
            leaving: BTreeSet::new(),
            profile,
            shard,
            used: BTreeMap::new(),
            random: SplitMix64::new(seed),
        }
    }

    /// Adds an enclosure at the end of a chain; returns its id.
    pub fn add(&mut self, chain: u32, drives: u32, capacity: u64) -> EnclosureId {
        let chain = ChainId::new(chain);
        let made = Chain {
            id: chain,
            closed: false,
        };
        self.topology.chains.entry(chain).or_insert(made);
        let enclosures = &mut self.topology.enclosures;
        let last = enclosures.keys().next_back().copied();
        let id = last.map_or(EnclosureId::new(1), EnclosureId::next);
        let position = enclosures.values().filter(|e| e.chain == chain).count();
        let enclosure = Enclosure {
            id,
            chain,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            state: EnclosureState::Up,
            shard_address: String::new(),
            meta_address: String::new(),
            admin_address: String::new(),
        };
        enclosures.insert(id, enclosure);
        for slot in 0..drives {
            let wide = u128::from(self.random.bits()) << 64 | u128::from(self.random.bits());
            let drive = Drive {
                id: DriveId::new(wide),
                enclosure: id,
                slot,
                capacity,
                state: DriveState::Healthy,
                generation: Generation::new(1),
            };
            self.topology.drives.insert(drive.id, drive);
        }
        id
    }

    /// Closes all chains to rings.
    pub fn close(&mut self) {
        let chains = self.topology.chains.values_mut();
        chains.for_each(|chain| chain.closed = true);
    }

    /// Bytes that all drives can hold that take volumes.
    pub fn capacity(&self) -> u64 {
        let drives = self.topology.drives.values();
        drives
            .filter(|drive| self.topology.takes_volumes(drive.id))
            .filter(|drive| !self.leaving.contains(&drive.id))
            .map(|drive| drive.capacity)
            .sum()
    }

    /// Bytes of shards.
    pub fn used(&self) -> u64 {
        self.used.values().sum()
    }

    /// Writes until so much of the capacity is in use, in percent, or no volume can be opened.
    pub fn fill_to(&mut self, percent: u64) {
        let goal = self.capacity() / 100 * percent;
        let mut fill = Fill {
            used: std::mem::take(&mut self.used),
            load: BTreeMap::new(),
        };
        while fill.used.values().sum::<u64>() < goal {
            let seed = self.random.bits();
            let Ok(choice) = choose(&self.topology, &fill, self.profile, seed) else {
                break;
            };
            let id = self.volumes.keys().next_back().copied();
            let id = id.map_or(VolumeId::new(1), VolumeId::next);
            for drive in choice.members.iter().flatten() {
                *fill.used.entry(*drive).or_default() += self.shard;
            }
            let volume = Volume {
                id,
                profile: self.profile,
                members: choice.members,
                epoch: Epoch::FIRST,
                state: VolumeState::Sealed,
                bytes: self.shard,
                violation: choice.violation.is_some(),
            };
            self.volumes.insert(id, volume);
        }
        self.used = fill.used;
    }

    /// Fails a drive for good, drawn at random; none when there is none.
    pub fn fail_drive(&mut self) -> Option<DriveId> {
        let drives: Vec<DriveId> = self.topology.drives.keys().copied().collect();
        let drive = *drives.get(self.random.index(drives.len()))?;
        self.topology.drives.get_mut(&drive)?.state = DriveState::Failing;
        Some(drive)
    }

    /// Takes drives that nothing is on out of the topology, when they failed or were leaving.
    pub fn forget_empty(&mut self) {
        let used = &self.used;
        let leaving = &self.leaving;
        self.topology.drives.retain(|id, drive| {
            let goes = drive.state == DriveState::Failing || leaving.contains(id);
            !goes || used.get(id).copied().unwrap_or(0) > 0
        });
        let drives = &self.topology.drives;
        self.leaving.retain(|id| drives.contains_key(id));
        let kept: BTreeSet<EnclosureId> = drives.values().map(|drive| drive.enclosure).collect();
        self.topology.enclosures.retain(|id, _| kept.contains(id));
    }

    /// Plans, without doing anything.
    pub fn plan(&self) -> Plan {
        let input = Input {
            topology: &self.topology,
            leaving: &self.leaving,
            waiting: &BTreeMap::new(),
            other: &BTreeMap::new(),
            seed: 7,
        };
        plan(&input, self.volumes.values())
    }

    /// Makes a plan's moves.
    pub fn apply(&mut self, plan: &Plan) {
        apply(plan, &mut self.volumes);
        self.used.clear();
        for volume in self.volumes.values() {
            for (_, drive) in volume.present() {
                *self.used.entry(drive).or_default() += volume.bytes;
            }
        }
    }
}
