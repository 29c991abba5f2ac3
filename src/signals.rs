//! When a process is to stop.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a process ends that is told to stop a second time while it stops.
const IMPATIENT: i32 = 130;

/// Listens for Ctrl-C and SIGTERM from the moment it is made.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// The pipe from the process that supervises this one.
    supervisor: Option<pipe::Receiver>,
}

impl StopSignals {
    /// Begins to listen. A supervised process also stops when its standard input ends: whoever
    /// started it is gone.
    ///
    /// # Errors
    /// When the system does not let us, or a supervised process has no pipe as standard input.
    pub(crate) fn listen(supervised: bool) -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let supervisor = if supervised {
            Some(supervisor()?)
        } else {
            None
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            supervisor,
        })
    }

    /// Waits until the process is to stop; why.
    pub(crate) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
            () = ended(self.supervisor.as_mut()) => "left alone",
        }
    }

    /// From now on a further signal ends the process at once. What was acked is durable whatever
    /// happens; only a clean stop is given up.
    pub(crate) fn lose_patience(mut self) {
        self.supervisor = None;
        tokio::spawn(async move {
            self.stop().await;
            std::process::exit(IMPATIENT);
        });
    }
}

fn supervisor() -> Result<pipe::Receiver> {
    let input = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("standard input")?;
    pipe::Receiver::from_owned_fd(input).context("--supervised: standard input is no pipe")
}

/// Waits for the end of a pipe; for ever when there is none.
async fn ended(pipe: Option<&mut pipe::Receiver>) {
    let Some(pipe) = pipe else {
        return std::future::pending().await;
    };
    let mut buffer = [0; 64];
    while !matches!(pipe.read(&mut buffer).await, Ok(0) | Err(_)) {}
}
