//! Replaces what the ledger says of a shard by what it is now known to lack (PROTOCOLS 22).

use enfilade_placement::VolumeId;

use crate::api::root::{LedgerRange, RootReply};
use crate::root::state::{State, Stop};

use super::ledger;

pub(super) fn apply(
    state: &mut State<'_, '_>,
    volume: VolumeId,
    member: u8,
    ranges: &[LedgerRange],
) -> Result<RootReply, Stop> {
    ledger::replace(state, (volume, member), ranges)?;
    Ok(RootReply::Done)
}
