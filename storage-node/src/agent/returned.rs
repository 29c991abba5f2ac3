//! Drives that came back after they or their enclosure were given up (PROTOCOLS 26).
//!
//! The root group enters every shard of such a drive in the ledger, as a whole, in the commit that
//! takes it back. Repair compares each with what the other members hold, rebuilds what it lacks,
//! and takes it out of the ledger (`repair/partial.rs`). Meanwhile the drive is read from, and no
//! more. Here the rest is done: every blob of the shards that are still the drive's is looked up
//! once (PROTOCOLS 20), and the root group is told when the drive holds what it should. Shards that
//! are another drive's now are dropped as those that moved away are (`fence.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::record::Place;
use enfilade_cluster::api::root::{LedgerQuery, LedgerRange, RootCommand, RootRefusal};
use enfilade_placement::{BlobId, DriveId, DriveState, Generation, VolumeId, VolumeState};
use futures::stream::{self, StreamExt};

use super::Context;
use super::orphans::outside;
use crate::api::read::InventoryBlob;
use crate::engine::{Engine, EngineError, ShardKey};

/// Rows of one page of the ledger.
const ROWS: u32 = 2000;
/// Blobs of one page, and questions that are under way at once.
const BLOBS: usize = 512;
const AT_ONCE: usize = 32;

/// Why a drive is not reconciled now.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the metadata service does not answer: {0}")]
    Metadata(#[from] MetadataError),
    #[error("the root group refuses: {0}")]
    Refused(#[from] RootRefusal),
    #[error("volume {0} is not known, or not settled")]
    Unsettled(VolumeId),
}

/// Shards that were looked through since their drive was attached.
type Done = BTreeMap<(DriveId, Generation), BTreeSet<ShardKey>>;

/// Reconciles drives that came back, until the agent stops.
pub(super) async fn reconcile(context: Arc<Context>) {
    let mut done = Done::new();
    while context
        .pause(context.node.host().settings.repair_interval)
        .await
    {
        context
            .unless_stopped(reconcile_all(&context, &mut done))
            .await;
    }
}

async fn reconcile_all(context: &Context, done: &mut Done) {
    let view = context.view();
    let enclosure = context.node.identity().enclosure;
    let drives = view.topology.drives.values();
    let returned = drives
        .filter(|drive| drive.state == DriveState::Returned && drive.enclosure == enclosure)
        .filter(|drive| context.engine(drive.id).is_some())
        .map(|drive| (drive.id, drive.generation));
    let returned: BTreeSet<(DriveId, Generation)> = returned.collect();
    done.retain(|drive, _| returned.contains(drive));
    for (drive, generation) in returned {
        let seen = done.entry((drive, generation)).or_default();
        let Some(engine) = context.engine(drive) else {
            continue;
        };
        let work = reconcile_one(context, &engine, generation, seen);
        if let Some(Err(left)) = context.while_served(&engine, work).await {
            tracing::debug!(%drive, %left, "a drive is not reconciled yet");
        }
    }
}

async fn reconcile_one(
    context: &Context,
    engine: &Arc<Engine>,
    generation: Generation,
    seen: &mut BTreeSet<ShardKey>,
) -> Result<(), Left> {
    let shards = engine.shards();
    let ids: BTreeSet<VolumeId> = shards.iter().map(|shard| shard.key.volume).collect();
    let volumes = match ids.iter().next() {
        Some(first) => context.volumes(&ids).await.ok_or(Left::Unsettled(*first))?,
        None => BTreeMap::new(),
    };
    for shard in shards {
        let key = shard.key;
        // Never dropped because it is not known: the root state may be behind (PROTOCOLS 9).
        let unsettled = || Left::Unsettled(key.volume);
        let volume = volumes.get(&key.volume).ok_or_else(unsettled)?;
        let ours = volume.members.get(usize::from(key.member)) == Some(&Some(engine.id()));
        match volume.state {
            // These are dropped in their time (`fence.rs`).
            VolumeState::Retired => {}
            VolumeState::Sealed if !ours => {}
            VolumeState::Sealed => {
                engine.fence(key, volume.epoch).await?;
                if !seen.contains(&key) {
                    look_through(context, engine, key).await?;
                    seen.insert(key);
                }
            }
            _ => return Err(unsettled()),
        }
    }
    if in_doubt(context, engine.id()).await? {
        return Ok(());
    }
    let drive = engine.id();
    let command = RootCommand::ReconcileDrive { drive, generation };
    context.metadata.root(context.request(), command).await??;
    tracing::info!(%drive, "a drive that came back is reconciled");
    Ok(())
}

/// Whether repair has still to compare a shard of the drive with those of the other members.
async fn in_doubt(context: &Context, drive: DriveId) -> Result<bool, MetadataError> {
    let mut after = None;
    loop {
        let query = LedgerQuery {
            drives: vec![drive],
            after,
            limit: ROWS,
        };
        let rows = context.metadata.ledger_of(query).await?;
        let Some(last) = rows.last() else {
            return Ok(false);
        };
        if rows.iter().any(|row| row.what == LedgerRange::Whole) {
            return Ok(true);
        }
        after = Some((last.volume, last.member));
    }
}

/// Asks the owners of all blobs of a shard, and drops what no extent of theirs names. What is not
/// referenced is left to garbage and condemning.
async fn look_through(context: &Context, engine: &Arc<Engine>, key: ShardKey) -> Result<(), Left> {
    let mut after: Option<BlobId> = None;
    loop {
        let (blobs, more) = engine.inventory(key, after, BLOBS).await?;
        after = blobs.last().map(|held| held.blob);
        let asked = blobs
            .into_iter()
            .map(|held| look_up(context, engine, key, held));
        let answers: Vec<_> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        answers.into_iter().collect::<Result<(), Left>>()?;
        if !more || after.is_none() {
            return Ok(());
        }
    }
}

async fn look_up(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
    held: InventoryBlob,
) -> Result<(), Left> {
    let Some(owner) = &held.owner else {
        return Ok(());
    };
    let found = context.metadata.blob(&owner.at, held.blob).await?;
    if let Some(Place::Striped { extents, .. }) = found.map(|blob| blob.place) {
        let needless = outside(engine, key, held.blob, &extents).await?;
        if !needless.is_empty() {
            engine.delete(key, held.blob, needless).await?;
        }
    }
    Ok(())
}
