//! Ends intents. What was made for one whose member was not flipped is dropped by its node.

use enfilade_placement::IntentId;

use crate::api::moves::{Intent, Stage};
use crate::api::root::RootReply;
use crate::root::keys::{self, Kind};
use crate::root::state::{State, Stop};
use crate::rows::{RowsError, Table};
use crate::typed;

pub(super) fn apply(
    state: &mut State<'_, '_>,
    intents: &[IntentId],
    stage: Stage,
) -> Result<RootReply, Stop> {
    cancel(state, |intent| {
        intent.stage == stage && intents.contains(&intent.id)
    })?;
    Ok(RootReply::Done)
}

/// Ends those that something holds of.
pub(super) fn cancel(
    state: &mut State<'_, '_>,
    which: impl Fn(&Intent) -> bool,
) -> Result<(), RowsError> {
    let span = keys::all(Kind::Intent);
    for (key, intent) in typed::collect::<Intent>(state.rows(), Table::Root, &span, usize::MAX)? {
        if which(&intent) {
            state.unset(key)?;
        }
    }
    Ok(())
}
