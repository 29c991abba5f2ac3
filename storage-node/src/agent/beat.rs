//! Heartbeats: that the node lives, how its drives are, how long its open shards are.

use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::heartbeat::{DriveBeat, Heartbeat, ShardBeat, TEXT_MAX};
use enfilade_placement::{DriveId, DriveState};

use super::Context;
use crate::metrics::gauge;

/// Sends heartbeats until the agent stops.
pub(super) async fn beat(context: Arc<Context>) {
    let interval = context.node.host().settings.heartbeat;
    loop {
        measure(&context);
        let beat = compose(&context);
        let sent = tokio::time::timeout(interval * 3, context.metadata.heartbeat(beat));
        let send = async {
            match sent.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "no heartbeat"),
                Err(_) => tracing::debug!("no heartbeat in time"),
            }
        };
        context.unless_stopped(send).await;
        if !context.pause(interval).await {
            return;
        }
    }
}

fn compose(context: &Context) -> Heartbeat {
    let identity = context.node.identity();
    let (twins, scrubs) = (context.twins(), context.scrubs());
    let engines = context.engines();
    let logs = |drive: DriveId| {
        let fill = engines.get(&drive).and_then(|engine| engine.fill().ok());
        fill.map_or(0, |fill| fill.logs)
    };
    let drive = |(drive, condition): (DriveId, super::Condition)| DriveBeat {
        drive,
        state: condition.state,
        capacity: condition.capacity,
        used: condition.used,
        logs: logs(drive),
        twin: match twins.get(&drive) {
            Some(twin) => short(twin),
            None if condition.twice => short(condition.reason.as_deref().unwrap_or_default()),
            None => String::new(),
        },
        reason: short(condition.reason.as_deref().unwrap_or_default()),
        scrub: scrubs.get(&drive).copied(),
    };
    let shards = context
        .shards_in_view()
        .into_iter()
        .filter_map(|(key, _, drive)| {
            let stats = context.engine(drive)?.shard_stats(key)?;
            Some(ShardBeat {
                volume: key.volume,
                member: key.member,
                epoch: stats.epoch,
                bytes: stats.log_bytes,
            })
        });
    Heartbeat {
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        enclosure: identity.enclosure,
        drives: context.conditions().into_iter().map(drive).collect(),
        shards: shards.collect(),
    }
}

/// As much of a text as a heartbeat has room for.
fn short(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    text[..end].to_owned()
}

/// The states that a node finds its drives in.
const STATES: [DriveState; 6] = [
    DriveState::Healthy,
    DriveState::Slow,
    DriveState::Full,
    DriveState::Failing,
    DriveState::Gone,
    DriveState::Foreign,
];

/// A state as a label of metrics.
const fn word(state: DriveState) -> &'static str {
    match state {
        DriveState::Healthy => "healthy",
        DriveState::Slow => "slow",
        DriveState::Full => "full",
        DriveState::Failing => "failing",
        DriveState::Gone => "gone",
        DriveState::Returned => "returned",
        DriveState::Foreign => "foreign",
        DriveState::Replaced => "replaced",
    }
}

impl Context {
    /// Shows how quick a drive is.
    pub(super) fn show_latency(&self, drive: DriveId, latency: Option<Duration>) {
        if let Some(latency) = latency {
            let gauge = &self.node.host().metrics.latency;
            gauge
                .with_label_values(&[&drive.to_string()])
                .set(latency.as_secs_f64());
        }
    }

    /// Shows nothing more of a drive that is somebody else's now.
    pub(super) fn hide(&self, drive: DriveId) {
        let (metrics, drive) = (&self.node.host().metrics, drive.to_string());
        for state in STATES {
            let _ = metrics.state.remove_label_values(&[&drive, word(state)]);
        }
        let upkeep = &metrics.upkeep;
        let scrubs = [&upkeep.scrub_age, &upkeep.scrub_done];
        for gauge in [&metrics.capacity, &metrics.used].into_iter().chain(scrubs) {
            let _ = gauge.remove_label_values(&[&drive]);
        }
        for gauge in [&metrics.latency, &metrics.pace, &upkeep.scrub_progress] {
            let _ = gauge.remove_label_values(&[&drive]);
        }
    }
}

/// Shows the drives in the metrics.
fn measure(context: &Context) {
    let metrics = &context.node.host().metrics;
    for (drive, condition) in context.conditions() {
        let drive = drive.to_string();
        let label = &[drive.as_str()];
        for state in STATES {
            let labels = &[drive.as_str(), word(state)];
            let is = i64::from(state == condition.state);
            metrics.state.with_label_values(labels).set(is);
        }
        metrics
            .capacity
            .with_label_values(label)
            .set(gauge(condition.capacity));
        metrics
            .used
            .with_label_values(label)
            .set(gauge(condition.used));
    }
    for engine in context.node.engines() {
        let drive = engine.id().to_string();
        let label = &[drive.as_str()];
        let shards = engine.shards();
        let dead: u64 = shards.iter().map(|shard| shard.dead).sum();
        metrics.pace.with_label_values(label).set(engine.pace());
        let damaged: u64 = shards.iter().map(|shard| u64::from(shard.damaged)).sum();
        metrics.dead.with_label_values(label).set(gauge(dead));
        metrics.damaged.with_label_values(label).set(gauge(damaged));
    }
}
