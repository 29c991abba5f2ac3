//! Keeping drives served: one that is gone or failing is tried again, less and less often.

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::{DriveState, Generation};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::attach::{AttachError, attach};
use super::health::{Health, Sample};
use super::{Condition, Context, DriveSpec};
use crate::engine::{Engine, Probe};

/// The pause after the root group did not answer.
const METADATA_PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether an engine is still in use.
const LET_GO_PAUSE: Duration = Duration::from_millis(50);
/// How long the index of a drive that is gone is given to become durable.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// A drive that keeps failing is tried this many times less often than one that failed once.
const BACKOFF_MAX: u32 = 64;
/// Every so manieth look at an idle drive writes to it: once a minute.
const WRITES_EVERY: u32 = 12;
/// A drive that was served for so many times its last pause is forgiven its failures.
const FORGIVEN_AFTER: u32 = 20;

/// How a drive ceased to be served.
enum End {
    /// The agent stops.
    Stopped,
    /// It failed: what is synced can be read on until it is opened again.
    Failed,
    /// It is not there any more, or is somebody else's.
    Lost(DriveState, String),
}

/// The pause before a drive that failed is opened again (PROTOCOLS 23 and 25).
struct Backoff {
    times: u32,
}

impl Backoff {
    fn next(&mut self, served: Duration, unit: Duration) -> Duration {
        if served >= unit * self.times * FORGIVEN_AFTER {
            self.times = 1;
        }
        let pause = unit * self.times;
        self.times = (self.times * 2).min(BACKOFF_MAX);
        pause
    }
}

/// Keeps one drive served. `tried` counts the drives that were served or found not to work.
pub(super) async fn keep(context: Arc<Context>, spec: DriveSpec, tried: Arc<watch::Sender<usize>>) {
    let (mut counted, mut backoff) = (false, Backoff { times: 1 });
    let mut told = None;
    loop {
        let attached = tokio::select! {
            () = context.stop.cancelled() => return,
            attached = attach(&context, &spec) => attached,
        };
        let settings = &context.node.host().settings;
        let pause = match attached {
            Ok((engine, generation)) => {
                let began = context.now();
                told = None;
                context.set_condition(spec.id, condition(&engine));
                count(&tried, &mut counted);
                let end = follow(&context, &engine, generation).await;
                let served = context.now().saturating_sub(began);
                let pause = match end {
                    End::Stopped => return,
                    End::Failed => {
                        let pause = backoff.next(served, settings.reopen_interval);
                        if !context.pause(pause).await {
                            return;
                        }
                        context.node.withdraw(spec.id);
                        Duration::ZERO
                    }
                    End::Lost(state, reason) => {
                        tracing::error!(drive = %spec.id, ?state, reason, "a drive is lost");
                        context.node.withdraw(spec.id);
                        context.set_lost(spec.id, state, reason, false);
                        close(&context, &engine).await;
                        settings.rescan_interval
                    }
                };
                if !let_go(&context, engine).await {
                    return;
                }
                pause
            }
            Err(error) => match error.state() {
                None => METADATA_PAUSE,
                Some(state) => {
                    refused(&context, &spec, (state, &error), &mut told);
                    count(&tried, &mut counted);
                    match state {
                        // Looking costs little, and somebody may have plugged it in.
                        DriveState::Gone | DriveState::Foreign => settings.rescan_interval,
                        _ => settings.reopen_interval,
                    }
                }
            },
        };
        if !context.pause(pause).await {
            return;
        }
    }
}

/// Notes why a drive is not served; says it when that is new: `told` is what was said last.
fn refused(
    context: &Context,
    spec: &DriveSpec,
    (state, error): (DriveState, &AttachError),
    told: &mut Option<String>,
) {
    let reason = error.to_string();
    if told.as_ref() != Some(&reason) {
        *told = Some(reason.clone());
        if error.is_alarming() {
            tracing::error!(drive = %spec.id, reason, "ALARM: a drive is attached twice");
        } else {
            tracing::warn!(drive = %spec.id, reason, ?state, "a drive is not served");
        }
    }
    // Served by another enclosure now, or given up: nothing is missing here.
    if state == DriveState::Gone && context.is_elsewhere(spec.id)
        || state != DriveState::Failing && context.is_replaced(spec.id)
    {
        context.forget_condition(spec.id);
        return;
    }
    context.set_lost(spec.id, state, reason, error.is_alarming());
}

/// Makes the index durable while the folder can still be reached, but does not wait for a device
/// that is not there.
async fn close(context: &Context, engine: &Arc<Engine>) {
    tokio::select! {
        closed = engine.close() => if let Err(error) = closed {
            tracing::info!(drive = %engine.id(), %error, "not closed cleanly");
        },
        () = context.node.host().env.clock.sleep(CLOSE_WAIT) => {}
    }
}

