//! Carrying out intents: shards are made on drives of this node, then root is asked to flip their
//! members (PROTOCOLS 21).
//!
//! A shard that can still be read is copied from where it is; what it lacks there, and one that is
//! lost, is rebuilt from the other members. Every fragment is synced and read back before root is
//! told. All of it may be broken off at any point and begun again: what is whole is found so.

mod check;
mod claims;
mod copy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use enfilade_cluster::api::moves::{Flip, Intent, Reason, Stage, may_move};
use enfilade_cluster::api::root::{LedgerRange, RootCommand, RootRefusal, RootReply};
use enfilade_placement::{IntentId, Volume, VolumeState};
use tokio::task::{AbortHandle, JoinSet};

pub(super) use self::claims::{Claims, drop_left};
use super::Context;
use super::repair::{Left, Patient, WAITING_MAX};
use crate::api::Cause;
use crate::engine::{Engine, Paced, ShardKey, Throttle};
use crate::rebuild::{Original, Rebuild, Sources, Target};
use crate::settings::Settings;

/// An intent that cannot be carried out now is tried again after this, and twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// After so many attempts in vain the intent is given up, so that others have its place. It is
/// planned again.
const TRIES: u32 = 6;

/// Intents that wait: until when, and how often they were tried in vain.
type Later = BTreeMap<IntentId, (Duration, u32)>;

/// An intent that is being carried out.
struct Running {
    task: AbortHandle,
    reason: Reason,
    /// Whether its shard is still being made. After the flip it may wait for ten minutes, until
    /// reads of blobs that are dead have ended.
    makes: Arc<AtomicBool>,
}

/// Carries out the intents of this node's drives until the agent stops.
pub(super) async fn carry_out(context: Arc<Context>) {
    let rebuild = Arc::new(Rebuild::new(context.node.host().clone()));
    let mut views = context.view.subscribe();
    let mut running: BTreeMap<IntentId, Running> = BTreeMap::new();
    let mut work: JoinSet<(IntentId, Result<(), Left>)> = JoinSet::new();
    let mut later = Later::new();
    loop {
        let settings = &context.node.host().settings;
        tokio::select! {
            () = context.stop.cancelled() => break,
            changed = views.changed() => if changed.is_err() { break },
            Some(done) = work.join_next(), if !work.is_empty() => {
                if let Ok((id, outcome)) = done {
                    note(&context, &mut later, id, outcome);
                }
            }
            () = context.node.host().env.clock.sleep(settings.repair_interval) => {}
        }
        context.node.host().pace.set(&context.view().tuning);
        let intents = ours(&context);
        let wanted = |id: &IntentId| intents.iter().any(|(intent, _)| intent.id == *id);
        later.retain(|id, _| wanted(id));
        running.retain(|id, one| {
            if !wanted(id) {
                one.task.abort();
            }
            wanted(id) && !one.task.is_finished()
        });
        let now = context.node.host().env.clock.now();
        for (intent, engine) in intents {
            let (id, tried) = (intent.id, later.get(&intent.id).copied());
            let waits = tried.is_some_and(|(until, _)| until > now);
            if waits || running.contains_key(&id) || !has_room(&running, &intent, settings) {
                continue;
            }
            let tries = tried.map_or(0, |(_, tries)| tries);
            let (reason, stage) = (intent.reason, intent.stage);
            let (context, rebuild) = (Arc::clone(&context), Arc::clone(&rebuild));
            let makes = Arc::new(AtomicBool::new(stage == Stage::Make));
            let flag = Arc::clone(&makes);
            let task = async move {
                let outcome = act(&context, &rebuild, &intent, engine, &flag).await;
                if outcome.is_err() && tries + 1 >= TRIES && flag.load(Relaxed) {
                    let _ = tell(&context, RootCommand::CancelMoves(vec![id])).await;
                }
                (id, outcome)
            };
            let task = work.spawn(task);
            let one = Running {
                task,
                reason,
                makes,
            };
            running.insert(id, one);
        }
    }
    work.shutdown().await;
}

