//! What a plan is made for, and which absent drives are given up for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::plan::Wait;
use enfilade_placement::{
    ChainId, Drive, DriveId, DriveState, EnclosureId, EnclosureState, Topology,
};

use super::Scene;
use crate::api::root::RootView;
use crate::metrics::metrics;

/// What a plan depends on beside the volumes.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    /// With the topology.
    pub(super) view: Arc<RootView>,
    /// Drives that are to be emptied.
    pub(super) leaving: BTreeSet<DriveId>,
    /// Absent drives that are not given up.
    pub(super) waiting: BTreeMap<DriveId, Wait>,
    /// How the enclosures are linked: that of each, and whether it is closed to a ring.
    links: Vec<(EnclosureId, ChainId, bool)>,
    /// What becomes of each drive.
    fates: Vec<(DriveId, EnclosureId, u64, Fate)>,
    /// Drives that take shards now, in order.
    takes: Vec<DriveId>,
    /// Drives that can be read now, in order.
    there: Vec<DriveId>,
}

/// What becomes of a drive in a plan, for longer than a flap lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is given up: what it held is rebuilt.
    Lost,
    /// It is emptied.
    Leaves,
    /// It stays, and may be away for a while.
    Stays,
}

impl Basis {
    fn new(
        view: &Arc<RootView>,
        leaving: BTreeSet<DriveId>,
        waiting: BTreeMap<DriveId, Wait>,
    ) -> Self {
        let topology = &view.topology;
        let links = topology.enclosures.values().map(|one| {
            let chain = topology.chains.get(&one.chain);
            (one.id, one.chain, chain.is_some_and(|chain| chain.closed))
        });
        let fates = topology.drives.values().map(|drive| {
            let fate = fate(topology, drive, &leaving, &waiting);
            (drive.id, drive.enclosure, drive.capacity, fate)
        });
        let drives = || topology.drives.keys().copied();
        Self {
            links: links.collect(),
            fates: fates.collect(),
            takes: drives()
                .filter(|id| topology.takes_volumes(*id) && !leaving.contains(id))
                .collect(),
            there: drives().filter(|id| topology.is_present(*id)).collect(),
            view: Arc::clone(view),
            leaving,
            waiting,
        }
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.view.topology
    }

    /// Whether a plan that was made for the other is one for this, too. Drives that are away for a
    /// while and come back change nothing of it: with one that flaps no plan would ever be carried
    /// out (PROTOCOLS 23). Moves that cannot be made meanwhile are left out of it.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.links == other.links && self.fates == other.fates
    }

    /// Whether there is also nothing that came, went, or is waited for otherwise.
    pub(super) fn is_just_as(&self, other: &Self) -> bool {
        self.is_as(other)
            && self.takes == other.takes
            && self.there == other.there
            && self.waiting == other.waiting
    }

    /// Whether a shard can be put on a drive now.
    pub(super) fn takes(&self, drive: DriveId) -> bool {
        self.takes.binary_search(&drive).is_ok()
    }

    /// Whether a drive can be read now.
    pub(super) fn is_there(&self, drive: DriveId) -> bool {
        self.there.binary_search(&drive).is_ok()
    }
}

fn fate(
    topology: &Topology,
    drive: &Drive,
    leaving: &BTreeSet<DriveId>,
    waiting: &BTreeMap<DriveId, Wait>,
) -> Fate {
    let enclosure = topology.enclosures.get(&drive.enclosure);
    let out = enclosure.is_none_or(|one| one.state == EnclosureState::Out);
    let works = drive.state.is_served() || waiting.contains_key(&drive.id);
    match () {
        () if out || !works => Fate::Lost,
        () if leaving.contains(&drive.id) || drive.state == DriveState::Returned => Fate::Leaves,
        () => Fate::Stays,
    }
}

/// Since when drives cannot be reached or do not work.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeMap<DriveId, Duration>);

impl Absent {
    /// What a plan depends on now. A drive that does not work is waited for, unless an operator has
    /// given it up, or the wait is over and it is no avalanche (PROTOCOLS 23).
    pub(super) fn basis(&mut self, scene: &Scene<'_>) -> Basis {
        let (view, topology) = (scene.view, &scene.view.topology);
        let works = |id: &DriveId| {
            let drive = topology.drives.get(id);
            drive.is_some_and(|drive| drive.state.is_served())
        };
        self.0
            .retain(|id, _| topology.drives.contains_key(id) && !works(id));
        for id in topology.drives.keys().filter(|id| !works(id)) {
            self.0.entry(*id).or_insert(scene.now);
        }
        let leaving = view.moves.leaving(topology);
        let mut waiting = self.waiting(scene, &leaving);
        for drive in topology.drives.values() {
            let held = view.maintenance.contains_key(&drive.enclosure);
            // As long as it is waited for, nothing of it is rebuilt.
            if held && drive.state != DriveState::Replaced && !topology.is_present(drive.id) {
                waiting.insert(drive.id, Wait::Held);
            } else if scene.braked.contains(&drive.enclosure) {
                waiting.entry(drive.id).or_insert(Wait::Over);
            }
        }
        let count = waiting.len();
        metrics()
            .waiting_drives
            .set(i64::try_from(count).unwrap_or(i64::MAX));
        Basis::new(view, leaving, waiting)
    }

    /// Drives that do not work and are not given up: the wait is not over, or it would be an
    /// avalanche.
    fn waiting(&self, scene: &Scene<'_>, leaving: &BTreeSet<DriveId>) -> BTreeMap<DriveId, Wait> {
        let topology = &scene.view.topology;
        let waited =
            |since: &Duration| scene.now.saturating_sub(*since) >= scene.settings.drive_out;
        let mut allowed = avalanche_limit(topology);
        let mut waiting = BTreeMap::new();
        for (id, since) in &self.0 {
            let Some(drive) = topology.drives.get(id) else {
                continue;
            };
            if leaving.contains(id) || drive.state == DriveState::Replaced {
                continue;
            }
            if !waited(since) {
                waiting.insert(*id, Wait::Usual);
            } else if drive.capacity <= allowed {
                allowed -= drive.capacity;
            } else {
                waiting.insert(*id, Wait::Over);
            }
        }
        waiting
    }
}

/// Bytes of drives that may be given up without an operator: one enclosure's, or 5 % of all.
fn avalanche_limit(topology: &Topology) -> u64 {
    let mut by_enclosure = BTreeMap::new();
    for drive in topology.drives.values() {
        *by_enclosure.entry(drive.enclosure).or_insert(0u64) += drive.capacity;
    }
    let all: u64 = by_enclosure.values().sum();
    by_enclosure
        .values()
        .copied()
        .max()
        .unwrap_or(0)
        .max(all / 20)
}
