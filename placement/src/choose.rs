//! Choosing the members of a new volume.
//!
//! Spread comes first ([`crate::spread`]). Among the drives that spread leaves equal, the emptiest
//! of [`DRAWS`] drives drawn at random is taken: a drive is drawn the more often the larger it is.
//! Always taking the very emptiest would be more even, but would lead all new volumes to the same
//! few drives (a hot spot, and no declustering); two or three draws come close to it.

use std::collections::BTreeMap;

use crate::ids::{ChainId, DriveId, EnclosureId};
use crate::profile::Profile;
use crate::seed::SplitMix64;
use crate::spread::{Tally, Violation, violations};
use crate::topology::Topology;
use crate::volume::{Volume, VolumeState};

/// A drive that is fuller than this, in percent, gets no new volumes (PROTOCOLS 15).
pub const FILL_LIMIT_PERCENT: u64 = 90;

/// How many drives are drawn for each member, of which the emptiest is taken.
pub const DRAWS: usize = 3;

/// An open volume counts as this share of a mean drive, in percent, until its bytes are reported:
/// volumes that open before any of them grows still spread their load.
const OPEN_VOLUME_PERCENT: u128 = 1;

/// How full and how busy drives are. A drive that is not named is empty and idle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fill {
    /// Bytes used.
    pub used: BTreeMap<DriveId, u64>,
    /// Open volumes that the drive is a member of.
    pub load: BTreeMap<DriveId, u32>,
}

impl Fill {
    /// Counts the members of a volume as load when it is open or may open again.
    pub fn count(&mut self, volume: &Volume) {
        if matches!(volume.state, VolumeState::Open | VolumeState::Suspended) {
            for (_, drive) in volume.present() {
                *self.load.entry(drive).or_default() += 1;
            }
        }
    }

    /// Bytes used on a drive.
    pub fn used_on(&self, drive: DriveId) -> u64 {
        self.used.get(&drive).copied().unwrap_or(0)
    }

    /// Open volumes on a drive.
    pub fn load_on(&self, drive: DriveId) -> u32 {
        self.load.get(&drive).copied().unwrap_or(0)
    }
}

/// The members of a volume to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As many as the profile is wide. Vacant ones come last: they hold parity, so that reads of
    /// whole blobs need no decoding.
    pub members: Vec<Option<DriveId>>,
    /// Where they are spread less than the profile wants, if so; the innermost domain.
    pub violation: Option<Violation>,
}

/// No volume can be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// Too few drives are healthy, below their fill limit and in an enclosure that is up: add or
    /// free some, or use a narrower profile.
    #[error("{usable} drives can take a volume, {needed} are needed")]
    TooFewDrives {
        /// Drives that can take a member.
        usable: usize,
        /// The fewest that a volume of the profile may open with.
        needed: usize,
    },
}

/// A drive that may become a member.
struct Candidate {
    drive: DriveId,
    enclosure: EnclosureId,
    chain: ChainId,
    capacity: u64,
    /// Used and expected bytes, in millionths of the capacity.
    fullness: u128,
}

/// Chooses the members of a new volume: the best spread that the topology allows, then even fill
/// by capacity, then even load, with the rest left to chance.
///
/// The answer depends on nothing but the arguments. With fewer usable drives than the profile is
/// wide, up to `m - 1` members are vacant, so that at least `k + 1` are there (PROTOCOLS 11).
///
/// # Errors
/// When fewer than `k + 1` drives are usable.
pub fn choose(
    topology: &Topology,
    fill: &Fill,
    profile: Profile,
    seed: u64,
) -> Result<Choice, ChooseError> {
    let mut candidates = candidates(topology, fill);
    let (usable, needed) = (candidates.len(), profile.ack_floor());
    if usable < needed {
        return Err(ChooseError::TooFewDrives { usable, needed });
    }
    let mut random = SplitMix64::new(seed);
    let mut tally = Tally::default();
    let mut drives = Vec::with_capacity(profile.width());
    for _ in 0..profile.width().min(usable) {
        let index = emptiest_drawn(&candidates, best_spread(&candidates, &tally), &mut random);
        let taken = candidates.swap_remove(index);
        tally.add(taken.enclosure, taken.chain);
        drives.push(taken.drive);
    }
    random.shuffle(&mut drives);
    let mut members: Vec<Option<DriveId>> = drives.into_iter().map(Some).collect();
    members.resize(profile.width(), None);
    let violation = violations(topology, profile, &members).first().copied();
    Ok(Choice { members, violation })
}

/// The drives that may take a member, in the order of their ids.
fn candidates(topology: &Topology, fill: &Fill) -> Vec<Candidate> {
    let limit = |capacity: u64| u128::from(capacity) * u128::from(FILL_LIMIT_PERCENT) / 100;
    let drives = topology.drives.values();
    let mut candidates: Vec<Candidate> = drives
        .filter(|drive| drive.capacity > 0 && topology.takes_volumes(drive.id))
        .filter(|drive| u128::from(fill.used_on(drive.id)) <= limit(drive.capacity))
        .filter_map(|drive| {
            let enclosure = topology.enclosure_of(drive.id)?;
            Some(Candidate {
                drive: drive.id,
                enclosure: enclosure.id,
                chain: enclosure.chain,
                capacity: drive.capacity,
                fullness: 0,
            })
        })
        .collect();
    let sum: u128 = candidates.iter().map(|c| u128::from(c.capacity)).sum();
    let mean = sum / candidates.len().max(1) as u128;
    for candidate in &mut candidates {
        let expected = u128::from(fill.load_on(candidate.drive)) * mean * OPEN_VOLUME_PERCENT / 100;
        let bytes = u128::from(fill.used_on(candidate.drive)) + expected;
        candidate.fullness = bytes * 1_000_000 / u128::from(candidate.capacity);
    }
    candidates
}

/// The candidates that spoil the spread least, by their index.
fn best_spread(candidates: &[Candidate], tally: &Tally) -> Vec<usize> {
    let mut best = Vec::new();
    let mut least = (usize::MAX, usize::MAX);
    for (index, candidate) in candidates.iter().enumerate() {
        let rank = tally.rank(candidate.enclosure, candidate.chain);
        if rank < least {
            least = rank;
            best.clear();
        }
        if rank == least {
            best.push(index);
        }
    }
    best
}

/// The emptiest of [`DRAWS`] out of `pool`, each drawn with a chance that grows with its capacity;
/// the first drawn among equals. The pool must not be empty.
fn emptiest_drawn(
    candidates: &[Candidate],
    mut pool: Vec<usize>,
    random: &mut SplitMix64,
) -> usize {
    let mut best: Option<usize> = None;
    for _ in 0..DRAWS.min(pool.len()) {
        let weight = |index: &usize| u128::from(candidates[*index].capacity);
        let mut left = random.below(pool.iter().map(weight).sum());
        let passed = pool.iter().take_while(|index| {
            let passes = left >= weight(index);
            left = left.saturating_sub(weight(index));
            passes
        });
        let place = passed.count();
        let drawn = pool.swap_remove(place);
        if best.is_none_or(|best| candidates[drawn].fullness < candidates[best].fullness) {
            best = Some(drawn);
        }
    }
    best.expect("there are candidates left, as many as members are chosen")
}

#[cfg(test)]
mod tests;
