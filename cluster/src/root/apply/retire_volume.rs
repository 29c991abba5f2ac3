//! Removes a sealed volume that holds nothing referenced.

use enfilade_placement::{Epoch, VolumeId, VolumeState};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::keys;
use crate::root::state::{State, Stop};
use crate::rows::Table;
use crate::typed;

use super::ledger;

pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: VolumeId,
    epoch: Epoch,
) -> Result<RootReply, Stop> {
    let mut volume = state.volume_at(id, epoch)?;
    match volume.state {
        VolumeState::Sealed | VolumeState::Retired => volume.state = VolumeState::Retired,
        _ => return Err(RootRefusal::WrongState(volume).into()),
    }
    state.set_volume(&volume)?;
    let span = keys::intents_of_volume(id);
    for key in typed::keys(state.rows(), Table::Root, &span, usize::MAX)? {
        state.unset(key)?;
    }
    let span = keys::ledger_of_volume(id);
    for key in typed::keys(state.rows(), Table::Root, &span, usize::MAX)? {
        ledger::remove(state, key)?;
    }
    Ok(RootReply::Volume(volume))
}