/// Whether one more may be begun. Repairs do not wait for other moves, and what only waits for its
/// blobs to be looked up takes no place.
fn has_room(running: &BTreeMap<IntentId, Running>, intent: &Intent, settings: &Settings) -> bool {
    let repairs = |reason: Reason| reason == Reason::Repair;
    let same =
        |one: &&Running| one.makes.load(Relaxed) && repairs(one.reason) == repairs(intent.reason);
    let count = running.values().filter(same).count();
    intent.stage == Stage::Check || count < settings.moves_at_once as usize
}

/// The intents for drives that are served here, the most urgent first.
fn ours(context: &Context) -> Vec<(Intent, Arc<Engine>)> {
    let (view, engines) = (context.view(), context.engines());
    let goes_on = |intent: &&Intent| {
        !view.moves.paused || intent.reason == Reason::Repair || intent.stage == Stage::Check
    };
    let intents = view.moves.intents.iter().filter(goes_on);
    let mut ours: Vec<(Intent, Arc<Engine>)> = intents
        .filter_map(|intent| {
            let engine = engines.get(&intent.to)?;
            Some((intent.clone(), Arc::clone(engine)))
        })
        .collect();
    ours.sort_by_key(|(intent, _)| (intent.reason, intent.id));
    ours
}

fn note(context: &Context, later: &mut Later, id: IntentId, outcome: Result<(), Left>) {
    match outcome {
        Ok(()) => {
            later.remove(&id);
        }
        Err(left) => {
            tracing::warn!(intent = %id, %left, "an intent is not carried out yet");
            context.node.host().metrics.repair.put_off.inc();
            let tries = later.get(&id).map_or(0, |(_, tries)| *tries);
            let pause = (AGAIN * 2u32.saturating_pow(tries)).min(AGAIN_MAX);
            let now = context.node.host().env.clock.now();
            later.insert(id, (now + pause, tries + 1));
        }
    }
}

/// Carries out one intent, from where it is; `makes` is unset when its shard is made.
async fn act(
    context: &Context,
    rebuild: &Rebuild,
    intent: &Intent,
    engine: Arc<Engine>,
    makes: &AtomicBool,
) -> Result<(), Left> {
    let key = ShardKey {
        volume: intent.volume,
        member: intent.member,
    };
    let Some(mut volume) = volume(context, key).await? else {
        return Ok(());
    };
    if intent.stage == Stage::Make {
        let claim = context.claims.claim(engine.id(), key, true);
        let _claim = claim.ok_or(Left::Claimed)?;
        if !may_move(&volume) || volume.members.get(usize::from(key.member)) != Some(&intent.from) {
            // Root is ahead of the view that named the intent.
            return Ok(());
        }
        match make(context, rebuild, intent, &engine, volume).await? {
            Some(flipped) => volume = flipped,
            None => return Ok(()),
        }
        makes.store(false, Relaxed);
    }
    check::look_through(context, &engine, key, &volume).await?;
    tell(context, RootCommand::EndMoves(vec![intent.id])).await?;
    Ok(())
}

