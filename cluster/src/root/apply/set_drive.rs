//! Changes the state of a drive.

use enfilade_placement::{DriveId, DriveState};

use crate::api::root::RootReply;
use crate::root::keys;
use crate::root::state::{State, Stop};

pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: DriveId,
    new: DriveState,
) -> Result<RootReply, Stop> {
    let mut row = state.drive(id)?;
    // What was given up stays so until it is attached again.
    if row.drive.state != DriveState::Replaced {
        row.drive.state = match new {
            // Read from, and no more, until it is reconciled.
            served if row.given_up && served.is_served() => DriveState::Returned,
            new => new,
        };
    }
    state.set(keys::drive(id), &row)?;
    Ok(RootReply::Done)
}
