//! What has come of one stripe that is read, and what it still takes.

use std::ops::Range;

use bytes::Bytes;
use enfilade_cluster::api::record::Layout;
use enfilade_storage_node::erasure::{Codec, ErasureError};

use super::plan::StripePlan;
use super::shape::Shape;

/// A stripe under way.
pub(super) struct StripeRead {
    pub(super) plan: StripePlan,
    /// Whether parity was asked for.
    pub(super) degraded: bool,
    members: Vec<Member>,
}

/// What has come from a member.
#[derive(Default)]
struct Member {
    pieces: Vec<(u32, Bytes)>,
    /// Asked for this range, and no answer yet.
    asked: Option<Range<u32>>,
    /// Did not answer in time; it still may.
    late: bool,
    /// Has not got the fragment, or not intact, or does not answer.
    absent: bool,
    /// Is not expected to answer; asked when there is no other way.
    avoided: bool,
}

impl StripeRead {
    pub(super) fn new(shape: Shape, plan: StripePlan) -> Self {
        let members = (0..shape.profile.width())
            .map(|_| Member::default())
            .collect();
        Self {
            plan,
            degraded: false,
            members,
        }
    }

    /// Notes that a member was asked.
    pub(super) fn ask(&mut self, member: usize, range: Range<u32>) {
        (self.members[member].asked, self.members[member].late) = (Some(range), false);
    }

    /// Notes an answer, or that there is none to come.
    pub(super) fn answer(&mut self, member: usize, range: &Range<u32>, bytes: Option<Bytes>) {
        let member = &mut self.members[member];
        if member.asked.as_ref() == Some(range) {
            member.asked = None;
        }
        match bytes.filter(|bytes| bytes.len() == (range.end - range.start) as usize) {
            Some(bytes) => member.pieces.push((range.start, bytes)),
            None => member.absent = true,
        }
    }

    /// Notes that a member is only to be asked when there is no other way.
    pub(super) fn avoid(&mut self, member: usize) {
        self.members[member].avoided = true;
    }

    /// Notes that all members that were asked take too long. Whether there are any.
    pub(super) fn all_late(&mut self) -> bool {
        let mut any = false;
        for member in self
            .members
            .iter_mut()
            .filter(|m| m.asked.is_some() && !m.late)
        {
            (member.late, any) = (true, true);
        }
        any
    }

    /// The data fragments that have not come.
    pub(super) fn missing(&self) -> impl Iterator<Item = (usize, Range<u32>)> + '_ {
        let wanted = self.plan.wanted.iter().cloned();
        wanted.filter(|(member, range)| self.members[*member].covering(range).is_none())
    }

    /// Whether a data fragment that is wanted will not come, or not in time.
    pub(super) fn is_stuck(&self) -> bool {
        self.missing().any(|(member, _)| {
            let member = &self.members[member];
            member.absent || member.late || (member.avoided && member.asked.is_none())
        })
    }

    /// Whether the wanted bytes are there, or can be made of what is there.
    pub(super) fn is_done(&self, shape: Shape) -> bool {
        self.missing().next().is_none() || self.sources(shape).count() >= shape.needed()
    }

    /// Fragments that are there as far as decoding takes them.
    fn sources(&self, shape: Shape) -> impl Iterator<Item = (usize, Bytes)> + '_ {
        let columns = self.plan.columns();
        let piece = move |member: usize| Some((member, self.members[member].covering(&columns)?));
        shape.stored().filter_map(piece)
    }

    /// How many more fragments must be asked for to decode the stripe.
    pub(super) fn lacking(&self, shape: Shape) -> usize {
        let columns = self.plan.columns();
        let coming = |member: &Member| {
            let asked = member
                .asked
                .as_ref()
                .is_some_and(|asked| covers(asked, &columns));
            member.covering(&columns).is_some() || asked && !member.late
        };
        let coming = shape
            .stored()
            .filter(|member| coming(&self.members[*member]))
            .count();
        shape.needed().saturating_sub(coming)
    }

    /// Members that may have a fragment and were not asked for what decoding takes.
    pub(super) fn candidates(&self, shape: Shape) -> impl Iterator<Item = usize> + '_ {
        let columns = self.plan.columns();
        shape.stored().filter(move |member| {
            let member = &self.members[*member];
            let asked = member
                .asked
                .as_ref()
                .is_some_and(|asked| covers(asked, &columns));
            !member.absent && !asked && member.covering(&columns).is_none()
        })
    }

    /// Whether an answer is still to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.members.iter().any(|member| member.asked.is_some())
    }

    /// How many fragments are there, and how many are needed.
    pub(super) fn tally(&self, shape: Shape) -> (usize, usize) {
        (self.sources(shape).count(), shape.needed())
    }

    /// The wanted bytes, in order. Decodes what did not come.
    ///
    /// # Errors
    /// Never once [`StripeRead::is_done`] says so.
    pub(super) fn finish(&self, codec: &Codec, shape: Shape) -> Result<Vec<Bytes>, ErasureError> {
        let columns = self.plan.columns();
        let missing: Vec<usize> = self.missing().map(|(member, _)| member).collect();
        let len = (columns.end - columns.start) as usize;
        let mut restored: Vec<Vec<u8>> = missing.iter().map(|_| vec![0; len]).collect();
        if !missing.is_empty() {
            let sources: Vec<(usize, Bytes)> = self.sources(shape).take(shape.needed()).collect();
            let sources: Vec<(usize, &[u8])> = sources.iter().map(|(i, b)| (*i, &b[..])).collect();
            let outputs = restored.iter_mut().map(Vec::as_mut_slice);
            let mut outputs: Vec<(usize, &mut [u8])> =
                missing.iter().copied().zip(outputs).collect();
            decode(codec, shape, &sources, &mut outputs)?;
        }
        let mut restored = missing
            .into_iter()
            .zip(restored.into_iter().map(Bytes::from));
        let chunk = |(member, range): &(usize, Range<u32>)| {
            self.members[*member].covering(range).or_else(|| {
                let (_, bytes) = restored.next()?;
                let start = (range.start - columns.start) as usize;
                Some(bytes.slice(start..start + (range.end - range.start) as usize))
            })
        };
        Ok(self.plan.wanted.iter().filter_map(chunk).collect())
    }
}

impl Member {
    /// The bytes of a range, when one piece has them all.
    fn covering(&self, range: &Range<u32>) -> Option<Bytes> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let from = range.start.checked_sub(*start)? as usize;
            let to = from + (range.end - range.start) as usize;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        })
    }
}

fn covers(outer: &Range<u32>, inner: &Range<u32>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn decode(
    codec: &Codec,
    shape: Shape,
    sources: &[(usize, &[u8])],
    outputs: &mut [(usize, &mut [u8])],
) -> Result<(), ErasureError> {
    match (shape.layout, sources.first()) {
        (Layout::Shortened, Some(source)) => {
            codec.reconstruct_shortened(shape.short_index(), *source, outputs)
        }
        _ => codec.reconstruct(sources, outputs),
    }
}
