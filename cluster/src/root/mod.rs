//! The state machine of the root group: topology, volumes, buckets, the table of partitions.
//!
//! Pure, like that of a partition. One file each command under `apply`, row keys in `keys`,
//! questions in [`read`].

pub mod read;

use crate::api::root::{RootEnvelope, RootOutcome};
use crate::rows::{RowsError, Txn};

/// How long after its first proposal a command may be applied, in milliseconds of the group's time
/// (PROTOCOLS 2).
pub const DEADLINE_MS: u64 = 10 * 60 * 1000;

/// Applies one command of the log.
///
/// A repeat of a request is answered with its first result and changes nothing. A refusal changes
/// nothing either. The revision grows with every change of what [`read::view`] shows, and only then.
///
/// # Errors
/// When rows cannot be read or decoded: the replica must stop, and the transaction be thrown away.
pub fn apply(_txn: &mut Txn<'_>, _envelope: &RootEnvelope) -> Result<RootOutcome, RowsError> {
    todo!()
}
