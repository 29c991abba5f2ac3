//! The checks that every request passes before it acts, in their order.

use enfilade_placement::Epoch;

use crate::api::command::{GroupTime, KeyOp, Outcome, PartitionEnvelope, Refusal};
use crate::api::key::RowPrefix;
use crate::partition::keys::Side;
use crate::partition::state::{self, Range, Settings, StoredResult};
use crate::rows::{RowsError, Table, Txn};
use crate::typed;

/// How long the result of a request is kept (PROTOCOLS 2), in milliseconds of partition time.
const RESULTS_KEPT_MS: u64 = 60 * 60 * 1000;

/// A request before the door.
pub(super) struct Door<'e> {
    side: Side,
    envelope: &'e PartitionEnvelope,
    row: RowPrefix,
}

impl<'e> Door<'e> {
    /// A request about the rows that begin with `row`.
    pub(super) const fn new(side: Side, envelope: &'e PartitionEnvelope, row: RowPrefix) -> Self {
        Self {
            side,
            envelope,
            row,
        }
    }

    /// Lets a request act once, and keeps what it came to.
    ///
    /// The order matters. A partition that does not hold the key cannot know whether the request
    /// was applied: it must not say that it was not. A repeat is answered whatever else holds now.
    /// Only then the request itself is judged.
    pub(super) fn pass(
        self,
        txn: &mut Txn<'_>,
        covers: impl Fn(&Range, &RowPrefix) -> bool,
        act: impl FnOnce(&mut Txn<'_>, GroupTime) -> Result<Outcome, RowsError>,
    ) -> Result<Outcome, RowsError> {
        let range = state::range(txn, self.side)?;
        let epoch = range.as_ref().map_or(Epoch::new(0), |range| range.epoch);
        if !range.is_some_and(|range| covers(&range, &self.row)) {
            return Ok(Err(Refusal::StaleRoute(epoch)));
        }
        let key = self.side.result(&self.row, self.envelope.request);
        if let Some(first) = typed::load::<StoredResult>(txn, Table::Side, &key)? {
            return Ok(first.outcome);
        }
        let now = state::clock(txn, self.side)?.now;
        if now > self.envelope.deadline {
            return Ok(Err(Refusal::Expired));
        }
        if self.envelope.epoch < epoch {
            return Ok(Err(Refusal::StaleRoute(epoch)));
        }
        // Writes of its own, so that a refusal leaves none.
        let mut own = Txn::new(txn);
        let outcome = act(&mut own, now)?;
        let writes = own.into_writes();
        if outcome.is_ok() {
            typed::merge(txn, writes);
        }
        // Never less than up to the deadline, after which a repeat is refused anyway.
        let until = GroupTime(now.0.saturating_add(RESULTS_KEPT_MS)).max(self.envelope.deadline);
        let stored = StoredResult {
            until,
            outcome: outcome.clone(),
        };
        state::store_until(txn, self.side, key, until, &stored)?;
        Ok(outcome)
    }
}

/// Why a command on a key is refused because of its bucket (PROTOCOLS 6). To condemn is no write to
/// the bucket, and those who do it know nothing of buckets, which may be gone.
pub(super) fn refuses(settings: &Settings, revision: u64, op: &KeyOp) -> Option<Refusal> {
    if matches!(op, KeyOp::Condemn { .. }) {
        return None;
    }
    if revision < settings.revision {
        return Some(Refusal::StaleRevision(settings.revision));
    }
    settings.fenced.then_some(Refusal::BucketFenced)
}
