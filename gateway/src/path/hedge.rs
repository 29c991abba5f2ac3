//! Reading a group of stripes: the data fragments when all is well, parity and decoding when not.
//!
//! Members that are known to be gone are not asked. A fragment that is missing, corrupt or late is
//! replaced by another of its stripe; what comes first is used. Every byte that comes from a member
//! was verified there and after the wire (PROTOCOLS 18).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_placement::{BlobId, Volume};
use enfilade_storage_node::api::error::ShardError;
use enfilade_storage_node::api::read::{FragmentFault, FragmentRange, FragmentRead, ReadRequest};
use enfilade_storage_node::erasure::ErasureError;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::missing::Missing;
use super::plan::Group;
use super::shape::Shape;
use super::stripe::StripeRead;
use super::types::ReadError;
use super::{Inner, within};

/// The ranges that a member is asked for: place of the stripe in the group, and range.
type Ask = Vec<(usize, Range<u32>)>;

/// What a member answered.
struct Answer {
    member: usize,
    ask: Ask,
    result: Result<Vec<FragmentRead>, ShardError>,
}

/// A group under way.
struct GroupRead {
    inner: Arc<Inner>,
    shape: Shape,
    volume: Arc<Volume>,
    stripes: Vec<StripeRead>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Member and stripe of fragments that are not where they should be.
    missing: Vec<(u8, u32)>,
}

/// Fetches the wanted bytes of a group, in order.
pub(super) async fn read_group(
    inner: Arc<Inner>,
    at: ObjectKey,
    group: Group,
) -> Result<Vec<Bytes>, ReadError> {
    let volume = inner
        .view
        .volume(group.volume)
        .await
        .map_err(ReadError::Metadata)?;
    // None: retired, so that it held nothing that is referenced.
    let volume = volume.ok_or(ReadError::Gone(group.shape.blob))?;
    let mut volume = inner.look_again(volume).await;
    let result = read_from(&inner, &at, &volume, group.clone()).await;
    let Err(lost @ ReadError::Lost { .. }) = result else {
        return result;
    };
    // What is known here may be old: shards may have been rebuilt elsewhere since.
    let refreshed = inner.view.refresh().await;
    match inner.view.volume_after(volume.id, volume.epoch).await {
        Ok(Some(newer)) if refreshed.is_ok() => volume = newer,
        _ => return Err(lost),
    }
    read_from(&inner, &at, &volume, group).await
}

async fn read_from(
    inner: &Arc<Inner>,
    at: &ObjectKey,
    volume: &Arc<Volume>,
    group: Group,
) -> Result<Vec<Bytes>, ReadError> {
    let shape = group.shape;
    let mut read = GroupRead {
        inner: Arc::clone(inner),
        shape,
        volume: Arc::clone(volume),
        stripes: group
            .stripes
            .into_iter()
            .map(|plan| StripeRead::new(shape, plan))
            .collect(),
        answers: FuturesUnordered::new(),
        missing: Vec::new(),
    };
    read.ask_for_data();
    let gathered = read.gather().await;
    inner.missing.report(Missing {
        at: at.clone(),
        volume: volume.id,
        blob: shape.blob,
        fragments: std::mem::take(&mut read.missing),
    });
    gathered?;
    read.finish().await
}

impl GroupRead {
    /// Asks for the data fragments, of the members that are there.
    fn ask_for_data(&mut self) {
        let mut asks: BTreeMap<usize, Ask> = BTreeMap::new();
        for (place, stripe) in self.stripes.iter_mut().enumerate() {
            for (member, range) in stripe.plan.wanted.clone() {
                if self.inner.expects(&self.volume, member) {
                    asks.entry(member).or_default().push((place, range));
                } else {
                    stripe.avoid(member);
                }
            }
        }
        self.send(asks);
    }

    /// Waits, and asks for more, until every stripe can be had.
    async fn gather(&mut self) -> Result<(), ReadError> {
        let mut late_at = self.late_at();
        loop {
            if self.escalate()? {
                late_at = self.late_at();
            }
            if self.stripes.iter().all(|stripe| stripe.is_done(self.shape)) {
                return Ok(());
            }
            let clock = Arc::clone(&self.inner.env.clock);
            let left = late_at.saturating_sub(clock.now());
            match within(&*clock, left, self.answers.next()).await {
                Some(Some(answer)) => self.take(answer),
                // Whatever was asked has been answered, and nothing more could be asked.
                Some(None) => return Err(self.lost()),
                None => {
                    let shape = self.shape;
                    let open = self
                        .stripes
                        .iter_mut()
                        .filter(|stripe| !stripe.is_done(shape));
                    // All of them, not only the first.
                    if open.fold(false, |any, stripe| stripe.all_late() | any) {
                        self.inner.metrics.hedges.inc();
                    }
                    late_at = self.late_at();
                }
            }
        }
    }

    fn late_at(&self) -> Duration {
        self.inner.env.clock.now() + self.inner.latency.late_after(&self.inner.settings)
    }

