//! A cluster of the real program, in a folder of its own.

use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::connector::Connector;

/// The root user of clusters under test.
pub(crate) const USER: &str = "tester";
pub(crate) const PASSWORD: &str = "a-password-of-tests";

/// For anything that a healthy machine does in a few seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const LOOK: Duration = Duration::from_millis(50);

/// A cluster that runs, or did. Dropping it kills the parent; children end with it.
pub(crate) struct Cluster {
    folder: TempDir,
    flags: Vec<String>,
    parent: Option<Child>,
    pub(crate) s3: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The program under test, with credentials and nothing else of our environment.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enfilade"));
    command
        .args(arguments)
        .env("ENFILADE_ROOT_USER", USER)
        .env("ENFILADE_ROOT_PASSWORD", PASSWORD)
        .env_remove("ENFILADE_ADMIN")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs the program to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    let output = tokio::time::timeout(PATIENCE, program(arguments).output()).await;
    output
        .unwrap_or_else(|_| panic!("{arguments:?} does not end"))
        .unwrap()
}

impl Cluster {
    /// Starts one in a new folder, and returns when it says that it is ready.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let mut cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            parent: None,
            s3: "127.0.0.1:1".parse().unwrap(),
            admin: "127.0.0.1:1".parse().unwrap(),
        };
        cluster.up().await;
        cluster
    }

    /// Starts it again on its folder.
    pub(crate) async fn up(&mut self) {
        assert!(self.parent.is_none(), "it runs");
        let data = self.data();
        let mut command = program(&["up", "--s3", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command
            .arg("--data")
            .arg(&data)
            .args(&self.flags)
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("ready") {
                    return true;
                }
            }
            false
        };
        let ready = tokio::time::timeout(PATIENCE * 2, ready).await;
        assert_eq!(ready, Ok(true), "`up` said that it is ready");
        self.parent = Some(child);
        let run = self.run_file();
        self.s3 = run["s3"].as_str().unwrap().parse().unwrap();
        self.admin = run["admin"].as_str().unwrap().parse().unwrap();
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn parent_pid(&self) -> u32 {
        self.parent.as_ref().unwrap().id().unwrap()
    }

    /// `run.json`.
    pub(crate) fn run_file(&self) -> Value {
        let text = std::fs::read(self.data().join("run.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The enclosures of `run.json`.
    pub(crate) fn enclosures(&self) -> Vec<Value> {
        self.run_file()["enclosures"].as_array().unwrap().clone()
    }

    /// Stops it by SIGTERM, as an operator does.
    pub(crate) async fn stop(&mut self) {
        signal("-TERM", &[self.parent_pid()]).await;
        let mut parent = self.parent.take().unwrap();
        let status = tokio::time::timeout(PATIENCE, parent.wait())
            .await
            .unwrap()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// Kills the process of an enclosure (SIGKILL), and returns when it is gone.
    pub(crate) async fn kill(&self, id: u64) {
        let enclosures = self.enclosures();
        let enclosure = enclosures
            .iter()
            .find(|enclosure| enclosure["id"] == id)
            .unwrap();
        let pid = u32::try_from(enclosure["pid"].as_u64().unwrap()).unwrap();
        signal("-KILL", &[pid]).await;
        until(|| async { !lives(pid) }).await;
    }

    /// Kills the parent and all enclosures at once.
    pub(crate) async fn kill_all(&mut self) {
        let mut pids: Vec<u32> = self
            .enclosures()
            .iter()
            .filter_map(|enclosure| enclosure["pid"].as_u64())
            .map(|pid| u32::try_from(pid).unwrap())
            .collect();
        pids.push(self.parent_pid());
        signal("-KILL", &pids).await;
        self.parent.take().unwrap().wait().await.unwrap();
        until(|| async { !pids.iter().any(|pid| lives(*pid)) }).await;
    }

    /// Forgets a parent that was killed.
    pub(crate) async fn abandon(&mut self) {
        self.parent.take().unwrap().wait().await.unwrap();
    }

    /// An admin command, and what it printed as JSON.
    pub(crate) async fn admin(&self, arguments: &[&str]) -> Result<Value, String> {
        let url = format!("http://{}", self.admin);
        let all = [arguments, &["--json", "--admin", &url]].concat();
        let output = run(&all).await;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// `enfilade status --json`.
    pub(crate) async fn status(&self) -> Value {
        self.admin(&["status"]).await.unwrap()
    }

    /// Waits until the status says `healthy` as expected.
    pub(crate) async fn await_health(&self, healthy: bool) {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if status["healthy"] == healthy {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{}", status["reasons"]);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A client that tries each request once.
    pub(crate) fn client(&self) -> Client {
        client(self.s3, USER, PASSWORD)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(parent) = &mut self.parent else {
            return;
        };
        let _ = parent.start_kill();
        // Children end by themselves when their parent is gone; make sure of it.
        let run = std::fs::read(self.folder.path().join("data/run.json")).unwrap_or_default();
        let run: Value = serde_json::from_slice(&run).unwrap_or_default();
        let enclosures = run["enclosures"].as_array().cloned().unwrap_or_default();
        let pids = enclosures
            .iter()
            .filter_map(|enclosure| enclosure["pid"].as_u64());
        for pid in pids.filter(|pid| run["pid"] != *pid) {
            let _ = std::process::Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .output();
        }
    }
}

pub(crate) fn client(s3: SocketAddr, user: &str, password: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{s3}"))
        .credentials_provider(Credentials::new(user, password, None, None, "tests"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(Connector::new())
        .build();
    Client::from_conf(config)
}

async fn signal(signal: &str, pids: &[u32]) {
    let mut command = Command::new("kill");
    command.arg(signal).args(pids.iter().map(u32::to_string));
    assert!(
        command.status().await.unwrap().success(),
        "kill {signal} {pids:?}"
    );
}

/// Whether a process runs, and does not only wait to be reaped.
pub(crate) fn lives(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// Looks until a condition holds.
#[track_caller]
pub(crate) fn until<F: Future<Output = bool>>(
    condition: impl Fn() -> F,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        while !condition().await {
            assert!(
                began.elapsed() < PATIENCE,
                "it does not come true: {caller}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Tries until it works, as clients do while leaders change.
pub(crate) async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    attempt: impl Fn() -> F,
) -> T {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Bytes that no other seed gives, and that do not compress.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The names of files in a folder, and below.
pub(crate) fn files_in(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, |entries| entries.count())
}
