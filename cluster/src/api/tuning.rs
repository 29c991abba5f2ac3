//! Figures of a cluster that operators may set while it runs.

use serde::{Deserialize, Serialize};

/// The longest that an enclosure may be under maintenance, in milliseconds: a week.
pub const MAINTENANCE_MAX_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The lowest floor of the pace, in bytes a second: a step of a move is a MiB, and is to end within
/// seconds.
pub const PACE_FLOOR_MIN: u64 = 256 << 10;

/// Figures that operators may set; every process follows within seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Failures of a drive that are to be expected in a year, in millionths: 10,000 is one in a
    /// hundred drives.
    pub drive_failures: u32,
    /// Losses of a whole enclosure with all its drives, for good, in a year, in millionths.
    pub enclosure_losses: u32,
    /// Bytes a second that each drive adds to repair, as long as nothing was measured.
    pub repair_rate: u64,
    /// Bytes a second that moves onto a drive take at least, however busy it is.
    pub pace_floor: u64,
    /// Bytes a second that moves onto a drive take at most, however idle it is.
    pub pace_ceiling: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            drive_failures: 10_000,
            enclosure_losses: 1_000,
            repair_rate: 50 << 20,
            pace_floor: 8 << 20,
            pace_ceiling: 1 << 30,
        }
    }
}

/// What is wrong with figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TuningError(&'static str);

impl Tuning {
    /// Checks that the figures can work together.
    ///
    /// # Errors
    /// The first that cannot.
    pub const fn check(&self) -> Result<(), TuningError> {
        if self.repair_rate == 0 {
            return Err(TuningError("the rate of repair must be positive"));
        }
        if self.pace_floor < PACE_FLOOR_MIN {
            return Err(TuningError(
                "the floor of the pace must be 256 KiB a second or more",
            ));
        }
        if self.pace_ceiling < self.pace_floor {
            return Err(TuningError(
                "the ceiling of the pace must not be below its floor",
            ));
        }
        Ok(())
    }
}
