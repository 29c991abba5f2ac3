//! Takes a drive that came back into service again, once it was reconciled (PROTOCOLS 26).

use enfilade_placement::{DriveId, DriveState, Generation};

use super::members;
use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop};

/// What is still in doubt, or was attached again meanwhile, is refused.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    drive: DriveId,
    generation: Generation,
) -> Result<RootReply, Stop> {
    let mut row = state.drive(drive)?;
    if row.drive.generation != generation {
        let refusal = RootRefusal::StaleGeneration {
            drive,
            attached: row.drive.generation,
            offered: generation,
        };
        return Err(refusal.into());
    }
    if row.drive.state == DriveState::Returned {
        if members::is_doubted(state, drive)? {
            return Err(RootRefusal::DriveInDoubt(drive).into());
        }
        row.drive.state = DriveState::Healthy;
        row.given_up = false;
        state.set(keys::drive(drive), &row)?;
    }
    Ok(RootReply::Done)
}
