//! Keeps the volumes: what the root leader remembers between two plans.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use enfilade_placement::{EnclosureState, VolumeId, VolumeState};

use super::planner::{HeardBeats, Situation, plan};
use crate::api::root::{RootCommand, RootView};
use crate::metrics::metrics;
use crate::settings::KeeperSettings;

const MINUTE: Duration = Duration::from_secs(60);

/// A new leader waits so long for heartbeats before it trusts that the drives it has not heard of
/// are empty.
const SETTLE: Duration = Duration::from_secs(3);

/// What the root leader remembers of volumes; forgotten when another one leads.
#[derive(Default)]
pub(super) struct VolumeKeeper {
    since: Option<Duration>,
    settled: bool,
    suspended: BTreeMap<VolumeId, Duration>,
    opened: VecDeque<Duration>,
}

impl VolumeKeeper {
    /// Commands that bring the volumes to where they should be.
    pub(super) fn keep(
        &mut self,
        settings: &KeeperSettings,
        view: &RootView,
        beats: &HeardBeats,
        now: Duration,
        seed: u64,
    ) -> Vec<RootCommand> {
        gauge(view);
        let since = *self.since.get_or_insert(now);
        self.note_suspended(view, now);
        while self
            .opened
            .front()
            .is_some_and(|at| now.saturating_sub(*at) >= MINUTE)
        {
            self.opened.pop_front();
        }
        let allowed = settings
            .new_volumes_a_minute
            .saturating_add(view.open_volumes);
        let opened = u32::try_from(self.opened.len()).unwrap_or(u32::MAX);
        let mut up = view
            .topology
            .enclosures
            .values()
            .filter(|e| e.state == EnclosureState::Up);
        let settled = now.saturating_sub(since) >= SETTLE || up.all(|e| beats.contains_key(&e.id));
        self.settled = settled;
        let suspended = self
            .suspended
            .iter()
            .map(|(id, at)| (*id, now.saturating_sub(*at)));
        let commands = plan(
            view,
            &Situation {
                beats,
                suspended: &suspended.collect(),
                suspended_min: settings.suspended_min,
                suspended_max: settings.suspended_max,
                new_max: if settled {
                    allowed.saturating_sub(opened)
                } else {
                    0
                },
                seed,
            },
        );
        let opens = commands
            .iter()
            .filter(|c| matches!(c, RootCommand::OpenVolume { .. }));
        self.opened.extend(opens.map(|_| now));
        commands
    }

    /// Whether all drives were heard of, or had the time to be.
    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }

    fn note_suspended(&mut self, view: &RootView, now: Duration) {
        let is_suspended = |id: &VolumeId| {
            view.volumes
                .get(id)
                .is_some_and(|volume| volume.state == VolumeState::Suspended)
        };
        self.suspended.retain(|id, _| is_suspended(id));
        for id in view.volumes.keys().filter(|id| is_suspended(id)) {
            self.suspended.entry(*id).or_insert(now);
        }
    }
}

fn gauge(view: &RootView) {
    let count = |state| {
        view.volumes
            .values()
            .filter(|volume| volume.state == state)
            .count()
    };
    let set = |label: &str, number: u64| {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        metrics().volumes.with_label_values(&[label]).set(number);
    };
    set("open", count(VolumeState::Open) as u64);
    set("suspended", count(VolumeState::Suspended) as u64);
    set("sealing", count(VolumeState::Sealing) as u64);
    set("sealed", view.sealed_volumes);
}
