//! Signals to processes that are known to be the ones meant.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

/// How long the kernel may take to end a killed process: its open files are flushed and closed.
const GONE: Duration = Duration::from_secs(30);

/// A process, named by its id and the moment when it began: ids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In clock ticks since the machine started.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Process> {
        let started = started(pid).with_context(|| format!("process {pid} does not run"))?;
        Ok(Process { pid, started })
    }

    fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// Kills processes (SIGKILL) in one go, and returns when all are gone. One that has ended already
/// is none to kill.
pub(crate) async fn kill(processes: &[Process]) -> anyhow::Result<()> {
    signal("-KILL", processes).await?;
    let began = Instant::now();
    while let Some(process) = processes.iter().find(|process| process.is_alive()) {
        if began.elapsed() > GONE {
            bail!("process {} lives {GONE:?} after SIGKILL", process.pid);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Asks a process to end (SIGTERM).
pub(crate) async fn terminate(process: &Process) -> anyhow::Result<()> {
    signal("-TERM", &[*process]).await
}

async fn signal(signal: &str, processes: &[Process]) -> anyhow::Result<()> {
    let living = processes.iter().filter(|process| process.is_alive());
    let pids: Vec<String> = living.map(|process| process.pid.to_string()).collect();
    ensure!(!pids.is_empty(), "none of {processes:?} lives");
    // The standard library sends signals to own children only, and these are grandchildren.
    let mut command = Command::new("sh");
    command
        .args(["-c", "kill \"$@\"", "sh", signal])
        .args(&pids);
    let status = command.status().await.context("running kill")?;
    // One of them may have ended in between.
    ensure!(
        status.success() || processes.iter().all(|process| !process.is_alive()),
        "kill {signal} {pids:?}: {status}"
    );
    Ok(())
}

/// When a process began; nothing when there is none, or it only waits to be reaped.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    match state {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_killed_and_another_of_its_id_is_spared() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of(child.id().unwrap()).unwrap();
        let other = Process {
            started: process.started + 1,
            ..process
        };
        assert!(kill(&[other]).await.is_err());
        assert!(process.is_alive());
        kill(&[process, other]).await.unwrap();
        assert!(!process.is_alive());
        assert!(!child.wait().await.unwrap().success());
        assert!(kill(&[process]).await.is_err());
    }
}
