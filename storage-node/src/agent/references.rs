//! The reference check of every shard, once a period (PROTOCOLS 20): a dead blob whose garbage was
//! lost, whatever way that came about, is found and dropped.

use std::sync::{Arc, Weak};

use super::Context;
use super::moves;
use super::upkeep::each_drive;
use crate::engine::{Engine, ShardKey};

/// Checks the shards of all drives, for ever, until the agent stops.
pub(super) async fn check(context: Arc<Context>) {
    let work = |engine| check_drive(Arc::clone(&context), engine);
    each_drive(&context, work).await;
}

/// One shard after another, evenly over the period; from any on, so that a node that is restarted
/// often gets to all of them, too.
async fn check_drive(context: Arc<Context>, engine: Weak<Engine>) {
    let env = &context.node.host().env;
    let period = context.node.host().settings.reference_period;
    let mut after: Option<ShardKey> = None;
    loop {
        let Some(keys) = engine.upgrade().map(|engine| keys(&engine)) else {
            return;
        };
        let share = u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1);
        if !context.pause(period / share).await {
            return;
        }
        let Some(engine) = engine.upgrade().filter(|e| e.failure().is_none()) else {
            return;
        };
        let keys = self::keys(&engine);
        let Some(first) = keys.first().copied() else {
            continue;
        };
        let key = match after {
            Some(last) => keys
                .iter()
                .copied()
                .find(|key| *key > last)
                .unwrap_or(first),
            None => keys[usize::try_from(env.random.next_u64()).unwrap_or(0) % keys.len()],
        };
        after = Some(key);
        let check = async {
            let work = moves::refer(&context, &engine, key);
            if let Some(Err(left)) = context.while_served(&engine, work).await {
                tracing::debug!(drive = %engine.id(), ?key, %left, "references are checked later");
            }
        };
        context.unless_stopped(check).await;
    }
}

/// The shards of a drive, in order.
fn keys(engine: &Engine) -> Vec<ShardKey> {
    let mut keys: Vec<ShardKey> = engine.shards().iter().map(|shard| shard.key).collect();
    keys.sort_unstable();
    keys
}