/// Makes the shard and has its member flipped; the volume as it is then, or nothing when the intent
/// has ended meanwhile.
async fn make(
    context: &Context,
    rebuild: &Rebuild,
    intent: &Intent,
    engine: &Arc<Engine>,
    mut volume: Volume,
) -> Result<Option<Volume>, Left> {
    let member = intent.member;
    let key = ShardKey {
        volume: intent.volume,
        member,
    };
    // No late append of an older epoch gets in, for ever (PROTOCOLS 12).
    engine.fence(key, volume.epoch).await?;
    let nodes = context.nodes.as_ref();
    let settings = &context.node.host().settings;
    let cause = cause(intent.reason);
    let patient = |volume: &Volume| Patient {
        target: Target {
            engine: Arc::clone(engine),
            key,
            epoch: volume.epoch,
            pace: pace(intent.reason, settings),
            cause,
        },
        sources: Sources::of(&context.view(), nodes, volume, member, cause),
        volume: volume.clone(),
    };
    if let Some(original) = Original::of(&context.view(), nodes, &volume, member, cause) {
        copy::copy(rebuild, &patient(&volume), &original).await?;
    }
    loop {
        let mut lacks = patient(&volume).make_whole(context, rebuild).await?;
        if lacks.len() > WAITING_MAX {
            lacks = vec![LedgerRange::Whole];
        }
        let bytes = engine.shard_stats(key).map_or(0, |shard| shard.live);
        let flip = Flip {
            intent: intent.id,
            volume: key.volume,
            epoch: volume.epoch,
            member,
            bytes,
            lacks,
        };
        match context
            .metadata
            .root(context.request(), RootCommand::FlipMember(flip))
            .await?
        {
            Ok(RootReply::Volume(flipped)) => {
                tracing::info!(drive = %engine.id(), ?key, bytes, reason = intent.reason.word(),
                    "a member is flipped");
                context
                    .node
                    .host()
                    .metrics
                    .repair
                    .count_flip(intent.reason, bytes);
                return Ok(Some(flipped));
            }
            Ok(other) => {
                tracing::error!(?other, "an answer to another command than a flip");
                return Ok(None);
            }
            // Another member was flipped. Where its shard was, it may have been dropped amid the
            // walk: those that are members now are asked again what there is.
            Err(RootRefusal::StaleEpoch(now)) if now.epoch > volume.epoch => {
                engine.fence(key, now.epoch).await?;
                volume = now;
            }
            Err(RootRefusal::IntentEnded(_)) => return Ok(None),
            Err(refusal) => return Err(Left::Refused(refusal)),
        }
    }
}

/// The reference check of a shard that is where it should be (PROTOCOLS 20).
pub(super) async fn refer(
    context: &Context,
    engine: &Arc<Engine>,
    key: ShardKey,
) -> Result<(), Left> {
    match volume(context, key).await? {
        Some(volume) => check::look_through(context, engine, key, &volume).await,
        None => Ok(()),
    }
}

/// A volume as root has it now; none when it is retired.
async fn volume(context: &Context, key: ShardKey) -> Result<Option<Volume>, Left> {
    let volumes = context.metadata.volumes(&[key.volume]).await?;
    let volume = volumes.into_iter().find(|volume| volume.id == key.volume);
    Ok(volume.filter(|volume| volume.state != VolumeState::Retired))
}

async fn tell(context: &Context, command: RootCommand) -> Result<(), Left> {
    let told = context.metadata.root(context.request(), command).await?;
    told.map(|_| ()).map_err(Left::Refused)
}

const fn cause(reason: Reason) -> Cause {
    match reason {
        Reason::Repair => Cause::Repair,
        Reason::Drain | Reason::Spread | Reason::Rebalance => Cause::Rebalance,
    }
}

fn pace(reason: Reason, settings: &Settings) -> Throttle {
    let paced = match reason {
        Reason::Repair => Paced::Repair(settings.rebuild_rate.get()),
        Reason::Drain | Reason::Spread | Reason::Rebalance => Paced::Moves,
    };
    Throttle {
        paced: Some(paced),
        ..Throttle::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_placement::{DriveId, VolumeId};

    #[tokio::test]
    async fn a_shard_that_is_made_and_waits_for_reads_to_end_takes_no_place() {
        let settings = Settings {
            moves_at_once: 1,
            ..Settings::default()
        };
        let intent = Intent {
            id: IntentId::new(2),
            volume: VolumeId::new(1),
            member: 0,
            from: None,
            to: DriveId::new(1),
            reason: Reason::Repair,
            stage: Stage::Make,
        };
        let makes = Arc::new(AtomicBool::new(true));
        let one = Running {
            task: tokio::spawn(async {}).abort_handle(),
            reason: Reason::Repair,
            makes: Arc::clone(&makes),
        };
        let running = BTreeMap::from([(IntentId::new(1), one)]);
        assert!(!has_room(&running, &intent, &settings));
        makes.store(false, Relaxed);
        assert!(has_room(&running, &intent, &settings));
    }
}
