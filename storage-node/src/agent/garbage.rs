//! Garbage: dead blobs are dropped durably, then acked (PROTOCOLS 20).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enfilade_cluster::api::garbage::{GarbageAck, GarbageEntry, GarbageQuery};
use enfilade_placement::{BlobId, PartitionId, Volume, VolumeId, VolumeState};
use futures::stream::{self, StreamExt};

use super::{Context, faults};
use crate::engine::{Engine, ShardKey};

/// Entries of one answer; dropped together, so that they share syncs.
const PAGE: u32 = 1000;
/// Shards of one question.
const SHARDS_PER_QUERY: usize = 1000;
/// Drops that are under way at once.
const DROPS_AT_ONCE: usize = 128;

/// Asks the partitions for garbage, drops it and acks it, until the agent stops.
pub(super) async fn collect(context: Arc<Context>) {
    while context
        .pause(context.node.host().settings.garbage_interval)
        .await
    {
        context.unless_stopped(collect_once(&context)).await;
    }
}

async fn collect_once(context: &Context) {
    let view = context.view();
    let shards = shards(context);
    for partition in view.partitions.keys() {
        for shards in shards.chunks(SHARDS_PER_QUERY) {
            // Entries that cannot be dropped now are told again and again: not in this round.
            while collect_page(context, *partition, shards).await {}
        }
    }
    for drive in context.drives() {
        let Some(engine) = context.engine(drive) else {
            continue;
        };
        if let Err(error) = engine.reclaim_all().await {
            tracing::warn!(%drive, %error, "room is not given back");
        }
    }
}

/// Every shard that garbage may be addressed to: members of volumes that are not sealed, with a
/// log or without, and logs of those that are.
fn shards(context: &Context) -> Vec<(VolumeId, u8)> {
    let mut shards: BTreeSet<(VolumeId, u8)> = BTreeSet::new();
    for (key, ..) in context.shards_in_view() {
        shards.insert((key.volume, key.member));
    }
    for engine in context.engines().into_values() {
        // The node of the drive that has the member drops and acks.
        let own = engine.shards().into_iter();
        let own = own.filter(|shard| !context.claims.is_others(engine.id(), shard.key));
        shards.extend(own.map(|shard| (shard.key.volume, shard.key.member)));
    }
    shards.into_iter().collect()
}

/// One question; whether it pays to ask again at once.
async fn collect_page(
    context: &Context,
    partition: PartitionId,
    shards: &[(VolumeId, u8)],
) -> bool {
    let query = GarbageQuery {
        partition,
        shards: shards.to_vec(),
        limit: PAGE,
    };
    let entries = match context.metadata.garbage(query).await {
        Ok(entries) => entries,
        Err(error) => {
            tracing::debug!(%partition, %error, "a partition does not tell its garbage");
            return false;
        }
    };
    if entries.is_empty() {
        return false;
    }
    let ids: BTreeSet<VolumeId> = entries.iter().map(|entry| entry.volume).collect();
    let Some(volumes) = context.volumes(&ids).await else {
        return false;
    };
    let asked = entries.len();
    let blobs = entries.iter().map(|entry| (entry.volume, entry.blob));
    let blobs: BTreeSet<(VolumeId, BlobId)> = blobs.collect();
    let acks = drop_all(context, &volumes, entries).await;
    let dropped = acks.len();
    if dropped == 0 {
        return false;
    }
    if let Err(error) = faults::forget(context, &blobs).await {
        tracing::debug!(%error, "dead blobs stay in the ledger for now");
        return false;
    }
    match context.metadata.ack_garbage(partition, acks).await {
        Ok(()) => {
            context.node.host().metrics.garbage.inc_by(dropped as u64);
            dropped == asked && asked >= PAGE as usize
        }
        Err(error) => {
            tracing::debug!(%partition, %error, "acks of garbage are not taken");
            false
        }
    }
}

/// Drops what can be dropped here; the acks for it.
async fn drop_all(
    context: &Context,
    volumes: &BTreeMap<VolumeId, Volume>,
    entries: Vec<GarbageEntry>,
) -> Vec<GarbageAck> {
    let mut fenced: BTreeMap<(VolumeId, u8), bool> = BTreeMap::new();
    let mut work = Vec::new();
    for entry in entries {
        let Some(volume) = volumes.get(&entry.volume) else {
            continue;
        };
        let drive = volume
            .members
            .get(usize::from(entry.member))
            .copied()
            .flatten();
        let Some(engine) = drive.and_then(|drive| context.engine(drive)) else {
            continue;
        };
        let shard = (entry.volume, entry.member);
        let current = match fenced.get(&shard) {
            Some(current) => *current,
            None => {
                let current = is_current(&engine, volume, entry.member).await;
                fenced.insert(shard, current);
                current
            }
        };
        if current {
            let ack = GarbageAck {
                sequence: entry.sequence,
                volume: entry.volume,
                epoch: volume.epoch,
                members: speaks_for(volume, entry.member),
            };
            work.push((entry, ack, engine.id()));
        }
    }
    // What goes to one log at once shares its blocks: a lone delete takes one of 4 KiB for itself.
    work.sort_by_key(|(entry, ..)| (entry.volume, entry.member));
    let drops = work.into_iter().map(|(entry, ack, drive)| async move {
        // None is held while others are at work: it may fail meanwhile.
        let engine = context.engine(drive)?;
        let key = ShardKey {
            volume: entry.volume,
            member: entry.member,
        };
        match engine.delete(key, entry.blob, Vec::new()).await {
            Ok(()) => Some(ack),
            Err(error) => {
                tracing::warn!(drive = %engine.id(), ?key, %error, "garbage is not dropped");
                None
            }
        }
    });
    stream::iter(drops)
        .buffer_unordered(DROPS_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Whether the shard is held under the volume's epoch: an ack of an older one would not count, and
/// until a sealed volume's shard is fenced, a late append of the blob could still come.
async fn is_current(engine: &Arc<Engine>, volume: &Volume, member: u8) -> bool {
    if matches!(volume.state, VolumeState::Open | VolumeState::Suspended) {
        return true;
    }
    let key = ShardKey {
        volume: volume.id,
        member,
    };
    engine.fence(key, volume.epoch).await.is_ok()
}

/// The members that an ack is for: the lowest present one speaks for the vacant ones.
fn speaks_for(volume: &Volume, member: u8) -> Vec<u8> {
    let mut members = vec![member];
    let lowest = volume.present().next().map(|(index, _)| index);
    if lowest == Some(usize::from(member)) {
        let vacant = (0u8..)
            .zip(&volume.members)
            .filter(|(_, drive)| drive.is_none());
        members.extend(vacant.map(|(index, _)| index));
    }
    members
}
