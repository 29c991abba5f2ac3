//! A plan and what else is to be known of all volumes, made apart from the leader's loop.
//!
//! The table of volumes is read page by page, as often as it is looked through, and never held as a
//! whole: a million volumes are some 300 MB, and the planner keeps them in a fifth of that. What is
//! flipped while it reads makes no harm: moves are begun by compare-and-set.

use std::collections::BTreeMap;
use std::sync::Arc;

use enfilade_placement::durability::{Layouts, Rates};
use enfilade_placement::liveness::largest_loss;
use enfilade_placement::plan::{self, Input, Plan};
use enfilade_placement::{DriveId, Volume, VolumeId, VolumeState};

use super::Scene;
use super::basis::Basis;
use crate::metrics::metrics;

/// Volumes that are read at once.
pub(in crate::server) const PAGE: usize = 10_000;

/// A page of the table of volumes, of those after a volume; an empty one is its end.
pub(in crate::server) type Pages =
    Arc<dyn Fn(Option<VolumeId>) -> Result<Vec<Volume>, String> + Send + Sync>;

/// What a survey starts from.
pub(super) struct Ground {
    pub(super) basis: Basis,
    /// Where members are on their way to.
    targets: BTreeMap<(VolumeId, u8), DriveId>,
    /// Bytes of the shards of volumes that are not sealed, as last heard.
    heard: BTreeMap<VolumeId, u64>,
    /// Bytes in use on drives, and those of shard logs among them, as last heard.
    used: BTreeMap<DriveId, (u64, u64)>,
    /// Hours from a loss to its rebuild.
    wait_hours: f64,
    seed: u64,
}

/// What came of it.
pub(super) struct Survey {
    pub(super) plan: Plan,
    /// Nines of durability, as things are.
    nines: f64,
    /// Volumes that hold anything, and as how many they could be.
    volumes: u64,
    ideal_volumes: u64,
    /// Bytes of an enclosure that would find no room if it was lost.
    shortfall: u64,
    /// Whether a volume, in whatever state, has a member that is vacant or not there.
    pub(super) incomplete: bool,
}

impl Ground {
    /// What is on its way counts as there, unless it is ended.
    pub(super) fn new(
        scene: &Scene<'_>,
        basis: Basis,
        goes_on: impl Fn(&crate::api::moves::Intent) -> bool,
    ) -> Self {
        let view = scene.view;
        let intents = view.moves.intents.iter().filter(|one| goes_on(one));
        let open = view.volumes.values();
        let drives = scene.beats.values().flat_map(|(_, beat)| &beat.drives);
        Self {
            basis,
            targets: intents
                .map(|one| ((one.volume, one.member), one.to))
                .collect(),
            heard: open
                .map(|one| (one.id, super::super::planner::bytes(one, scene.beats)))
                .collect(),
            used: drives
                .map(|drive| (drive.drive, (drive.used, drive.logs)))
                .collect(),
            wait_hours: scene.settings.drive_out.as_secs_f64() / 3600.0,
            seed: scene.seed,
        }
    }

