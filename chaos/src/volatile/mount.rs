//! The file system at a path of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use fuser::{BackgroundSession, Config, MountOption};

use super::Lost;
use super::fate::Fate;
use super::gate::Gate;
use super::image::Image;
use super::serve::Server;

/// Threads that serve requests: RocksDB and the drive engine sync in parallel.
const THREADS: usize = 4;

/// A file system that is mounted. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Volatile {
    at: PathBuf,
    image: Arc<Mutex<Image>>,
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

impl Volatile {
    /// Mounts an empty file system at `mount` in a folder, beside `backing`, which holds its bytes.
    /// Syncs of paths that contain `ignored` succeed and make nothing durable.
    ///
    /// # Errors
    /// When this system does not let us mount: no `/dev/fuse`, or no right to.
    pub(crate) fn mount(folder: &Path, ignored: Option<String>) -> anyhow::Result<Volatile> {
        let (at, backing) = (folder.join("mount"), folder.join("backing"));
        for path in [&at, &backing] {
            std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        }
        let mut volatile = Volatile {
            at,
            image: Arc::new(Mutex::new(Image::new(&backing, ignored))),
            gate: Arc::default(),
            session: None,
        };
        volatile.attach()?;
        Ok(volatile)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// The power goes: from this moment, nothing is read or written. Requests wait, so that no
    /// process can tell.
    pub(crate) fn freeze(&self) {
        self.gate.freeze();
    }

    /// Lets the requests of killed processes fail, so that these can end.
    pub(crate) fn release(&self) {
        self.gate.close();
    }

    /// After [`Volatile::release`] and the end of all processes: forgets what was not synced, as
    /// the fate decides, and mounts what remains.
    ///
    /// # Errors
    /// When it cannot be unmounted or mounted, or the backing folder fails.
    pub(crate) fn come_back(&mut self, fate: &mut Fate) -> anyhow::Result<Lost> {
        self.detach()?;
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = image.cut(fate).context("cutting the power")?;
        drop(image);
        self.attach()?;
        Ok(lost)
    }

    /// Unmounts, and lays out what was there in `remains` beside the mount.
    pub(crate) fn lay_out(&mut self) -> anyhow::Result<()> {
        self.detach()?;
        let image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let remains = self.at.with_file_name("remains");
        image.export(&remains).context("laying out what remains")?;
        Ok(())
    }

    fn attach(&mut self) -> anyhow::Result<()> {
        self.gate.open();
        let server = Server::new(self.image.clone(), self.gate.clone());
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("enfilade-volatile".to_owned()),
            MountOption::NoAtime,
        ];
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(server, &self.at, &config);
        let at = self.at.display();
        self.session = Some(session.with_context(|| format!("mounting at {at}"))?);
        Ok(())
    }

    /// Unmounts. The session ends when the last file in it is closed.
    pub(crate) fn detach(&mut self) -> anyhow::Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        self.gate.close();
        if session.umount_and_join().is_ok() {
            return Ok(());
        }
        // Something still has a file open; that file fails from now on.
        let mut umount = Command::new("umount");
        let umount = umount.env("LC_ALL", "C").arg("--lazy").arg(&self.at);
        let output = umount.output().context("running umount")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        // The session may have ended by itself meanwhile.
        let gone = ["not mounted", "no mount point"];
        let gone = gone.iter().any(|words| complaint.contains(words));
        let at = self.at.display();
        ensure!(
            output.status.success() || gone,
            "umount {at}: {}",
            complaint.trim()
        );
        Ok(())
    }
}

impl Drop for Volatile {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("{error:#}");
        }
    }
}
