//! Advances partition time, and does what is due by it, a bounded number of rows at a time.

use crate::api::command::GroupTime;
use crate::partition::keys::{Kind, Side};
use crate::partition::state;
use crate::rows::{RowsError, Table, Txn};
use crate::typed;

use super::bucket::go_on_aborting;

/// How many rows expire in one tick. With a tick a second, more than the commands that a group can
/// commit meanwhile, each of which leaves one.
pub(in crate::partition) const EXPIRED_MAX: usize = 20_000;

pub(in crate::partition) fn apply(
    txn: &mut Txn<'_>,
    side: Side,
    elapsed_ms: u64,
) -> Result<(), RowsError> {
    let mut clock = state::clock(txn, side)?;
    clock.now = GroupTime(clock.now.0.saturating_add(elapsed_ms));
    let span = side.expired(clock.expired, clock.now);
    let due = typed::keys(txn, Table::Side, &span, EXPIRED_MAX)?;
    let all = due.len() < EXPIRED_MAX;
    let mut reached = clock.expired;
    for entry in due {
        let Some((until, target)) = side.expiry_target(&entry) else {
            return Err(typed::broken(Table::Side, &entry, "not an expiry entry"));
        };
        reached = until;
        txn.delete(Table::Side, target);
        txn.delete(Table::Side, entry);
    }
    // Entries are only ever added for a time to come, so none appear below this.
    clock.expired = if all { clock.now } else { reached };
    typed::store(txn, Table::Side, side.single(Kind::Clock), &clock);
    go_on_aborting(txn, side)
}
