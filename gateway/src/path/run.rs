//! A run: consecutive stripes of one blob, encoded, that go to the members in one append each.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use enfilade_cluster::api::record::Layout;
use enfilade_placement::VolumeId;
use enfilade_storage_node::api::append::FragmentHeader;
use enfilade_storage_node::erasure::checksum::fragment_checksums;
use enfilade_storage_node::erasure::{Codec, ErasureError};

use super::budget::Lease;
use super::shape::Shape;

/// One stripe, encoded. Its data is the body's bytes as they were copied out of the stream, padded
/// with zeros; fragments are slices of it and of the parity.
#[derive(Clone)]
pub(super) struct Stripe {
    /// Its number within the blob.
    pub(super) number: u32,
    /// Bytes of each fragment.
    unit: u32,
    data: Bytes,
    parity: Bytes,
    /// For each member that stores a fragment, in order: its checksums.
    headers: Vec<FragmentHeader>,
}

/// Consecutive stripes, with checksums for one volume.
pub(super) struct Run {
    /// The blob's coding.
    pub(super) shape: Shape,
    /// The volume that the checksums are seeded for.
    pub(super) volume: VolumeId,
    /// The stripes; at least one.
    pub(super) stripes: Vec<Stripe>,
    /// What the run holds of the byte budget. The digests hold it too, until they have the bytes.
    pub(super) lease: Arc<Lease>,
}

/// The bytes of a stripe, padded with zeros to whole fragments, and the length of a fragment.
pub(super) fn pad(shape: Shape, mut data: BytesMut) -> (Bytes, u32) {
    let unit = shape.unit_for(data.len() as u64);
    data.resize(shape.needed() * unit as usize, 0);
    (data.freeze(), unit)
}

impl Stripe {
    /// Encodes padded data, and computes the checksums in the same pass (PROTOCOLS 18).
    ///
    /// # Errors
    /// Never for data that [`pad`] gave.
    pub(super) fn encode(
        codec: &Codec,
        shape: Shape,
        volume: VolumeId,
        number: u32,
        (data, unit): (Bytes, u32),
    ) -> Result<Self, ErasureError> {
        let len = unit as usize;
        let mut parity = BytesMut::zeroed(shape.profile.m() * len);
        let mut outputs: Vec<&mut [u8]> = parity.chunks_mut(len).collect();
        match shape.layout {
            Layout::Full => {
                let fragments: Vec<&[u8]> = data.chunks(len).collect();
                codec.encode(&fragments, &mut outputs)?;
            }
            Layout::Shortened => {
                codec.encode_shortened(shape.short_index(), &data, &mut outputs)?;
            }
        }
        let parity = parity.freeze();
        let mut stripe = Self {
            number,
            unit,
            data,
            parity,
            headers: Vec::new(),
        };
        stripe.headers = stripe.checksums(shape, volume);
        Ok(stripe)
    }

    /// The fragments that members store, in order of their members.
    fn fragments(&self) -> impl Iterator<Item = Bytes> + '_ {
        let unit = self.unit as usize;
        let cut = move |bytes: &Bytes| {
            let bytes = bytes.clone();
            (0..bytes.len() / unit).map(move |index| bytes.slice(index * unit..(index + 1) * unit))
        };
        cut(&self.data).chain(cut(&self.parity))
    }

    fn checksums(&self, shape: Shape, volume: VolumeId) -> Vec<FragmentHeader> {
        let header = |(member, fragment): (usize, Bytes)| FragmentHeader {
            len: self.unit,
            checksums: {
                let seed = shape.seed(volume, self.number, member);
                fragment_checksums(seed, &fragment).collect()
            },
        };
        shape.stored().zip(self.fragments()).map(header).collect()
    }
}

impl Run {
    /// The same stripes with the checksums of another volume.
    pub(super) fn for_volume(&self, volume: VolumeId) -> Self {
        let reseed = |stripe: &Stripe| Stripe {
            headers: stripe.checksums(self.shape, volume),
            ..stripe.clone()
        };
        Self {
            shape: self.shape,
            volume,
            stripes: self.stripes.iter().map(reseed).collect(),
            lease: Arc::clone(&self.lease),
        }
    }

    /// The number of the first stripe.
    pub(super) fn first_stripe(&self) -> u32 {
        self.stripes.first().map_or(0, |stripe| stripe.number)
    }

    /// How many stripes there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.stripes.len()).expect("a run is a few MiB")
    }

    /// Bytes that each member gets.
    pub(super) fn member_bytes(&self) -> u64 {
        self.stripes
            .iter()
            .map(|stripe| u64::from(stripe.unit))
            .sum()
    }

    /// For each member that stores fragments: its index, and its fragments with their headers.
    pub(super) fn members(
        &self,
    ) -> impl Iterator<Item = (usize, Vec<FragmentHeader>, Vec<Bytes>)> + '_ {
        let mut fragments: Vec<_> = self.stripes.iter().map(Stripe::fragments).collect();
        self.shape.stored().enumerate().map(move |(place, member)| {
            let headers = self
                .stripes
                .iter()
                .map(|s| s.headers[place].clone())
                .collect();
            let bytes = fragments.iter_mut().filter_map(Iterator::next).collect();
            (member, headers, bytes)
        })
    }
}
