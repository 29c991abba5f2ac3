//! Begins to seal a volume (PROTOCOLS 12).

use enfilade_placement::{Epoch, VolumeId, VolumeState};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::state::{State, Stop};

/// A volume that is being sealed, or is sealed, stays so: its epoch is raised once.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: VolumeId,
    epoch: Epoch,
) -> Result<RootReply, Stop> {
    let mut volume = state.volume(id)?;
    match volume.state {
        VolumeState::Open | VolumeState::Suspended if volume.epoch == epoch => {
            volume.epoch = volume.epoch.next();
            volume.state = VolumeState::Sealing;
        }
        VolumeState::Sealing | VolumeState::Sealed if epoch <= volume.epoch => {}
        VolumeState::Retired => return Err(RootRefusal::WrongState(volume).into()),
        _ => return Err(RootRefusal::StaleEpoch(volume).into()),
    }
    state.set_volume(&volume)?;
    Ok(RootReply::Volume(volume))
}
