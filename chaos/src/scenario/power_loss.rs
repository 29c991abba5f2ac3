//! Every process is killed at once while clients write, and the cluster is started again.
//!
//! A killed process loses what it had not handed to the kernel; what the kernel had not yet written
//! to a drive is not lost by this. It shows that nothing acked was kept in memory only.

use super::Options;
use super::stage::Stage;
use super::verdict::Verdict;

/// Runs all rounds in one cluster.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Verdict> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut stage = Stage::set(options, seed, options.scenario.name()).await?;
    let mut windows = Vec::new();
    for round in 1..=options.rounds {
        let load = stage.load(round);
        stage.hold().await;
        stage.fault(&format!("power loss {round}"));
        stage.cluster.kill_all().await?;
        // The writers see their connections break; what they had under way stays unknown.
        windows.extend(load.stop().await);
        stage.fault("start everything");
        stage.cluster.up(options.patience()).await?;
        stage.s3.retarget(stage.cluster.s3()?);
        stage.say("cluster is healthy");
        if !stage
            .audit_at_rest(&format!("after power loss {round}"), "")
            .await?
        {
            break;
        }
    }
    stage.end(&windows).await
}
