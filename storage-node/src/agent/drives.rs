//! Keeping drives served: one that is gone or failing is tried again, less and less often.

use std::sync::Arc;
use std::time::Duration;

use enfilade_placement::DriveState;
use tokio::sync::watch;

use super::attach::attach;
use super::{Condition, Context, DriveSpec};
use crate::engine::Engine;

/// The pause after the root group did not answer.
const METADATA_PAUSE: Duration = Duration::from_millis(500);
/// A commit that takes longer makes the drive slow.
const SLOW: Duration = Duration::from_secs(10);
/// How often it is looked whether an engine is still in use.
const LET_GO_PAUSE: Duration = Duration::from_millis(50);
/// A drive that keeps failing is tried this many times less often than one that failed once.
const BACKOFF_MAX: u32 = 64;

/// Keeps one drive served. `tried` counts the drives that were served or found not to work.
pub(super) async fn keep(context: Arc<Context>, spec: DriveSpec, tried: Arc<watch::Sender<usize>>) {
    let (mut counted, mut backoff) = (false, 1);
    loop {
        let attached = tokio::select! {
            () = context.stop.cancelled() => return,
            attached = attach(&context, &spec) => attached,
        };
        let again = context.node.host().settings.reopen_interval;

        match attached {
            Ok(engine) => {
                context.set_condition(spec.id, condition(&engine));
                count(&tried, &mut counted);
                // What is synced can be read on until the drive is opened again.
                if !watch_engine(&context, &engine).await || !context.pause(again * backoff).await {
                    return;
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
                context.node.withdraw(spec.id);
                if !let_go(&context, engine).await {
                    return;
                }
            }
            Err(error) => {
                let Some(state) = error.state() else {
                    if !context.pause(METADATA_PAUSE).await {
                        return;
                    }
                    continue;
                };
                tracing::error!(drive = %spec.id, %error, ?state, "a drive is not served");
                let reason = Some(error.to_string());
                let condition = Condition {
                    state,
                    reason,
                    capacity: 0,
                    used: 0,
                };
                context.set_condition(spec.id, condition);
                count(&tried, &mut counted);
                if !context.pause(again).await {
                    return;
                }
            }
        }
    }
}

/// Waits until the last request is done with an engine, whose drive is locked until then; `false`
/// when the agent is to stop.
async fn let_go(context: &Context, engine: Arc<Engine>) -> bool {
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

fn condition(engine: &Engine) -> Condition {
    let fill = engine.fill().unwrap_or_default();
    let limit = u128::from(enfilade_placement::choose::FILL_LIMIT_PERCENT);
    let full = u128::from(fill.used) * 100 >= u128::from(fill.capacity) * limit;
    let stuck = engine.stuck_for();
    if stuck > SLOW {
        let reason = Some(format!("a commit has been under way for {stuck:?}"));
        let (capacity, used) = (fill.capacity, fill.used);
        return Condition {
            state: DriveState::Slow,
            reason,
            capacity,
            used,
        };
    }

    let state = if full {
        DriveState::Full
    } else {
        DriveState::Healthy
    };
    Condition {
        state,
        reason: None,
        capacity: fill.capacity,
        used: fill.used,
    }
}

/// Follows an engine until it fails; `false` when the agent is to stop.
async fn watch_engine(context: &Context, engine: &Engine) -> bool {
    loop {
        if let Some(reason) = engine.failure() {
            let condition = context.conditions().remove(&engine.id());
            let (capacity, used) = condition.map_or((0, 0), |old| (old.capacity, old.used));
            let reason = Some(reason.to_owned());
            let state = DriveState::Failing;
            context.set_condition(
                engine.id(),
                Condition {
                    state,
                    reason,
                    capacity,
                    used,
                },
            );
            return true;
        }
        context.set_condition(engine.id(), condition(engine));
        if !context.pause(context.node.host().settings.heartbeat).await {
            return false;
        }
    }
}

/// Makes the indexes durable now and then, so that a crash costs a short scan.
pub(super) async fn checkpoint(context: Arc<Context>) {
    while context
        .pause(context.node.host().settings.checkpoint_interval)
        .await
    {
        for engine in context.engines().into_values() {
            let drive = engine.id();
            let kept = tokio::task::spawn_blocking(move || engine.checkpoint()).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%drive, %error, "the index is not durable");
            }
        }
    }
}
