//! The seam to a drive: files in a few folders, synced one by one.
//!
//! [`file`] is a real directory; `memory` (tests) a twin that can lose what was not synced, fail,
//! and rot. Everything that is done to a drive goes through [`Drive`], so that a simulation can do
//! the same. Calls block: they belong on threads that may.

mod ahead;
mod buffer;
mod direct;
pub mod file;
mod lenient;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
mod ring;
pub mod superblock;
mod sys;

pub(crate) use self::ahead::ReadAhead;
pub(crate) use self::buffer::room_for;
pub(crate) use self::lenient::Lenient;
pub use self::ring::Hold;

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Why a drive did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// No room: the caller undoes what it began, and refuses.
    #[error("no space left")]
    NoSpace,
    /// No such file.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The file is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// The device is there, and cannot give these bytes. Only reads fail like that.
    #[error("i/o error: {0}")]
    Unreadable(String),
    /// The drive failed: nothing is tried again in place (PROTOCOLS 25).
    #[error("i/o error: {0}")]
    Io(String),
}

impl DriveError {
    /// The error of a read.
    fn of_read(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EIO | libc::ENODATA | libc::EILSEQ) => Self::Unreadable(error.to_string()),
            _ => error.into(),
        }
    }
}

impl From<io::Error> for DriveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::NotFound => Self::NotFound(error.to_string()),
            io::ErrorKind::AlreadyExists => Self::Exists(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// A result of a drive.
pub type Result<T> = std::result::Result<T, DriveError>;

/// Names a file system: drives with the same one share a committer (PROTOCOLS 25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileSystemId(pub u64);

/// Room on a drive, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// What the file system can hold.
    pub total: u64,
    /// What is still free for us.
    pub available: u64,
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must be there.
    Existing,
    /// It must not be there; it is created, and durable once its folder is synced.
    New,
}

/// Memory that is kept for reads when nobody reads, in bytes, of the whole process.
pub const READ_MEMORY_KEPT: usize = buffer::KEPT_BYTES_MAX;

/// Memory through which the committer of a file system writes, in bytes.
pub const WRITE_MEMORY: usize = direct::PIECE_MAX;

/// How bytes come from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through memory that keeps them for the next reader.
    Kept,
    /// As directly as can be.
    Past,
}

/// A read that was begun: its bytes, or none when they are to be read in another way. What it holds
/// is let go of when the device is done with it, even if nobody waits any more.
pub type Queued = BoxFuture<'static, Option<Bytes>>;

/// One drive: a folder of files.
///
/// File names are relative, with `/`. A file that was created, renamed or removed is so for good
/// only when [`Drive::sync_folder`] returned (PROTOCOLS 25).
pub trait Drive: Send + Sync + 'static {
    /// The file system that the drive is on.
    fn file_system(&self) -> FileSystemId;

    /// Opens or creates a file.
    ///
    /// # Errors
    /// `NotFound` or `Exists` as [`Open`] says; those of the device.
    fn open(&self, name: &str, how: Open) -> Result<Arc<dyn DriveFile>>;

    /// The names of the files in a folder (`""`: the drive's own), sorted; none when there is no
    /// such folder.
    ///
    /// # Errors
    /// Those of the device.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Creates a folder unless it exists, durably.
    ///
    /// # Errors
    /// Those of the device.
    fn create_folder(&self, folder: &str) -> Result<()>;

    /// Renames a file over whatever has the new name, in one step.
    ///
    /// # Errors
    /// `NotFound`; those of the device.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`; those of the device.
    fn remove(&self, name: &str) -> Result<()>;

    /// Makes the entries of a folder durable.
    ///
    /// # Errors
    /// Those of the device.
    fn sync_folder(&self, folder: &str) -> Result<()>;

    /// Makes everything durable that was written to any file of the file system, names included.
    /// `false`: not done, because it could not be told whether it worked; sync file by file.
    ///
    /// # Errors
    /// Those of the device, of any file since the last time; as for [`DriveFile::sync`].
    fn sync_file_system(&self) -> Result<bool>;

    /// The room that there is.
    ///
    /// # Errors
    /// Those of the device.
    fn space(&self) -> Result<Space>;

    /// Why the drive is not any more where it was opened, if so: unplugged, unmounted, moved. What
    /// is open of it may work on all the same.
    fn absence(&self) -> Option<String> {
        None
    }

    /// Where an index may keep files of its own; none: it lives in memory, and is rebuilt.
    fn index_folder(&self) -> Option<PathBuf>;
}

