//! Attaches a drive, by compare-and-set on its generation (PROTOCOLS 26).

use enfilade_placement::{
    Drive, DriveId, DriveState, EnclosureId, EnclosureState, Generation, RequestId,
};

use super::members;
use crate::api::moves::Subject;
use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys::{self, Kind};
use crate::root::state::{DriveRow, State, Stop};
use crate::rows::Table;
use crate::typed;

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
    for subject in [
        Subject::Drive(offer.drive),
        Subject::Enclosure(offer.enclosure),
    ] {
        state.refuse_removed(subject)?;
    }
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
            let state = row.drive.state;
            let left = matches!(state, DriveState::Returned | DriveState::Replaced);
            given_up || left || row.given_up
        }
    };
    let drive = Drive {
        id: offer.drive,
        enclosure: offer.enclosure,
        slot: slot_of_replaced(state, offer)?.unwrap_or(offer.slot),
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
        replaced_by: None,
        given_up: left,
    };
    state.set(keys::drive(offer.drive), &row)?;
    if known.is_some_and(|known| known.drive.enclosure != offer.enclosure) {
        members::respread(state, offer.drive)?;
    }
    if left {
        members::doubt(state, offer.drive)?;
    }
    Ok(RootReply::Attached(generation))
}

/// The slot of the drive that this one replaces, in the same enclosure.
fn slot_of_replaced(state: &State<'_, '_>, offer: &Offer) -> Result<Option<u32>, Stop> {
    let span = keys::all(Kind::Drive);
    let rows = typed::collect::<DriveRow>(state.rows(), Table::Root, &span, usize::MAX)?;
    let replaced = rows.into_iter().find(|(_, row)| {
        row.replaced_by == Some(offer.drive) && row.drive.enclosure == offer.enclosure
    });
    Ok(replaced.map(|(_, row)| row.drive.slot))
}
