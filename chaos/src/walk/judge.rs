//! One volume: what its members should hold, what they hold, and what the ledger says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::drives::Drives;
use super::format::Shard;
use super::log::{Log, State};
use super::parity::Parity;
use super::said::{Code, Extent, Ledger, Volume};

/// Logs of one volume beyond this are not kept in memory together: their parity is not looked at.
const PARITY_BYTES_MAX: usize = 2 << 30;

/// Stripes of a blob that a volume must hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) code: Code,
    pub(crate) extent: Extent,
}

impl Wanted {
    fn stripes(&self) -> std::ops::Range<u32> {
        let first = self.extent.first_stripe;
        first..first.saturating_add(self.extent.stripes)
    }
}

/// A contradiction between the drives, the records and the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contradiction {
    /// A fragment that is not whole, and the ledger does not have it.
    Unknown {
        shard: Shard,
        blob: u128,
        stripe: u32,
        state: State,
    },
    /// A fragment that is whole, and the ledger has it as faulty.
    Whole {
        shard: Shard,
        blob: u128,
        stripe: u32,
    },
    /// Data and parity do not belong together, though each has its checksums.
    Parity {
        volume: u64,
        blob: u128,
        stripe: u32,
    },
    /// The table names a drive that is nowhere.
    NoDrive { shard: Shard, drive: u128 },
    /// Records name a volume that the table does not have.
    NoVolume { volume: u64, fragments: u64 },
    /// The extents of a blob are not its stripes, one after the other.
    Extents { blob: u128, key: String },
    /// The ledger cannot be shown as a whole.
    Truncated { rows: usize, said: u64 },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |shard: &Shard, blob: &u128, stripe: &u32| {
            let (volume, member) = (shard.volume, shard.member);
            format!("stripe {stripe} of blob {blob:032x}, member {member} of volume {volume}")
        };
        match self {
            Self::Unknown {
                shard,
                blob,
                stripe,
                state,
            } => {
                let place = place(shard, blob, stripe);
                write!(f, "{place} is {state:?}, and the ledger does not say so")
            }
            Self::Whole {
                shard,
                blob,
                stripe,
            } => {
                let place = place(shard, blob, stripe);
                write!(f, "{place} is whole, and the ledger has it as faulty")
            }
            Self::Parity {
                volume,
                blob,
                stripe,
            } => write!(
                f,
                "stripe {stripe} of blob {blob:032x} in volume {volume}: its parity is that of \
                 other data"
            ),
            Self::NoDrive { shard, drive } => write!(
                f,
                "member {} of volume {} should be on drive {drive:032x}, which is nowhere",
                shard.member, shard.volume
            ),
            Self::NoVolume { volume, fragments } => write!(
                f,
                "{fragments} fragments should be in volume {volume}, which does not exist"
            ),
            Self::Extents { blob, key } => {
                write!(f, "the extents of blob {blob:032x} of {key:?} have gaps")
            }
            Self::Truncated { rows, said } => {
                write!(f, "the ledger has {said} rows and shows {rows}")
            }
        }
    }
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Fragments that committed extents name, on members that are there.
    pub(crate) fragments: u64,
    /// Their bytes on drives.
    pub(crate) bytes: u64,
    /// Those that are faulty, as the ledger says.
    pub(crate) faulty: u64,
    /// Fragments on members that the table has as missing.
    pub(crate) absent: u64,
    /// Stripes whose parity was made anew and compared.
    pub(crate) parity: u64,
    /// Fragments of referenced blobs outside their extents: to be dropped (PROTOCOLS 13).
    pub(crate) outside: u64,
    /// Fragments of blobs that nothing references (any more, or yet), and their bytes.
    pub(crate) unreferenced: u64,
    pub(crate) unreferenced_bytes: u64,
    /// Rows of the ledger that name nothing that is referenced.
    pub(crate) dead_rows: u64,
    /// Whole shards in the ledger of which some fragments are whole.
    pub(crate) coarse: u64,
    /// Places in logs without a valid record below what is proven to be synced.
    pub(crate) damaged: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, more: &Counts) {
        self.fragments += more.fragments;
        self.bytes += more.bytes;
        self.faulty += more.faulty;
        self.absent += more.absent;
        self.parity += more.parity;
        self.outside += more.outside;
        self.unreferenced += more.unreferenced;
        self.unreferenced_bytes += more.unreferenced_bytes;
        self.dead_rows += more.dead_rows;
        self.coarse += more.coarse;
        self.damaged += more.damaged;
    }
}

/// What a volume came to.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) counts: Counts,
    pub(crate) contradictions: Vec<Contradiction>,
}

