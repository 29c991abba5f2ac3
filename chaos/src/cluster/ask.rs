//! Admin commands to a cluster, as an operator gives them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use super::run_file::RunFile;
use super::{Login, binary};

/// For a command that asks for little.
const COMMAND: Duration = Duration::from_secs(60);

/// For one that asks for everything, or that waits for a process that starts.
const LONG: Duration = Duration::from_secs(900);

/// Gives commands to a cluster. Changes of leaders are waited for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    binary: PathBuf,
    data: PathBuf,
    admin: SocketAddr,
    /// None: what lies in the folder of the cluster.
    login: Option<Login>,
}

/// What `enfilade status --json` said.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Status {
    pub(crate) healthy: bool,
    #[serde(default)]
    pub(crate) reasons: Vec<String>,
    #[serde(default)]
    pub(crate) missing: Missing,
}

/// What is missing, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Missing {
    /// Whole shards.
    pub(crate) shards: u64,
    /// Rows of the ledger.
    pub(crate) ranges: u64,
}

impl Ask {
    pub(super) fn new(binary: &Path, data: &Path, admin: SocketAddr, login: Option<&Login>) -> Ask {
        Ask {
            binary: binary.to_owned(),
            data: data.to_owned(),
            admin,
            login: login.cloned(),
        }
    }

    /// The cluster that runs in a folder, started by whomever.
    ///
    /// # Errors
    /// When none runs there, or the program is not found.
    pub(crate) fn folder(data: &Path, named: Option<&Path>) -> anyhow::Result<Ask> {
        let admin = RunFile::read(data)?.admin;
        let admin = admin.context("run.json names no admin address")?;
        Ok(Ask::new(&binary::find(named)?, data, admin, None))
    }

    /// What a command printed, and how it ended.
    pub(crate) async fn output(
        &self,
        arguments: &[&str],
        time: Duration,
    ) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .args(["--admin", &format!("http://{}", self.admin)])
            .arg("--data")
            .arg(&self.data)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(login) = &self.login {
            command
                .env("ENFILADE_ROOT_USER", &login.user)
                .env("ENFILADE_ROOT_PASSWORD", &login.password);
        }
        let output = tokio::time::timeout(time, command.output()).await;
        let output = output.with_context(|| format!("{arguments:?}: no end in {time:?}"))?;
        output.with_context(|| format!("running {}", self.binary.display()))
    }

    /// What a command printed that went well.
    ///
    /// # Errors
    /// What it complained about.
    pub(crate) async fn text(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.output(arguments, LONG).await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.trim();
        ensure!(
            output.status.success(),
            "`enfilade {}`: {complaint}",
            arguments.join(" ")
        );
        Ok(output.stdout)
    }

    /// What a command printed as JSON.
    ///
    /// # Errors
    /// As those of [`Ask::text`], or that it is something else.
    pub(crate) async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let text = self.text(arguments).await?;
        let what = || format!("`enfilade {}`", arguments.join(" "));
        serde_json::from_slice(&text).with_context(what)
    }

    /// What the cluster says about itself.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        // Its exit code may say the same as `healthy`.
        let output = self.output(&["status", "--json"], COMMAND).await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`enfilade status --json`: {}", complaint.trim()))
    }
}
