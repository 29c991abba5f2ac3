//! Who works on a shard that is not, or not yet, its drive's: never two at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use enfilade_placement::{DriveId, Volume, VolumeState};

use crate::agent::Context;
use crate::engine::{Engine, ShardKey};

/// The shards of this node that are not, or not yet, their drives' members.
#[derive(Default)]
pub(in crate::agent) struct Claims(Mutex<Held>);

#[derive(Default)]
struct Held {
    /// Somebody works on these; whether they are being made.
    worked: BTreeMap<(DriveId, ShardKey), bool>,
    /// These were left behind by a move, as far as was seen.
    left: BTreeSet<(DriveId, ShardKey)>,
}

/// A shard that nobody else works on until this is dropped.
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    shard: (DriveId, ShardKey),
}

impl Claims {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a shard; none while somebody else does.
    pub(super) fn claim(&self, drive: DriveId, key: ShardKey, making: bool) -> Option<Claim<'_>> {
        let shard = (drive, key);
        let mut held = self.held();
        if held.worked.contains_key(&shard) {
            return None;
        }
        held.worked.insert(shard, making);
        Some(Claim {
            claims: self,
            shard,
        })
    }

    /// Notes whether a shard was left behind by a move.
    pub(in crate::agent) fn note_left(&self, drive: DriveId, key: ShardKey, left: bool) {
        let mut held = self.held();
        if left {
            held.left.insert((drive, key));
        } else {
            held.left.remove(&(drive, key));
        }
    }

    /// Whether a shard's member is known to be another drive's.
    pub(in crate::agent) fn is_others(&self, drive: DriveId, key: ShardKey) -> bool {
        let (held, shard) = (self.held(), (drive, key));
        held.worked.get(&shard) == Some(&true) || held.left.contains(&shard)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held().worked.remove(&self.shard);
    }
}

/// Drops a shard whose member is another drive's, unless it is being made for a move. Root is asked
/// once more, now that nothing can be made here: the volume that it was judged by may be old.
pub(in crate::agent) async fn drop_left(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
    volume: &Volume,
) {
    let Some(_claim) = context.claims.claim(engine.id(), key, false) else {
        return;
    };
    // Not before the new one was looked through, either: until then this is a spare copy.
    let view = context.view();
    if view.moves.intent(key.volume, key.member).is_some() {
        return;
    }
    let Ok(volumes) = context.metadata.volumes(&[volume.id]).await else {
        return;
    };
    let Some(volume) = volumes.into_iter().find(|now| now.id == volume.id) else {
        return;
    };
    let member = volume.members.get(usize::from(key.member));
    let elsewhere = matches!(member, Some(Some(drive)) if *drive != engine.id());
    let there = matches!(member, Some(Some(drive)) if view.topology.is_present(*drive));
    if volume.state != VolumeState::Sealed || !elsewhere || !there {
        return;
    }
    // Who reads here by an old epoch is told so, not that fragments are missing.
    context.node.learn_volume(volume);
    match engine.drop_shard(key).await {
        Ok(()) => tracing::info!(drive = %engine.id(), ?key, "a shard that moved away is dropped"),
        Err(error) => {
            tracing::warn!(drive = %engine.id(), ?key, %error, "a shard is not dropped");
        }
    }
}
