//! Advances the group's time, and lets old results go.

use crate::api::command::GroupTime;
use crate::api::root::{RootOutcome, RootRefusal, RootReply};
use crate::root::keys::{self, Kind};
use crate::root::state;
use crate::rows::{RowsError, Table, Txn};
use crate::typed;

/// How many results go in one tick; far more than the requests of a second.
pub(in crate::root) const EXPIRED_MAX: usize = 1000;

pub(in crate::root) fn apply(txn: &mut Txn<'_>, elapsed_ms: u64) -> Result<RootOutcome, RowsError> {
    if state::head(txn)?.is_none() {
        return Ok(Err(RootRefusal::NotBorn));
    }
    let mut clock = state::clock(txn)?;
    clock.now = GroupTime(clock.now.0.saturating_add(elapsed_ms));
    let span = keys::expired(clock.expired, clock.now);
    let due = typed::keys(txn, Table::Root, &span, EXPIRED_MAX)?;
    let all = due.len() < EXPIRED_MAX;
    let mut reached = clock.expired;
    for entry in due {
        let Some((until, request)) = keys::expiry_parts(&entry) else {
            return Err(typed::broken(Table::Root, &entry, "not an expiry entry"));
        };
        reached = until;
        txn.delete(Table::Root, keys::result(request));
        txn.delete(Table::Root, entry);
    }
    // Entries are only ever added for a time to come, so none appear below this.
    clock.expired = if all { clock.now } else { reached };
    typed::store(txn, Table::Root, keys::single(Kind::Clock), &clock);
    Ok(Ok(RootReply::Done))
}
