//! Writing: a body becomes a blob, inline or in volumes, while it arrives.
//!
//! Memory is leased before the body is read for it, for a whole run; a body that is slow, or a
//! process that is short of budget, makes do with runs of one stripe (PROTOCOLS 16). Encoding and
//! digests run on other threads, beside one another and beside the reading of the next stripe.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use enfilade_cluster::api::record::{Blob, Layout, Place};
use enfilade_placement::{BlobId, Profile, VolumeId};
use enfilade_storage_node::api::append::APPEND_BYTES_MAX;
use enfilade_storage_node::erasure::{Codec, ErasureError};
use tokio::task::JoinHandle;

use super::Inner;
use super::budget::Lease;
use super::digests::{DigestChain, Wanted};
use super::run::{Run, Stripe, pad};
use super::shape::Shape;
use super::source::{Filled, Source};
use super::types::{BodyError, WriteBody, WriteError, Written};
use super::window::{Window, ended_early};
use crate::digest::crc::Crcs;
use crate::settings::PathSettings;

/// Writes a body; see [`super::DataPath::write`].
pub(super) async fn write(inner: Arc<Inner>, body: WriteBody) -> Result<Written, WriteError> {
    let no_profile = || WriteError::NoVolume("the cluster has no profile yet".to_owned());
    let profile = inner.view.root().profile.ok_or_else(no_profile)?;
    let codec = inner.codecs.get(profile).map_err(|error| refused(&error))?;
    let source = Source::new(body.body, body.len, body.len_max)?;
    let wanted = Wanted {
        asked: body.digest,
        md5: body.md5,
    };
    let digests = DigestChain::new(wanted, inner.digesting.clone());
    let until = inner.env.clock.now() + inner.settings.body_time_max;
    let mut assembler = Assembler {
        blob: BlobId::new(inner.env.random.next_u128()),
        inner: Arc::clone(&inner),
        profile,
        codec,
        layout: None,
        source,
        wanted,
        digests,
        until,
        next_stripe: 0,
        partial: BytesMut::new(),
        carried: None,
    };
    let mut window = Window::new(inner, body.owner, profile);
    loop {
        match assembler.next(&mut window).await? {
            Assembled::Run(run) => window.push(run).await?,
            Assembled::Inline(bytes) => return assembler.finish(window, bytes).await,
            Assembled::End => return assembler.finish(window, Bytes::new()).await,
        }
    }
}

/// Makes runs of a body.
struct Assembler {
    blob: BlobId,
    inner: Arc<Inner>,
    profile: Profile,
    codec: Codec,
    /// Known from the first stripe on; none for an inline blob.
    layout: Option<Layout>,
    source: Source,
    wanted: Wanted,
    digests: DigestChain,
    /// When the body must have ended.
    until: Duration,
    next_stripe: u32,
    /// The stripe that is being filled.
    partial: BytesMut,
    /// The lease of `partial`, when it was begun in the run before.
    carried: Option<Lease>,
}

enum Assembled {
    /// The body is this, and ended.
    Inline(Bytes),
    /// The next stripes.
    Run(Run),
    /// The body ended before.
    End,
}

/// A run that is being assembled.
struct Open {
    lease: Arc<Lease>,
    /// Stripes that the lease is for.
    capacity: usize,
    volume: Option<VolumeId>,
    stripes: Vec<JoinHandle<Result<(Stripe, Crcs), ErasureError>>>,
}

impl Assembler {
    /// The next run, inline bytes, or the end.
    async fn next(&mut self, window: &mut Window) -> Result<Assembled, WriteError> {
        if self.source.is_ended() && self.next_stripe > 0 && self.partial.is_empty() {
            return Ok(Assembled::End);
        }
        let (lease, capacity) = self.lease(window).await?;
        let stripes = Vec::with_capacity(capacity);
        let mut open = Open {
            lease: Arc::new(lease),
            capacity,
            volume: None,
            stripes,
        };
        let clock = Arc::clone(&self.inner.env.clock);
        let mut slow_at = clock.now() + self.inner.settings.run_fill_time;
        while open.stripes.len() < open.capacity && !self.source.is_ended() {
            let want = self.want(&open);
            let until = slow_at.min(self.until);
            let filled = self
                .source
                .fill(&mut self.partial, want, &*clock, until)
                .await?;
            if filled == Filled::Slow {
                if clock.now() >= self.until {
                    let text = "the body took too long".to_owned();
                    return Err(BodyError::Incomplete(text).into());
                }
                slow_at = self.until;
                self.slow_down(&mut open);
                continue;
            }
            if filled == Filled::Full {
                self.source.end_if_complete().await?;
            }
            if let Some(bytes) = self.whole_inline() {
                return Ok(Assembled::Inline(bytes));
            }
            if !self.partial.is_empty() {
                self.close_stripe(&mut open, window).await?;
            }
        }
        self.close_run(open).await
    }

