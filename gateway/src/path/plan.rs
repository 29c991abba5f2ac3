//! Which stripes, and which bytes of each, a range of a blob takes: plain arithmetic.

use std::ops::Range;
use std::sync::Arc;

use enfilade_cluster::api::record::{Extent, Layout};
use enfilade_placement::profile::UNIT_ALIGN;
use enfilade_placement::{BlobId, Profile, VolumeId};

use super::shape::Shape;

/// A blob in volumes, as its record describes it.
#[derive(Debug, Clone)]
pub(super) struct Striped {
    pub(super) shape: Shape,
    pub(super) len: u64,
    extents: Arc<[Extent]>,
}

/// Consecutive stripes of one extent that are fetched together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) shape: Shape,
    pub(super) volume: VolumeId,
    pub(super) stripes: Vec<StripePlan>,
}

/// What is wanted of one stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StripePlan {
    /// Its number within the blob.
    pub(super) number: u32,
    /// Bytes of each fragment.
    pub(super) unit: u32,
    /// The data fragments that hold what is wanted, and the range of each.
    pub(super) wanted: Vec<(usize, Range<u32>)>,
}

/// The record does not say where a stripe is: a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoExtent(pub(super) u32);

impl Striped {
    pub(super) fn new(
        blob: BlobId,
        len: u64,
        (profile, layout): (Profile, Layout),
        extents: Vec<Extent>,
    ) -> Self {
        Self {
            shape: Shape {
                blob,
                profile,
                layout,
            },
            len,
            extents: extents.into(),
        }
    }

    /// The first stripes of what is left of a range, at most `max` and in one extent; takes them
    /// off the range. `None` when nothing is left.
    ///
    /// # Errors
    /// When no extent holds the next stripe.
    pub(super) fn next_group(
        &self,
        range: &mut Range<u64>,
        max: u32,
    ) -> Result<Option<Group>, NoExtent> {
        range.end = range.end.min(self.len);
        if range.start >= range.end {
            return Ok(None);
        }
        let stripe_len = self.shape.stripe_len();
        let first = u32::try_from(range.start / stripe_len).map_err(|_| NoExtent(u32::MAX))?;
        let extent = self.extent_of(first).ok_or(NoExtent(first))?;
        let after = extent.first_stripe.saturating_add(extent.stripes);
        let end = after.min(first.saturating_add(max.max(1)));
        let mut stripes = Vec::new();
        for number in first..end {
            let start = u64::from(number) * stripe_len;
            if start >= range.end {
                break;
            }
            let until = range.end.min(start + stripe_len);
            let within = |offset: u64| u32::try_from(offset).expect("a stripe is below 4 GiB");
            let part = within(range.start - start)..within(until - start);
            let unit = self.shape.unit_at(number, self.len);
            let wanted = self.shape.fragments_of(unit, part).collect();
            stripes.push(StripePlan {
                number,
                unit,
                wanted,
            });
            range.start = until;
        }
        Ok(Some(Group {
            shape: self.shape,
            volume: extent.volume,
            stripes,
        }))
    }

    fn extent_of(&self, stripe: u32) -> Option<&Extent> {
        let after = self
            .extents
            .partition_point(|extent| extent.first_stripe <= stripe);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        (stripe - extent.first_stripe < extent.stripes).then_some(extent)
    }
}

impl Group {
    /// Bytes that are wanted.
    #[cfg(test)]
    pub(super) fn wanted_bytes(&self) -> u64 {
        let all = self.stripes.iter().flat_map(|stripe| &stripe.wanted);
        all.map(|(_, range)| u64::from(range.end - range.start))
            .sum()
    }

    /// Bytes that the group takes at most, when it has to be decoded.
    pub(super) fn bytes_max(&self) -> u64 {
        let fragments = self.shape.profile.width() as u64;
        let columns = self.stripes.iter().map(StripePlan::columns);
        columns
            .map(|columns| u64::from(columns.end - columns.start) * fragments)
            .sum()
    }
}

impl StripePlan {
    /// The range of every fragment that decoding takes: all that is wanted, rounded to what the
    /// codec works on.
    pub(super) fn columns(&self) -> Range<u32> {
        let start = self
            .wanted
            .iter()
            .map(|(_, range)| range.start)
            .min()
            .unwrap_or(0);
        let end = self
            .wanted
            .iter()
            .map(|(_, range)| range.end)
            .max()
            .unwrap_or(0);
        start / UNIT_ALIGN * UNIT_ALIGN..end.next_multiple_of(UNIT_ALIGN).min(self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn blob(len: u64, profile: Profile) -> Striped {
        let stripes = u32::try_from(profile.stripes(len)).unwrap();
        let cut = stripes / 3;
        let extents = [(0, cut), (cut, stripes - cut)]
            .into_iter()
            .filter(|(_, stripes)| *stripes > 0)
            .map(|(first_stripe, stripes)| Extent {
                volume: VolumeId::new(u64::from(first_stripe)),
                first_stripe,
                stripes,
            });
        Striped::new(
            BlobId::new(5),
            len,
            (profile, Layout::Full),
            extents.collect(),
        )
    }

    proptest! {
        #[test]
        fn groups_give_every_byte_of_a_range_once_and_in_order(
            k in 1u8..9, len in 1u64..3_000_000, bounds in any::<(u64, u64)>(), max in 1u32..9
        ) {
            let profile = Profile::new(k, 2).unwrap().with_unit(4096 * 5).unwrap();
            let blob = blob(len, profile);
            let start = bounds.0 % len;
            let mut range = start..start + 1 + bounds.1 % (len - start);
            let (mut at, end) = (range.start, range.end);
            while let Some(group) = blob.next_group(&mut range, max).unwrap() {
                prop_assert!(group.stripes.len() <= max as usize);
                prop_assert!(group.wanted_bytes() <= group.bytes_max());
                for stripe in &group.stripes {
                    for (index, part) in &stripe.wanted {
                        let first = u64::from(stripe.number) * profile.stripe_len();
                        let fragment = first + *index as u64 * u64::from(stripe.unit);
                        prop_assert_eq!(fragment + u64::from(part.start), at);
                        prop_assert!(part.end > part.start && part.end <= stripe.unit);
                        at += u64::from(part.end - part.start);
                    }
                }
            }
            prop_assert_eq!(at, end);
        }
    }

    #[test]
    fn a_stripe_in_no_extent_is_an_error() {
        let profile = Profile::new(2, 1).unwrap();
        let extents = vec![Extent {
            volume: VolumeId::new(1),
            first_stripe: 0,
            stripes: 1,
        }];
        let striped = Striped::new(BlobId::new(5), 1 << 20, (profile, Layout::Full), extents);
        let mut range = profile.stripe_len()..1 << 20;
        assert_eq!(striped.next_group(&mut range, 4), Err(NoExtent(1)));
    }
}
