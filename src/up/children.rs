//! Processes of enclosures: started, watched and stopped, never started again by themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::admin::client::AdminClient;
use crate::credentials::RootCredentials;
use crate::os;
use crate::settings::OVERRIDE_PREFIX;
use crate::up::layout::Layout;
use crate::up::run_file::{ProcessState, RunEnclosure, RunFile};

/// A process that does not answer by then has failed to start.
const START_TIME: Duration = Duration::from_secs(60);

/// A process that has not ended by then after it was asked to is killed.
const STOP_TIME: Duration = Duration::from_secs(20);

/// How often a process that starts is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How a process is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGTERM, and the end of its standard input.
    Ask,
    /// SIGKILL.
    Kill,
}

/// The processes of a cluster, and the file that names them.
pub(crate) struct Children {
    layout: Layout,
    program: PathBuf,
    credentials: RootCredentials,
    state: Mutex<State>,
}

struct State {
    run: RunFile,
    handles: BTreeMap<u32, Handle>,
}

/// A process that was started, until it is forgotten after its end.
struct Handle {
    pid: u32,
    /// Its end closes, when this is dropped, whatever becomes of us.
    _stdin: Option<ChildStdin>,
    kill: mpsc::Sender<()>,
    ended: watch::Receiver<bool>,
}

