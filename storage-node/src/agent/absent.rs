//! Logs that should be there and are not (PROTOCOLS 22).
//!
//! Logs that vanish under a drive are seen by a look at its folder. Once for each time that a drive
//! is opened, the root group's list of volumes is compared with its logs as well: the index may be
//! gone with them. A shard without a log is nothing strange while its volume is empty, so that
//! the other members are asked first; when they hold something, the log is entered as gone, and
//! repair finds out what it should hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use enfilade_placement::{DriveId, Epoch, Volume, VolumeId, VolumeState};

use super::Context;
use crate::api::Cause;
use crate::engine::{Engine, Gone, Probe, ShardKey};
use crate::rebuild::Sources;

/// Volumes of one page.
const PAGE: usize = 1000;

/// A drive that was opened.
struct Opened {
    engine: Weak<Engine>,
    /// Its shards without a log, and whether others were seen to hold something of their volumes;
    /// none: not yet compared with the root group's list.
    suspects: Option<BTreeMap<ShardKey, bool>>,
}

/// Looks for logs that are gone until the agent stops.
pub(super) async fn look(context: Arc<Context>) {
    let mut drives = BTreeMap::new();
    while context
        .pause(context.node.host().settings.presence_interval)
        .await
    {
        context
            .unless_stopped(look_once(&context, &mut drives))
            .await;
    }
}

async fn look_once(context: &Context, drives: &mut BTreeMap<DriveId, Opened>) {
    let engines = context.engines();
    drives.retain(|id, _| engines.contains_key(id));
    for (id, engine) in &engines {
        enter_vanished(context, engine).await;
        let known = drives.get(id).map(|opened| opened.engine.as_ptr());
        if known != Some(Arc::as_ptr(engine)) {
            let engine = Arc::downgrade(engine);
            let suspects = None;
            drives.insert(*id, Opened { engine, suspects });
        }
    }
    compare(context, drives, &engines).await;
    for (id, opened) in drives {
        if let (Some(engine), Some(suspects)) = (engines.get(id), &mut opened.suspects) {
            judge(context, engine, suspects).await;
        }
    }
}

/// Enters logs that are not in their folder any more, while the drive itself still is there.
async fn enter_vanished(context: &Context, engine: &Arc<Engine>) {
    let Ok(gone) = engine.gone().await else {
        return;
    };
    if gone.is_empty() {
        return;
    }
    let (probed, cluster) = (Arc::clone(engine), context.node.identity().cluster);
    let probe = move || probed.probe(cluster, false);
    let found = tokio::task::spawn_blocking(probe).await;
    if !matches!(found, Ok(Probe::There)) || engine.failure().is_some() {
        return;
    }
    for gone in gone {
        enter(engine, gone, Epoch::default()).await;
    }
}

async fn enter(engine: &Arc<Engine>, gone: Gone, epoch: Epoch) {
    if let Err(error) = engine.lose(gone, epoch).await {
        tracing::warn!(drive = %engine.id(), key = ?gone.key, %error, "a lost log is not entered");
    }
}

/// Finds the shards without a log of drives that were opened, in the list of all volumes.
async fn compare(
    context: &Context,
    drives: &mut BTreeMap<DriveId, Opened>,
    engines: &BTreeMap<DriveId, Arc<Engine>>,
) {
    let new = |opened: &Opened| opened.suspects.is_none();
    let mut found: BTreeMap<DriveId, BTreeMap<ShardKey, bool>> = BTreeMap::new();
    for (id, _) in drives.iter().filter(|(_, opened)| new(opened)) {
        found.insert(*id, BTreeMap::new());
    }
    if found.is_empty() {
        return;
    }
    let mut after = None;
    loop {
        let page = match context.metadata.all_volumes(after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%error, "the root group does not list volumes");
                return;
            }
        };
        let Some(last) = page.last().map(|volume| volume.id) else {
            break;
        };
        after = Some(last);
        for (drive, key) in page.iter().flat_map(shards) {
            if let (Some(suspects), Some(engine)) = (found.get_mut(&drive), engines.get(&drive))
                && engine.shard_stats(key).is_none()
            {
                suspects.insert(key, false);
            }
        }
    }
    for (id, suspects) in found {
        if let Some(opened) = drives.get_mut(&id) {
            opened.suspects = Some(suspects);
        }
    }
}

/// The shards of a volume, with their drives.
fn shards(volume: &Volume) -> impl Iterator<Item = (DriveId, ShardKey)> + '_ {
    let here = volume
        .present()
        .filter(|_| volume.state != VolumeState::Retired);
    here.filter_map(|(member, drive)| {
        let member = u8::try_from(member).ok()?;
        let volume = volume.id;
        Some((drive, ShardKey { volume, member }))
    })
}

/// Asks the other members about shards without a log. Whose volume holds something twice, a look
/// apart, and that still have none, have lost theirs; what is under way meanwhile is found by
/// repair in any case.
async fn judge(context: &Context, engine: &Arc<Engine>, suspects: &mut BTreeMap<ShardKey, bool>) {
    suspects.retain(|key, _| engine.shard_stats(*key).is_none());
    if suspects.is_empty() {
        return;
    }
    let ids = suspects.keys().map(|key| key.volume).collect();
    let Some(volumes) = context.volumes(&ids).await else {
        return;
    };
    for (key, seen) in std::mem::take(suspects) {
        let Some(volume) = ours(&volumes, engine.id(), key) else {
            continue;
        };
        let (view, nodes) = (context.view(), context.nodes.as_ref());
        let sources = Sources::of(&view, nodes, volume, key.member, Cause::Repair);
        let (blobs, _, complete) = sources.inventory(None, 1).await;
        if !blobs.is_empty() && seen {
            enter(engine, Gone::unknown(key), volume.epoch).await;
        } else if !blobs.is_empty() || complete < volume.profile.k() {
            suspects.insert(key, !blobs.is_empty() || seen);
        }
    }
}

/// The volume of a shard, if the drive still is to have it.
fn ours(volumes: &BTreeMap<VolumeId, Volume>, drive: DriveId, key: ShardKey) -> Option<&Volume> {
    let volume = volumes.get(&key.volume)?;
    shards(volume)
        .any(|shard| shard == (drive, key))
        .then_some(volume)
}
