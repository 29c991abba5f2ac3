//! Removes faults from the ledger whose fragments were rebuilt, read back and verified.

use enfilade_placement::DriveId;

use crate::api::root::{LedgerRow, RootReply};
use crate::root::state::{State, Stop};

use super::ledger::{self, Shard};

pub(super) fn apply(
    state: &mut State<'_, '_>,
    faults: &[LedgerRow],
    drives: &[DriveId],
) -> Result<RootReply, Stop> {
    let mut own = Vec::new();
    for row in faults {
        let drive = ledger::drive_of(state, row.volume, row.member)?;
        if drives.is_empty() || drive.is_some_and(|drive| drives.contains(&drive)) {
            own.push(row.clone());
        }
    }
    ledger::change(state, &own, Shard::remove)?;
    Ok(RootReply::Done)
}
