//! Opens a volume.

use std::collections::BTreeSet;

use enfilade_placement::{DriveId, Epoch, Profile, Volume, VolumeId, VolumeState};

use crate::api::root::{RootRefusal, RootReply};
use crate::root::state::{State, Stop};

pub(super) fn apply(
    state: &mut State<'_, '_>,
    profile: Profile,
    members: &[Option<DriveId>],
    violation: bool,
) -> Result<RootReply, Stop> {
    let unfit = |why: String| Stop::from(RootRefusal::UnfitMembers(why));
    if members.len() != profile.width() {
        let why = format!("{} for profile {profile}", members.len());
        return Err(unfit(why));
    }
    let drives: BTreeSet<DriveId> = members.iter().flatten().copied().collect();
    let present = members.iter().flatten().count();
    if drives.len() < present {
        return Err(unfit("a drive is named twice".to_owned()));
    }
    // With fewer, no append could ever be acked (PROTOCOLS 11).
    if present < profile.ack_floor() {
        return Err(unfit(format!(
            "{present} present, {} needed",
            profile.ack_floor()
        )));
    }
    for drive in drives {
        if !state.takes_volumes(drive)? {
            return Err(unfit(format!("drive {drive} takes no volumes")));
        }
    }
    let volume = Volume {
        id: VolumeId::new(state.head.next.volume),
        profile,
        members: members.to_vec(),
        epoch: Epoch::FIRST,
        state: VolumeState::Open,
        bytes: 0,
        violation,
    };
    state.head.next.volume += 1;
    state.set_volume(&volume)?;
    Ok(RootReply::Volume(volume))
}
