//! A real cluster in processes: `enfilade up --processes` and its children.

mod ask;
mod binary;
mod process;
mod run_file;

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};

pub(crate) use ask::{Ask, Status};
pub(crate) use binary::find;
use process::Process;
pub(crate) use run_file::Enclosure;
use run_file::RunFile;

/// Between two looks at a cluster that is awaited.
const LOOK: Duration = Duration::from_millis(200);

/// The root credentials of the cluster under test.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// What the cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) enclosures: u32,
    pub(crate) drives: u32,
    /// `k+m`
    pub(crate) profile: String,
    /// Whether each enclosure is a process of its own.
    pub(crate) processes: bool,
    /// How many files it may open, unless as many as this process.
    pub(crate) files: Option<u64>,
    /// Bytes of a shard at which its volume is sealed, unless as many as by default.
    pub(crate) volume_target: Option<String>,
}

/// A cluster that this process started. Dropping it kills the parent; children end with it.
#[derive(Debug)]
pub(crate) struct Cluster {
    binary: PathBuf,
    /// Where its log is.
    folder: PathBuf,
    /// Where everything else is.
    data: PathBuf,
    shape: Shape,
    login: Login,
    parent: Option<Child>,
    run: RunFile,
}

impl Cluster {
    /// A cluster that does not run yet, with its log in `folder` and the rest in `data`.
    pub(crate) fn new(
        binary: &Path,
        folder: &Path,
        data: &Path,
        shape: Shape,
        login: Login,
    ) -> Cluster {
        Cluster {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            data: data.to_owned(),
            shape,
            login,
            parent: None,
            run: RunFile::default(),
        }
    }

    /// Starts the cluster, the one that is already in its folder or a new one, and waits until it
    /// is healthy.
    pub(crate) async fn up(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.launch()?;
        self.ready(patience).await
    }

