//! Changes the state of an enclosure.

use enfilade_placement::{DriveState, EnclosureId, EnclosureState};

use super::members;
use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys::{self, Kind};
use crate::root::state::{self, DriveRow, State, Stop};
use crate::rows::Table;
use crate::typed;

pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: EnclosureId,
    new: EnclosureState,
) -> Result<RootReply, Stop> {
    let mut enclosure = state.enclosure(id)?;
    let out = EnclosureState::Out;
    let (was_out, is_out) = (enclosure.state == out, new == out);
    enclosure.state = new;
    state.set(keys::enclosure(id), &enclosure)?;
    if was_out != is_out {
        give_up(state, id, is_out)?;
    }
    Ok(RootReply::Done)
}

/// As the leader judged. An `out` of its own is remembered by the group's time, for whoever leads
/// later: the brake counts those of an hour (PROTOCOLS 23).
pub(super) fn judged(
    state: &mut State<'_, '_>,
    id: EnclosureId,
    from: EnclosureState,
    to: EnclosureState,
) -> Result<RootReply, Stop> {
    let current = state.enclosure(id)?.state;
    if current != from {
        let text = format!("enclosure {id} is {current:?} by now, and was judged as {from:?}");
        return Err(RootRefusal::Unfit(text).into());
    }
    if to == EnclosureState::Out && from != to {
        let now = state::clock(state.rows())?.now;
        state.set(keys::out(id), &now)?;
    }
    apply(state, id, to)
}

/// Gives the drives of an enclosure up; or, when it comes back, has them reconciled before they
/// count again (PROTOCOLS 26).
fn give_up(state: &mut State<'_, '_>, id: EnclosureId, out: bool) -> Result<(), Stop> {
    let span = keys::all(Kind::Drive);
    let rows = typed::collect::<DriveRow>(state.rows(), Table::Root, &span, usize::MAX)?;
    let inside = rows
        .into_iter()
        .filter(|(_, row)| row.drive.enclosure == id);
    for (key, mut row) in inside.filter(|(_, row)| row.drive.state != DriveState::Replaced) {
        if out {
            row.given_up = true;
            state.set(key, &row)?;
        } else if row.given_up && row.drive.state.is_served() {
            row.drive.state = DriveState::Returned;
            state.set(key, &row)?;
            members::doubt(state, row.drive.id)?;
        }
    }
    Ok(())
}
