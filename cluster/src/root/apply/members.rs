//! What follows for the volumes of a drive that moves, or that comes back.

use enfilade_placement::spread::violations;
use enfilade_placement::{DriveId, Volume, VolumeState};

use super::ledger::{self, Shard};
use crate::api::root::{LedgerRange, LedgerRow};
use crate::root::keys::{self, Kind};
use crate::root::read;
use crate::root::state::State;
use crate::rows::{RowsError, Table};
use crate::typed;

/// The volumes that a drive has a member of, with its index. A scan of all of them: drives move
/// and come back rarely.
fn of_drive(state: &State<'_, '_>, drive: DriveId) -> Result<Vec<(Volume, u8)>, RowsError> {
    let mut found = Vec::new();
    let span = keys::all(Kind::Volume);
    typed::scan(state.rows(), Table::Root, &span, &mut |key, value| {
        let volume: Volume = typed::decode(Table::Root, key, value)?;
        let mut members = (0..).zip(&volume.members);
        let member = members.find(|(_, member)| **member == Some(drive));
        let member = member.map(|(index, _)| index);
        if let Some(member) = member.filter(|_| volume.state != VolumeState::Retired) {
            found.push((volume, member));
        }
        Ok(typed::go_on_while(true))
    })?;
    Ok(found)
}

/// A drive is in another enclosure now: its volumes may be spread less than they should be, or as
/// they should be again.
pub(super) fn respread(state: &mut State<'_, '_>, drive: DriveId) -> Result<(), RowsError> {
    let topology = read::topology(state.rows())?;
    for (mut volume, _) in of_drive(state, drive)? {
        let violation = !violations(&topology, volume.profile, &volume.members).is_empty();
        if volume.violation != violation {
            volume.violation = violation;
            state.set_volume(&volume)?;
        }
    }
    Ok(())
}

/// A drive came back after it was given up: what it holds counts for nothing until its node has
/// compared it with what the other members hold (PROTOCOLS 26).
pub(super) fn doubt(state: &mut State<'_, '_>, drive: DriveId) -> Result<(), RowsError> {
    let row = |(volume, member): (Volume, u8)| LedgerRow {
        volume: volume.id,
        member,
        what: LedgerRange::Whole,
    };
    let rows: Vec<LedgerRow> = of_drive(state, drive)?.into_iter().map(row).collect();
    ledger::change(state, &rows, Shard::add)
}

/// Whether a shard of a drive is entered in the ledger as a whole.
pub(super) fn is_doubted(state: &State<'_, '_>, drive: DriveId) -> Result<bool, RowsError> {
    for (volume, member) in of_drive(state, drive)? {
        let key = keys::ledger(volume.id, member, &LedgerRange::Whole);
        if state.load::<LedgerRow>(&key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
