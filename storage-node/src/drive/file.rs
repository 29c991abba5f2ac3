//! A drive that is a directory of a file system (XFS, ext4).

mod open;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enfilade_placement::DriveId;

use self::open::OpenFile;
use super::{Drive, DriveFile, FileSystemId, Open, Result, Space, sys};
use crate::drive::superblock::{self, Superblock, SuperblockError};

const LOCK: &str = "lock";
const INDEX: &str = "index";

/// What an unformatted folder may hold: a file system's own folder, and what a crash leaves of a
/// format that did not get to its superblock.
const UNFORMATTED: [&str; 3] = ["lost+found", LOCK, "superblock.new"];

/// Why a drive could not be opened or formatted.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is missing or empty, or holds something else: the drive is unplugged or not
    /// mounted. It is never initialised because of that (PROTOCOLS 26).
    #[error("{}: no drive is there: {reason}", path.display())]
    Gone {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// The folder holds another drive than the one that was expected. It is left as it is.
    #[error("{}: holds drive {found}, not {expected}", path.display())]
    Other {
        /// The folder.
        path: PathBuf,
        /// The drive that was expected there.
        expected: DriveId,
        /// The one that is there.
        found: DriveId,
    },
    /// Another process serves it.
    #[error("{}: the drive is in use by another process", .0.display())]
    Locked(PathBuf),
    /// To be formatted, but not empty.
    #[error("{}: not empty, so it is not formatted", .0.display())]
    NotEmpty(PathBuf),
    /// The superblock is rotten or newer than this program.
    #[error("{}: {source}", path.display())]
    Superblock {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        source: SuperblockError,
    },
    /// The device failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// A directory that stands for a drive; locked against other processes while this lives.
#[derive(Debug)]
pub struct FileDrive {
    path: PathBuf,
    folder: File,
    file_system: FileSystemId,
    _lock: File,
}

impl FileDrive {
    /// Opens a drive that is known by its UUID, and locks it. Nothing is created.
    ///
    /// # Errors
    /// [`OpenError::Gone`] unless the folder holds a drive, [`OpenError::Other`] unless it is that
    /// one; the others as they say.
    pub fn open(
        path: &Path,
        expected: DriveId,
    ) -> std::result::Result<(Self, Superblock), OpenError> {
        let (drive, superblock) = Self::open_any(path)?;
        if superblock.drive != expected {
            return Err(OpenError::Other {
                path: path.to_owned(),
                expected,
                found: superblock.drive,
            });
        }
        Ok((drive, superblock))
    }

    /// Opens whatever drive a folder holds, and locks it. Nothing is created.
    ///
    /// # Errors
    /// [`OpenError::Gone`] unless the folder holds a drive; the others as they say.
    pub fn open_any(path: &Path) -> std::result::Result<(Self, Superblock), OpenError> {
        let gone = |reason: String| OpenError::Gone {
            path: path.to_owned(),
            reason,
        };
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        match fs::read_dir(path) {
            Ok(entries) => {
                if entries.count() == 0 {
                    return Err(gone("the folder is empty".to_owned()));
                }
            }
            Err(error) if is_absence(&error) => return Err(gone(error.to_string())),
            Err(error) => return Err(failed(error)),
        }
        if !superblock::names()
            .iter()
            .any(|name| path.join(name).exists())
        {
            return Err(gone("the folder has no superblock".to_owned()));
        }
        let drive = Self::lock(path)?;
        let superblock = superblock::load(&drive).map_err(|source| OpenError::Superblock {
            path: path.to_owned(),
            source,
        })?;
        Ok((drive, superblock))
    }

    /// Makes a drive of an empty folder, creating the folder if need be, and locks it.
    ///
    /// # Errors
    /// [`OpenError::NotEmpty`] when anything is there; the others as they say.
    pub fn format(path: &Path, superblock: &Superblock) -> std::result::Result<Self, OpenError> {
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        for entry in fs::read_dir(path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !UNFORMATTED.iter().any(|allowed| name == *allowed) {
                return Err(OpenError::NotEmpty(path.to_owned()));
            }
        }
        let drive = Self::lock(path)?;
        sync_above(path).map_err(failed)?;
        superblock::store(&drive, superblock)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        Ok(drive)
    }

    fn lock(path: &Path) -> std::result::Result<Self, OpenError> {
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let folder = File::open(path).map_err(failed)?;
        let file_system = FileSystemId(folder.metadata().map_err(failed)?.dev());
        Ok(Self {
            path: path.to_owned(),
            folder,
            file_system,
            _lock: lock,
        })
    }

    /// The id that the file system gives itself, for the superblock; 0 when it has none.
    ///
    /// # Errors
    /// Those of the device.
    pub fn file_system_uuid(&self) -> Result<u64> {
        Ok(sys::space(&self.folder)?.1)
    }

    fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        }
    }
}

/// Makes the name of a folder durable, and those of all folders above it that may be new.
fn sync_above(path: &Path) -> io::Result<()> {
    for folder in path.ancestors().skip(1) {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // Not ours, so we made nothing in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(())
}

/// Whether an error says that there is nothing, rather than that a device failed.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl Drive for FileDrive {
    fn file_system(&self) -> FileSystemId {
        self.file_system
    }

    fn open(&self, name: &str, how: Open) -> Result<Arc<dyn DriveFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(how == Open::New);
        let path = self.at(name);
        let file = options.open(&path)?;
        Ok(Arc::new(OpenFile::new(file, sys::open_direct(&path))))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.at(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_folder(&self, folder: &str) -> Result<()> {
        match fs::create_dir(self.at(folder)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        self.sync_folder("")
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        Ok(fs::rename(self.at(from), self.at(to))?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.at(name))?)
    }

    fn sync_folder(&self, folder: &str) -> Result<()> {
        if folder.is_empty() {
            return Ok(self.folder.sync_all()?);
        }
        Ok(File::open(self.at(folder))?.sync_all()?)
    }

    fn sync_file_system(&self) -> Result<bool> {
        Ok(sys::sync_file_system(&self.folder)?)
    }

    fn space(&self) -> Result<Space> {
        Ok(sys::space(&self.folder)?.0)
    }

    fn index_folder(&self) -> Option<PathBuf> {
        Some(self.path.join(INDEX))
    }
}

#[cfg(test)]
mod tests;
