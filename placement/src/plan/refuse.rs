//! Plans that would break a promise.

use super::Plan;

/// Why a drain or removal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is left would be fuller than the fill limit (PROTOCOLS 15).
    #[error("{bytes} bytes fit on no other drive below the fill limit: add drives or delete data")]
    NoRoom {
        /// Bytes too many.
        bytes: u64,
    },
    /// What is left has fewer drives than some volume has members, or none with room.
    #[error("{members} members of volumes have no drive to go to: add drives first")]
    TooFewDrives {
        /// Members that would have to stay.
        members: usize,
    },
    /// Volumes that the loss of any one enclosure leaves readable now would be so no longer.
    #[error(
        "{volumes} volumes would not survive the loss of one enclosure any more: add an enclosure"
    )]
    OneEnclosureLoses {
        /// Volumes that would be worse off.
        volumes: usize,
    },
}

impl Plan {
    /// Whether carrying this plan out, and giving up the drives that it empties, keeps all promises
    /// that hold now. A plan that repairs or adds is never to be refused.
    ///
    /// # Errors
    /// The first promise that it would break.
    pub const fn allowed(&self) -> Result<(), Refusal> {
        let summary = &self.summary;
        let (before, after) = summary.violations;
        if summary.overflow_bytes > 0 {
            let bytes = summary.overflow_bytes;
            return Err(Refusal::NoRoom { bytes });
        }
        if summary.unplaced > 0 {
            let members = summary.unplaced;
            return Err(Refusal::TooFewDrives { members });
        }
        match after
            .one_enclosure_loses
            .saturating_sub(before.one_enclosure_loses)
        {
            0 => Ok(()),
            volumes => Err(Refusal::OneEnclosureLoses { volumes }),
        }
    }
}
