//! Gives a drive up, so that another takes its slot (PROTOCOLS 26).

use enfilade_placement::{DriveId, DriveState, EnclosureState};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop, not_found};

/// Never one that can be read from: its shards would count as lost from one moment to the next.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    old: DriveId,
    new: DriveId,
) -> Result<RootReply, Stop> {
    if old == new {
        return Err(not_found(format!("replacement: drive {old} for itself")));
    }
    let mut row = state.drive(old)?;
    let enclosure = state.enclosure(row.drive.enclosure)?;
    let answers = matches!(
        enclosure.state,
        EnclosureState::Up | EnclosureState::Suspect
    );
    if row.drive.state.is_served() && answers {
        return Err(RootRefusal::DriveInService(old).into());
    }
    row.drive.state = DriveState::Replaced;
    row.replaced_by = Some(new);
    row.given_up = true;
    state.set(keys::drive(old), &row)?;
    Ok(RootReply::Done)
}
