//! `run.json`: which processes a cluster consists of, read as any other tool would read it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::process::Process;

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RunFile {
    /// The parent.
    pub(crate) pid: u32,
    pub(crate) s3: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) enclosures: Vec<Enclosure>,
}

/// The process of an enclosure.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Enclosure {
    pub(crate) id: u32,
    pid: Option<u32>,
    /// In clock ticks since the machine started.
    started: Option<u64>,
    /// Whether it holds replicas of the metadata groups.
    pub(crate) meta: bool,
}

impl RunFile {
    pub(crate) fn read(data: &Path) -> anyhow::Result<RunFile> {
        let path = data.join("run.json");
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    }
}

impl Enclosure {
    pub(crate) fn process(&self) -> Option<Process> {
        Some(Process {
            pid: self.pid?,
            started: self.started?,
        })
    }
}
