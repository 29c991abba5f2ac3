//! The state machine of a partition: a pure function from rows and a command to rows and an answer.
//!
//! No clock, no I/O, no lock: everything that decides is in the command or in the rows, so that
//! every replica comes to the same state. Row keys are in `keys`, one file each command under
//! `apply`, questions in [`read`].

pub mod read;

use enfilade_placement::PartitionId;

use crate::api::command::{Outcome, PartitionEnvelope};
use crate::api::root::Partition;
use crate::rows::{RowsError, Txn};

/// How long after its first proposal a command may be applied, in milliseconds of partition time:
/// proposers set [`PartitionEnvelope::deadline`] to the group's time plus this (PROTOCOLS 2).
pub const DEADLINE_MS: u64 = 10 * 60 * 1000;

/// How long a dead blob waits before members drop it, unless set otherwise, in milliseconds of
/// partition time: running reads finish in it (PROTOCOLS 20).
pub const GARBAGE_GRACE_MS: u64 = 10 * 60 * 1000;

/// Applies one command of the log to the rows of `group`.
///
/// A repeat of a request is answered with its first result and changes nothing. A refusal changes
/// nothing either. [`crate::api::command::Refusal::StaleRoute`] and `Expired` are not kept as
/// results: the first may be repeated with the same request id.
///
/// # Errors
/// When rows cannot be read or decoded: the replica must stop, and the transaction be thrown away.
pub fn apply(
    _txn: &mut Txn<'_>,
    _group: PartitionId,
    _envelope: &PartitionEnvelope,
) -> Result<Outcome, RowsError> {
    todo!()
}

/// Writes the rows of a new, empty partition: its range, its epoch, time 0. Does nothing when the
/// partition has them already, so that it may be repeated after a crash.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn create(_txn: &mut Txn<'_>, _partition: &Partition) -> Result<(), RowsError> {
    todo!()
}
