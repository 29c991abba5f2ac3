//! The independent walk: which fragments of committed extents are missing, corrupt or too many on
//! the drives, by the drives' own logs, beside what the ledger says (promise P10, PROTOCOLS 22).
//!
//! What should be there comes from the records (`enfilade bucket extents`), where it should be from
//! the table of volumes; what is there from the logs, read by their format with code of our own,
//! never from an index and never from the ledger. Parity is made anew from data by the crate that
//! defines the code.
//!
//! On a cluster at work a volume that contradicts itself, or that changed meanwhile, is looked at
//! again: a fragment may have moved between two questions. What is still so after several turns is
//! a contradiction.

mod drives;
mod format;
mod judge;
mod log;
mod parity;
mod said;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::cluster::Ask;
use drives::Drives;
use judge::{Contradiction, Counts, Wanted};
use said::{Blob, Table};

/// How often a volume is looked at that contradicts itself.
const TURNS: u32 = 6;

/// Between two such looks.
const PAUSE: Duration = Duration::from_secs(3);

/// What a walk came to.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) counts: Counts,
    pub(crate) volumes: usize,
    pub(crate) blobs: usize,
    /// Rows of the ledger.
    pub(crate) rows: usize,
    /// Shards on drives that are not their members (sources of moves in their grace), and their
    /// bytes.
    pub(crate) elsewhere: usize,
    pub(crate) elsewhere_bytes: u64,
    /// Volumes that were looked at more than once.
    pub(crate) again: usize,
    pub(crate) contradictions: Vec<Contradiction>,
}

impl fmt::Display for Walked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let (volumes, blobs, mib) = (self.volumes, self.blobs, counts.bytes >> 20);
        write!(
            f,
            "{} fragments of {blobs} blobs in {volumes} volumes ({mib} MiB), {} faulty in {} rows \
             of the ledger",
            counts.fragments, counts.faulty, self.rows
        )?;
        write!(f, "; {} stripes with their parity", counts.parity)?;
        for (count, what) in [
            (counts.absent, "on absent members"),
            (counts.outside, "outside extents"),
            (counts.unreferenced, "of unreferenced blobs"),
            (counts.dead_rows, "rows of dead blobs"),
            (counts.coarse, "shards entered as a whole"),
            (counts.damaged, "damaged places"),
            (self.elsewhere as u64, "shards of other drives"),
            (self.again as u64, "volumes looked at again"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match self.contradictions.len() {
            0 => write!(f, ": the ledger is exact"),
            count => write!(f, ": {count} CONTRADICTIONS"),
        }
    }
}

/// What records say that volumes must hold.
#[derive(Debug, Default)]
struct Demand {
    volumes: BTreeMap<u64, Vec<Wanted>>,
    blobs: usize,
    contradictions: Vec<Contradiction>,
}

impl Demand {
    fn of(blobs: &[Blob]) -> anyhow::Result<Demand> {
        let mut demand = Demand {
            blobs: blobs.len(),
            ..Demand::default()
        };
        for blob in blobs {
            let code = blob.code()?;
            let mut next = 0;
            for extent in &blob.extents {
                let wanted = demand.volumes.entry(extent.volume).or_default();
                wanted.push(Wanted {
                    code,
                    extent: *extent,
                });
                if u64::from(extent.first_stripe) == next {
                    next += u64::from(extent.stripes);
                }
            }
            let whole: u64 = blob.extents.iter().map(|one| u64::from(one.stripes)).sum();
            if next != code.stripes() || whole != next {
                demand.contradictions.push(Contradiction::Extents {
                    blob: code.blob,
                    key: blob.key.clone(),
                });
            }
        }
        Ok(demand)
    }
}

/// What one turn came to, by volume.
#[derive(Debug, Default)]
struct Turn {
    judged: BTreeMap<u64, judge::Judged>,
    /// Records name it and the table does not have it.
    gone: Vec<Contradiction>,
}

