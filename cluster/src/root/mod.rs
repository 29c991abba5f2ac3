//! The state machine of the root group: topology, volumes, buckets, the table of partitions.
//!
//! Pure, like that of a partition. One file each command under `apply`, row keys in `keys`,
//! questions in [`read`].

mod apply;
#[cfg(any(test, feature = "test-util"))]
pub mod check;
mod keys;
pub mod read;
mod state;
#[cfg(test)]
mod tests;

use crate::api::command::GroupTime;
use crate::api::root::{RootCommand, RootEnvelope, RootOutcome, RootRefusal, RootReply};
use crate::rows::{RowsError, Table, Txn};
use crate::typed;

use state::{State, Stop, StoredResult};

/// How long after its first proposal a command may be applied, in milliseconds of the group's time
/// (PROTOCOLS 2).
pub const DEADLINE_MS: u64 = 10 * 60 * 1000;

/// How long the result of a request is kept, in milliseconds of the group's time (PROTOCOLS 2).
const RESULTS_KEPT_MS: u64 = 60 * 60 * 1000;

/// Applies one command of the log.
///
/// A repeat of a request is answered with its first result and changes nothing. A refusal changes
/// nothing either; [`RootRefusal::NotBorn`] and [`RootRefusal::Expired`] are not kept as results.
/// Ticks are no requests: a leader proposes each once. The revision grows with every change of what
/// [`read`] shows except the time, and only then.
///
/// # Errors
/// When rows cannot be read or decoded: the replica must stop, and the transaction be thrown away.
pub fn apply(txn: &mut Txn<'_>, envelope: &RootEnvelope) -> Result<RootOutcome, RowsError> {
    if let RootCommand::Tick { elapsed_ms } = &envelope.command {
        return apply::tick::apply(txn, *elapsed_ms);
    }
    let key = keys::result(envelope.request);
    if let Some(first) = typed::load::<StoredResult>(txn, Table::Root, &key)? {
        return Ok(first.outcome);
    }
    let now = state::clock(txn)?.now;
    if now > envelope.deadline {
        return Ok(Err(RootRefusal::Expired));
    }
    // Writes of its own, so that a refusal leaves none.
    let mut own = Txn::new(txn);
    let outcome = match act(&mut own, envelope) {
        Ok(reply) => Ok(reply),
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Rows(error)) => return Err(error),
    };
    let writes = own.into_writes();
    match &outcome {
        Ok(_) => typed::merge(txn, writes),
        Err(RootRefusal::NotBorn) => return Ok(outcome),
        Err(_) => {}
    }
    // Never less than up to the deadline, after which a repeat is refused anyway.
    let until = GroupTime(now.0.saturating_add(RESULTS_KEPT_MS)).max(envelope.deadline);
    let stored = StoredResult {
        until,
        outcome: outcome.clone(),
    };
    txn.put(
        Table::Root,
        keys::expiry(until, envelope.request),
        Vec::new(),
    );
    typed::store(txn, Table::Root, key, &stored);
    Ok(outcome)
}

fn act(txn: &mut Txn<'_>, envelope: &RootEnvelope) -> Result<RootReply, Stop> {
    let head = state::head(txn)?;
    if let RootCommand::Init(birth) = &envelope.command {
        return match head {
            Some(head) => Err(RootRefusal::Born(head.cluster).into()),
            None => Ok(apply::init::apply(txn, birth)),
        };
    }
    let head = head.ok_or(RootRefusal::NotBorn)?;
    let mut state = State::new(txn, head);
    let reply = apply::command(&mut state, envelope)?;
    state.finish();
    Ok(reply)
}
