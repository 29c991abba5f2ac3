//! Questions to the root state: pure reads of its rows.

use enfilade_placement::{Volume, VolumeId};

use crate::api::command::GroupTime;
use crate::api::root::{LedgerRow, RootView};
use crate::rows::{Rows, RowsError};

/// The whole view, without sealed and retired volumes. Revision 0 before the cluster is born.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn view(_rows: &dyn Rows) -> Result<RootView, RowsError> {
    todo!()
}

/// The revision alone.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn revision(_rows: &dyn Rows) -> Result<u64, RowsError> {
    todo!()
}

/// The group's time alone, for deadlines.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn time(_rows: &dyn Rows) -> Result<GroupTime, RowsError> {
    todo!()
}

/// Volumes by id, in any state; those that never were are left out.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn volumes(_rows: &dyn Rows, _ids: &[VolumeId]) -> Result<Vec<Volume>, RowsError> {
    todo!()
}

/// A page of all volumes, ordered by id, after `after`; at most `limit`.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn all_volumes(
    _rows: &dyn Rows,
    _after: Option<VolumeId>,
    _limit: usize,
) -> Result<Vec<Volume>, RowsError> {
    todo!()
}

/// The ledger's rows, at most `limit`.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn ledger(_rows: &dyn Rows, _limit: usize) -> Result<Vec<LedgerRow>, RowsError> {
    todo!()
}
