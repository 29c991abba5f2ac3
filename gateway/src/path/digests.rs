//! Digests of a body beside its encoding: on another thread, in order, never far behind.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::budget::Lease;
use super::compute::Compute;
use super::types::WriteError;
use super::window::ended_early;
use crate::digest::{Digester, Digests};

/// Stripes that may wait for the digester before the body does.
const WAITING_MAX: usize = 4;

/// Bytes up to which another thread is not worth its hand-over: about 30 us of MD5.
const HERE_MAX: usize = 16 << 10;

/// Bytes to digest, and the lease that covers them meanwhile.
type Piece = (Bytes, Option<Arc<Lease>>);

/// Digests stripe after stripe.
pub(super) struct DigestChain {
    compute: Compute,
    state: State,
    waiting: Vec<Piece>,
}

enum State {
    Idle(Box<Digester>),
    Running(JoinHandle<Box<Digester>>),
    /// Between two states; seen only after a task was stopped.
    Lost,
}

impl DigestChain {
    pub(super) fn new(digester: Digester, compute: Compute) -> Self {
        Self {
            compute,
            state: State::Idle(Box::new(digester)),
            waiting: Vec::new(),
        }
    }

    /// Takes the next bytes. Returns while they are digested, unless too many wait.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(super) async fn push(
        &mut self,
        bytes: Bytes,
        lease: Option<Arc<Lease>>,
    ) -> Result<(), WriteError> {
        self.waiting.push((bytes, lease));
        let done = match &self.state {
            State::Running(task) => task.is_finished(),
            State::Idle(_) | State::Lost => true,
        };
        if done || self.waiting.len() >= WAITING_MAX {
            let digester = self.idle().await?;
            self.start(digester).await;
        }
        Ok(())
    }

    /// Waits until all bytes so far are digested, and holds none of them any more.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(super) async fn settle(&mut self) -> Result<(), WriteError> {
        while !self.waiting.is_empty() {
            let digester = self.idle().await?;
            self.start(digester).await;
        }
        let digester = self.idle().await?;
        self.state = State::Idle(digester);
        Ok(())
    }

    /// The digests of all bytes.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(super) async fn finish(mut self) -> Result<Digests, WriteError> {
        self.settle().await?;
        Ok(self.idle().await?.finish())
    }

    async fn idle(&mut self) -> Result<Box<Digester>, WriteError> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(digester) => Ok(digester),
            State::Running(task) => task.await.map_err(|_| ended_early()),
            State::Lost => Err(ended_early()),
        }
    }

    async fn start(&mut self, mut digester: Box<Digester>) {
        let pieces = std::mem::take(&mut self.waiting);
        let here = pieces.iter().map(|(bytes, _)| bytes.len()).sum::<usize>() <= HERE_MAX;
        let digest = move || {
            for (bytes, lease) in pieces {
                digester.update(&bytes);
                drop((bytes, lease));
            }
            digester
        };
        self.state = if here {
            State::Idle(digest())
        } else {
            State::Running(self.compute.run(digest).await)
        };
    }
}
