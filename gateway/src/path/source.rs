//! The body of a write, cut into stripes as it arrives.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use enfilade_cluster::env::Clock;
use futures::StreamExt;

use super::types::{Body, BodyError, WriteError};
use super::within;

/// A body that is being read.
pub(super) struct Source {
    body: Body,
    /// What came and found no room yet.
    rest: Bytes,
    announced: Option<u64>,
    len_max: u64,
    received: u64,
    ended: bool,
}

/// Why [`Source::fill`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The buffer holds what was wanted.
    Full,
    /// The body ended before.
    Ended,
    /// The time was over before.
    Slow,
}

impl Source {
    /// # Errors
    /// When the announced length is more than accepted.
    pub(super) fn new(
        body: Body,
        announced: Option<u64>,
        len_max: u64,
    ) -> Result<Self, WriteError> {
        if announced.is_some_and(|len| len > len_max) {
            return Err(WriteError::TooLong(len_max));
        }
        Ok(Self {
            body,
            rest: Bytes::new(),
            announced,
            len_max,
            received: 0,
            ended: false,
        })
    }

    /// Bytes that came so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the body ended, as announced, and all of it was given out.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && self.rest.is_empty()
    }

    /// Bytes that are still to be given out, when the length was announced.
    pub(super) fn left(&self) -> Option<u64> {
        let given = self.received - self.rest.len() as u64;
        self.announced
            .map(|announced| announced.saturating_sub(given))
    }

    /// Appends to `into` until it holds `want` bytes, the body ends, or the clock shows `until`.
    /// This is the one copy of the body's bytes.
    ///
    /// # Errors
    /// When the body breaks off, or is longer or shorter than announced or accepted.
    pub(super) async fn fill(
        &mut self,
        into: &mut BytesMut,
        want: usize,
        clock: &dyn Clock,
        until: Duration,
    ) -> Result<Filled, WriteError> {
        loop {
            let room = want.saturating_sub(into.len());
            let piece = self.rest.split_to(room.min(self.rest.len()));
            into.extend_from_slice(&piece);
            if into.len() >= want {
                return Ok(Filled::Full);
            }
            if self.ended {
                return Ok(Filled::Ended);
            }
            let left = until.saturating_sub(clock.now());
            match within(clock, left, self.body.next()).await {
                Some(piece) => self.accept(piece)?,
                None => return Ok(Filled::Slow),
            }
        }
    }

    /// When all announced bytes came: waits for the end of the body, which may yet prove it wrong.
    ///
    /// # Errors
    /// As [`Source::fill`].
    pub(super) async fn end_if_complete(&mut self) -> Result<(), WriteError> {
        while !self.ended && self.announced == Some(self.received) {
            let piece = self.body.next().await;
            self.accept(piece)?;
        }
        Ok(())
    }

    fn accept(&mut self, piece: Option<Result<Bytes, BodyError>>) -> Result<(), WriteError> {
        let Some(piece) = piece.transpose()? else {
            self.ended = true;
            return match self.announced {
                Some(announced) if announced != self.received => Err(self.incomplete(announced)),
                _ => Ok(()),
            };
        };
        self.received += piece.len() as u64;
        if self.received > self.len_max {
            return Err(WriteError::TooLong(self.len_max));
        }
        if let Some(announced) = self
            .announced
            .filter(|announced| self.received > *announced)
        {
            return Err(self.incomplete(announced));
        }
        if !piece.is_empty() {
            self.rest = piece;
        }
        Ok(())
    }

    fn incomplete(&self, announced: u64) -> WriteError {
        let text = format!("{} bytes came, {announced} were announced", self.received);
        WriteError::Body(BodyError::Incomplete(text))
    }
}
