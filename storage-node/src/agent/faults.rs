//! Reporting what was found corrupt, until the ledger takes it (PROTOCOLS 22).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::root::{LedgerQuery, LedgerRange, LedgerRow, RootCommand};
use enfilade_placement::{BlobId, DriveId, VolumeId};

use super::Context;
use crate::engine::{Engine, Fault, ShardKey};

/// Beyond so many corrupt fragments the shard counts as whole.
const FRAGMENTS_PER_SHARD: usize = 1000;
/// Rows of one report.
const ROWS_PER_REPORT: usize = 500;
/// Rows of one page of the ledger.
const ROWS_PER_PAGE: u32 = 2000;

/// What the agent remembers of the ledger.
#[derive(Default)]
pub(super) struct LedgerNotes {
    /// Counts what may have taken out of the ledger what was found meanwhile.
    changes: AtomicU64,
    /// Blobs with corrupt fragments that nothing references: they are no entries of the ledger,
    /// unless they are committed after all.
    aside: Mutex<Aside>,
}

#[derive(Default)]
struct Aside {
    blobs: BTreeSet<(DriveId, ShardKey, BlobId)>,
    looked: Duration,
}

impl LedgerNotes {
    /// Something was taken out of the ledger: what is known is to be reported again.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The corrupt fragments of a blob are not to be reported while nothing references it.
    pub(super) fn set_aside(&self, drive: DriveId, key: ShardKey, blob: BlobId) {
        self.aside().blobs.insert((drive, key, blob));
    }