    /// Makes a plan, and counts.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub(super) fn survey(&self, pages: &Pages) -> Result<Survey, String> {
        let topology = self.basis.topology();
        let (mut layouts, mut shards) = (Layouts::default(), BTreeMap::<DriveId, u64>::new());
        let (mut volumes, mut bytes) = (0u64, 0u64);
        let mut incomplete = false;
        let mut all = Volumes::new(self, pages);
        for volume in all.by_ref() {
            layouts.add(topology, &volume);
            if volume.state != VolumeState::Retired {
                volumes += 1;
                let there = |drive: &Option<DriveId>| drive.is_some_and(|d| topology.is_present(d));
                incomplete |= !volume.members.iter().all(there);
                bytes = bytes.saturating_add(volume.bytes);
                for (_, drive) in volume.present() {
                    *shards.entry(drive).or_default() += volume.bytes;
                }
            }
        }
        all.end()?;
        let other = self.other(&shards);
        let input = Input {
            topology,
            leaving: &self.basis.leaving,
            waiting: &self.basis.waiting,
            other: &other,
            seed: self.seed,
        };
        let mut all = Volumes::new(self, pages);
        let plan = plan::plan(&input, all.by_ref());
        all.end()?;
        let view = &self.basis.view;
        let used = |drive: DriveId| {
            let (heard, _) = self.used.get(&drive).copied().unwrap_or_default();
            heard.max(shards.get(&drive).copied().unwrap_or(0))
        };
        Ok(Survey {
            plan,
            nines: layouts.durability(self.rates(&shards)).nines(),
            volumes,
            ideal_volumes: bytes.div_ceil(view.volume_target.max(1)) + u64::from(view.open_volumes),
            shortfall: largest_loss(topology, used).map_or(0, |short| short.bytes),
            incomplete,
        })
    }

    /// Bytes in use that are no shards, in whole shards: what is less says nothing. Dead fragments
    /// in logs and shards that were moved away count as shards: both go by themselves, and a plan
    /// that made room for them would be undone by the next.
    fn other(&self, shards: &BTreeMap<DriveId, u64>) -> BTreeMap<DriveId, u64> {
        let grain = self.basis.view.volume_target.max(1);
        let more = |(drive, (used, logs)): (&DriveId, &(u64, u64))| {
            let own = shards.get(drive).copied().unwrap_or(0);
            let more = used.saturating_sub(own.max(*logs));
            (*drive, more - more % grain)
        };
        self.used.iter().map(more).collect()
    }

    /// Rates of failure as operators set them, of repair as it was measured, else assumed.
    fn rates(&self, shards: &BTreeMap<DriveId, u64>) -> Rates {
        let (view, topology) = (&self.basis.view, self.basis.topology());
        let drives = topology.drives.keys();
        let present = drives.filter(|id| topology.is_present(**id)).count().max(1) as u64;
        let assumed = view.tuning.repair_rate.saturating_mul(present);
        let rate = match view.moves.repair_rate {
            0 => assumed,
            measured => measured,
        };
        let held = shards.values().sum::<u64>() / present;
        Rates {
            drive_a_year: f64::from(view.tuning.drive_failures) / 1e6,
            enclosure_a_year: f64::from(view.tuning.enclosure_losses) / 1e6,
            repair_hours: Rates::repair_hours(held, rate as f64, self.wait_hours),
        }
    }
}

impl Survey {
    /// Shows it in the metrics.
    pub(super) fn show(&self) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metrics().durability.set(self.nines);
        metrics().table_volumes.set(signed(self.volumes));
        metrics().ideal_volumes.set(signed(self.ideal_volumes));
        metrics().shortfall.set(signed(self.shortfall));
    }
}

/// All volumes, as they will be when what is under way is done.
struct Volumes<'a> {
    ground: &'a Ground,
    pages: &'a Pages,
    after: Option<VolumeId>,
    page: std::vec::IntoIter<Volume>,
    failed: Option<String>,
}

impl<'a> Volumes<'a> {
    fn new(ground: &'a Ground, pages: &'a Pages) -> Self {
        Self {
            ground,
            pages,
            after: None,
            page: Vec::new().into_iter(),
            failed: None,
        }
    }

    /// Whether all were read.
    fn end(self) -> Result<(), String> {
        self.failed.map_or(Ok(()), Err)
    }

    fn settle(&self, volume: &mut Volume) {
        let heard = self.ground.heard.get(&volume.id).copied();
        volume.bytes = volume.bytes.max(heard.unwrap_or(0));
        let (first, last) = ((volume.id, 0), (volume.id, u8::MAX));
        for ((_, member), to) in self.ground.targets.range(first..=last) {
            if let Some(place) = volume.members.get_mut(usize::from(*member)) {
                *place = Some(*to);
            }
        }
    }
}

impl Iterator for Volumes<'_> {
    type Item = Volume;

    fn next(&mut self) -> Option<Volume> {
        loop {
            if let Some(mut volume) = self.page.next() {
                self.after = Some(volume.id);
                self.settle(&mut volume);
                return Some(volume);
            }
            if self.failed.is_some() {
                return None;
            }
            match (self.pages)(self.after) {
                Ok(page) if page.is_empty() => return None,
                Ok(page) => self.page = page.into_iter(),
                Err(error) => self.failed = Some(error),
            }
        }
    }
}
