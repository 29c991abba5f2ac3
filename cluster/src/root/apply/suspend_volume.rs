//! Takes an open volume out of service (PROTOCOLS 14).

use enfilade_placement::{Epoch, VolumeId, VolumeState};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::state::{State, Stop};

pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: VolumeId,
    epoch: Epoch,
) -> Result<RootReply, Stop> {
    let mut volume = state.volume_at(id, epoch)?;
    match volume.state {
        VolumeState::Open | VolumeState::Suspended => volume.state = VolumeState::Suspended,
        _ => return Err(RootRefusal::WrongState(volume).into()),
    }
    state.set_volume(&volume)?;
    Ok(RootReply::Volume(volume))
}