    /// Whether nothing is set aside.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.aside().blobs.is_empty()
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes dead blobs out of the ledger, whichever members lack them. An entry tells nobody whose
/// blob it is about, so that who knows that it is dead must say so (PROTOCOLS 20).
///
/// # Errors
/// When the root group does not answer.
pub(super) async fn forget(
    context: &Context,
    dead: &BTreeSet<(VolumeId, BlobId)>,
) -> Result<(), MetadataError> {
    if context.view().ledger_rows == 0 {
        return Ok(());
    }
    let names_dead = |row: &LedgerRow| match row.what {
        LedgerRange::Stripes { blob, .. } => dead.contains(&(row.volume, blob)),
        LedgerRange::Whole => false,
    };
    let ids: BTreeSet<VolumeId> = dead.iter().map(|(volume, _)| *volume).collect();
    let mut rows = rows_of(context, &ids).await?;
    rows.retain(names_dead);
    for rows in rows.chunks(ROWS_PER_REPORT) {
        let command = RootCommand::CloseFaults {
            rows: rows.to_vec(),
            drives: Vec::new(),
        };
        let told = context.metadata.root(context.request(), command).await;
        context.ledger.changed();
        if let Err(refusal) = told? {
            tracing::warn!(%refusal, "the ledger keeps dead blobs");
        }
    }
    Ok(())
}

/// The rows of volumes, but for those of vacant members.
///
/// # Errors
/// When the root group does not answer.
pub(super) async fn rows_of(
    context: &Context,
    ids: &BTreeSet<VolumeId>,
) -> Result<Vec<LedgerRow>, MetadataError> {
    let volumes: Vec<VolumeId> = ids.iter().copied().collect();
    let volumes = context.metadata.volumes(&volumes).await?;
    let drives: BTreeSet<DriveId> = volumes
        .iter()
        .flat_map(|volume| volume.present().map(|(_, drive)| drive))
        .collect();
    let before = ids.first().and_then(|first| first.get().checked_sub(1));
    let mut after = before.map(|before| (VolumeId::new(before), u8::MAX));
    let mut found = Vec::new();
    loop {
        let query = LedgerQuery {
            drives: drives.iter().copied().collect(),
            after,
            limit: ROWS_PER_PAGE,
        };
        let rows = context.metadata.ledger_of(query).await?;
        let last = rows.last().map(|row| (row.volume, row.member));
        found.extend(rows.into_iter().filter(|row| ids.contains(&row.volume)));
        match last {
            Some((volume, _)) if ids.last().is_some_and(|end| volume <= *end) => after = last,
            _ => return Ok(found),
        }
    }
}

/// Asks, now and then, whether blobs that nothing referenced were committed after all.
pub(super) async fn look_again(context: &Context) {
    let now = context.node.host().env.clock.now();
    let blobs = {
        let mut aside = context.ledger.aside();
        let due = aside.looked + context.node.host().settings.orphan_interval <= now;
        if !due || aside.blobs.is_empty() {
            return;
        }
        aside.looked = now;
        aside.blobs.clone()
    };
    for (drive, key, blob) in blobs {
        let stays = match context.engine(drive) {
            Some(engine) => {
                let look = is_aside(context, &engine, key, blob);
                context.while_served(&engine, look).await
            }
            None => None,
        };
        if stays == Some(false) {
            context.ledger.aside().blobs.remove(&(drive, key, blob));
            context.ledger.changed();
        }
    }
}

/// Whether a blob has corrupt fragments here and is still not referenced, as far as is known.
async fn is_aside(context: &Context, engine: &Arc<Engine>, key: ShardKey, blob: BlobId) -> bool {
    let after = blob.get().checked_sub(1).map(BlobId::new);
    let Ok((found, _)) = engine.inventory(key, after, 1).await else {
        return true;
    };
    let Some(held) = found.into_iter().find(|held| held.blob == blob) else {
        return false;
    };
    match held.owner.filter(|_| !held.bad.is_empty()) {
        Some(owner) => !matches!(context.metadata.blob(&owner.at, blob).await, Ok(Some(_))),
        None => false,
    }
}

/// Reports faults until the agent stops.
pub(super) async fn report(context: Arc<Context>) {
    // Reported again after a restart, which the ledger does not mind.
    let mut known: BTreeSet<LedgerRow> = BTreeSet::new();
    let (mut reported, mut changes) = (Vec::new(), 0);
    while context.pause(context.node.host().settings.heartbeat).await {
        let counts: Vec<(DriveId, u64)> = context
            .engines()
            .values()
            .map(|e| (e.id(), e.faults_found()))
            .collect();
        let now = context.ledger.changes.load(Ordering::Acquire);
        if now != changes {
            (reported, changes) = (Vec::new(), now);
            known.clear();
        }
        if counts != reported {
            let mut done = false;
            let report = async { done = report_once(&context, &mut known).await };
            context.unless_stopped(report).await;
            reported = if done { counts } else { Vec::new() };
        }
    }
}

/// Reports what the ledger has not taken yet; whether it took everything.
async fn report_once(context: &Context, known: &mut BTreeSet<LedgerRow>) -> bool {
    let (rows, all) = rows(context);
    known.retain(|row| rows.contains(row));
    let new: Vec<LedgerRow> = rows.difference(known).cloned().collect();
    for rows in new.chunks(ROWS_PER_REPORT) {
        let command = RootCommand::ReportFaults(rows.to_vec());
        match context.metadata.root(context.request(), command).await {
            Ok(Ok(_)) => known.extend(rows.iter().cloned()),
            Ok(Err(refusal)) => {
                tracing::warn!(%refusal, "the ledger refused faults");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "faults are not reported yet");
                return false;
            }
        }
    }
    all
}

/// What is to be reported; and whether that is all that is known. What is found in a shard that is
/// being made is told when it is a member.
fn rows(context: &Context) -> (BTreeSet<LedgerRow>, bool) {
    let mut all = true;
    let mut faults: BTreeMap<ShardKey, Vec<LedgerRange>> = BTreeMap::new();
    let aside = context.ledger.aside().blobs.clone();
    for engine in context.engines().into_values() {
        let Ok(found) = engine.faults(FRAGMENTS_PER_SHARD + 1) else {
            continue;
        };
        for Fault { key, fragment } in found {
            // The member is another drive's: its ledger is not about this shard.
            if context.claims.is_others(engine.id(), key) {
                all = false;
                continue;
            }
            if fragment.is_some_and(|(blob, _)| aside.contains(&(engine.id(), key, blob))) {
                continue;
            }
            faults.entry(key).or_default().push(match fragment {
                Some((blob, stripe)) => LedgerRange::stripes(blob, stripe..=stripe),
                None => LedgerRange::Whole,
            });
        }
    }
    let mut rows = BTreeSet::new();
    for (key, mut ranges) in faults {
        if ranges.len() > FRAGMENTS_PER_SHARD || ranges.contains(&LedgerRange::Whole) {
            ranges = vec![LedgerRange::Whole];
        }
        let row = |what| LedgerRow {
            volume: key.volume,
            member: key.member,
            what,
        };
        rows.extend(ranges.into_iter().map(row));
    }
    (rows, all)
}
