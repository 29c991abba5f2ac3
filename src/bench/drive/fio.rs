//! fio, in the same folder and the same way into the kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Pattern;

/// From so many bytes on, the engine writes a group without the page cache, in pieces of a MiB.
const DIRECT_LEAST: u64 = 64 * 1024;
const PIECE: u64 = 1024 * 1024;

/// Whether there is a fio to run.
pub(super) fn installed() -> bool {
    Command::new("fio").arg("--version").output().is_ok()
}

/// One run of fio.
pub(super) struct Job {
    engine: &'static str,
    arguments: Vec<String>,
    direction: &'static str,
    /// Removed afterwards.
    written: Vec<PathBuf>,
}

impl Job {
    /// Appends to a new file: one write a group, or pieces of a MiB, and a sync after each group.
    /// Writes and syncs are as few as the engine's, not as many as its records: that is in fio's
    /// favour.
    pub(super) fn append(folder: &Path, pattern: Pattern, bytes: u64, group_bytes: u64) -> Self {
        let one = u64::from(pattern.bytes);
        let group = (group_bytes / one).max(1) * one;
        let piece = group.min(PIECE);
        let file = folder.join("fio.dat");
        let direct = u8::from(group >= DIRECT_LEAST);
        let arguments = [
            "--rw=write".to_owned(),
            format!("--filename={}", file.display()),
            format!("--bs={piece}"),
            format!("--size={}", bytes / piece * piece),
            format!("--fdatasync={}", group.div_ceil(piece)),
            format!("--direct={direct}"),
            "--fallocate=none".to_owned(),
        ];
        Self {
            engine: "psync",
            arguments: arguments.into(),
            direction: "write",
            written: vec![file],
        }
    }

    /// Appends by as many writers, each to a file of its own that it syncs after each write; for
    /// three seconds at most.
    pub(super) fn append_each(folder: &Path, pattern: Pattern, bytes: u64) -> Self {
        let direct = u8::from(u64::from(pattern.bytes) >= DIRECT_LEAST);
        let size = bytes / u64::from(pattern.at_once) / u64::from(pattern.bytes);
        let arguments = [
            "--rw=write".to_owned(),
            format!("--directory={}", folder.display()),
            format!("--bs={}", pattern.bytes),
            format!("--size={}", size.max(1) * u64::from(pattern.bytes)),
            format!("--numjobs={}", pattern.at_once),
            "--fdatasync=1".to_owned(),
            format!("--direct={direct}"),
            "--fallocate=none".to_owned(),
            "--thread".to_owned(),
            "--group_reporting".to_owned(),
            "--runtime=3".to_owned(),
        ];
        let file = |writer| folder.join(format!("drive.{writer}.0"));
        Self {
            engine: "psync",
            arguments: arguments.into(),
            direction: "write",
            written: (0..pattern.at_once).map(file).collect(),
        }
    }

    /// Reads a file, in order or at random, by threads, through the page cache.
    pub(super) fn read(file: &Path, in_order: bool, pattern: Pattern, bytes: u64) -> Self {
        let arguments = [
            format!("--rw={}", if in_order { "read" } else { "randread" }),
            format!("--filename={}", file.display()),
            format!("--bs={}", pattern.bytes),
            format!("--io_size={}", bytes / u64::from(pattern.at_once)),
            format!("--numjobs={}", pattern.at_once),
            "--readonly".to_owned(),
            "--thread".to_owned(),
            "--group_reporting".to_owned(),
            "--randrepeat=0".to_owned(),
        ];
        Self {
            engine: "psync",
            arguments: arguments.into(),
            direction: "read",
            written: Vec::new(),
        }
    }

    /// Reads a file at random as the engine does: past the page cache, by io_uring, as many at
    /// once.
    pub(super) fn read_direct(file: &Path, pattern: Pattern, bytes: u64) -> Self {
        let arguments = [
            "--rw=randread".to_owned(),
            format!("--filename={}", file.display()),
            format!("--bs={}", pattern.bytes),
            format!("--io_size={bytes}"),
            format!("--iodepth={}", pattern.at_once),
            "--direct=1".to_owned(),
            "--readonly".to_owned(),
            "--thread".to_owned(),
            "--randrepeat=0".to_owned(),
        ];
        Self {
            engine: "io_uring",
            arguments: arguments.into(),
            direction: "read",
            written: Vec::new(),
        }
    }

    /// How it is called.
    pub(super) fn command(&self) -> String {
        format!(
            "fio --name=drive --ioengine={} {}",
            self.engine,
            self.arguments.join(" ")
        )
    }

    /// Runs it; MB/s.
    pub(super) fn run(&self) -> Result<f64> {
        let output = Command::new("fio")
            .args(["--name=drive", "--output-format=json"])
            .arg(format!("--ioengine={}", self.engine))
            .args(&self.arguments)
            .output()
            .context("cannot run fio")?;
        for file in &self.written {
            std::fs::remove_file(file).context("cannot remove fio's file")?;
        }
        if !output.status.success() {
            bail!("fio: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let json = text.find('{').map_or("", |at| &text[at..]);
        let report: Value = serde_json::from_str(json).context("fio gave no JSON")?;
        let rate = report
            .pointer(&format!("/jobs/0/{}/bw_bytes", self.direction))
            .and_then(Value::as_f64);
        Ok(rate.context("fio gave no rate")? / 1e6)
    }
}
