//! Upkeep of the drives: compaction, a few drives at a time, and scrub, each drive by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use enfilade_cluster::api::heartbeat::ScrubBeat;
use enfilade_placement::DriveId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Context;
use crate::engine::{CompactError, Engine, ShardKey, Throttle};
use crate::metrics::gauge;
use crate::settings::Settings;

/// A shard whose log could not be compacted is left alone for so long.
const LEAVE: Duration = Duration::from_secs(600);

/// How often a drive looks whether a shard is due for scrub.
const SCRUB_PAUSE: Duration = Duration::from_secs(10);
/// A shard is due after half the scrub period; then a quarter of it is enough to get to all.
const DUE: u32 = 2;
const WITHIN: u32 = 4;

/// Compacts what pays, on all drives, until the agent stops.
pub(super) async fn compact(context: Arc<Context>) {
    let turns = Arc::new(Semaphore::new(
        context.node.host().settings.compact_drives as usize,
    ));
    let work = |engine| compact_drive(Arc::clone(&context), engine, Arc::clone(&turns));
    each_drive(&context, work).await;
}

/// Has something done for each drive that is served, for as long as it is: the task ends when the
/// engine fails or is let go.
pub(super) async fn each_drive<F>(context: &Context, work: impl Fn(Weak<Engine>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks: JoinSet<(DriveId, usize)> = JoinSet::new();
    let mut running = BTreeSet::new();
    loop {
        for (id, engine) in context.engines() {
            let name = (id, Arc::as_ptr(&engine) as usize);
            if running.insert(name) {
                let task = work(Arc::downgrade(&engine));
                tasks.spawn(async move {
                    task.await;
                    name
                });
            }
        }
        let pause = context.node.host().settings.heartbeat;
        tokio::select! {
            () = context.stop.cancelled() => break,
            Some(Ok(name)) = tasks.join_next(), if !tasks.is_empty() => {
                running.remove(&name);
                // It may still be there, failed, and would be begun again at once.
                if !context.pause(pause).await { break; }
            }
            () = context.node.host().env.clock.sleep(pause) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn compact_drive(context: Arc<Context>, engine: Weak<Engine>, turns: Arc<Semaphore>) {
    let mut leave: BTreeMap<ShardKey, Duration> = BTreeMap::new();
    let settings = Arc::clone(&context.node.host().settings);
    let throttle = Throttle {
        busy: Some(settings.compact_rate_busy.get()),
        idle: Some(settings.compact_rate.get()),
        gives_way: false,
        paced: None,
    };
    while context.pause(settings.compact_interval).await {
        // Waited for without the engine: a drive that failed is let go meanwhile.
        let _turn = tokio::select! {
            () = context.stop.cancelled() => return,
            turn = turns.acquire() => turn,
        };
        let Some(engine) = engine.upgrade().filter(|e| e.failure().is_none()) else {
            return;
        };
        let work = async {
            // Deletes that nothing came after wait for it to give their room back.
            if let Err(error) = engine.reclaim_all().await {
                tracing::debug!(drive = %engine.id(), %error, "room is not given back");
            }
            compact_what_pays(&context, &engine, &mut leave, &throttle).await;
        };
        context
            .unless_stopped(async {
                context.while_served(&engine, work).await;
            })
            .await;
    }
}

async fn compact_what_pays(
    context: &Context,
    engine: &Arc<Engine>,
    leave: &mut BTreeMap<ShardKey, Duration>,
    throttle: &Throttle,
) {
    loop {
        let now = context.node.host().env.clock.now();
        leave.retain(|_, until| *until > now);
        let Ok(Some(key)) = engine.wasteful(|key| leave.contains_key(&key)) else {
            return;
        };
        match engine.compact_at(key, throttle).await {
            Ok(done) => {
                tracing::debug!(drive = %engine.id(), ?key, ?done, "compacted a log");
            }
            Err(CompactError::Engine(error)) if engine.failure().is_some() => {
                tracing::warn!(drive = %engine.id(), %error, "the drive failed amid compaction");
                return;
            }
            Err(error) => {
                tracing::info!(drive = %engine.id(), ?key, %error, "a log is not compacted");
                leave.insert(key, now + LEAVE);
            }
        }
    }
}

/// Scrubs all drives, for ever, until the agent stops.
pub(super) async fn scrub(context: Arc<Context>) {
    let work = |engine| scrub_drive(Arc::clone(&context), engine);
    each_drive(&context, work).await;
}

async fn scrub_drive(context: Arc<Context>, engine: Weak<Engine>) {
    let settings = Arc::clone(&context.node.host().settings);
    loop {
        {
            let Some(engine) = engine.upgrade().filter(|e| e.failure().is_none()) else {
                return;
            };
            let work = scrub_due(&engine, &settings);
            context
                .unless_stopped(async {
                    context.while_served(&engine, work).await;
                })
                .await;
        }
        if !context.pause(SCRUB_PAUSE).await {
            return;
        }
    }
}

/// Looks how far the scrub of each drive is, for heartbeats and metrics.
pub(super) async fn watch_scrub(context: Arc<Context>) {
    let settings = Arc::clone(&context.node.host().settings);
    let (period, within) = (settings.scrub_period, settings.scrub_period / DUE);
    let metrics = &context.node.host().metrics.upkeep;
    metrics.scrub_period.set(gauge(period.as_secs()));
    while context.pause(settings.probe_interval).await {
        let mut scrubs = BTreeMap::new();
        for id in context.drives() {
            let Some(engine) = context.engine(id) else {
                continue;
            };
            let look = move || engine.scrub_coverage(within).ok();
            let Ok(Some(state)) = tokio::task::spawn_blocking(look).await else {
                continue;
            };
            let scrub = ScrubBeat {
                period_s: period.as_secs(),
                complete_s: state.complete.map(|age| age.as_secs()),
                oldest_s: state.oldest.as_secs(),
                percent: state.percent,
            };
            let drive = id.to_string();
            let label = &[drive.as_str()];
            let oldest = metrics.scrub_age.with_label_values(label);
            oldest.set(gauge(scrub.oldest_s));
            let complete = metrics.scrub_done.with_label_values(label);
            complete.set(scrub.complete_s.map_or(-1, gauge));
            let progress = metrics.scrub_progress.with_label_values(label);
            progress.set(f64::from(scrub.percent) / 100.0);
            scrubs.insert(id, scrub);
        }
        context.set_scrubs(scrubs);
    }
}

/// Scrubs what is due, one shard after another.
async fn scrub_due(engine: &Arc<Engine>, settings: &Settings) {
    loop {
        let Ok(state) = engine.scrub_state() else {
            return;
        };
        let drive = engine.id().to_string();
        let due = Duration::from_millis(state.oldest_ms) >= settings.scrub_period / DUE;
        let Some(key) = state.oldest.filter(|_| due) else {
            return;
        };
        let live: u64 = engine.shards().iter().map(|shard| shard.live).sum();
        let seconds = (settings.scrub_period / WITHIN).as_secs().max(1);
        let (least, most) = (settings.scrub_rate_min.get(), settings.scrub_rate_max.get());
        let throttle = Throttle {
            busy: Some(least),
            idle: Some((live / seconds).clamp(least, most)),
            gives_way: true,
            paced: None,
        };
        match engine.scrub_at(key, &throttle).await {
            Ok(found) => tracing::debug!(%drive, ?key, ?found, "scrubbed a shard"),
            Err(error) => {
                // Not rot: it is tried again, and if the drive fails, then as a whole.
                tracing::warn!(%drive, ?key, %error, "a shard is not scrubbed");
                return;
            }
        }
    }
}