    /// Asks for other fragments of the stripes that would not be had otherwise. Whether it asked.
    fn escalate(&mut self) -> Result<bool, ReadError> {
        let mut asks: BTreeMap<usize, Ask> = BTreeMap::new();
        for (place, stripe) in self.stripes.iter_mut().enumerate() {
            if stripe.is_done(self.shape) || !stripe.is_stuck() {
                continue;
            }
            if !stripe.degraded {
                stripe.degraded = true;
                self.inner.metrics.degraded_stripes.inc();
            }
            let lacking = stripe.lacking(self.shape);
            let mut candidates: Vec<usize> = stripe.candidates(self.shape).collect();
            // Those that are known to be gone or sick come last: better than to give up.
            candidates.sort_by_key(|member| !self.inner.expects(&self.volume, *member));
            let chosen = &candidates[..lacking.min(candidates.len())];
            for member in chosen {
                asks.entry(*member)
                    .or_default()
                    .push((place, stripe.plan.columns()));
            }
            if chosen.is_empty() && !stripe.is_waiting() {
                let (present, needed) = stripe.tally(self.shape);
                let (blob, stripe) = (self.shape.blob, stripe.plan.number);
                return Err(ReadError::Lost {
                    blob,
                    stripe,
                    present,
                    needed,
                });
            }
        }
        let any = !asks.is_empty();
        self.send(asks);
        Ok(any)
    }

    /// The error for the first stripe that cannot be had.
    fn lost(&self) -> ReadError {
        let open = |stripe: &&StripeRead| !stripe.is_done(self.shape) && !stripe.is_waiting();
        let stripe = self.stripes.iter().find(open);
        let (present, needed) = stripe.map_or((0, 0), |stripe| stripe.tally(self.shape));
        let stripe = stripe.map_or(0, |stripe| stripe.plan.number);
        ReadError::Lost {
            blob: self.shape.blob,
            stripe,
            present,
            needed,
        }
    }

    fn send(&mut self, asks: BTreeMap<usize, Ask>) {
        for (member, ask) in asks {
            for (place, range) in &ask {
                self.stripes[*place].ask(member, range.clone());
            }
            let ranges = ask.iter().map(|(place, range)| FragmentRange {
                stripe: self.stripes[*place].plan.number,
                offset: range.start,
                len: range.end - range.start,
            });
            let ranges = ranges.collect();
            let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(&self.volume));
            let blob = self.shape.blob;
            self.answers.push(Box::pin(async move {
                let result = ask_member(&inner, volume, member, (blob, ranges)).await;
                Answer {
                    member,
                    ask,
                    result,
                }
            }));
        }
    }

    fn take(
        &mut self,
        Answer {
            member,
            ask,
            result,
        }: Answer,
    ) {
        let mut fragments = match result {
            Ok(fragments) => fragments,
            Err(error) => {
                tracing::debug!(volume = %self.volume.id, member, %error, "a read failed");
                self.inner.read_failed(&self.volume, member, &error);
                Vec::new()
            }
        }
        .into_iter();
        for (place, range) in ask {
            let read = fragments.next();
            if let (Some(Err(FragmentFault::Missing)), Ok(index)) = (&read, u8::try_from(member)) {
                self.missing.push((index, self.stripes[place].plan.number));
            }
            let bytes = read.and_then(Result::ok);
            if bytes.is_none() {
                self.inner.metrics.faults.inc();
            }
            self.stripes[place].answer(member, &range, bytes);
        }
    }

    /// Puts the bytes together; decodes on another thread.
    async fn finish(self) -> Result<Vec<Bytes>, ReadError> {
        let (shape, stripes) = (self.shape, self.stripes);
        let whole = stripes
            .iter()
            .all(|stripe| stripe.missing().next().is_none());
        let codec = self
            .inner
            .codecs
            .get(shape.profile)
            .map_err(|error| refused(shape, &error))?;
        let finish = move || {
            let chunks = stripes.iter().map(|stripe| stripe.finish(&codec, shape));
            chunks.collect::<Result<Vec<_>, _>>()
        };
        let chunks = if whole {
            finish()
        } else {
            tokio::task::spawn_blocking(finish)
                .await
                .map_err(|_| ReadError::Busy)?
        };
        let chunks = chunks.map_err(|error| refused(shape, &error))?;
        Ok(chunks.into_iter().flatten().collect())
    }
}

/// Asks one member, and once more when the shard or the drive has moved (PROTOCOLS 21).
async fn ask_member(
    inner: &Inner,
    mut volume: Arc<Volume>,
    member: usize,
    (blob, ranges): (BlobId, Vec<FragmentRange>),
) -> Result<Vec<FragmentRead>, ShardError> {
    let clock = &*inner.env.clock;
    let mut again = true;
    loop {
        let (client, at) = inner.shard(&volume, member)?;
        let began = clock.now();
        let request = ReadRequest {
            at,
            blob,
            ranges: ranges.clone(),
            cause: enfilade_storage_node::api::Cause::Get,
        };
        let late = || ShardError::Unreachable("late".to_owned());
        let answer = within(clock, inner.settings.read_deadline, client.read(request)).await;
        let answer = answer.ok_or_else(late).and_then(|answer| answer);
        let moved = match &answer {
            Err(ShardError::StaleEpoch { .. } | ShardError::NotOpen(_)) => true,
            Err(ShardError::NotHere(_)) => inner.view.refresh().await.is_ok(),
            Ok(fragments) => {
                let took = clock.now().saturating_sub(began);
                inner.latency.observe(took);
                inner.metrics.member_read.observe(took.as_secs_f64());
                fragments
                    .iter()
                    .any(|read| matches!(read, Err(FragmentFault::Moved(_))))
            }
            Err(_) => false,
        };
        if !moved || !std::mem::take(&mut again) {
            return answer;
        }
        match inner.view.volume_after(volume.id, volume.epoch).await {
            Ok(Some(newer)) => volume = newer,
            Ok(None) | Err(_) => return answer,
        }
    }
}

fn refused(shape: Shape, error: &ErasureError) -> ReadError {
    tracing::error!(%error, "the codec refuses a stripe");
    ReadError::Mismatch(shape.blob)
}
