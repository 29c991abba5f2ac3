//! Drives in the admin API: how they are, and giving one up.

use std::collections::BTreeMap;
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::heartbeat::DriveReport;
use enfilade_cluster::api::root::{RootCommand, RootRefusal, RootView};
use enfilade_cluster::env::Env;
use enfilade_placement::{Drive, DriveId, DriveState, RequestId, VolumeState};
use hyper::StatusCode;

use crate::admin::model;
use crate::admin::status::{Facts, word};

/// All drives, by enclosure and slot.
pub(crate) fn list(facts: &Facts) -> Vec<model::Drive> {
    let topology = &facts.view.topology;
    let mut shards: BTreeMap<DriveId, usize> = BTreeMap::new();
    let volumes = facts.volumes.iter();
    for volume in volumes.filter(|volume| volume.state != VolumeState::Retired) {
        for (_, drive) in volume.present() {
            *shards.entry(drive).or_default() += 1;
        }
    }
    let said = Said::of(facts);
    let mut drives: Vec<_> = topology.drives.values().collect();
    drives.sort_by_key(|drive| (drive.enclosure, drive.slot, drive.id));
    let show = |drive: &Drive| model::Drive {
        id: drive.id.to_string(),
        enclosure: drive.enclosure.get(),
        slot: drive.slot,
        state: word(drive.state),
        reason: said.reason(drive).to_owned(),
        twins: said.twins(drive.id),
        present: topology.is_present(drive.id),
        capacity: drive.capacity,
        generation: u64::from(drive.generation.get()),
        shards: shards.get(&drive.id).copied().unwrap_or(0),
        scrub: said.scrub(drive),
    };
    drives.into_iter().map(show).collect()
}

/// A node that has said nothing for so long may not find a second drive any more.
const STALE: Duration = Duration::from_secs(60);

/// What nodes say of drives.
pub(crate) struct Said<'a>(BTreeMap<DriveId, Vec<&'a DriveReport>>);

impl<'a> Said<'a> {
    pub(crate) fn of(facts: &'a Facts) -> Self {
        let mut said: BTreeMap<DriveId, Vec<&DriveReport>> = BTreeMap::new();
        for report in &facts.reports {
            said.entry(report.beat.drive).or_default().push(report);
        }
        Self(said)
    }

    fn all(&self, drive: DriveId) -> &[&'a DriveReport] {
        self.0.get(&drive).map_or(&[], Vec::as_slice)
    }

    /// What the node says that has the drive.
    fn owner(&self, drive: &Drive) -> Option<&'a DriveReport> {
        let mut all = self.all(drive.id).iter();
        all.find(|report| report.enclosure == drive.enclosure)
            .copied()
    }

    /// Why a drive is as it is. What its node says of another state is old, or about to come.
    pub(crate) fn reason(&self, drive: &Drive) -> &'a str {
        let of_state = |report: &&DriveReport| {
            report.beat.state == drive.state || drive.state == DriveState::Returned
        };
        let report = self.owner(drive).filter(of_state);
        report.map_or("", |report| report.beat.reason.as_str())
    }

    /// Where else there is a drive with this UUID.
    pub(crate) fn twins(&self, drive: DriveId) -> Vec<String> {
        let all = self.all(drive).iter();
        let twins = all.filter(|report| report.age < STALE && !report.beat.twin.is_empty());
        let text =
            |report: &&DriveReport| format!("enclosure {}: {}", report.enclosure, report.beat.twin);
        twins.map(text).collect()
    }

    /// How far the scrub of a drive is.
    pub(crate) fn scrub(&self, drive: &Drive) -> Option<model::Scrub> {
        let scrub = self.owner(drive)?.beat.scrub?;
        Some(model::Scrub {
            period: scrub.period_s,
            complete: scrub.complete_s,
            oldest: scrub.oldest_s,
            percent: scrub.percent,
        })
    }

    /// The drive whose scrub is furthest behind.
    pub(crate) fn last_scrubbed(&self, view: &RootView) -> Option<model::Scrub> {
        let drives = view.topology.drives.values();
        let scrubs = drives.filter_map(|drive| self.scrub(drive));
        scrubs.max_by_key(|scrub| scrub.oldest)
    }
}

/// Gives a drive up.
///
/// # Errors
/// Why not, with the status of the answer.
pub(crate) async fn replace(
    metadata: &dyn MetadataClient,
    old: DriveId,
    new: DriveId,
) -> Result<(), (StatusCode, String)> {
    let request = RequestId::new(Env::real().random.next_u128());
    let command = RootCommand::ReplaceDrive { old, new };
    match metadata.root(request, command).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refusal @ RootRefusal::NotFound(_))) => {
            Err((StatusCode::NOT_FOUND, refusal.to_string()))
        }
        Ok(Err(refusal)) => Err((StatusCode::CONFLICT, refusal.to_string())),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}
