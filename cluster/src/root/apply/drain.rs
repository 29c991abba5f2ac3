//! Enters a drive or an enclosure to be emptied, or takes it out again.

use std::collections::BTreeSet;

use enfilade_placement::DriveId;

use crate::api::moves::{Reason, Stage, Subject};
use crate::api::root::RootReply;
use crate::root::keys::{self, Kind};
use crate::root::state::{DriveRow, State, Stop};
use crate::rows::Table;
use crate::typed;

use super::cancel_moves::cancel;

pub(super) fn apply(
    state: &mut State<'_, '_>,
    subject: Subject,
    on: bool,
) -> Result<RootReply, Stop> {
    let drives: BTreeSet<DriveId> = match subject {
        Subject::Drive(id) => BTreeSet::from([state.drive(id)?.drive.id]),
        Subject::Enclosure(id) => {
            let id = state.enclosure(id)?.id;
            let span = keys::all(Kind::Drive);
            let rows = typed::collect::<DriveRow>(state.rows(), Table::Root, &span, usize::MAX)?;
            let drives = rows.into_iter().map(|(_, row)| row.drive);
            drives
                .filter(|drive| drive.enclosure == id)
                .map(|drive| drive.id)
                .collect()
        }
    };
    if on {
        state.mark(keys::drain(subject))?;
        // What was on its way there goes elsewhere.
        cancel(state, |intent| {
            intent.stage == Stage::Make && drives.contains(&intent.to)
        })?;
    } else {
        state.unset(keys::drain(subject))?;
        cancel(state, |intent| {
            let from = intent.from.is_some_and(|drive| drives.contains(&drive));
            intent.stage == Stage::Make && intent.reason == Reason::Drain && from
        })?;
    }
    Ok(RootReply::Done)
}
