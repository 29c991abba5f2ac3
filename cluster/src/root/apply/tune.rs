//! Sets the figures that operators may set.

use crate::api::root::{RootRefusal, RootReply};
use crate::api::tuning::Tuning;
use crate::root::state::{State, Stop};

pub(super) fn apply(state: &mut State<'_, '_>, tuning: &Tuning) -> Result<RootReply, Stop> {
    tuning
        .check()
        .map_err(|error| RootRefusal::Unfit(error.to_string()))?;
    state.tune(*tuning);
    Ok(RootReply::Done)
}