    /// Bytes that the stripe under way is filled to.
    fn want(&self, open: &Open) -> usize {
        let len = self.profile.stripe_len();
        let want = self
            .source
            .left()
            .map_or(len, |left| len.min(left + self.partial.len() as u64));
        debug_assert!(open.capacity > open.stripes.len());
        usize::try_from(want).expect("a stripe is at most 100 MiB")
    }

    /// Leases memory for the next run: as much as there is left of the body, at most a full run,
    /// one stripe when the budget is short. Waits only while this body holds nothing.
    async fn lease(&mut self, window: &mut Window) -> Result<(Lease, usize), WriteError> {
        if let Some(lease) = self.carried.take() {
            return Ok((lease, 1));
        }
        let budget = &self.inner.write_budget;
        let stripe = self.stripe_bytes();
        let stripes = self.stripes_wanted();
        let one = self
            .source
            .left()
            .map_or(stripe, |left| self.bytes_for(left));
        let all = if stripes == 1 {
            one
        } else {
            stripe * stripes as u64
        };
        let lease = budget.lease_ample(all).map(|lease| (lease, stripes));
        let lease = lease.or_else(|| budget.lease_now(one).map(|lease| (lease, 1)));
        if let Some((lease, stripes)) = lease {
            self.reserve();
            return Ok((lease, stripes));
        }
        window.settle().await?;
        self.digests.settle().await?;
        let (clock, wait) = (&*self.inner.env.clock, self.inner.settings.budget_wait);
        let lease = budget
            .lease(clock, one, wait)
            .await
            .ok_or(WriteError::Busy)?;
        self.reserve();
        Ok((lease, 1))
    }

    /// Stripes that the next run should have.
    fn stripes_wanted(&self) -> usize {
        let unit = u64::from(self.profile.unit());
        let settings = self.settings();
        let by_member = settings.run_bytes.min(APPEND_BYTES_MAX as u64) / unit;
        let by_budget = settings.write_budget / 8 / self.stripe_bytes();
        let by_body = match self.source.left() {
            Some(left) => left.div_ceil(self.profile.stripe_len()),
            // It may be a small body: look at its first stripe first.
            None if self.next_stripe == 0 => 1,
            None => u64::MAX,
        };
        let stripes = by_member.min(by_budget).min(by_body).max(1);
        usize::try_from(stripes).expect("at most 4 MiB / 4 KiB")
    }

    /// Bytes of all fragments of a full stripe.
    fn stripe_bytes(&self) -> u64 {
        self.profile.width() as u64 * u64::from(self.profile.unit())
    }

    /// Bytes that the next stripe takes at most, in whichever layout, when so much of the body is
    /// left.
    fn bytes_for(&self, left: u64) -> u64 {
        let data_len = left.min(self.profile.stripe_len());
        let fragments = |layout| {
            let shape = self.shape(layout);
            shape.stored().count() as u64 * u64::from(shape.unit_for(data_len))
        };
        if self.next_stripe > 0 || !self.is_small(left) {
            fragments(Layout::Full)
        } else if left <= self.settings().inline_limit {
            left
        } else {
            fragments(Layout::Shortened).max(fragments(Layout::Full))
        }
    }

    /// Whether a body of `len` bytes is kept in one fragment, if not inline.
    fn is_small(&self, len: u64) -> bool {
        len <= self.settings().small_limit_of(self.profile)
    }

    fn settings(&self) -> &PathSettings {
        &self.inner.settings
    }

    /// Makes room for a stripe in one piece, so that its bytes are copied once.
    fn reserve(&mut self) {
        let len = self.profile.stripe_len();
        let data = self.source.left().map_or(len, |left| len.min(left));
        let padded = u64::from(self.profile.unit_for(data)) * self.profile.k() as u64;
        self.partial
            .reserve(usize::try_from(padded.max(data)).expect("at most 100 MiB"));
    }

    fn shape(&self, layout: Layout) -> Shape {
        Shape {
            blob: self.blob,
            profile: self.profile,
            layout,
        }
    }

