//! How the stripes of one blob are cut and coded: the geometry of its layout.

use std::ops::Range;

use enfilade_cluster::api::record::{Blob, Layout, Place};
use enfilade_placement::profile::UNIT_ALIGN;
use enfilade_placement::{BlobId, Profile, VolumeId};

use crate::erasure::checksum::FragmentSeed;

/// A blob's id and coding, from which its geometry follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The blob.
    pub blob: BlobId,
    /// Its erasure code.
    pub profile: Profile,
    /// Whether all data fragments are stored, or one.
    pub layout: Layout,
}

impl Shape {
    /// The shape of a blob that is in volumes; `None` when it is inline.
    pub const fn of(blob: &Blob) -> Option<Self> {
        match &blob.place {
            Place::Inline => None,
            Place::Striped {
                profile, layout, ..
            } => Some(Self {
                blob: blob.id,
                profile: *profile,
                layout: *layout,
            }),
        }
    }

    /// The data fragment that a shortened stripe stores (PROTOCOLS 17).
    pub fn short_index(self) -> usize {
        let k = self.profile.k() as u128;
        usize::try_from(self.blob.get() % k).expect("below k, which is at most 100")
    }

    /// Whether a member stores a fragment of each stripe.
    pub fn stores(self, member: usize) -> bool {
        match self.layout {
            Layout::Full => member < self.profile.width(),
            Layout::Shortened => {
                member == self.short_index()
                    || (self.profile.k()..self.profile.width()).contains(&member)
            }
        }
    }

    /// The members that store a fragment of each stripe.
    pub fn stored(self) -> impl Iterator<Item = usize> {
        (0..self.profile.width()).filter(move |member| self.stores(*member))
    }

    /// How many stored fragments give a stripe back.
    pub fn needed(self) -> usize {
        match self.layout {
            Layout::Full => self.profile.k(),
            Layout::Shortened => 1,
        }
    }

    /// How many members must have synced a stripe at least (PROTOCOLS 11): one more than needed.
    pub fn ack_floor(self) -> usize {
        self.needed() + 1
    }

    /// Bytes of data in a full stripe.
    pub fn stripe_len(self) -> u64 {
        match self.layout {
            Layout::Full => self.profile.stripe_len(),
            Layout::Shortened => u64::from(self.profile.unit()),
        }
    }

    /// Bytes of one fragment of a stripe with so many bytes of data.
    pub fn unit_for(self, data_len: u64) -> u32 {
        match self.layout {
            Layout::Full => self.profile.unit_for(data_len),
            Layout::Shortened => {
                let unit = data_len.next_multiple_of(u64::from(UNIT_ALIGN));
                u32::try_from(unit).map_or(self.profile.unit(), |u| u.min(self.profile.unit()))
            }
        }
    }

    /// Bytes of one fragment of a stripe of a blob of `len` bytes.
    pub fn unit_at(self, stripe: u32, len: u64) -> u32 {
        let start = u64::from(stripe).saturating_mul(self.stripe_len());
        self.unit_for(len.saturating_sub(start).min(self.stripe_len()))
    }

    /// The data fragments that hold bytes of a stripe, with the range of each; `range` counts from
    /// the start of the stripe.
    pub fn fragments_of(
        self,
        unit: u32,
        range: Range<u32>,
    ) -> impl Iterator<Item = (usize, Range<u32>)> {
        let full = self.layout == Layout::Full;
        let first = if full { range.start / unit } else { 0 };
        let last = if full {
            (range.end.max(1) - 1) / unit
        } else {
            0
        };
        (first..=last).map(move |index| {
            let start = index * unit;
            let within = range.start.max(start) - start..range.end.min(start + unit) - start;
            let member = if full {
                index as usize
            } else {
                self.short_index()
            };
            (member, within)
        })
    }

    /// What the checksums of a fragment cover beside its bytes.
    pub fn seed(self, volume: VolumeId, stripe: u32, member: usize) -> FragmentSeed {
        FragmentSeed {
            volume: volume.get(),
            blob: self.blob.get(),
            stripe,
            index: u8::try_from(member).expect("a profile has at most 116 members"),
        }
    }
}
