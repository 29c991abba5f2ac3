//! A member has fenced a sealing volume, durably (PROTOCOLS 12).

use enfilade_placement::{Epoch, VolumeId, VolumeState};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::state::{State, Stop, not_found};

/// The first member makes the volume sealed: by the rule of acks (PROTOCOLS 11) none is acked
/// without it. The others may still raise the bytes.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: VolumeId,
    epoch: Epoch,
    member: u8,
    bytes: u64,
) -> Result<RootReply, Stop> {
    let mut volume = state.volume_at(id, epoch)?;
    if !matches!(volume.members.get(usize::from(member)), Some(Some(_))) {
        return Err(not_found(format!("member: {member} of volume {id}")));
    }
    match volume.state {
        VolumeState::Sealing | VolumeState::Sealed => volume.state = VolumeState::Sealed,
        _ => return Err(RootRefusal::WrongState(volume).into()),
    }
    volume.bytes = volume.bytes.max(bytes);
    state.set_volume(&volume)?;
    Ok(RootReply::Volume(volume))
}
