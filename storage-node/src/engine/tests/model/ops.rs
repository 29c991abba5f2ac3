//! What sequences consist of.

use proptest::collection::vec;
use proptest::prelude::*;

pub(super) const SHARDS: u8 = 3;
pub(super) const BLOBS: u8 = 4;
pub(super) const STRIPES: u32 = 8;

/// A stretch of stripes of a blob in a shard: the first, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stripes {
    pub(super) shard: u8,
    pub(super) blob: u8,
    pub(super) first: u32,
    pub(super) count: u32,
}

/// Something that is asked of an engine while other things are.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Marks are a set of blobs; `early`: with an epoch before the last fence.
    Append {
        at: Stripes,
        marks: u8,
        owner: bool,
        early: bool,
    },
    /// The payload is what the shard's log holds somewhere: a valid record, in another place.
    AppendLog {
        at: Stripes,
        from: u16,
    },
    Delete {
        shard: u8,
        blob: u8,
    },
    DeleteRun(Stripes),
    Mark {
        shard: u8,
        blob: u8,
    },
    Fence(u8),
    Drop(u8),
    Compact(u8),
    Scrub(u8),
    Read {
        at: Stripes,
        offset: u32,
        len: u32,
    },
}

impl Item {
    pub(super) const fn shard(&self) -> u8 {
        match self {
            Self::Append { at, .. }
            | Self::AppendLog { at, .. }
            | Self::DeleteRun(at)
            | Self::Read { at, .. } => at.shard,
            Self::Delete { shard, .. }
            | Self::Mark { shard, .. }
            | Self::Fence(shard)
            | Self::Drop(shard)
            | Self::Compact(shard)
            | Self::Scrub(shard) => *shard,
        }
    }

    pub(super) const fn removes(&self) -> bool {
        matches!(
            self,
            Self::Delete { .. } | Self::DeleteRun(_) | Self::Drop(_)
        )
    }
}

/// What goes wrong meanwhile.
#[derive(Debug, Clone)]
pub(super) enum Amid {
    Nothing,
    /// The power goes after so many changes of the drive.
    Cut {
        after: u32,
        seed: u64,
    },
    /// One action fails; then the engine is opened again, after a power cut or at once.
    Fail {
        action: u8,
        after: u32,
        times: u32,
        cut: Option<u64>,
    },
    /// There are so many bytes left.
    Room(u32),
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Together(Vec<Item>, Amid),
    Reclaim,
    Checkpoint,
    /// The process ends and begins again; the power stays.
    Reopen,
    /// The same, and the index is lost.
    Rebuild,
    Crash(u64),
    /// A byte of a fragment rots, of the header of its record, or of a log's head.
    RotPayload(u16, u16),
    RotHeader(u16, u16),
    RotHead(u8, u16),
    /// A block of a log becomes unreadable: of a fragment, or the header of its record.
    Spoil(u16, u16),
    /// A log is taken away: under the engine, while it is closed, or with the power.
    TakeAway(u8, u8, u64),
}

#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// Whether the file system is synced as a whole.
    pub(super) alone: bool,
    pub(super) ops: Vec<Op>,
}

fn stripes() -> impl Strategy<Value = Stripes> {
    (0..SHARDS, 0..BLOBS, 0..STRIPES - 2, 1..4u32).prop_map(|(shard, blob, first, count)| Stripes {
        shard,
        blob,
        first,
        count: count.min(STRIPES - first),
    })
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        12 => (stripes(), 0..1u8 << BLOBS, any::<bool>(), 0..8u8).prop_map(
            |(at, marks, owner, early)| Item::Append {
                at,
                marks: if marks & 1 == 0 { 0 } else { marks >> 1 },
                owner,
                early: early == 7,
            }
        ),
        1 => (stripes(), any::<u16>()).prop_map(|(at, from)| Item::AppendLog { at, from }),
        3 => (0..SHARDS, 0..BLOBS).prop_map(|(shard, blob)| Item::Delete { shard, blob }),
        2 => stripes().prop_map(Item::DeleteRun),
        1 => (0..SHARDS, 0..BLOBS).prop_map(|(shard, blob)| Item::Mark { shard, blob }),
        1 => (0..SHARDS).prop_map(Item::Fence),
        1 => (0..SHARDS).prop_map(Item::Drop),
        2 => (0..SHARDS).prop_map(Item::Compact),
        1 => (0..SHARDS).prop_map(Item::Scrub),
        2 => (stripes(), 0..9000u32, 0..9000u32)
            .prop_map(|(at, offset, len)| Item::Read { at, offset, len }),
    ]
}

fn amid() -> impl Strategy<Value = Amid> {
    let cut = (0..24u32, any::<u64>()).prop_map(|(after, seed)| Amid::Cut { after, seed });
    let fail = (0..8u8, 0..6u32, 1..3u32, proptest::option::of(any::<u64>())).prop_map(
        |(action, after, times, cut)| Amid::Fail {
            action,
            after,
            times,
            cut,
        },
    );
    prop_oneof![
        10 => Just(Amid::Nothing),
        4 => cut,
        3 => fail,
        1 => (0..20_000u32).prop_map(Amid::Room),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (vec(item(), 1..6), amid()).prop_map(|(items, amid)| Op::Together(items, amid)),
        1 => Just(Op::Reclaim),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Reopen),
        1 => Just(Op::Rebuild),
        2 => any::<u64>().prop_map(Op::Crash),
        1 => any::<(u16, u16)>().prop_map(|(which, at)| Op::RotPayload(which, at)),
        1 => any::<(u16, u16)>().prop_map(|(which, at)| Op::RotHeader(which, at)),
        1 => (0..SHARDS, any::<u16>()).prop_map(|(shard, at)| Op::RotHead(shard, at)),
        1 => any::<(u16, u16)>().prop_map(|(which, at)| Op::Spoil(which, at)),
        1 => (0..SHARDS, 0..3u8, any::<u64>())
            .prop_map(|(shard, when, seed)| Op::TakeAway(shard, when, seed)),
    ]
}

pub(super) fn sequence() -> impl Strategy<Value = Sequence> {
    (any::<bool>(), vec(op(), 1..20)).prop_map(|(alone, ops)| Sequence { alone, ops })
}