impl Children {
    /// No process yet. `run` names the enclosures.
    ///
    /// # Errors
    /// When it is not known which program we are.
    pub(crate) fn new(layout: Layout, credentials: RootCredentials, run: RunFile) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the program itself")?;
        let state = Mutex::new(State {
            run,
            handles: BTreeMap::new(),
        });
        Ok(Self {
            layout,
            program,
            credentials,
            state,
        })
    }

    /// What `run.json` says.
    pub(crate) fn run(&self) -> RunFile {
        self.lock().run.clone()
    }

    /// Names one more enclosure.
    ///
    /// # Errors
    /// When `run.json` cannot be written.
    pub(crate) fn enter(&self, enclosure: RunEnclosure) -> Result<()> {
        let mut state = self.lock();
        state.run.enclosures.push(enclosure);
        state.run.write(&self.layout)
    }

    /// Names an enclosure no more; its process has ended.
    ///
    /// # Errors
    /// When `run.json` cannot be written.
    pub(crate) fn forget(&self, id: u32) -> Result<()> {
        let mut state = self.lock();
        state.run.enclosures.retain(|enclosure| enclosure.id != id);
        state.run.write(&self.layout)
    }

    /// Whether the process of an enclosure lives; none when there is no such enclosure.
    pub(crate) fn lives(&self, id: u32) -> Option<bool> {
        let state = self.lock();
        let known = state
            .run
            .enclosures
            .iter()
            .any(|enclosure| enclosure.id == id);
        known.then(|| state.handles.contains_key(&id))
    }

    /// Starts the process of an enclosure. It is not ready yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(self: &Arc<Self>, id: u32) -> Result<u32> {
        let config = self
            .layout
            .node_config(enfilade_placement::EnclosureId::new(id));
        let mut command = Command::new(&self.program);
        command
            .arg("node")
            .arg("--config")
            .arg(&config)
            .arg("--supervised");
        // Not in our group: Ctrl-C reaches us alone, and we stop what we started in order.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(OVERRIDE_PREFIX) {
                command.env_remove(name);
            }
        }
        let mut state = self.lock();
        if state.handles.contains_key(&id) {
            bail!("enclosure {id} runs already");
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the process of enclosure {id}"))?;
        let pid = child
            .id()
            .context("a process that has just been started has no id")?;
        let (kill, killed) = mpsc::channel(1);
        let (end, ended) = watch::channel(false);
        let handle = Handle {
            pid,
            _stdin: child.stdin.take(),
            kill,
            ended,
        };
        state.handles.insert(id, handle);
        let noted = state.note(id, Some(pid), ProcessState::Starting, &self.layout);
        drop(state);
        tokio::spawn(Arc::clone(self).watch(id, child, killed, end));
        noted?;
        Ok(pid)
    }

    /// Waits for the end of a process, and notes it.
    async fn watch(
        self: Arc<Self>,
        id: u32,
        mut child: Child,
        mut killed: mpsc::Receiver<()>,
        end: watch::Sender<bool>,
    ) {
        let ending = loop {
            tokio::select! {
                ending = child.wait() => break ending,
                Some(()) = killed.recv() => {
                    if let Err(error) = child.start_kill() {
                        tracing::warn!(id, %error, "cannot kill the process of an enclosure");
                    }
                }
            }
        };
        let mut state = self.lock();
        state.handles.remove(&id);
        let stopped = state.state_of(id) == Some(ProcessState::Stopped);
        let becomes = if stopped {
            ProcessState::Stopped
        } else {
            ProcessState::Exited
        };
        if let Err(error) = state.note(id, None, becomes, &self.layout) {
            tracing::error!(
                id,
                error = format!("{error:#}"),
                "cannot note the end of a process"
            );
        }
        drop(state);
        match ending {
            _ if stopped => tracing::info!(id, "an enclosure has stopped"),
            Ok(status) => tracing::error!(id, %status, "the process of an enclosure has ended"),
            Err(error) => tracing::error!(id, %error, "the process of an enclosure is lost"),
        }
        end.send_replace(true);
    }

    /// Waits until a process does its work.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub(crate) async fn wait_ready(&self, id: u32) -> Result<()> {
        self.wait_for(id, "ready").await?;
        let mut state = self.lock();
        let pid = state.handles.get(&id).map(|handle| handle.pid);
        if pid.is_some() {
            state.note(id, pid, ProcessState::Running, &self.layout)?;
        }
        Ok(())
    }

    /// Waits until a process answers at `/health/PART`.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub(crate) async fn wait_for(&self, id: u32, part: &str) -> Result<()> {
        let client = self.client(id)?;
        let ended = self
            .lock()
            .handles
            .get(&id)
            .map(|handle| handle.ended.clone());
        let Some(mut ended) = ended else {
            bail!("the process of enclosure {id} has ended")
        };
        let answers = async {
            while !client.is(part).await {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::select! {
            answered = timeout(START_TIME, answers) => {
                answered.with_context(|| format!("enclosure {id} is not {part} in time"))
            }
            _ = ended.wait_for(|ended| *ended) => {
                bail!("the process of enclosure {id} has ended; its log says why")
            }
        }
    }

    /// A client of the admin API of an enclosure's process.
    ///
    /// # Errors
    /// When there is no such enclosure.
    pub(crate) fn client(&self, id: u32) -> Result<AdminClient> {
        let state = self.lock();
        let enclosure = state
            .run
            .enclosures
            .iter()
            .find(|enclosure| enclosure.id == id);
        let address = &enclosure
            .with_context(|| format!("there is no enclosure {id}"))?
            .admin;
        AdminClient::new(&format!("http://{address}"), &self.credentials)
    }

    /// Stops a process, and returns when it has ended. Nothing when it does not run.
    pub(crate) async fn stop(&self, id: u32, how: Stop) {
        let (kill, mut ended) = {
            let mut state = self.lock();
            let Some(handle) = state.handles.get_mut(&id) else {
                return;
            };
            // A look at the start would not help: the id is not free before our wait has ended.
            if how == Stop::Ask
                && let Err(error) = os::terminate(handle.pid)
            {
                tracing::warn!(id, %error, "cannot ask the process of an enclosure to end");
            }
            handle._stdin = None;
            let (kill, ended) = (handle.kill.clone(), handle.ended.clone());
            let pid = Some(handle.pid);
            if let Err(error) = state.note(id, pid, ProcessState::Stopped, &self.layout) {
                tracing::error!(id, error = format!("{error:#}"), "cannot note a stop");
            }
            (kill, ended)
        };
        if how == Stop::Ask
            && timeout(STOP_TIME, ended.wait_for(|ended| *ended))
                .await
                .is_ok()
        {
            return;
        }
        if how == Stop::Ask {
            tracing::warn!(id, "an enclosure does not end and is killed");
        }
        let _ = kill.send(()).await;
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Stops all, at the same time.
    pub(crate) async fn stop_all(&self) {
        let ids: Vec<u32> = self.lock().handles.keys().copied().collect();
        futures::future::join_all(ids.into_iter().map(|id| self.stop(id, Stop::Ask))).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn state_of(&self, id: u32) -> Option<ProcessState> {
        self.run
            .enclosures
            .iter()
            .find(|enclosure| enclosure.id == id)
            .map(|e| e.state)
    }

    fn note(
        &mut self,
        id: u32,
        pid: Option<u32>,
        becomes: ProcessState,
        layout: &Layout,
    ) -> Result<()> {
        if let Some(enclosure) = self.run.enclosure_mut(id) {
            enclosure.pid = pid;
            enclosure.started = pid.and_then(os::process_start);
            enclosure.state = becomes;
        }
        self.run.write(layout)
    }
}
