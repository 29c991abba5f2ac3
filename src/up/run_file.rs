//! `run.json`: which processes run a cluster, and where they listen. Replaced atomically at every
//! change; docs/cli.md describes it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::files::{self, Secrecy};
use crate::os;
use crate::up::layout::Layout;

/// The processes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    /// The process of `up`.
    pub(crate) pid: u32,
    /// When it began, in ticks since the machine did: ids are used again, the two together not.
    pub(crate) started: Option<u64>,
    /// Where S3 is served.
    pub(crate) s3: SocketAddr,
    /// Where metrics, health and the admin API are served.
    pub(crate) admin: SocketAddr,
    /// Whether every enclosure is a process of its own.
    pub(crate) processes: bool,
    /// The enclosures.
    pub(crate) enclosures: Vec<RunEnclosure>,
}

/// The process of an enclosure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEnclosure {
    /// The enclosure.
    pub(crate) id: u32,
    /// Its chain.
    pub(crate) chain: u32,
    /// Its process; none while it does not run.
    pub(crate) pid: Option<u32>,
    /// When that began, as in [`RunFile::started`].
    pub(crate) started: Option<u64>,
    /// Where its metrics and health are served, `host:port`.
    pub(crate) admin: String,
    /// Whether its process runs.
    pub(crate) state: ProcessState,
    /// Whether it was given metadata replicas at the cluster's birth.
    pub(crate) meta: bool,
    /// Where its metadata service listens, `host:port`; empty in one process, or without replicas.
    pub(crate) meta_address: String,
    /// Where its fragments are served, `host:port`; empty in one process.
    pub(crate) shard_address: String,
    /// Everything that it keeps.
    pub(crate) folder: String,
}

/// Whether a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProcessState {
    /// It was started, and does not answer yet.
    Starting,
    /// It answers.
    Running,
    /// It was told to stop.
    Stopped,
    /// It ended by itself, or was killed.
    Exited,
}

impl RunFile {
    /// The file of a folder; None when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.run_file();
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .with_context(|| path.display().to_string())
            .map(Some)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot encode run.json")?;
        text.push('\n');
        files::replace(&layout.run_file(), text.as_bytes(), Secrecy::Public)
    }

    /// The processes named here that live: the very ones, not others under their ids.
    pub(crate) fn living(&self) -> Vec<u32> {
        let parent = (Some(self.pid), self.started);
        let children = self
            .enclosures
            .iter()
            .map(|enclosure| (enclosure.pid, enclosure.started));
        let mut pids: Vec<u32> = std::iter::once(parent)
            .chain(children)
            .filter_map(|(pid, started)| {
                let pid = pid.filter(|pid| *pid != std::process::id())?;
                (os::process_start(pid)? == started?).then_some(pid)
            })
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The process of an enclosure.
    pub(crate) fn enclosure_mut(&mut self, id: u32) -> Option<&mut RunEnclosure> {
        self.enclosures
            .iter_mut()
            .find(|enclosure| enclosure.id == id)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(pid: u32, started: Option<u64>) -> RunFile {
        let enclosure = RunEnclosure {
            id: 1,
            chain: 1,
            pid: Some(pid),
            started,
            admin: "127.0.0.1:3".to_owned(),
            state: ProcessState::Running,
            meta: true,
            meta_address: "127.0.0.1:4".to_owned(),
            shard_address: "127.0.0.1:5".to_owned(),
            folder: "enclosures/1".to_owned(),
        };
        RunFile {
            pid: u32::MAX,
            started: Some(1),
            s3: "127.0.0.1:1".parse().unwrap(),
            admin: "127.0.0.1:2".parse().unwrap(),
            processes: true,
            enclosures: vec![enclosure],
        }
    }

    #[test]
    fn it_reads_back_and_has_the_documented_names() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(RunFile::read(&layout).unwrap(), None);
        let run = sample(77, Some(5));
        run.write(&layout).unwrap();
        assert_eq!(RunFile::read(&layout).unwrap(), Some(run));
        let text = std::fs::read_to_string(layout.run_file()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let enclosure = &json["enclosures"][0];
        assert_eq!(
            (enclosure["id"].as_u64(), enclosure["pid"].as_u64()),
            (Some(1), Some(77))
        );
        assert_eq!(enclosure["state"], "running");
        assert_eq!(
            (&enclosure["meta"], &enclosure["chain"]),
            (&true.into(), &1.into())
        );
    }

    #[test]
    fn a_living_child_is_found_and_another_process_under_its_id_is_not_taken_for_it() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let start = os::process_start(child.id());
        assert_eq!(sample(child.id(), start).living(), [child.id()]);
        assert!(
            sample(child.id(), start.map(|start| start + 1))
                .living()
                .is_empty()
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(sample(child.id(), start).living().is_empty());
    }
}
