//! The reference: what an engine may answer.

use std::collections::BTreeMap;

use super::ops::Item;

/// A set of what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Can(u8);

impl Can {
    pub(super) const GONE: Self = Self(1);
    pub(super) const THERE: Self = Self(2);
    pub(super) const CORRUPT: Self = Self(4);
    pub(super) const ANY: Self = Self(7);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn may(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) can: Can,
    /// Bytes of it rotted: they are not right again before it is written again.
    pub(super) rotten: bool,
    /// The header of its record rotted: what is known of it depends on the index.
    pub(super) loose: bool,
}

impl Fragment {
    const NEVER: Self = Self::new(Can::GONE);

    const fn new(can: Can) -> Self {
        Self {
            can,
            rotten: false,
            loose: false,
        }
    }
}

/// What is known of a blob as a whole; `None`: it may be either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) known: Option<bool>,
    pub(super) committed: Option<bool>,
    pub(super) owner: Option<bool>,
}

impl Blob {
    pub(super) const NEVER: Self = Self {
        known: Some(false),
        committed: Some(false),
        owner: Some(false),
    };
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) fragments: BTreeMap<(u8, u32), Fragment>,
    pub(super) blobs: BTreeMap<u8, Blob>,
    /// Epochs below this are refused, and from that on none is.
    pub(super) fence: (u64, u64),
    /// A header rotted in its log.
    pub(super) damaged: bool,
    /// An earlier log is gone, which must be told, and which may be told.
    pub(super) lost: (bool, bool),
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Acked.
    Done,
    /// Refused: nothing happened.
    Refused,
    /// The drive failed: it may have happened.
    Unknown,
}

impl Shard {
    fn fragment(&mut self, blob: u8, stripe: u32) -> &mut Fragment {
        self.fragments
            .entry((blob, stripe))
            .or_insert(Fragment::NEVER)
    }

    fn blob(&mut self, blob: u8) -> &mut Blob {
        self.blobs.entry(blob).or_insert(Blob::NEVER)
    }

    fn remove(&mut self, blob: u8, stripes: std::ops::Range<u32>) {
        for stripe in stripes {
            *self.fragment(blob, stripe) = Fragment::NEVER;
        }
    }

    fn append(&mut self, blob: u8, stripes: std::ops::Range<u32>, marks: u8, owner: bool) {
        for stripe in stripes {
            let fragment = self.fragment(blob, stripe);
            // Whoever appends it again is told that it is there, until somebody reads it.
            fragment.can = match fragment.rotten {
                true => Can::THERE.or(Can::CORRUPT),
                false => Can::THERE,
            };
            fragment.loose = false;
        }
        let row = self.blob(blob);
        // A repeat may be told from an append by nobody but the engine, and tells nothing new.
        let new = row.known == Some(false);
        row.owner = match (row.owner, owner) {
            (Some(true), _) => Some(true),
            (Some(false), false) => Some(false),
            (Some(false), true) if new => Some(true),
            _ => None,
        };
        let marked = marks & (1 << blob) != 0;
        row.committed = match row.committed {
            Some(true) => Some(true),
            Some(false) if !marked => Some(false),
            Some(false) if new => Some(true),
            _ => None,
        };
        row.known = Some(true);
        for other in (0..8).filter(|other| *other != blob && marks & (1 << other) != 0) {
            let row = self.blob(other);
            if row.known != Some(false) && row.committed == Some(false) {
                row.committed = None;
            }
        }
    }

    /// What is known of a blob without any fragment may go.
    fn compact(&mut self) {
        let there = |blob: u8| {
            let mut held = self.fragments.range((blob, 0)..(blob + 1, 0));
            held.any(|(_, is)| !is.can.may(Can::GONE))
        };
        let bare: Vec<u8> = self
            .blobs
            .keys()
            .copied()
            .filter(|blob| !there(*blob))
            .collect();
        for blob in bare {
            let row = self.blob(blob);
            for known in [&mut row.known, &mut row.committed, &mut row.owner] {
                *known = known.filter(|is| !is);
            }
        }
    }

    /// The log is gone, and that is known.
    pub(super) fn lose(&mut self) {
        *self = Self {
            fence: self.fence,
            lost: (true, true),
            ..Self::default()
        };
    }

    /// The state after an item was done; `epoch` is what a fence of that time asks for.
    pub(super) fn after(&self, item: &Item, epoch: u64) -> Self {
        let mut next = self.clone();
        if matches!(item, Item::Append { .. } | Item::AppendLog { .. }) {
            next.fence.1 = next.fence.1.max(epoch - 1);
        }
        match item {
            Item::Append {
                at, marks, owner, ..
            } => next.append(at.blob, at.first..at.first + at.count, *marks, *owner),
            Item::AppendLog { at, .. } => next.append(at.blob, at.first..at.first + 1, 0, false),
            Item::Delete { blob, .. } => {
                next.fragments.retain(|(of, _), _| of != blob);
                next.blobs.remove(blob);
            }
            Item::DeleteRun(at) => next.remove(at.blob, at.first..at.first + at.count),
            Item::Mark { blob, .. } => {
                let row = next.blob(*blob);
                row.committed = match row.known {
                    Some(true) => Some(true),
                    Some(false) => row.committed,
                    None => None,
                };
            }
            Item::Fence(_) => {
                next.fence = (next.fence.0.max(epoch), next.fence.1.max(epoch));
            }
            Item::Drop(_) => next = Self::default(),
            Item::Compact(_) => next.compact(),
            Item::Read { .. } | Item::Scrub(_) => {}
        }
        next
    }

    /// The state when it may be this one or another.
    pub(super) fn or(&self, other: &Self) -> Self {
        let mut both = self.clone();
        let names = self.fragments.keys().chain(other.fragments.keys());
        for name in names {
            let a = self.fragments.get(name).unwrap_or(&Fragment::NEVER);
            let b = other.fragments.get(name).unwrap_or(&Fragment::NEVER);
            let either = Fragment {
                can: a.can.or(b.can),
                rotten: a.rotten || b.rotten,
                loose: a.loose || b.loose,
            };
            both.fragments.insert(*name, either);
        }
        let same = |a: Option<bool>, b: Option<bool>| if a == b { a } else { None };
        for blob in self.blobs.keys().chain(other.blobs.keys()) {
            let a = self.blobs.get(blob).unwrap_or(&Blob::NEVER);
            let b = other.blobs.get(blob).unwrap_or(&Blob::NEVER);
            let either = Blob {
                known: same(a.known, b.known),
                committed: same(a.committed, b.committed),
                owner: same(a.owner, b.owner),
            };
            both.blobs.insert(*blob, either);
        }
        both.fence = (
            self.fence.0.min(other.fence.0),
            self.fence.1.max(other.fence.1),
        );
        both.damaged |= other.damaged;
        both.lost = (self.lost.0 && other.lost.0, self.lost.1 || other.lost.1);
        both
    }
}
