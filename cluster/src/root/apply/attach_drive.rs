//! Attaches a drive, by compare-and-set on its generation (PROTOCOLS 26).

use enfilade_placement::{
    Drive, DriveId, DriveState, EnclosureId, EnclosureState, Generation, RequestId,
};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{DriveRow, State, Stop};

/// What the node offers.
pub(super) struct Offer {
    pub(super) drive: DriveId,
    pub(super) enclosure: EnclosureId,
    pub(super) slot: u32,
    pub(super) capacity: u64,
    /// The generation in the superblock.
    pub(super) generation: Generation,
}

/// A node that crashed between the answer and its superblock offers the generation before: it is
/// answered again, however late, if it asks with the same request id. Otherwise it may be a copy.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    offer: &Offer,
    request: RequestId,
) -> Result<RootReply, Stop> {
    let enclosure = state.enclosure(offer.enclosure)?;
    let known = state.load::<DriveRow>(&keys::drive(offer.drive))?;
    let attached = known
        .as_ref()
        .map_or(Generation::new(0), |row| row.drive.generation);
    let refusal = RootRefusal::StaleGeneration {
        drive: offer.drive,
        attached,
        offered: offer.generation,
    };
    if let Some(row) = &known
        && row.attached_by == request
        && offer.generation.get().checked_add(1) == Some(attached.get())
    {
        return Ok(RootReply::Attached(attached));
    }
    let next = attached
        .get()
        .checked_add(1)
        .filter(|_| offer.generation == attached);
    let generation = Generation::new(next.ok_or(refusal)?);
    // What left with an enclosure that was given up is a source for repair until it is reconciled.
    let left = match &known {
        None => false,
        Some(row) => {
            let was_in = state.enclosure(row.drive.enclosure)?;
            let given_up = [was_in.state, enclosure.state].contains(&EnclosureState::Out);
            row.drive.state == DriveState::Returned || given_up
        }
    };
    let drive = Drive {
        id: offer.drive,
        enclosure: offer.enclosure,
        slot: offer.slot,
        capacity: offer.capacity,
        state: if left {
            DriveState::Returned
        } else {
            DriveState::Healthy
        },
        generation,
    };
    let row = DriveRow {
        drive,
        attached_by: request,
    };
    state.set(keys::drive(offer.drive), &row)?;
    Ok(RootReply::Attached(generation))
}
