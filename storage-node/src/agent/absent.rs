//! Logs that should be there and are not (PROTOCOLS 22).
//!
//! Logs that vanish under a drive are seen by a look at its folder. Once for each time that a drive
//! is opened, the root group's list of volumes is compared with its logs as well: the index may be
//! gone with them. A shard without a log is nothing strange: its volume may be empty, or hold only
//! small blobs that store nothing in it (PROTOCOLS 17). So the other members are asked for their
//! blobs; when one is committed that stores fragments in the shard, the log is entered as gone, and
//! repair finds out what else it should hold. Whoever cried at any blob would not only be wrong: a
//! log that is entered as gone does not vouch for others, and with too few that do, none of them
//! could be repaired.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use enfilade_cluster::api::record::{Blob, Place};
use enfilade_placement::{BlobId, DriveId, Epoch, Volume, VolumeId, VolumeState};

use super::Context;
use crate::api::Cause;
use crate::api::shape::Shape;
use crate::engine::{Engine, Gone, Probe, ShardKey};
use crate::rebuild::Sources;

/// Volumes of one page.
const PAGE: usize = 1000;
/// Blobs of one page, and pages of one shard that are read in one look.
const BLOBS: u32 = 256;
const BLOB_PAGES: usize = 8;

/// A drive that was opened.
struct Opened {
    engine: Weak<Engine>,
    /// Its shards without a log; none: not yet compared with the root group's list.
    suspects: Option<Suspects>,
}

/// Shards without a log, and how far the blobs of their volumes were looked at.
type Suspects = BTreeMap<ShardKey, Asked>;

/// How far the blobs of a volume were looked at, on this way through them.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// The last one.
    after: Option<BlobId>,
    /// Whether one was not committed: it may have been written here before the log was lost.
    open: bool,
}

/// What the other members tell of a shard without a log.
enum Verdict {
    /// It should hold something.
    Lost,
    /// It has nothing to hold.
    Empty,
    /// Not all was heard: to be gone on with.
    Open(Asked),
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
    let served = context.drives();
    drives.retain(|id, _| served.contains(id));
    for id in served {
        let Some(engine) = context.engine(id) else {
            continue;
        };
        let look = enter_vanished(context, &engine);
        context.while_served(&engine, look).await;
        let known = drives.get(&id).map(|opened| opened.engine.as_ptr());
        if known != Some(Arc::as_ptr(&engine)) {
            let engine = Arc::downgrade(&engine);
            let suspects = None;
            drives.insert(id, Opened { engine, suspects });
        }
    }
    compare(context, drives).await;
    for opened in drives.values_mut() {
        if let (Some(engine), Some(suspects)) = (opened.engine.upgrade(), &mut opened.suspects) {
            let work = judge(context, &engine, suspects);
            context.while_served(&engine, work).await;
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
async fn compare(context: &Context, drives: &mut BTreeMap<DriveId, Opened>) {
    let new = |opened: &Opened| opened.suspects.is_none();
    let mut found: BTreeMap<DriveId, Suspects> = BTreeMap::new();
    for (id, _) in drives.iter().filter(|(_, opened)| new(opened)) {
        found.insert(*id, Suspects::new());
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
            if let (Some(suspects), Some(engine)) = (found.get_mut(&drive), context.engine(drive))
                && engine.shard_stats(key).is_none()
            {
                suspects.insert(key, Asked::default());
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

/// Asks the other members about shards without a log, until it is known of each whether it should
/// have one.
async fn judge(context: &Context, engine: &Arc<Engine>, suspects: &mut Suspects) {
    suspects.retain(|key, _| engine.shard_stats(*key).is_none());
    if suspects.is_empty() {
        return;
    }
    let ids = suspects.keys().map(|key| key.volume).collect();
    let Some(volumes) = context.volumes(&ids).await else {
        return;
    };
    for (key, asked) in std::mem::take(suspects) {
        let Some(volume) = ours(&volumes, engine.id(), key) else {
            continue;
        };
        match hear(context, volume, key.member, asked).await {
            // Unless it was made meanwhile, by the write that was heard of.
            Verdict::Lost => enter(engine, Gone::unknown(key), volume.epoch).await,
            Verdict::Empty => {}
            Verdict::Open(asked) => {
                suspects.insert(key, asked);
            }
        }
    }
}

/// Looks for a blob that stores fragments in a shard, among those of the other members.
async fn hear(context: &Context, volume: &Volume, member: u8, mut asked: Asked) -> Verdict {
    let (view, nodes) = (context.view(), context.nodes.as_ref());
    let sources = Sources::of(&view, nodes, volume, member, Cause::Repair);
    for _ in 0..BLOB_PAGES {
        let (held, end, complete) = sources.inventory(asked.after, BLOBS).await;
        let owned = held.into_iter().filter_map(|held| {
            let owner = held.owner?;
            Some((held.blob, owner))
        });
        for (id, owner) in owned.collect::<BTreeMap<_, _>>() {
            match context.metadata.blob(&owner.at, id).await {
                Ok(Some(blob)) if stores(&blob, volume.id, member) => return Verdict::Lost,
                Ok(Some(_)) => {}
                Ok(None) => asked.open = true,
                Err(error) => {
                    tracing::debug!(%error, "the owner of a blob does not answer");
                    return Verdict::Open(asked);
                }
            }
        }
        if complete < volume.profile.k() {
            return Verdict::Open(asked);
        }
        match end {
            None if asked.open => return Verdict::Open(Asked::default()),
            None => return Verdict::Empty,
            end => asked.after = end,
        }
    }
    Verdict::Open(asked)
}

/// Whether a blob stores fragments in a member of a volume.
fn stores(blob: &Blob, volume: VolumeId, member: u8) -> bool {
    let Place::Striped { extents, .. } = &blob.place else {
        return false;
    };
    let mut extents = extents.iter();
    extents.any(|extent| extent.volume == volume && extent.stripes > 0)
        && Shape::of(blob).is_some_and(|shape| shape.stores(usize::from(member)))
}

/// The volume of a shard, if the drive still is to have it.
fn ours(volumes: &BTreeMap<VolumeId, Volume>, drive: DriveId, key: ShardKey) -> Option<&Volume> {
    let volume = volumes.get(&key.volume)?;
    shards(volume)
        .any(|shard| shard == (drive, key))
        .then_some(volume)
}
