//! Heartbeats, in the memory of the root leader (PROTOCOLS 23).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use enfilade_placement::EnclosureId;

use crate::api::heartbeat::{DriveReport, Heartbeat};

/// The last heartbeat of every enclosure, and when it came.
#[derive(Default)]
pub(crate) struct Beats(Mutex<BTreeMap<EnclosureId, (Duration, Heartbeat)>>);

impl Beats {
    /// Notes a heartbeat.
    pub(crate) fn hear(&self, beat: Heartbeat, now: Duration) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.insert(beat.enclosure, (now, beat));
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeMap<EnclosureId, (Duration, Heartbeat)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What was said last of each drive, by each node that said something.
    pub(crate) fn drives(&self, now: Duration) -> Vec<DriveReport> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_beat = |(heard, beat): &(Duration, Heartbeat)| {
            let (enclosure, age) = (beat.enclosure, now.saturating_sub(*heard));
            let report = |beat| DriveReport {
                enclosure,
                age,
                beat,
            };
            beat.drives.iter().cloned().map(report).collect::<Vec<_>>()
        };
        beats.values().flat_map(of_beat).collect()
    }

    /// Forgets all: what came to a former leader says nothing.
    pub(super) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
