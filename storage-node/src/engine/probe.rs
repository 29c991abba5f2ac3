//! Looking after a drive that may be idle: is it there, is it the same, does it read and write.

use std::io::IoSlice;

use enfilade_placement::ClusterId;

use super::{Engine, ShardKey};
use crate::drive::superblock::{self, SuperblockError};
use crate::drive::{DriveError, DriveFile, Lenient, Open};

/// The file that is written to try a drive, and how much of it.
const NAME: &str = "probe";
const LEN: usize = 512;

/// Fragments, or places of logs, that the drive may fail to read before it is failing: one bad
/// sector is rot, more are a pattern.
pub(super) const READ_ERRORS_MAX: u64 = 3;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The drive is there; it may have failed, which [`Engine::failure`] says.
    There,
    /// It is gone.
    Gone(String),
    /// Another one is in its place.
    Foreign(String),
}

impl Engine {
    /// Looks for the drive, reads its superblock, and writes a little when that is asked for. What
    /// it takes counts for its speed. Blocks, for as long as the drive hangs.
    pub(crate) fn probe(&self, cluster: ClusterId, writes: bool) -> Probe {
        if let Some(reason) = self.drive.absence() {
            return Probe::Gone(reason);
        }
        let clock = &self.host.env.clock;
        let began = clock.now();
        match superblock::peek(self.drive()) {
            Ok(found) if found.drive == self.id && found.cluster == cluster => {}
            Ok(found) => {
                let (drive, cluster) = (found.drive, found.cluster);
                return Probe::Foreign(format!(
                    "the superblock names drive {drive} of cluster {cluster}"
                ));
            }
            Err(SuperblockError::Missing) => {
                return Probe::Gone("the superblock is not there any more".to_owned());
            }
            Err(error) => {
                self.fail_with(format!("read of the superblock: {error}"));
                return Probe::There;
            }
        }
        if writes && self.check_alive().is_ok() {
            match self.write_probe() {
                Ok(()) | Err(DriveError::NoSpace) => {}
                Err(error) => {
                    self.fail_with(format!("write to try the drive: {error}"));
                    return Probe::There;
                }
            }
        }
        self.pulse.note(clock.now().saturating_sub(began));
        let errors = self.pulse.read_errors();
        if errors >= READ_ERRORS_MAX {
            let last = self.pulse.last_error();
            self.fail_with(format!("{errors} places cannot be read, the last: {last}"));
        }
        Probe::There
    }

    /// A log of which what the device cannot give reads as zeros, so that it is found corrupt by
    /// its checksums, and entered (PROTOCOLS 22). From so many places on it is the drive that
    /// fails, and no more is taken for rot: what cannot be read now may be there all the same.
    pub(super) fn lenient<'a>(
        &'a self,
        key: ShardKey,
        file: &'a dyn DriveFile,
    ) -> impl DriveFile + 'a {
        Lenient::new(file, move |offset, error: &str| {
            tracing::warn!(drive = %self.id, ?key, offset, error, "bytes of a log cannot be read");
            self.pulse.place_lost(key, offset, error) < READ_ERRORS_MAX
        })
    }

    fn write_probe(&self) -> Result<(), DriveError> {
        let file = match self.drive.open(NAME, Open::Existing) {
            Err(DriveError::NotFound(_)) => self.drive.open(NAME, Open::New)?,
            opened => opened?,
        };
        file.write_at(0, &[IoSlice::new(&[0; LEN])])?;
        file.sync()
    }

    /// The mean time of what the drive did since this was asked last; none when it did nothing.
    pub(crate) fn latency(&self) -> Option<std::time::Duration> {
        self.pulse.take()
    }

    /// Fragments and places of logs that the drive failed to read since it was opened.
    pub(crate) fn read_errors(&self) -> u64 {
        self.pulse.read_errors()
    }
}
