//! Holds an enclosure's `out` off for a while (PROTOCOLS 23).

use enfilade_placement::EnclosureId;

use crate::api::command::GroupTime;
use crate::api::root::RootReply;
use crate::api::tuning::MAINTENANCE_MAX_MS;
use crate::root::keys;
use crate::root::state::{self, State, Stop};

/// No time ends it. The group's time is what counts, so that a leader that comes later ends it at
/// the same moment.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: EnclosureId,
    for_ms: u64,
) -> Result<RootReply, Stop> {
    let id = state.enclosure(id)?.id;
    if for_ms == 0 {
        state.unset(keys::maintenance(id))?;
    } else {
        let now = state::clock(state.rows())?.now;
        let until = GroupTime(now.0.saturating_add(for_ms.min(MAINTENANCE_MAX_MS)));
        state.set(keys::maintenance(id), &until)?;
    }
    Ok(RootReply::Done)
}

/// Ends what has run out, unless it was prolonged after the proposer looked.
pub(super) fn end(
    state: &mut State<'_, '_>,
    id: EnclosureId,
    until: GroupTime,
) -> Result<RootReply, Stop> {
    let key = keys::maintenance(id);
    if state.load::<GroupTime>(&key)? == Some(until) {
        state.unset(key)?;
    }
    Ok(RootReply::Done)
}
