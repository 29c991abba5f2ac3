//! Digests of a body beside its encoding: on other threads, in order, never far behind.

use std::sync::Arc;

use bytes::Bytes;
use enfilade_cluster::api::record::ChecksumAlgorithm;
use tokio::task::JoinHandle;

use super::budget::Lease;
use super::compute::Compute;
use super::types::WriteError;
use super::window::ended_early;
use crate::digest::crc::{Crc, CrcDigester, Crcs};
use crate::digest::lanes::{Lanes, Md5Stream};
use crate::digest::md5::Md5;
use crate::digest::{Digests, Sha};

/// Stripes that may wait for SHA before the body does.
const WAITING_MAX: usize = 4;

/// Bytes up to which another thread is not worth its hand-over: about 30 us of MD5.
const HERE_MAX: usize = 16 << 10;

/// Bytes to digest, and the lease that covers them meanwhile.
type Piece = (Bytes, Option<Arc<Lease>>);

/// Which digests of a body are wanted beside CRC-64/NVME.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The one that the client asked for.
    pub(super) asked: Option<ChecksumAlgorithm>,
    /// Whether MD5 is.
    pub(super) md5: bool,
}

/// The digests of a body so far.
pub(super) struct DigestChain {
    asked: Option<ChecksumAlgorithm>,
    crcs: Crcs,
    md5: Option<Md5Chain>,
    sha: Option<ShaChain>,
}

/// MD5: on this thread at first, in the lanes as soon as much comes.
enum Md5Chain {
    Here(Box<Md5>),
    Lanes(Md5Stream),
}

impl Wanted {
    /// Begins the CRCs of some bytes of the body, which anybody may compute: see
    /// [`DigestChain::add_crcs`].
    pub(super) fn crcs(self) -> CrcDigester {
        CrcDigester::new(self.asked.and_then(Crc::of))
    }
}

impl DigestChain {
    pub(super) fn new(wanted: Wanted, compute: Compute) -> Self {
        let sha = wanted.asked.and_then(Sha::of);
        Self {
            asked: wanted.asked,
            crcs: wanted.crcs().finish(),
            md5: wanted.md5.then(|| Md5Chain::Here(Box::default())),
            sha: sha.map(|sha| ShaChain::new(sha, compute)),
        }
    }

    /// Takes the next bytes, but for their CRCs. Returns while they are digested, unless too many
    /// wait.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(super) async fn push(
        &mut self,
        bytes: Bytes,
        lease: Option<Arc<Lease>>,
    ) -> Result<(), WriteError> {
        if let Some(sha) = &mut self.sha {
            sha.push((bytes.clone(), lease.clone())).await?;
        }
        match &mut self.md5 {
            None => {}
            Some(Md5Chain::Here(md5)) if bytes.len() <= HERE_MAX => md5.update(&bytes),
            Some(chain) => chain.post(bytes, lease).await?,
        }
        Ok(())
    }

    /// Takes the CRCs of the next bytes.
    pub(super) fn add_crcs(&mut self, next: &Crcs) {
        self.crcs = self.crcs.then(next);
    }

    /// Waits until all bytes so far are digested, and holds none of them any more.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(super) async fn settle(&mut self) -> Result<(), WriteError> {
        if let Some(Md5Chain::Lanes(stream)) = &mut self.md5 {
            stream.settle().await.map_err(|_| ended_early())?;
        }
        match &mut self.sha {
            Some(sha) => sha.settle().await,
            None => Ok(()),
        }
    }

    /// The digests of all bytes.
    ///
    /// # Errors
    /// When the process is shutting down.
    pub(super) async fn finish(self) -> Result<Digests, WriteError> {
        let md5 = match self.md5 {
            None => None,
            Some(Md5Chain::Here(md5)) => Some(md5.finish()),
            Some(Md5Chain::Lanes(stream)) => {
                Some(stream.finish().await.map_err(|_| ended_early())?)
            }
        };
        let crc64 = self.crcs.crc64;
        let value = match (self.sha, self.crcs.asked) {
            (Some(sha), _) => sha.finish().await?,
            (None, Some((crc, value))) => crc.to_bytes(value),
            (None, None) => Crc::Crc64Nvme.to_bytes(crc64),
        };
        Ok(Digests {
            md5,
            crc64,
            asked: self.asked.map(|asked| (asked, value)),
        })
    }
}

impl Md5Chain {
    /// Posts bytes to the lanes.
    async fn post(&mut self, bytes: Bytes, lease: Option<Arc<Lease>>) -> Result<(), WriteError> {
        if let Self::Here(md5) = self {
            *self = Self::Lanes(Lanes::shared().open(std::mem::take(md5)));
        }
        match self {
            Self::Here(md5) => md5.update(&bytes),
            Self::Lanes(stream) => {
                let held = lease.map(|lease| lease as Arc<dyn Send + Sync>);
                let posted = stream.push(bytes, held).await;
                posted.map_err(|_| ended_early())?;
            }
        }
        Ok(())
    }
}

/// SHA of stripe after stripe, on the threads for digests.
struct ShaChain {
    compute: Compute,
    state: State,
    waiting: Vec<Piece>,
}

enum State {
    Idle(Sha),
    Running(JoinHandle<Sha>),
    /// Between two states; seen only after a task was stopped.
    Lost,
}

impl ShaChain {
    fn new(sha: Sha, compute: Compute) -> Self {
        Self {
            compute,
            state: State::Idle(sha),
            waiting: Vec::new(),
        }
    }

    async fn push(&mut self, piece: Piece) -> Result<(), WriteError> {
        self.waiting.push(piece);
        let done = match &self.state {
            State::Running(task) => task.is_finished(),
            State::Idle(_) | State::Lost => true,
        };
        if done || self.waiting.len() >= WAITING_MAX {
            let sha = self.idle().await?;
            self.start(sha).await;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), WriteError> {
        while !self.waiting.is_empty() {
            let sha = self.idle().await?;
            self.start(sha).await;
        }
        let sha = self.idle().await?;
        self.state = State::Idle(sha);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        self.settle().await?;
        Ok(self.idle().await?.finish())
    }

    async fn idle(&mut self) -> Result<Sha, WriteError> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(sha) => Ok(sha),
            State::Running(task) => task.await.map_err(|_| ended_early()),
            State::Lost => Err(ended_early()),
        }
    }

    async fn start(&mut self, mut sha: Sha) {
        let pieces = std::mem::take(&mut self.waiting);
        let here = pieces.iter().map(|(bytes, _)| bytes.len()).sum::<usize>() <= HERE_MAX;
        let digest = move || {
            for (bytes, lease) in pieces {
                sha.update(&bytes);
                drop((bytes, lease));
            }
            sha
        };
        self.state = if here {
            State::Idle(digest())
        } else {
            State::Running(self.compute.run(digest).await)
        };
    }
}