/// Compares a volume's logs with what they should hold and with the ledger.
pub(crate) fn judge(
    drives: &Drives,
    volume: &Volume,
    ledger: &Ledger,
    wanted: &[Wanted],
) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let mut logs: BTreeMap<usize, Log> = BTreeMap::new();
    let mut bytes = 0;
    for member in 0..volume.members.len() {
        let shard = volume.shard(member);
        let mine = wanted.iter().filter(|one| one.code.stores(member));
        let mine: Vec<&Wanted> = mine.collect();
        let Some(drive) = volume.drive(member) else {
            let stripes = mine.iter().map(|one| u64::from(one.extent.stripes));
            judged.counts.absent += stripes.sum::<u64>();
            continue;
        };
        if !drives.has(drive) {
            let nowhere = Contradiction::NoDrive { shard, drive };
            judged.contradictions.push(nowhere);
            continue;
        }
        // A shard that nothing was written to has no log.
        let read = drives.log(drive, shard)?.unwrap_or_default();
        let log = Log::of(read, drive, shard);
        judged.shard(shard, &log, ledger, &mine);
        bytes += log.len();
        logs.insert(member, log);
        if bytes > PARITY_BYTES_MAX {
            logs.clear();
        }
    }
    if bytes <= PARITY_BYTES_MAX {
        judged.parity(volume, &logs, wanted)?;
    }
    Ok(judged)
}

impl Judged {
    fn shard(&mut self, shard: Shard, log: &Log, ledger: &Ledger, wanted: &[&Wanted]) {
        let counts = &mut self.counts;
        let mut stripes: BTreeMap<u128, BTreeSet<u32>> = BTreeMap::new();
        let (mut whole, mut faulty) = (Vec::new(), 0);
        for one in wanted {
            let blob = one.code.blob;
            stripes.entry(blob).or_default().extend(one.stripes());
            for stripe in one.stripes() {
                let len = one.code.fragment_bytes(stripe);
                counts.fragments += 1;
                counts.bytes += len as u64;
                let state = log.state(blob, stripe, len);
                match (state, ledger.names(shard, blob, stripe)) {
                    (State::Good, false) => {}
                    (State::Good, true) => whole.push(Contradiction::Whole {
                        shard,
                        blob,
                        stripe,
                    }),
                    (_, true) => faulty += 1,
                    (state, false) => self.contradictions.push(Contradiction::Unknown {
                        shard,
                        blob,
                        stripe,
                        state,
                    }),
                }
            }
        }
        counts.faulty += faulty;
        // A shard counts as whole while it is not known which fragments it lost, or when they are
        // more than a thousand ranges (PROTOCOLS 22).
        let known = faulty > 0 || log.lost || log.damaged > 0;
        if ledger.is_whole(shard) && known {
            counts.coarse += 1;
        } else {
            self.contradictions.append(&mut whole);
        }
        counts.damaged += log.damaged as u64;
        for (blob, stripe, len) in log.held() {
            match stripes.get(&blob) {
                Some(stripes) => counts.outside += u64::from(!stripes.contains(&stripe)),
                None => {
                    counts.unreferenced += 1;
                    counts.unreferenced_bytes += len as u64;
                }
            }
        }
        for (blob, (first, last)) in ledger.of_shard(shard) {
            let held = stripes.get(&blob);
            let alive = held.is_some_and(|held| held.range(first..=last).next().is_some());
            counts.dead_rows += u64::from(!alive);
        }
    }

    /// Looks at the stripes of which every fragment that is stored is whole.
    fn parity(
        &mut self,
        volume: &Volume,
        logs: &BTreeMap<usize, Log>,
        wanted: &[Wanted],
    ) -> anyhow::Result<()> {
        let mut code = Parity::default();
        for Wanted {
            code: shape,
            extent,
        } in wanted
        {
            let (k, blob) = (shape.k, shape.blob);
            for stripe in extent.first_stripe..extent.first_stripe.saturating_add(extent.stripes) {
                let len = shape.fragment_bytes(stripe);
                let at = |member: usize| {
                    let log = logs.get(&member)?;
                    let good = log.state(blob, stripe, len) == State::Good;
                    log.bytes(blob, stripe).filter(|_| good)
                };
                let stored = (0..k + shape.m).filter(|member| shape.stores(*member));
                if stored.clone().any(|member| at(member).is_none()) {
                    continue;
                }
                let data = |member| at(member).filter(|_| shape.stores(member));
                let data: Vec<Option<&[u8]>> = (0..k).map(data).collect();
                let parity: Vec<&[u8]> = (k..k + shape.m).filter_map(at).collect();
                self.counts.parity += 1;
                if !code.is_right(&data, &parity, len)? {
                    let volume = volume.id;
                    self.contradictions.push(Contradiction::Parity {
                        volume,
                        blob,
                        stripe,
                    });
                }
            }
        }
        Ok(())
    }
}