/// Waits until the last request is done with an engine, whose drive is locked until then; `false`
/// when the agent is to stop.
async fn let_go(context: &Context, engine: Arc<Engine>) -> bool {
    engine.leave();
    while Arc::strong_count(&engine) > 1 {
        if !context.pause(LET_GO_PAUSE).await {
            return false;
        }
    }
    true
}

fn count(tried: &watch::Sender<usize>, counted: &mut bool) {
    if !*counted {
        *counted = true;
        tried.send_modify(|tried| *tried += 1);
    }
}

/// How a drive is when it is served first.
fn condition(engine: &Engine) -> Condition {
    let fill = engine.fill().unwrap_or_default();
    Condition {
        state: DriveState::Healthy,
        reason: None,
        twice: false,
        capacity: fill.capacity,
        used: fill.used,
    }
}

/// A probe that is under way.
struct Probing {
    task: JoinHandle<Probe>,
    begun: Duration,
}

/// Follows a drive that is served until it fails or is lost.
async fn follow(context: &Context, engine: &Arc<Engine>, generation: Generation) -> End {
    let settings = &context.node.host().settings;
    let mut health = Health::default();
    let (mut probing, mut probed) = (None::<Probing>, context.now());
    let (mut probes, mut errors) = (0u32, 0);
    loop {
        if let Some(reason) = engine.failure() {
            let reason = reason.to_owned();
            context.set_lost(engine.id(), DriveState::Failing, reason, false);
            return End::Failed;
        }
        if let Some(reason) = context.attached_since(engine.id(), generation) {
            return End::Lost(DriveState::Foreign, reason);
        }
        let now = context.now();
        if let Some(done) = probing.take_if(|probing| probing.task.is_finished()) {
            match done.task.await {
                Ok(Probe::There) | Err(_) => {}
                Ok(Probe::Gone(reason)) => return End::Lost(DriveState::Gone, reason),
                Ok(Probe::Foreign(reason)) => return End::Lost(DriveState::Foreign, reason),
            }
            probed = now;
            continue;
        }
        let fill = engine.fill().unwrap_or_default();
        let latency = engine.latency();
        let hangs = probing.as_ref().map(|probing| now - probing.begun);
        let sample = Sample {
            now,
            latency,
            stuck: engine.stuck_for().max(hangs.unwrap_or_default()),
            capacity: fill.capacity,
            used: fill.used,
        };
        let (state, reason) = health.judge(&sample, settings);
        let condition = Condition {
            state,
            reason,
            twice: false,
            capacity: fill.capacity,
            used: fill.used,
        };
        context.set_condition(engine.id(), condition);
        context.show_latency(engine.id(), latency);
        let failed_reads = engine.read_errors();
        let due = now.saturating_sub(probed) >= settings.probe_interval || failed_reads > errors;
        if due && probing.is_none() {
            errors = failed_reads;
            // An idle drive is written to, too, so that nobody is surprised by it later; a slow one
            // so that it can show that it is well again.
            let idle = latency.is_none() && probes.is_multiple_of(WRITES_EVERY);
            let writes = idle || state == DriveState::Slow;
            probes = probes.wrapping_add(1);
            let (probed, cluster) = (Arc::clone(engine), context.node.identity().cluster);
            let task = tokio::task::spawn_blocking(move || probed.probe(cluster, writes));
            probing = Some(Probing { task, begun: now });
        }
        if !context.pause(settings.heartbeat).await {
            return End::Stopped;
        }
    }
}

/// Makes the indexes durable now and then, so that a crash costs a short scan.
pub(super) async fn checkpoint(context: Arc<Context>) {
    while context
        .pause(context.node.host().settings.checkpoint_interval)
        .await
    {
        for drive in context.drives() {
            let Some(engine) = context.engine(drive) else {
                continue;
            };
            let kept = tokio::task::spawn_blocking(move || engine.checkpoint()).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%drive, %error, "the index is not durable");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROTOCOLS 23.
    #[test]
    fn a_drive_that_flaps_is_tried_less_and_less_often_until_it_was_well_for_long() {
        let (unit, mut backoff) = (Duration::from_secs(30), Backoff { times: 1 });
        let mut pauses = |served: u64| backoff.next(Duration::from_secs(served), unit).as_secs();
        let flapping: Vec<u64> = (0..8).map(|_| pauses(1)).collect();
        assert_eq!(flapping, [30, 60, 120, 240, 480, 960, 1920, 1920]);
        assert_eq!(pauses(24 * 3600), 30);
        assert_eq!(pauses(1), 60);
    }
}