    /// The run took too long: what is full is to be appended, and the rest goes on with the lease
    /// of one stripe.
    fn slow_down(&mut self, open: &mut Open) {
        let stripe = self.stripe_bytes();
        if open.stripes.is_empty() {
            open.lease.shrink_to(stripe);
            open.capacity = 1;
            return;
        }
        self.carried = open.lease.split(stripe);
        open.lease.shrink_to(stripe * open.stripes.len() as u64);
        open.capacity = open.stripes.len();
    }

    /// The whole body, when it ended and is small enough to travel with its record.
    fn whole_inline(&mut self) -> Option<Bytes> {
        let inline = self.next_stripe == 0
            && self.source.is_ended()
            && self.partial.len() as u64 <= self.inner.settings.inline_limit;
        inline.then(|| std::mem::take(&mut self.partial).freeze())
    }

    /// Begins to encode the stripe that was filled.
    async fn close_stripe(
        &mut self,
        open: &mut Open,
        window: &mut Window,
    ) -> Result<(), WriteError> {
        let small = self.source.is_ended() && self.is_small(self.partial.len() as u64);
        let first = if small {
            Layout::Shortened
        } else {
            Layout::Full
        };
        let layout = *self.layout.get_or_insert(first);
        let shape = self.shape(layout);
        let volume = match open.volume {
            Some(volume) => volume,
            None => window.target().await?.id,
        };
        open.volume = Some(volume);
        let data = std::mem::take(&mut self.partial);
        let len = data.len();
        let padded = pad(shape, data);
        let bytes = padded.0.slice(..len);
        let (codec, number) = (self.codec.clone(), self.next_stripe);
        let too_long = WriteError::TooLong(u64::from(u32::MAX) * self.profile.stripe_len());
        self.next_stripe = number.checked_add(1).ok_or(too_long)?;
        let (mut crcs, of_crcs) = (self.wanted.crcs(), bytes.clone());
        let encode = move || {
            let stripe = Stripe::encode(&codec, shape, volume, number, padded)?;
            // While the stripe is in this core's cache.
            crcs.update(&of_crcs);
            Ok((stripe, crcs.finish()))
        };
        open.stripes.push(self.inner.coding.run(encode).await);
        self.digests
            .push(bytes, Some(Arc::clone(&open.lease)))
            .await?;
        if open.stripes.len() < open.capacity && !self.source.is_ended() {
            self.reserve();
        }
        Ok(())
    }

    /// Ends a run: all its stripes are encoded when this returns.
    async fn close_run(&mut self, open: Open) -> Result<Assembled, WriteError> {
        let Some(volume) = open.volume else {
            return Ok(Assembled::End);
        };
        let mut stripes = Vec::with_capacity(open.stripes.len());
        for stripe in open.stripes {
            let stripe = stripe.await.map_err(|_| ended_early())?;
            let (stripe, crcs) = stripe.map_err(|error| refused(&error))?;
            self.digests.add_crcs(&crcs);
            stripes.push(stripe);
        }
        let shape = self.shape(self.layout.unwrap_or(Layout::Full));
        Ok(Assembled::Run(Run {
            shape,
            volume,
            stripes,
            lease: open.lease,
        }))
    }

    /// Waits for all runs and digests.
    async fn finish(mut self, mut window: Window, inline: Bytes) -> Result<Written, WriteError> {
        if !inline.is_empty() {
            let mut crcs = self.wanted.crcs();
            crcs.update(&inline);
            self.digests.add_crcs(&crcs.finish());
            self.digests.push(inline.clone(), None).await?;
        }
        window.settle().await?;
        let digests = self.digests.finish().await?;
        let place = match self.layout {
            None => Place::Inline,
            Some(layout) => {
                let extents = window.into_extents();
                Place::Striped {
                    profile: self.profile,
                    layout,
                    extents,
                }
            }
        };
        let len = self.source.received();
        self.inner.metrics.written_bytes.inc_by(len);
        Ok(Written {
            blob: Blob {
                id: self.blob,
                len,
                crc64: digests.crc64,
                place,
            },
            inline,
            md5: digests.md5,
            digest: digests.asked,
        })
    }
}

/// The codec refused what this module gave it: a defect, but no reason to stop the process.
fn refused(error: &ErasureError) -> WriteError {
    tracing::error!(%error, "the codec refuses a stripe");
    WriteError::NoVolume(format!("the codec refuses a stripe: {error}"))
}
