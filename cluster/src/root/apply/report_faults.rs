//! Enters faults into the ledger (PROTOCOLS 22).

use crate::api::root::{LedgerRow, RootReply};
use crate::root::state::{State, Stop};

use super::ledger::{self, Shard};

pub(super) fn apply(state: &mut State<'_, '_>, faults: &[LedgerRow]) -> Result<RootReply, Stop> {
    ledger::change(state, faults, Shard::add)?;
    Ok(RootReply::Done)
}
