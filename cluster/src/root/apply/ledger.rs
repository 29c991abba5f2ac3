//! The ledger of one shard: rot and partial shards, as few rows as say it (PROTOCOLS 22).

use std::collections::BTreeMap;

use enfilade_placement::{BlobId, DriveId, Volume, VolumeId, VolumeState};

use crate::api::root::{LedgerRange, LedgerRow};
use crate::root::keys;
use crate::root::state::State;
use crate::rows::{RowsError, Table};
use crate::typed;

/// A shard with more rows than this counts as whole.
pub(in crate::root) const SHARD_ROWS_MAX: usize = 1000;

/// Stripes of one blob: disjoint runs that do not touch, first to last, by their first.
type Runs = BTreeMap<u32, u32>;

/// The ledger of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shard {
    whole: bool,
    runs: BTreeMap<BlobId, Runs>,
}

impl Shard {
    fn load(state: &State<'_, '_>, volume: VolumeId, member: u8) -> Result<Self, RowsError> {
        let span = keys::ledger_of_shard(volume, member);
        let mut shard = Self::default();
        for (_, row) in typed::collect::<LedgerRow>(state.rows(), Table::Root, &span, usize::MAX)? {
            shard.add(&row.what);
        }
        Ok(shard)
    }

    /// Enters a range; runs that overlap or touch become one.
    pub(super) fn add(&mut self, what: &LedgerRange) {
        let (blob, mut first, mut last) = match what {
            LedgerRange::Whole => {
                self.whole = true;
                self.runs.clear();
                return;
            }
            LedgerRange::Stripes { blob, first, last } => (*blob, *first, *last),
        };
        if self.whole || first > last {
            return;
        }
        let runs = self.runs.entry(blob).or_default();
        let touching: Vec<u32> = runs
            .range(..=last.saturating_add(1))
            .rev()
            .take_while(|(_, end)| end.saturating_add(1) >= first)
            .map(|(begin, _)| *begin)
            .collect();
        for begin in touching {
            if let Some(end) = runs.remove(&begin) {
                first = first.min(begin);
                last = last.max(end);
            }
        }
        runs.insert(first, last);
        if self.runs.values().map(BTreeMap::len).sum::<usize>() > SHARD_ROWS_MAX {
            self.add(&LedgerRange::Whole);
        }
    }

    /// Removes a range. A shard that is entered as whole is removed as whole.
    pub(super) fn remove(&mut self, what: &LedgerRange) {
        let (blob, first, last) = match what {
            LedgerRange::Whole => {
                *self = Self::default();
                return;
            }
            LedgerRange::Stripes { blob, first, last } => (blob, *first, *last),
        };
        let Some(runs) = self.runs.get_mut(blob).filter(|_| first <= last) else {
            return;
        };
        let overlapping: Vec<(u32, u32)> = runs
            .range(..=last)
            .rev()
            .take_while(|(_, end)| **end >= first)
            .map(|(begin, end)| (*begin, *end))
            .collect();
        for (begin, end) in overlapping {
            runs.remove(&begin);
            if begin < first {
                runs.insert(begin, first - 1);
            }
            if end > last {
                runs.insert(last + 1, end);
            }
        }
        if runs.is_empty() {
            self.runs.remove(blob);
        }
    }

    /// The ranges that say it.
    pub(super) fn ranges(&self) -> Vec<LedgerRange> {
        if self.whole {
            return vec![LedgerRange::Whole];
        }
        let of_blob = |(blob, runs): (&BlobId, &Runs)| {
            let blob = *blob;
            let stripes = |(first, last): (&u32, &u32)| LedgerRange::stripes(blob, *first..=*last);
            runs.iter().map(stripes).collect::<Vec<_>>()
        };
        self.runs.iter().flat_map(of_blob).collect()
    }
}

/// Changes the ledgers of the shards that rows name. Rows of volumes that never were or are
/// retired, and of members that they do not have, name nothing that could be lost.
pub(super) fn change(
    state: &mut State<'_, '_>,
    rows: &[LedgerRow],
    act: fn(&mut Shard, &LedgerRange),
) -> Result<(), RowsError> {
    let mut by_shard: BTreeMap<(VolumeId, u8), Vec<&LedgerRange>> = BTreeMap::new();
    for row in rows {
        by_shard
            .entry((row.volume, row.member))
            .or_default()
            .push(&row.what);
    }
    for ((id, member), ranges) in by_shard {
        if !can_lose(state, id, member)? {
            continue;
        }
        let mut shard = Shard::load(state, id, member)?;
        for range in ranges {
            act(&mut shard, range);
        }
        write(state, id, member, &shard)?;
    }
    Ok(())
}

/// Replaces the ledger of a shard.
pub(super) fn replace(
    state: &mut State<'_, '_>,
    (id, member): (VolumeId, u8),
    ranges: &[LedgerRange],
) -> Result<(), RowsError> {
    if !can_lose(state, id, member)? {
        return Ok(());
    }
    let mut shard = Shard::default();
    for range in ranges {
        shard.add(range);
    }
    write(state, id, member, &shard)
}

/// The drive that has a member now.
pub(super) fn drive_of(
    state: &State<'_, '_>,
    id: VolumeId,
    member: u8,
) -> Result<Option<DriveId>, RowsError> {
    let volume = state.load::<Volume>(&keys::volume(id))?;
    let members = volume.map(|volume| volume.members).unwrap_or_default();
    Ok(members.get(usize::from(member)).copied().flatten())
}

/// Whether there is such a shard.
fn can_lose(state: &State<'_, '_>, id: VolumeId, member: u8) -> Result<bool, RowsError> {
    let volume = state.load::<Volume>(&keys::volume(id))?;
    Ok(volume.is_some_and(|volume| {
        volume.state != VolumeState::Retired && usize::from(member) < volume.members.len()
    }))
}

/// Makes the rows of a shard say what `shard` says.
fn write(
    state: &mut State<'_, '_>,
    volume: VolumeId,
    member: u8,
    shard: &Shard,
) -> Result<(), RowsError> {
    let row = |what: LedgerRange| {
        let key = keys::ledger(volume, member, &what);
        (
            key,
            LedgerRow {
                volume,
                member,
                what,
            },
        )
    };
    let new: BTreeMap<Vec<u8>, LedgerRow> = shard.ranges().into_iter().map(row).collect();
    let span = keys::ledger_of_shard(volume, member);
    let old = typed::keys(state.rows(), Table::Root, &span, usize::MAX)?;
    for key in old.iter().filter(|key| !new.contains_key(*key)) {
        remove(state, key.clone())?;
    }
    for (key, row) in new {
        if old.binary_search(&key).is_err() {
            state.head.ledger_rows += 1;
        }
        state.set(key, &row)?;
    }
    Ok(())
}

/// Removes a row that is there.
pub(super) fn remove(state: &mut State<'_, '_>, key: Vec<u8>) -> Result<(), RowsError> {
    state.head.ledger_rows -= 1;
    state.unset(key)
}
