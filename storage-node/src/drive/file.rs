//! A drive that is a directory of a file system (XFS, ext4).

mod open;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enfilade_placement::DriveId;

use self::open::OpenFile;
use super::{Drive, DriveFile, FileSystemId, Open, Result, Space, direct, sys};
use crate::drive::superblock::{self, Superblock, SuperblockError};

const LOCK: &str = "lock";
const INDEX: &str = "index";

/// What an unformatted folder may hold: a file system's own folder, and what a crash leaves of a
/// format that did not get to its superblock.
const UNFORMATTED: [&str; 3] = [LOST_AND_FOUND, LOCK, "superblock.new"];

const LOST_AND_FOUND: &str = "lost+found";

/// What a drive consists of beside its superblock.
const CONTENT: [&str; 8] = [
    LOST_AND_FOUND,
    LOCK,
    INDEX,
    "index-format",
    "index-damaged",
    "shards",
    "set-aside",
    "probe",
];

/// Where the system lists block devices by the UUID of their file system.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// The UUID of the file system that a folder is on; 0 when the system does not tell.
pub fn file_system_of(folder: &Path) -> u128 {
    let device = fs::metadata(folder).map(|folder| folder.dev());
    device.map_or(0, |device| uuid_of_device(Path::new(BY_UUID), device))
}

fn uuid_of_device(by_uuid: &Path, device: u64) -> u128 {
    let Ok(links) = fs::read_dir(by_uuid) else {
        return 0;
    };
    let uuid = |link: io::Result<fs::DirEntry>| {
        let link = link.ok()?;
        let found = fs::metadata(link.path()).ok()?.rdev() == device;
        let digits = link.file_name().to_string_lossy().replace('-', "");
        found.then(|| u128::from_str_radix(&digits, 16).ok())?
    };
    links.filter_map(uuid).next().unwrap_or(0)
}

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
    /// The superblock was made on another file system: this is a copy of the drive, which may
    /// still be somewhere. It is not served.
    #[error(
        "{}: a copy of drive {drive}: made on file system {made_on:x}, found on {found_on:x}",
        path.display()
    )]
    Copy {
        /// The folder.
        path: PathBuf,
        /// The drive.
        drive: DriveId,
        /// The file system in the superblock.
        made_on: u128,
        /// The one that the folder is on.
        found_on: u128,
    },
    /// To be wiped, but it holds what no drive does.
    #[error("{}: '{found}' is nothing of a drive, so it is not wiped", path.display())]
    NoDrive {
        /// The folder.
        path: PathBuf,
        /// What was found.
        found: String,
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
    /// The same folder wherever it is moved or mounted: names are looked up from here, never in
    /// what takes its place at `path`.
    root: PathBuf,
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
        let (made_on, found_on) = (superblock.file_system, file_system_of(path));
        if made_on != 0 && found_on != 0 && made_on != found_on {
            return Err(OpenError::Copy {
                path: path.to_owned(),
                drive: superblock.drive,
                made_on,
                found_on,
            });
        }
        Ok((drive, superblock))
    }

    /// Which drive a folder holds, without opening it or taking its lock; none when it holds none
    /// that can be told.
    pub fn look(path: &Path) -> Option<Superblock> {
        let copy = |name: &str| fs::read(path.join(name)).ok();
        superblock::of_bytes(superblock::names().into_iter().map(copy)).ok()
    }

    /// The folders in a folder, sorted; none when it cannot be read.
    pub fn folders(shelf: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(shelf) else {
            return Vec::new();
        };
        let folder = |entry: io::Result<fs::DirEntry>| {
            let path = entry.ok()?.path();
            path.is_dir().then_some(path)
        };
        let mut folders: Vec<PathBuf> = entries.filter_map(folder).collect();
        folders.sort();
        folders
    }

    /// Empties the folder of a drive that is named by its UUID, the superblock last, so that it can
    /// be formatted. Anything that is nothing of a drive stops it before it begins.
    ///
    /// # Errors
    /// As for [`FileDrive::open`]; [`OpenError::NoDrive`].
    pub fn wipe(path: &Path, drive: DriveId) -> std::result::Result<(), OpenError> {
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let (held, found) = Self::open_any(path)?;
        if found.drive != drive {
            return Err(OpenError::Other {
                path: path.to_owned(),
                expected: drive,
                found: found.drive,
            });
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&held.root).map_err(failed)? {
            let name = entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            let known = name.strip_suffix(".new").unwrap_or(&name);
            if !CONTENT.contains(&known) && !superblock::names().contains(&known) {
                return Err(OpenError::NoDrive {
                    path: path.to_owned(),
                    found: name,
                });
            }
            names.push(name);
        }
        // What says which drive it was goes when nothing else is left.
        names.sort_by_key(|name| superblock::names().contains(&name.as_str()));
        for name in names {
            let kept = name == LOCK || name == LOST_AND_FOUND;
            let at = held.root.join(&name);
            match fs::symlink_metadata(&at).map_err(failed)?.is_dir() {
                _ if kept => {}
                true => fs::remove_dir_all(&at).map_err(failed)?,
                false => fs::remove_file(&at).map_err(failed)?,
            }
        }
        held.folder.sync_all().map_err(failed)
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
        let identity = folder.metadata().map_err(failed)?;
        let file_system = FileSystemId(identity.dev());
        let held = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let same =
            |found: &fs::Metadata| (found.dev(), found.ino()) == (identity.dev(), identity.ino());
        // A lock that was taken while another folder came to the path is not that of this one.
        let locked = fs::metadata(path.join(LOCK)).map_err(failed)?;
        let lock_file = lock.metadata().map_err(failed)?;
        if (locked.dev(), locked.ino()) != (lock_file.dev(), lock_file.ino()) {
            return Err(OpenError::Locked(path.to_owned()));
        }
        // Without /proc names are looked up at the path.
        let root = match fs::metadata(&held) {
            Ok(found) if same(&found) => held,
            _ => path.to_owned(),
        };
        Ok(Self {
            path: path.to_owned(),
            root,
            folder,
            file_system,
            _lock: lock,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.root.clone()
        } else {
            self.root.join(name)
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
        Ok(Arc::new(OpenFile::new(file, direct::open_direct(&path))))
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
        Ok(sys::space(&self.folder)?)
    }

    fn index_folder(&self) -> Option<PathBuf> {
        Some(self.root.join(INDEX))
    }

    fn absence(&self) -> Option<String> {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let there = match fs::metadata(&self.path) {
            Ok(there) => identity(there),
            Err(error) => return Some(format!("{}: {error}", self.path.display())),
        };
        // When it cannot be told what is held, the next read or write will fail.
        let held = self.folder.metadata().map(identity).ok()?;
        let moved = there != held;
        moved.then(|| format!("{}: the drive is not there any more", self.path.display()))
    }
}

#[cfg(test)]
mod tests;
