//! What the cluster says: its volumes, its ledger, and the extents of its records.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Deserialize;

use super::format::Shard;
use crate::cluster::Ask;

/// The table of volumes and the ledger, of one moment or nearly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) volumes: BTreeMap<u64, Volume>,
    pub(crate) ledger: Ledger,
}

/// A row of the table of volumes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: u64,
    pub(crate) state: String,
    pub(crate) epoch: u64,
    /// Indices of members that are vacant or absent: missing as a whole.
    pub(crate) missing: Vec<usize>,
    pub(crate) members: Vec<Option<Member>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    /// A UUID: 32 hexadecimal digits.
    drive: String,
}

impl Volume {
    /// The drive that has a member; none: its shard is missing as a whole.
    pub(crate) fn drive(&self, member: usize) -> Option<u128> {
        if self.missing.contains(&member) {
            return None;
        }
        let drive = &self.members.get(member)?.as_ref()?.drive;
        u128::from_str_radix(&drive.replace('-', ""), 16).ok()
    }

    pub(crate) fn shard(&self, member: usize) -> Shard {
        Shard {
            volume: self.id,
            member: u8::try_from(member).unwrap_or(u8::MAX),
        }
    }
}

/// Known faults, but for shards that are missing as a whole by the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    whole: BTreeSet<Shard>,
    runs: BTreeMap<(Shard, u128), Vec<(u32, u32)>>,
}

/// One row of the ledger.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    volume: u64,
    member: u8,
    blob: Option<String>,
    stripes: Option<(u32, u32)>,
}

impl Ledger {
    fn of(rows: Vec<Row>) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        for row in rows {
            let (volume, member) = (row.volume, row.member);
            let shard = Shard { volume, member };
            match (row.blob, row.stripes) {
                (Some(blob), Some(run)) => ledger.enter(shard, id(&blob)?, run),
                _ => {
                    ledger.whole.insert(shard);
                }
            }
        }
        Ok(ledger)
    }

    /// Enters stripes as faulty.
    pub(crate) fn enter(&mut self, shard: Shard, blob: u128, run: (u32, u32)) {
        self.runs.entry((shard, blob)).or_default().push(run);
    }

    /// Takes a blob's entries out, as a ledger that lies would.
    #[cfg(test)]
    pub(crate) fn forget(&mut self, shard: Shard, blob: u128) {
        self.runs.remove(&(shard, blob));
    }

    /// Whether a shard is entered as a whole.
    pub(crate) fn is_whole(&self, shard: Shard) -> bool {
        self.whole.contains(&shard)
    }

    /// Whether a fragment is entered.
    pub(crate) fn names(&self, shard: Shard, blob: u128, stripe: u32) -> bool {
        let runs = self.runs.get(&(shard, blob)).into_iter().flatten();
        let mut runs = runs.map(|(first, last)| (*first..=*last).contains(&stripe));
        self.is_whole(shard) || runs.any(|named| named)
    }

    /// The entries of a shard: blob, first and last stripe.
    pub(crate) fn of_shard(&self, shard: Shard) -> impl Iterator<Item = (u128, (u32, u32))> + '_ {
        let all = self.runs.range((shard, 0)..=(shard, u128::MAX));
        all.flat_map(|((_, blob), runs)| runs.iter().map(|run| (*blob, *run)))
    }

    pub(crate) fn rows(&self) -> usize {
        self.whole.len() + self.runs.values().map(Vec::len).sum::<usize>()
    }
}

/// A blob that records reference and that is in volumes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Blob {
    pub(crate) key: String,
    blob: String,
    bytes: u64,
    k: usize,
    m: usize,
    unit: u32,
    shortened: bool,
    pub(crate) extents: Vec<Extent>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Extent {
    pub(crate) volume: u64,
    pub(crate) first_stripe: u32,
    pub(crate) stripes: u32,
}

/// How a blob is coded, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) blob: u128,
    pub(crate) k: usize,
    pub(crate) m: usize,
    unit: u64,
    bytes: u64,
    pub(crate) shortened: bool,
}

impl Blob {
    pub(crate) fn code(&self) -> anyhow::Result<Code> {
        anyhow::ensure!(
            self.k > 0 && self.unit > 0,
            "a blob without a code: {self:?}"
        );
        Ok(Code {
            blob: id(&self.blob)?,
            k: self.k,
            m: self.m,
            unit: u64::from(self.unit),
            bytes: self.bytes,
            shortened: self.shortened,
        })
    }
}

impl Code {
    /// Bytes of data in a full stripe.
    fn stripe_bytes(&self) -> u64 {
        match self.shortened {
            true => self.unit,
            false => self.unit * self.k as u64,
        }
    }

    /// How many stripes the blob has.
    pub(crate) fn stripes(&self) -> u64 {
        self.bytes.div_ceil(self.stripe_bytes())
    }

    /// Bytes of each fragment of a stripe: the last stripe has shorter ones, by steps of 128.
    pub(crate) fn fragment_bytes(&self, stripe: u32) -> usize {
        let before = u64::from(stripe) * self.stripe_bytes();
        let data = self.bytes.saturating_sub(before).min(self.stripe_bytes());
        let parts = if self.shortened { 1 } else { self.k as u64 };
        let bytes = data.div_ceil(parts).next_multiple_of(128).min(self.unit);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The data fragment that a shortened stripe stores: the blob's id decides (PROTOCOLS 17).
    pub(crate) fn stored_data(&self) -> usize {
        usize::try_from(self.blob % self.k as u128).unwrap_or(0)
    }

    /// Whether a member stores fragments of this blob.
    pub(crate) fn stores(&self, member: usize) -> bool {
        let parity = (self.k..self.k + self.m).contains(&member);
        let data = match self.shortened {
            true => member == self.stored_data(),
            false => member < self.k,
        };
        parity || data
    }
}

fn id(text: &str) -> anyhow::Result<u128> {
    u128::from_str_radix(text, 16).with_context(|| format!("'{text}' is no id"))
}

/// Asks for the table and the ledger.
pub(crate) async fn table(ask: &Ask) -> anyhow::Result<Table> {
    let volumes: Vec<Volume> = ask.json(&["volume", "list", "--json"]).await?;
    let rows: Vec<Row> = ask.json(&["volume", "ledger", "--json"]).await?;
    let alive = volumes.into_iter().filter(|one| one.state != "retired");
    Ok(Table {
        volumes: alive.map(|volume| (volume.id, volume)).collect(),
        ledger: Ledger::of(rows)?,
    })
}

/// Asks for all extents of all records.
pub(crate) async fn blobs(ask: &Ask) -> anyhow::Result<Vec<Blob>> {
    let text = ask.text(&["bucket", "extents", "--json"]).await?;
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let blobs = lines.map(serde_json::from_slice);
    let blobs: Result<Vec<Blob>, _> = blobs.collect();
    blobs.context("`enfilade bucket extents`")
}
