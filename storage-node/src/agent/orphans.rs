//! Orphans: blobs that nothing references, left by writers that died (PROTOCOLS 19).
//!
//! Their owner's partition is asked to condemn them; only what it condemned is dropped. The lowest
//! present member of a volume asks at the orphan age. It has no way to tell the other members, so
//! they ask too, at twice that age, and get the same answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use enfilade_cluster::api::command::{KeyOp, KeyReply, WriteRequest};
use enfilade_cluster::api::record::Extent;
use enfilade_placement::{Volume, VolumeId};

use super::{Context, faults};
use crate::engine::{Engine, EngineError, Orphan, ShardKey};

/// Looks for orphans until the agent stops.
pub(super) async fn condemn(context: Arc<Context>) {
    while context
        .pause(context.node.host().settings.orphan_interval)
        .await
    {
        context.unless_stopped(condemn_all(&context)).await;
    }
}

async fn condemn_all(context: &Context) {
    for drive in context.drives() {
        if let Some(engine) = context.engine(drive) {
            let work = condemn_on(context, &engine);
            context.while_served(&engine, work).await;
        }
    }
}

async fn condemn_on(context: &Context, engine: &Arc<Engine>) {
    let shards = engine.shards();
    let ids: BTreeSet<VolumeId> = shards.iter().map(|shard| shard.key.volume).collect();
    let Some(volumes) = context.volumes(&ids).await else {
        return;
    };
    for shard in shards {
        let Some(volume) = volumes.get(&shard.key.volume) else {
            continue;
        };
        let ours = volume.members.get(usize::from(shard.key.member)) == Some(&Some(engine.id()));
        if ours && let Err(error) = condemn_shard(context, engine, shard.key, volume).await {
            tracing::warn!(drive = %engine.id(), ?shard.key, %error, "orphans are not dropped");
        }
    }
}

async fn condemn_shard(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
    volume: &Volume,
) -> Result<(), EngineError> {
    let lowest = volume.present().next().map(|(index, _)| index);
    let turns = if lowest == Some(usize::from(key.member)) {
        1
    } else {
        2
    };
    let age = context.node.host().settings.orphan_age * turns;
    let mut after = None;
    loop {
        let (orphans, next) = engine.orphans(key, age, after).await?;
        for orphan in orphans {
            if !judge(context, engine, key, orphan).await? {
                return Ok(());
            }
        }
        match next {
            Some(_) => after = next,
            None => return Ok(()),
        }
    }
}

/// Asks about one blob and acts on the answer; `false` when the partition does not answer.
async fn judge(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
    Orphan { blob, owner }: Orphan,
) -> Result<bool, EngineError> {
    let request = WriteRequest {
        request: context.request(),
        bucket: owner.at.bucket,
        // To condemn is no write to the bucket: its revision does not matter.
        revision: 0,
        key: owner.at.key,
        op: KeyOp::Condemn { blob },
    };
    match context.metadata.write(request).await {
        Ok(Ok(KeyReply::Condemned)) => {
            if let Err(error) = faults::forget(context, &BTreeSet::from([(key.volume, blob)])).await
            {
                tracing::debug!(%error, %blob, "a dead blob stays in the ledger for now");
                return Ok(false);
            }
            engine.delete(key, blob, Vec::new()).await?;
            context.node.host().metrics.orphans.inc();
        }
        Ok(Ok(KeyReply::Referenced(extents))) => {
            engine.mark(key, vec![blob]).await?;
            let outside = outside(engine, key, blob, &extents).await?;
            if !outside.is_empty() {
                engine.delete(key, blob, outside).await?;
            }
        }
        Ok(Ok(other)) => tracing::error!(?other, "an answer to another command than condemn"),
        Ok(Err(refusal)) => tracing::debug!(%refusal, %blob, "not condemned"),
        Err(error) => {
            tracing::debug!(%error, %blob, "not condemned");
            return Ok(false);
        }
    }
    Ok(true)
}

/// The stripes that the shard holds of a blob and that no extent names (PROTOCOLS 13).
pub(super) async fn outside(
    engine: &Arc<Engine>,
    key: ShardKey,
    blob: enfilade_placement::BlobId,
    extents: &[Extent],
) -> Result<Vec<(u32, u32)>, EngineError> {
    let mut held = engine.stripes(key, blob).await?;
    for extent in extents.iter().filter(|extent| extent.volume == key.volume) {
        let (first, end) = (
            u64::from(extent.first_stripe),
            u64::from(extent.first_stripe) + u64::from(extent.stripes),
        );
        held = held
            .into_iter()
            .flat_map(|run| subtract(run, first, end))
            .collect();
    }
    Ok(held)
}

/// What is left of a run of stripes (first and last) without `first..end`.
fn subtract((a, b): (u32, u32), first: u64, end: u64) -> impl Iterator<Item = (u32, u32)> {
    let (a, b) = (u64::from(a), u64::from(b));
    let before = (a < first).then(|| (a, b.min(first.saturating_sub(1))));
    let after = (b >= end).then(|| (a.max(end), b));
    let whole = first >= end;
    let parts = if whole {
        [Some((a, b)), None]
    } else {
        [before, after]
    };
    let narrow = |(a, b)| Some((u32::try_from(a).ok()?, u32::try_from(b).ok()?));
    parts.into_iter().flatten().filter_map(narrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_outside_an_extent_are_what_is_left_of_the_run() {
        let left = |run, first, end| subtract(run, first, end).collect::<Vec<_>>();
        assert_eq!(left((3, 9), 5, 7), [(3, 4), (7, 9)]);
        assert_eq!(left((3, 9), 0, 5), [(5, 9)]);
        assert_eq!(left((3, 9), 5, 20), [(3, 4)]);
        assert_eq!(left((3, 9), 0, 20), []);
        assert_eq!(left((3, 9), 20, 30), [(3, 9)]);
        assert_eq!(left((3, 9), 0, 3), [(3, 9)]);
        assert_eq!(left((3, 9), 5, 5), [(3, 9)]);
    }
}
