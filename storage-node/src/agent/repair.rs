//! Repair of what the ledger lists on this node's drives (PROTOCOLS 22): single fragments, and
//! shards of which it is not known what they lost.
//!
//! A fragment of a committed extent is rebuilt in place, whatever the state of its volume: its
//! bytes, its member and its identity stay, so that neither a move nor a late append can meet it
//! (PROTOCOLS 12 is about whole shards). An entry closes only after the fragment was read back and
//! verified (P10), or when its owner says that nothing references it (PROTOCOLS 20).

mod fragments;
mod partial;
mod unreferenced;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::root::{LedgerQuery, LedgerRange, LedgerRow, RootCommand};
use enfilade_placement::{BlobId, Volume, VolumeId, VolumeState};
use futures::stream::{self, StreamExt};

pub(super) use self::partial::WAITING_MAX;
use super::Context;
use crate::api::error::ShardError;
use crate::api::{Cause, Owner};
use crate::engine::{EngineError, ShardKey, Throttle};
use crate::rebuild::{Rebuild, RebuildError, Sources, Target};

/// Rows of one page of the ledger.
const PAGE: u32 = 2000;
/// Shards that are repaired at once; what they have in memory is bounded by the budget.
const AT_ONCE: usize = 4;
/// A shard that cannot be repaired now is tried again after this, and twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(120);
/// Rows of one command that closes.
const CLOSED_AT_ONCE: usize = 500;

/// Why something is left in the ledger for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the metadata service does not answer: {0}")]
    Metadata(#[from] MetadataError),
    #[error("too few other members answer to know whom blob {0} was written for")]
    OwnerUnknown(BlobId),
    #[error("blob {0} is not referenced yet, and not gone")]
    NotYetReferenced(BlobId, Box<Owner>),
    #[error("no member has anything of blob {0}, and nobody said that it is dead")]
    Nowhere(BlobId),
    #[error("too few other members answer to know what is missing")]
    TooFewAnswer,
    #[error("too many blobs of the shard are not referenced yet to enter each")]
    MuchWaits,
    #[error("root refuses: {0}")]
    Refused(enfilade_cluster::api::root::RootRefusal),
    #[error("the shard's drive does not answer: {0}")]
    Original(#[from] ShardError),
    #[error("the shard is being dropped")]
    Claimed,
    #[error("there is more that died on the way")]
    MoreDead,
}

/// When each shard is tried again, and how long that was put off.
type Later = BTreeMap<ShardKey, (Duration, Duration)>;

/// A shard under repair.
pub(super) struct Patient {
    pub(super) target: Target,
    pub(super) sources: Sources,
    pub(super) volume: Volume,
}

/// Repairs until the agent stops.
pub(super) async fn repair(context: Arc<Context>) {
    let rebuild = Rebuild::new(context.node.host().clone());
    let mut later = Later::new();
    while context
        .pause(context.node.host().settings.repair_interval)
        .await
    {
        context
            .unless_stopped(async {
                super::faults::look_again(&context).await;
                repair_once(&context, &rebuild, &mut later).await;
            })
            .await;
    }
}

async fn repair_once(context: &Context, rebuild: &Rebuild, later: &mut Later) {
    if context.view().ledger_rows == 0 {
        later.clear();
        return;
    }
    let drives = context.drives();
    let mut after = None;
    loop {
        let query = LedgerQuery {
            drives: drives.clone(),
            after,
            limit: PAGE,
        };
        let rows = match context.metadata.ledger_of(query).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, "the ledger is not told");
                return;
            }
        };
        let Some(last) = rows.last() else { return };
        after = Some((last.volume, last.member));
        repair_rows(context, rebuild, later, rows).await;
    }
}