/// An open file of a drive.
pub trait DriveFile: Send + Sync {
    /// Fills the buffer from an offset; returns how many bytes there were before the end.
    ///
    /// # Errors
    /// Those of the device.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Reads that many bytes from an offset, or as many as there are before the end.
    ///
    /// # Errors
    /// Those of the device.
    fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let count = self.read_at(offset, &mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    /// As [`DriveFile::read_vec`], for bytes that are handed on.
    ///
    /// # Errors
    /// Those of the device.
    fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.read_vec(offset, len).map(Bytes::from)
    }

    /// Reads as many bytes, when they are all in memory: without waiting. None when they are not;
    /// then the device may have been asked for them.
    fn read_held(&self, _offset: u64, _len: usize) -> Option<Vec<u8>> {
        None
    }

    /// Begins to read that many bytes, for whoever awaits them: no thread waits for the device.
    /// None: not here, or not now; then [`DriveFile::read_vec`] does it.
    fn read_queued(&self, _offset: u64, _len: usize, _way: Way, _hold: &Hold) -> Option<Queued> {
        None
    }

    /// Says that a range is about to be read. A hint.
    fn will_need(&self, _offset: u64, _len: u64) {}

    /// Writes all the slices, one after another, from an offset. After an error, any part of it
    /// may have been written.
    ///
    /// # Errors
    /// `NoSpace`; those of the device.
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()>;

    /// Bytes of the file.
    ///
    /// # Errors
    /// Those of the device.
    fn size(&self) -> Result<u64>;

    /// Asks that written bytes go to the device soon. A hint.
    fn start_write_back(&self, offset: u64, len: u64);

    /// Makes the bytes and the length of the file durable.
    ///
    /// # Errors
    /// Those of the device. What was written since the last success may be lost then, even if a
    /// later sync succeeds.
    fn sync(&self) -> Result<()>;

    /// Lets go of what is in memory of a range, so that it is read from the device. A hint.
    fn drop_cached(&self, _offset: u64, _len: u64) {}

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// Those of the device.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Gives the room of a range back; it reads as zeros from then on. Returns how many bytes
    /// became free: none where holes are not supported.
    ///
    /// # Errors
    /// Those of the device.
    fn punch(&self, offset: u64, len: u64) -> Result<u64>;
}

/// Reads exactly `len` bytes, or as many as there are before the end of the file.
///
/// # Errors
/// Those of the device.
pub(crate) fn read_up_to(file: &dyn DriveFile, offset: u64, len: usize) -> Result<Vec<u8>> {
    file.read_vec(offset, len)
}

/// Replaces a small file in one durable step: a temporary file, synced, renamed, the folder synced.
///
/// # Errors
/// Those of the device; the old content stays then, or the new one is in place.
pub(crate) fn replace(drive: &dyn Drive, name: &str, content: &[u8]) -> Result<()> {
    let temporary = format!("{name}.new");
    match drive.remove(&temporary) {
        Ok(()) | Err(DriveError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let file = drive.open(&temporary, Open::New)?;
    file.write_at(0, &[IoSlice::new(content)])?;
    file.sync()?;
    drive.rename(&temporary, name)?;
    drive.sync_folder(name.rsplit_once('/').map_or("", |(folder, _)| folder))
}
