//! One process runs a folder at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::up::layout::Layout;
use crate::up::run_file::RunFile;

/// A folder that is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks a folder through a file in it.
    ///
    /// # Errors
    /// When another process has it, which is named, or the file cannot be made.
    pub(crate) fn acquire(path: &Path) -> Result<Self> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let mut file = open.with_context(|| format!("cannot open {}", path.display()))?;
        let folder = path.parent().unwrap_or(path).display();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                bail!("{folder} is in use by process {}", holder.trim());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let note = format!("{}\n", std::process::id());
        let noted = file.set_len(0).and_then(|()| file.rewind());
        let noted = noted.and_then(|()| file.write_all(note.as_bytes()));
        noted.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Refuses a folder whose processes still live though the one that started them is gone.
///
/// # Errors
/// Names the processes.
pub(crate) fn refuse_survivors(layout: &Layout) -> Result<()> {
    let Some(run) = RunFile::read(layout)? else {
        return Ok(());
    };
    let living = run.living();
    if living.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = living.iter().map(u32::to_string).collect();
    bail!(
        "processes of an earlier start of {} still live: {}; wait until they have ended, or end \
         them",
        layout.root().display(),
        pids.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os;
    use crate::up::run_file::tests::sample;

    #[test]
    fn a_locked_folder_is_refused_with_the_holder_and_free_again_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = FolderLock::acquire(&path).unwrap();
        let error = FolderLock::acquire(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(lock);
        FolderLock::acquire(&path).unwrap();
    }

    #[test]
    fn survivors_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        refuse_survivors(&layout).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        sample(child.id(), os::process_start(child.id()))
            .write(&layout)
            .unwrap();
        let error = refuse_survivors(&layout).unwrap_err().to_string();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(error.contains(&child.id().to_string()), "{error}");
        refuse_survivors(&layout).unwrap();
    }
}
