//! How likely data is to last, from what operators set and what was measured.

use std::collections::BTreeMap;

use enfilade_cluster::api::root::RootView;
use enfilade_placement::durability::{self, Rates};
use enfilade_placement::liveness::{Shortfall, largest_loss};
use enfilade_placement::{DriveId, Topology, Volume, VolumeState};

use crate::admin::model;

/// Hours from the silence of an enclosure, or the failure of a drive, to the begin of its rebuild:
/// the default wait for `out`.
const WAIT_HOURS: f64 = 1.0 / 6.0;

/// The durability of volumes on a topology, with the rates of a view.
pub(crate) fn durability(
    view: &RootView,
    topology: &Topology,
    volumes: &[Volume],
) -> model::Durability {
    let present = topology
        .drives
        .keys()
        .filter(|drive| topology.is_present(**drive));
    let present = present.count().max(1) as u64;
    let measured = view.moves.repair_rate;
    let assumed = view.tuning.repair_rate.saturating_mul(present);
    let repair_rate = if measured > 0 { measured } else { assumed };
    let all: u64 = used(volumes).values().sum();
    let rates = Rates {
        drive_a_year: f64::from(view.tuning.drive_failures) / 1e6,
        enclosure_a_year: f64::from(view.tuning.enclosure_losses) / 1e6,
        repair_hours: Rates::repair_hours(all / present, repair_rate as f64, WAIT_HOURS),
    };
    let found = durability::durability(topology, volumes, rates);
    let rounded = |nines: f64| (nines * 100.0).round() / 100.0;
    model::Durability {
        nines: rounded(found.nines()),
        worst_volume_nines: rounded(durability::nines(found.worst_volume)),
        drive_failures: rates.drive_a_year,
        enclosure_losses: rates.enclosure_a_year,
        repair_rate,
        repair_measured: measured > 0,
        repair_hours: (rates.repair_hours * 1000.0).round() / 1000.0,
    }
}

/// Bytes of shards on each drive.
fn used(volumes: &[Volume]) -> BTreeMap<DriveId, u64> {
    let mut used: BTreeMap<DriveId, u64> = BTreeMap::new();
    let live = volumes.iter();
    for volume in live.filter(|volume| volume.state != VolumeState::Retired) {
        for (_, drive) in volume.present() {
            *used.entry(drive).or_default() += volume.bytes;
        }
    }
    used
}

/// The enclosure whose loss could not be made good in what is left (PROTOCOLS 15).
pub(crate) fn shortfall(topology: &Topology, volumes: &[Volume]) -> Option<Shortfall> {
    let used = used(volumes);
    largest_loss(topology, |drive| used.get(&drive).copied().unwrap_or(0))
}

/// For people: nines, and what they follow from.
pub(crate) fn shown(durability: &model::Durability) -> String {
    let rate = enfilade_placement::units::ByteSize::bytes(durability.repair_rate);
    let how = match durability.repair_measured {
        true => "measured",
        false => "assumed",
    };
    format!(
        "{:.2} nines a year (drives fail {} % a year, enclosures {} %, repair at {rate}/s, {how})",
        durability.nines,
        percent(durability.drive_failures),
        percent(durability.enclosure_losses),
    )
}

/// A share in percent, without zeros that say nothing.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}
