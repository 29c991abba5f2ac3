//! Changes the state of an enclosure.

use enfilade_placement::{EnclosureId, EnclosureState};

use crate::api::root::RootReply;
use crate::root::keys;
use crate::root::state::{State, Stop};

pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: EnclosureId,
    new: EnclosureState,
) -> Result<RootReply, Stop> {
    let mut enclosure = state.enclosure(id)?;
    enclosure.state = new;
    state.set(keys::enclosure(id), &enclosure)?;
    Ok(RootReply::Done)
}
