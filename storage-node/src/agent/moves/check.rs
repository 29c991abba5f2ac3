//! The reference check of a shard that has just come (PROTOCOLS 20): what died while it was on its
//! way was dropped, and acked, by the drive that it came from.

use std::sync::Arc;

use enfilade_cluster::api::record::Place;
use enfilade_placement::{BlobId, Volume};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::agent::Context;
use crate::agent::orphans::outside;
use crate::agent::repair::Left;
use crate::api::read::InventoryBlob;
use crate::engine::{Engine, ShardKey};

/// Blobs of one page, and questions that are under way at once.
const PAGE: usize = 512;
const AT_ONCE: usize = 32;
/// Drops that are under way at once.
const DROPS_AT_ONCE: usize = 128;
/// Dead blobs that are remembered at once.
const DEAD_MAX: usize = 100_000;

/// Asks the owners of all blobs of a shard: what is referenced gets its mark, what is referenced no
/// more is dropped, once reads that began before its end had their time. What was never marked and
/// is not referenced may yet be committed: it is left to age.
pub(super) async fn look_through(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
    volume: &Volume,
) -> Result<(), Left> {
    if volume.members.get(usize::from(key.member)) != Some(&Some(engine.id())) {
        return Ok(());
    }
    engine.fence(key, volume.epoch).await?;
    let mut dead = Vec::new();
    let mut after = None;
    loop {
        let (blobs, more) = engine.inventory(key, after, PAGE).await?;
        after = blobs.last().map(|held| held.blob);
        let asked = blobs
            .into_iter()
            .map(|held| one(context, engine, key, held));
        let answers: Vec<_> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut marks = Vec::new();
        for answer in answers {
            match answer? {
                Found::Fine => {}
                Found::Mark(blob) => marks.push(blob),
                Found::Dead(blob) => dead.push(blob),
            }
        }
        if !marks.is_empty() {
            engine.mark(key, marks).await?;
        }
        if !more || after.is_none() || dead.len() >= DEAD_MAX {
            break;
        }
    }
    if dead.is_empty() {
        return Ok(());
    }
    let all = dead.len() < DEAD_MAX;
    let host = context.node.host();
    host.env.clock.sleep(host.settings.move_dead_grace).await;
    // At once, so that they share blocks and syncs.
    let drops = dead.into_iter().map(|blob| async move {
        engine.delete(key, blob, Vec::new()).await?;
        host.metrics.garbage.inc();
        Ok::<(), Left>(())
    });
    let drops = stream::iter(drops).buffer_unordered(DROPS_AT_ONCE);
    drops.try_collect::<()>().await?;
    if all { Ok(()) } else { Err(Left::MoreDead) }
}

/// What a look-up came to.
enum Found {
    /// Nothing is to be done.
    Fine,
    /// It is referenced, and has no mark.
    Mark(BlobId),
    /// It was referenced, and is no more.
    Dead(BlobId),
}

/// Looks one blob up.
async fn one(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
    held: InventoryBlob,
) -> Result<Found, Left> {
    let Some(owner) = &held.owner else {
        return Ok(Found::Fine);
    };
    match context.metadata.blob(&owner.at, held.blob).await? {
        Some(blob) => {
            if let Place::Striped { extents, .. } = &blob.place {
                let needless = outside(engine, key, held.blob, extents).await?;
                if !needless.is_empty() {
                    engine.delete(key, held.blob, needless).await?;
                }
            }
            Ok(match held.committed {
                true => Found::Fine,
                false => Found::Mark(held.blob),
            })
        }
        None if held.committed => Ok(Found::Dead(held.blob)),
        None => Ok(Found::Fine),
    }
}
