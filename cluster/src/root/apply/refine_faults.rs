//! Replaces what the ledger says of a shard by what it is now known to lack (PROTOCOLS 22).

use enfilade_placement::{DriveId, VolumeId};

use crate::api::root::{LedgerRange, RootReply};
use crate::root::state::{State, Stop};

use super::ledger;

pub(super) fn apply(
    state: &mut State<'_, '_>,
    (volume, member): (VolumeId, u8),
    drive: DriveId,
    ranges: &[LedgerRange],
) -> Result<RootReply, Stop> {
    if ledger::drive_of(state, volume, member)? == Some(drive) {
        ledger::replace(state, (volume, member), ranges)?;
    }
    Ok(RootReply::Done)
}
