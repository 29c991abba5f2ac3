//! The state machine of a partition: a pure function from rows and a command to rows and an answer.
//!
//! No clock, no I/O, no lock: everything that decides is in the command or in the rows, so that
//! every replica comes to the same state. Row keys are in `keys`, what the rows hold in `state` and
//! [`crate::api::record`], one file each command under `apply`, questions in [`read`].

mod apply;
#[cfg(any(test, feature = "test-util"))]
pub mod check;
mod content;
mod door;
mod keyed;
mod keys;
pub mod read;
mod state;
#[cfg(test)]
mod tests;

use enfilade_placement::PartitionId;

use crate::api::command::{GroupTime, KeyReply, Outcome, PartitionCommand, PartitionEnvelope};
use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::root::Partition;
use crate::rows::{RowWrite, Rows, RowsError, Table, Txn};
use crate::typed;

use door::Door;
use keyed::Keyed;
use keys::{Kind, Side};
use state::{Clock, Range, Settings};

/// How long after its first proposal a command may be applied, in milliseconds of partition time:
/// proposers set [`PartitionEnvelope::deadline`] to the group's time plus this (PROTOCOLS 2).
pub const DEADLINE_MS: u64 = 10 * 60 * 1000;

/// How long a dead blob waits before members drop it, unless set otherwise, in milliseconds of
/// partition time: running reads finish in it (PROTOCOLS 20).
pub const GARBAGE_GRACE_MS: u64 = 10 * 60 * 1000;

/// Applies one command of the log to the rows of `group`.
///
/// A repeat of a request is answered with its first result and changes nothing. A refusal changes
/// nothing either. [`Refusal::StaleRoute`] and [`Refusal::Expired`] are not kept as results: the
/// first may be repeated with the same request id.
///
/// Ticks, garbage acks, changes of replicas and steps of splits are applied whatever their deadline
/// and epoch, and are no requests: all but ticks are idempotent, and a leader proposes a tick once.
///
/// [`Refusal::StaleRoute`]: crate::api::command::Refusal::StaleRoute
/// [`Refusal::Expired`]: crate::api::command::Refusal::Expired
///
/// # Errors
/// When rows cannot be read or decoded: the replica must stop, and the transaction be thrown away.
pub fn apply(
    txn: &mut Txn<'_>,
    group: PartitionId,
    envelope: &PartitionEnvelope,
) -> Result<Outcome, RowsError> {
    let side = Side::new(group);
    match &envelope.command {
        PartitionCommand::Key {
            bucket,
            revision,
            key,
            op,
        } => {
            let row = ObjectKey::new(*bucket, key.as_str()).row_prefix();
            let door = Door::new(side, envelope, row.clone());
            door.pass(txn, Range::holds, |txn, now| {
                let settings = apply::bucket::settings(txn, side, *bucket)?;
                if let Some(refusal) = door::refuses(&settings, *revision, op) {
                    return Ok(Err(refusal));
                }
                let mut rows = Keyed::new(txn, side, row, settings, now);
                let outcome = apply::key(&mut rows, op)?;
                if outcome.is_ok() {
                    rows.count(*bucket)?;
                }
                Ok(outcome)
            })
        }
        PartitionCommand::Bucket {
            bucket,
            revision,
            versioning,
            fenced,
            abort_uploads,
        } => {
            let settings = Settings {
                revision: *revision,
                versioning: *versioning,
                fenced: *fenced,
            };
            let door = Door::new(side, envelope, RowPrefix::of_bucket(*bucket));
            door.pass(txn, Range::touches, |txn, _| {
                apply::bucket::apply(txn, side, *bucket, settings, *abort_uploads)
            })
        }
        PartitionCommand::AckGarbage(acks) => {
            apply::ack_garbage::apply(txn, side, acks)?;
            Ok(Ok(KeyReply::Done))
        }
        PartitionCommand::Tick { elapsed_ms } => {
            apply::tick::apply(txn, side, *elapsed_ms)?;
            Ok(Ok(KeyReply::Done))
        }
        PartitionCommand::Replicas { change } => {
            let last = state::counter(txn, side, Kind::Replicas)?;
            let key = side.single(Kind::Replicas);
            typed::store(txn, Table::Side, key, &last.max(change.get()));
            Ok(Ok(KeyReply::Done))
        }
        PartitionCommand::Divide { split, child, at } => {
            apply::split::divide(txn, side, *split, *child, at)?;
            Ok(Ok(KeyReply::Done))
        }
        PartitionCommand::CopyForChild { split } => {
            apply::split::copy(txn, side, *split)?;
            Ok(Ok(KeyReply::Done))
        }
        PartitionCommand::Split { split } => {
            apply::split::split(txn, side, *split)?;
            Ok(Ok(KeyReply::Done))
        }
    }
}

/// Whether a write is of a row that goes by itself after a time, or of the entry that has it go.
pub(crate) fn is_kept_for_a_while(write: &RowWrite) -> bool {
    let kinds = [Kind::Result, Kind::Expiry].map(|kind| kind as u8);
    write.table == Table::Side && write.key.get(4).is_some_and(|kind| kinds.contains(kind))
}

/// Writes the rows of a new, empty partition: its range, its epoch, time 0. Does nothing when the
/// partition has them already, so that it may be repeated after a crash.
///
/// # Errors
/// When rows cannot be read.
pub fn create(txn: &mut Txn<'_>, partition: &Partition) -> Result<(), RowsError> {
    let side = Side::new(partition.id);
    let key = side.single(Kind::Range);
    if txn.get(Table::Side, &key)?.is_some() {
        return Ok(());
    }
    let range = Range {
        epoch: partition.epoch,
        start: partition.start.clone(),
        end: partition.end.clone(),
    };
    typed::store(txn, Table::Side, key, &range);
    let clock = Clock {
        now: GroupTime(0),
        expired: GroupTime(0),
    };
    typed::store(txn, Table::Side, side.single(Kind::Clock), &clock);
    typed::store(txn, Table::Side, side.single(Kind::Stamp), &0u64);
    typed::store(txn, Table::Side, side.single(Kind::Sequence), &0u64);
    Ok(())
}
