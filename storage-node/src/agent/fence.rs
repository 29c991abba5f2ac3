//! Fencing the shards of volumes that are sealed (PROTOCOLS 12); dropping those of retired ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::root::RootCommand;
use enfilade_placement::{DriveId, Volume, VolumeId, VolumeState};

use super::Context;
use crate::engine::{Engine, ShardKey, ShardStats};

/// Fences as soon as the root group says that a volume is sealing, and reports it.
pub(super) async fn follow(context: Arc<Context>) {
    let mut views = context.view.subscribe();
    // A view may have come before this subscribed.
    let mut pending = true;
    loop {
        let again = context.node.host().settings.heartbeat;
        tokio::select! {
            () = context.stop.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            // The drive, or the root group, may have failed to answer.
            () = context.node.host().env.clock.sleep(again), if pending => {}
        }
        views.mark_unchanged();
        pending = false;
        for (key, volume, drive) in context.shards_in_view() {
            let sealing = volume.state == VolumeState::Sealing;
            if let Some(engine) = context.engine(drive).filter(|_| sealing) {
                let fence = async { pending |= !fence(&context, key, &volume, &engine).await };
                context.unless_stopped(fence).await;
            }
        }
        // A volume that still is sealing may be waiting for a drive that comes back.
        pending |= context
            .view()
            .volumes
            .values()
            .any(|v| v.state == VolumeState::Sealing);
    }
}

/// Fences one shard and reports it; whether that is done.
async fn fence(context: &Context, key: ShardKey, volume: &Volume, engine: &Arc<Engine>) -> bool {
    let bytes = match engine.fence(key, volume.epoch).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(drive = %engine.id(), ?key, %error, "cannot fence a shard");
            return false;
        }
    };
    let command = RootCommand::VolumeFenced {
        volume: volume.id,
        epoch: volume.epoch,
        member: key.member,
        bytes,
    };
    match context.metadata.root(context.request(), command).await {
        // A refusal says that another member was first, or that the volume went on.
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, ?key, "the fence is not reported");
            false
        }
    }
}

/// When each sealed shard is looked at again, by the clock.
type Later = BTreeMap<(DriveId, ShardKey), Duration>;

/// Since when each shard is known to be another drive's.
type Left = BTreeMap<(DriveId, ShardKey), Duration>;

/// Brings shards of volumes that were sealed or retired while this node was away up to date.
pub(super) async fn reconcile(context: Arc<Context>) {
    let (mut later, mut left) = (Later::new(), Left::new());
    while context
        .pause(context.node.host().settings.garbage_interval)
        .await
    {
        context
            .unless_stopped(reconcile_once(&context, &mut later, &mut left))
            .await;
    }
}

async fn reconcile_once(context: &Context, later: &mut Later, left: &mut Left) {
    let view = context.view();
    if view.revision == 0 {
        return;
    }
    let now = context.node.host().env.clock.now();
    later.retain(|_, when| *when > now);
    left.retain(|(drive, key), _| {
        let here = |engine: Arc<Engine>| engine.shard_stats(*key).is_some();
        let stays = context.engine(*drive).is_some_and(here);
        if !stays {
            context.claims.note_left(*drive, *key, false);
        }
        stays
    });
    let mut due = Vec::new();
    for engine in context.engines().into_values() {
        for shard in engine.shards() {
            let sealed = !view.volumes.contains_key(&shard.key.volume);
            if sealed && !later.contains_key(&(engine.id(), shard.key)) {
                due.push((engine.id(), shard));
            }
        }
    }
    let ids: BTreeSet<VolumeId> = due.iter().map(|(_, shard)| shard.key.volume).collect();
    if ids.is_empty() {
        return;
    }
    let Some(volumes) = context.volumes(&ids).await else {
        return;
    };
    for (drive, shard) in due {
        let Some(engine) = context.engine(drive) else {
            continue;
        };
        let volume = volumes.get(&shard.key.volume);
        if let Some(volume) = volume.filter(|volume| is_left(&engine, &shard, volume)) {
            context.claims.note_left(engine.id(), shard.key, true);
            let since = *left.entry((engine.id(), shard.key)).or_insert(now);
            if now.saturating_sub(since) >= context.node.host().settings.move_grace {
                super::moves::drop_left(context, &engine, shard.key, volume).await;
            }
            continue;
        }
        context.claims.note_left(engine.id(), shard.key, false);
        left.remove(&(engine.id(), shard.key));
        if settle(&engine, &shard, volume).await {
            let again = now + context.node.host().settings.orphan_interval;
            later.insert((engine.id(), shard.key), again);
        }
    }
}

/// Whether a shard's member is another drive's, as far as root has it: it was moved away, or was
/// made for a move that was cancelled.
fn is_left(engine: &Engine, shard: &ShardStats, volume: &Volume) -> bool {
    let member = volume.members.get(usize::from(shard.key.member));
    volume.state == VolumeState::Sealed && member != Some(&Some(engine.id()))
}

/// Does what a shard's volume, as the root group has it, asks for; whether that is all for now.
async fn settle(engine: &Arc<Engine>, shard: &ShardStats, volume: Option<&Volume>) -> bool {
    let key = shard.key;
    let Some(volume) = volume else {
        // Never dropped for that: the root state may be the one that is behind (PROTOCOLS 9).
        tracing::error!(drive = %engine.id(), ?key, "the root group knows no such volume");
        return true;
    };
    let ours = volume.members.get(usize::from(key.member)) == Some(&Some(engine.id()));
    let outcome = match volume.state {
        VolumeState::Retired => engine.drop_shard(key).await,
        VolumeState::Sealed if ours && shard.fence < volume.epoch => {
            engine.fence(key, volume.epoch).await.map(|_| ())
        }
        VolumeState::Sealed => Ok(()),
        // The view is behind; it will tell.
        VolumeState::Open | VolumeState::Suspended | VolumeState::Sealing => return false,
    };
    if let Err(error) = &outcome {
        tracing::warn!(drive = %engine.id(), ?key, %error, "a shard is not reconciled");
    }
    outcome.is_ok()
}
