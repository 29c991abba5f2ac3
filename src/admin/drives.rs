//! Drives in the admin API: how they are, and giving one up.

use std::collections::BTreeMap;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::{RootCommand, RootRefusal};
use enfilade_cluster::env::Env;
use enfilade_placement::{DriveId, RequestId, VolumeState};
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
    let mut drives: Vec<_> = topology.drives.values().collect();
    drives.sort_by_key(|drive| (drive.enclosure, drive.slot, drive.id));
    let show = |drive: &enfilade_placement::Drive| model::Drive {
        id: drive.id.to_string(),
        enclosure: drive.enclosure.get(),
        slot: drive.slot,
        state: word(drive.state),
        present: topology.is_present(drive.id),
        capacity: drive.capacity,
        generation: u64::from(drive.generation.get()),
        shards: shards.get(&drive.id).copied().unwrap_or(0),
    };
    drives.into_iter().map(show).collect()
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