    /// Starts the cluster, and does not wait.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.parent.is_none(), "the cluster runs");
        let log = self.log()?;
        let mut command = match self.shape.files {
            None => Command::new(&self.binary),
            Some(files) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -n {files} && exec \"$@\"");
                shell.args(["-c", &limited, "sh"]).arg(&self.binary);
                shell
            }
        };
        let target = self.shape.volume_target.as_deref();
        let target = target.map(|target| ["--volume-target", target]);
        command
            .arg("up")
            .arg("--data")
            .arg(&self.data)
            .args(["--enclosures", &self.shape.enclosures.to_string()])
            .args(["--drives", &self.shape.drives.to_string()])
            .args(["--profile", &self.shape.profile])
            .args(["--s3", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(self.shape.processes.then_some("--processes"))
            .args(target.iter().flatten())
            .env("ENFILADE_ROOT_USER", &self.login.user)
            .env("ENFILADE_ROOT_PASSWORD", &self.login.password)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log of the cluster")?)
            .stderr(log)
            .kill_on_drop(true);
        let parent = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        self.parent = Some(parent);
        self.run = RunFile::default();
        Ok(())
    }

    /// Waits until the cluster that was launched is healthy.
    async fn ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let parent = self.parent.as_ref().and_then(Child::id);
        let pid = parent.context("the cluster ended at once")?;
        let began = Instant::now();
        loop {
            if let Some(parent) = &mut self.parent
                && let Some(status) = parent.try_wait().context("waiting for the cluster")?
            {
                self.parent = None;
                bail!("`enfilade up` ended with {status}:\n{}", self.log_tail());
            }
            // The file of an earlier life names another process.
            let run = RunFile::read(&self.data).unwrap_or_default();
            if run.pid == pid && run.admin.is_some() {
                self.run = run;
                if self.status().await.is_ok_and(|status| status.healthy) {
                    return Ok(());
                }
            }
            if began.elapsed() > patience {
                let tail = self.log_tail();
                bail!("the cluster is not healthy after {patience:?}:\n{tail}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The process of the cluster, or the parent of its processes.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let parent = self.parent.as_ref().and_then(Child::id);
        parent.context("the cluster does not run")
    }

    /// What the program says that such a cluster may use with so many clients.
    pub(crate) async fn explain_memory(&self, clients: u32) -> anyhow::Result<String> {
        let drives = self.shape.enclosures * self.shape.drives;
        let output = Command::new(&self.binary)
            .arg("memory")
            .args(["--drives", &drives.to_string()])
            .args(["--clients", &clients.to_string()])
            .output();
        let output = output.await.context("`enfilade memory`")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`enfilade memory`: {complaint}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Where S3 is served.
    pub(crate) fn s3(&self) -> anyhow::Result<SocketAddr> {
        self.run.s3.context("run.json names no address of S3")
    }

    /// The enclosures as `run.json` has them now.
    pub(crate) fn enclosures(&mut self) -> anyhow::Result<&[Enclosure]> {
        self.run = RunFile::read(&self.data)?;
        Ok(&self.run.enclosures)
    }

    /// Kills the process of an enclosure, and returns when it is gone.
    pub(crate) async fn kill(&mut self, id: u32) -> anyhow::Result<()> {
        let enclosures = self.enclosures()?;
        let enclosure = enclosures.iter().find(|enclosure| enclosure.id == id);
        let enclosure = enclosure.with_context(|| format!("there is no enclosure {id}"))?;
        let process = enclosure
            .process()
            .with_context(|| format!("enclosure {id} does not run"))?;
        process::kill(&[process]).await
    }

    /// Kills the parent and every enclosure at once, and returns when all are gone.
    pub(crate) async fn kill_all(&mut self) -> anyhow::Result<()> {
        let mut parent = self.parent.take().context("the cluster does not run")?;
        let pid = parent.id().context("the parent has ended")?;
        let mut processes: Vec<Process> = vec![Process::of(pid)?];
        let enclosures = self.enclosures()?.iter();
        processes.extend(enclosures.filter_map(Enclosure::process));
        let killed = process::kill(&processes).await;
        parent.wait().await.context("waiting for the parent")?;
        killed
    }

    /// Kills a cluster of one process, whose folder may not answer, calls `killed` when the signal
    /// is sent, and returns when the process is gone. How it had ended before, if it had.
    pub(crate) async fn kill_only(
        &mut self,
        killed: impl FnOnce(),
    ) -> anyhow::Result<Option<std::process::ExitStatus>> {
        let mut parent = self.parent.take().context("the cluster does not run")?;
        let ended = parent.try_wait().context("waiting for the cluster")?;
        if ended.is_none() {
            parent.start_kill().context("killing the cluster")?;
        }
        killed();
        parent.wait().await.context("waiting for the cluster")?;
        Ok(ended)
    }

    /// Gives admin commands.
    pub(crate) fn ask(&self) -> anyhow::Result<Ask> {
        let admin = self.run.admin.context("run.json names no admin address")?;
        Ok(Ask::new(&self.binary, &self.data, admin, Some(&self.login)))
    }

    /// Where everything of the cluster is.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// `enfilade enclosure start`: the process comes back with the same ports and folder.
    pub(crate) async fn start_enclosure(&mut self, id: u32) -> anyhow::Result<()> {
        let ask = self.ask()?;
        ask.text(&["enclosure", "start", &id.to_string()]).await?;
        Ok(())
    }

    /// What the cluster says about itself.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        self.ask()?.status().await
    }

    /// Waits until the status says what is expected; how long that took, or what it said last.
    pub(crate) async fn await_health(
        &self,
        healthy: bool,
        patience: Duration,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let last = match self.status().await {
                Ok(status) if status.healthy == healthy => return Ok(began.elapsed()),
                Ok(status) => format!("healthy: {}, {:?}", status.healthy, status.reasons),
                Err(error) => format!("{error:#}"),
            };
            if began.elapsed() > patience {
                return Err(last);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the cluster as an operator does (SIGTERM), or says why that did not work.
    pub(crate) async fn stop(mut self, patience: Duration) -> anyhow::Result<()> {
        let Some(mut parent) = self.parent.take() else {
            return Ok(());
        };
        let pid = parent.id().context("the parent has ended by itself")?;
        process::terminate(&Process::of(pid)?).await?;
        match tokio::time::timeout(patience, parent.wait()).await {
            Ok(status) => {
                let status = status.context("waiting for the parent")?;
                ensure!(
                    status.success(),
                    "stopped with {status}:\n{}",
                    self.log_tail()
                );
                Ok(())
            }
            // It dies with its handle.
            Err(_) => bail!(
                "still running {patience:?} after SIGTERM:\n{}",
                self.log_tail()
            ),
        }
    }

    fn log(&self) -> anyhow::Result<File> {
        let path = self.folder.join("up.log");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.with_context(|| format!("opening {}", path.display()))
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(self.folder.join("up.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}