/// Judges these volumes, or all.
fn turn(
    data: &Path,
    table: &Table,
    demand: &Demand,
    only: Option<&BTreeSet<u64>>,
) -> anyhow::Result<Turn> {
    let drives = Drives::find(data)?;
    let chosen = |id: &u64| only.is_none_or(|only| only.contains(id));
    let mut turn = Turn::default();
    for volume in table.volumes.values().filter(|one| chosen(&one.id)) {
        let wanted = demand.volumes.get(&volume.id);
        let wanted = wanted.map_or(&[][..], Vec::as_slice);
        let judged = judge::judge(&drives, volume, &table.ledger, wanted)?;
        turn.judged.insert(volume.id, judged);
    }
    for (volume, wanted) in demand.volumes.iter().filter(|(id, _)| chosen(id)) {
        if !table.volumes.contains_key(volume) {
            let stripes = wanted.iter().map(|one| u64::from(one.extent.stripes));
            turn.gone.push(Contradiction::NoVolume {
                volume: *volume,
                fragments: stripes.sum(),
            });
        }
    }
    Ok(turn)
}

/// Shards in the folders of drives that are not their members: how many, and their bytes.
fn elsewhere(data: &Path, table: &Table) -> anyhow::Result<(usize, u64)> {
    let drives = Drives::find(data)?;
    let others = drives.shards()?.into_iter().filter(|(drive, shard, _)| {
        let volume = table.volumes.get(&shard.volume);
        let member = volume.and_then(|volume| volume.drive(usize::from(shard.member)));
        member != Some(*drive)
    });
    Ok(others.fold((0, 0), |(count, sum), (_, _, bytes)| {
        (count + 1, sum + bytes)
    }))
}

/// Walks through all drives of the cluster in a folder.
///
/// # Errors
/// When the cluster or a drive cannot be asked: then there is no result.
pub(crate) async fn walk(data: &Path, ask: &Ask) -> anyhow::Result<Walked> {
    let (mut walked, mut only) = (Walked::default(), None::<BTreeSet<u64>>);
    let mut all: BTreeMap<u64, Counts> = BTreeMap::new();
    for number in 1..=TURNS {
        let table = said::table(ask).await?;
        let demand = Demand::of(&said::blobs(ask).await?)?;
        let status = ask.status().await?;
        let folder = data.to_owned();
        let asked = (table.clone(), only.clone());
        let work = move || {
            let turn = turn(&folder, &asked.0, &demand, asked.1.as_ref())?;
            anyhow::Ok((turn, elsewhere(&folder, &asked.0)?, demand))
        };
        let (turn, elsewhere, demand) = tokio::task::spawn_blocking(work)
            .await
            .context("the walk")??;
        let after = said::table(ask).await?;
        walked.volumes = table.volumes.len();
        walked.blobs = demand.blobs;
        walked.rows = table.ledger.rows();
        (walked.elsewhere, walked.elsewhere_bytes) = elsewhere;
        let changed = |id: &u64| {
            let (before, after) = (table.volumes.get(id), after.volumes.get(id));
            before.map(|one| &one.members) != after.map(|one| &one.members)
        };
        let mut again: BTreeSet<u64> = table.volumes.keys().copied().filter(changed).collect();
        walked.contradictions = demand.contradictions;
        for (id, judged) in turn.judged {
            if !judged.contradictions.is_empty() {
                again.insert(id);
            }
            walked.contradictions.extend(judged.contradictions);
            all.insert(id, judged.counts);
        }
        again.extend(turn.gone.iter().filter_map(|gone| match gone {
            Contradiction::NoVolume { volume, .. } => Some(*volume),
            _ => None,
        }));
        walked.contradictions.extend(turn.gone);
        // Rows come and go while faults are found and repaired.
        if status.missing.ranges > walked.rows as u64 && after.ledger == table.ledger {
            walked.contradictions.push(Contradiction::Truncated {
                rows: walked.rows,
                said: status.missing.ranges,
            });
        }
        let settled = again.is_empty() && walked.contradictions.is_empty();
        if number == 1 {
            walked.again = again.len();
        }
        if settled || number == TURNS {
            break;
        }
        only = Some(again);
        tokio::time::sleep(PAUSE).await;
    }
    for counts in all.values() {
        walked.counts.add(counts);
    }
    walked.contradictions.sort();
    Ok(walked)
}