async fn repair_rows(
    context: &Context,
    rebuild: &Rebuild,
    later: &mut Later,
    rows: Vec<LedgerRow>,
) {
    let now = context.node.host().env.clock.now();
    let mut shards: BTreeMap<ShardKey, Vec<LedgerRange>> = BTreeMap::new();
    for LedgerRow {
        volume,
        member,
        what,
    } in rows
    {
        let key = ShardKey { volume, member };
        if later.get(&key).is_none_or(|(when, _)| *when <= now) {
            shards.entry(key).or_default().push(what);
        }
    }
    let ids = shards.keys().map(|key| key.volume).collect();
    let Some(volumes) = context.volumes(&ids).await else {
        return;
    };
    let sources = |key| Some(patient(context, key, &volumes)?.sources.count());
    let mut patients: Vec<(usize, ShardKey, Vec<LedgerRange>)> = shards
        .into_iter()
        .filter_map(|(key, ranges)| Some((sources(key)?, key, ranges)))
        .collect();
    // What can lose the fewest more comes first.
    patients.sort_by_key(|(sources, ..)| *sources);
    let volumes = &volumes;
    let repairs = patients.into_iter().map(|(_, key, ranges)| async move {
        // Not before its turn: drives that fail meanwhile are not to be held.
        let patient = patient(context, key, volumes)?;
        let work = patient.repair(context, rebuild, ranges);
        let outcome = context.while_served(&patient.target.engine, work).await?;
        Some((key, outcome))
    });
    let outcomes: Vec<_> = stream::iter(repairs)
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    for (key, outcome) in outcomes {
        match outcome {
            Ok(()) => {
                later.remove(&key);
            }
            Err(left) => {
                tracing::warn!(?key, %left, "a shard is not repaired yet");
                context.node.host().metrics.repair.put_off.inc();
                let last = later.get(&key).map_or(AGAIN / 2, |(_, put_off)| *put_off);
                let put_off = (last * 2).min(AGAIN_MAX);
                later.insert(key, (now + put_off, put_off));
            }
        }
    }
}

/// A shard that is still on one of our drives.
fn patient(
    context: &Context,
    key: ShardKey,
    volumes: &BTreeMap<VolumeId, Volume>,
) -> Option<Patient> {
    let volume = volumes
        .get(&key.volume)
        .filter(|volume| volume.state != VolumeState::Retired)?;
    let drive = volume.members.get(usize::from(key.member)).copied()??;
    let engine = context.engine(drive)?;
    let (view, nodes) = (context.view(), context.nodes.as_ref());
    Some(Patient {
        target: Target {
            engine,
            key,
            epoch: volume.epoch,
            pace: Throttle::default(),
            cause: Cause::Repair,
        },
        sources: Sources::of(&view, nodes, volume, key.member, Cause::Repair),
        volume: volume.clone(),
    })
}

impl Patient {
    /// Repairs what the ledger lists of the shard. What could be repaired is closed, also when
    /// something is left.
    async fn repair(
        &self,
        context: &Context,
        rebuild: &Rebuild,
        ranges: Vec<LedgerRange>,
    ) -> Result<(), Left> {
        if ranges.contains(&LedgerRange::Whole) {
            return self.repair_partial(context, rebuild).await;
        }
        let mut blobs: BTreeMap<BlobId, Vec<(u32, u32)>> = BTreeMap::new();
        for range in ranges {
            if let LedgerRange::Stripes { blob, first, last } = range {
                blobs.entry(blob).or_default().push((first, last));
            }
        }
        let (mut closed, mut left) = (Vec::new(), None);
        for (blob, runs) in blobs {
            match self.repair_blob(context, rebuild, blob, &runs).await {
                Ok(()) => closed.extend(runs.iter().map(|run| self.row(blob, *run))),
                Err(error) => left = Some(error),
            }
            if closed.len() >= CLOSED_AT_ONCE {
                close(context, std::mem::take(&mut closed)).await?;
            }
        }
        close(context, closed).await?;
        left.map_or(Ok(()), Err)
    }

    fn row(&self, blob: BlobId, (first, last): (u32, u32)) -> LedgerRow {
        LedgerRow {
            volume: self.volume.id,
            member: self.target.key.member,
            what: LedgerRange::stripes(blob, first..=last),
        }
    }
}

/// Takes rows out of the ledger.
async fn close(context: &Context, rows: Vec<LedgerRow>) -> Result<(), Left> {
    if rows.is_empty() {
        return Ok(());
    }
    let count = rows.len();
    let drives = context.drives();
    tell(context, RootCommand::CloseFaults { rows, drives }).await?;
    tracing::info!(rows = count, "entries of the ledger are closed");
    Ok(())
}

/// Commits a change of the ledger that takes something out. What was found meanwhile may be in
/// it: all that is known here is reported again.
pub(super) async fn tell(context: &Context, command: RootCommand) -> Result<(), Left> {
    let told = context.metadata.root(context.request(), command).await;
    context.ledger.changed();
    told?.map_err(Left::Refused)?;
    Ok(())
}
