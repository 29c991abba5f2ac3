//! The power is cut under a whole cluster in one process, again and again: while clients write,
//! while the cluster is born, and while it recovers from the cut before.
//!
//! Everything that the cluster keeps lies on a file system that forgets what was not synced. The
//! process is killed in the same moment; it cannot tell one from the other.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Options;
use super::stage::{Ground, Stage};
use super::verdict::Verdict;
use crate::check::{Finding, Kind};
use crate::cluster::Cluster;
use crate::volatile::{Fate, Volatile};

/// The longest load before a cut; short ones are as likely.
const LOAD_MS: u64 = 3000;

/// About what a start takes: a cut within it hits recovery.
const START_MS: u64 = 2500;

/// Runs all cuts on one cluster.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Verdict> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut dice = StdRng::seed_from_u64(seed);
    let ground = Ground::lay(options, seed, options.scenario.name())?;
    let mut volatile = Volatile::mount(&ground.folder, options.ignore_sync.clone())?;
    let mut cluster = ground.cluster(&volatile.path().join("data"), options.shape());
    let mut cuts = 0;
    let born = async {
        while cuts < options.cuts.div_ceil(8) {
            cluster.launch()?;
            pause(&mut dice, START_MS).await;
            cuts += 1;
            let what = cut(&mut cluster, &mut volatile, &mut dice).await?;
            ground.say(&format!("cut {cuts}, at birth: {what}"));
        }
        cluster.up(options.patience()).await
    };
    if let Err(error) = born.await {
        let finding = not_back(cuts, &error);
        volatile.lay_out()?;
        return ground.fail(finding);
    }
    let mut stage = Stage::on(ground, options, cluster, Some(volatile)).await?;
    let mut windows = Vec::new();
    while cuts < options.cuts {
        cuts += 1;
        let load = stage.load(cuts);
        pause(&mut dice, LOAD_MS).await;
        let mut standing = stage.cut(&mut dice, &format!("cut {cuts}")).await;
        // The writers see their connections break; what they had under way stays unknown.
        windows.extend(load.stop().await);
        while standing.is_ok() && cuts < options.cuts && dice.random_ratio(1, 3) {
            cuts += 1;
            stage.cluster.launch()?;
            pause(&mut dice, START_MS).await;
            let what = format!("cut {cuts}, at recovery");
            standing = stage.cut(&mut dice, &what).await;
        }
        if standing.is_ok() {
            standing = stage.cluster.up(options.patience()).await;
        }
        if let Err(error) = standing {
            stage.found(vec![not_back(cuts, &error)]);
            break;
        }
        stage.s3.retarget(stage.cluster.s3()?);
        if !stage
            .audit_at_rest(&format!("after cut {cuts}"), "")
            .await?
        {
            break;
        }
    }
    stage.end(&windows).await
}

/// The cluster ended by itself, or is not healthy in time.
fn not_back(cuts: u32, error: &anyhow::Error) -> Finding {
    // Without the backtrace that it may carry.
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let text = format!("after {cuts} cuts: {}", causes.join(": "));
    Finding::new(Kind::Unavailable, text)
}

async fn pause(dice: &mut StdRng, longest_ms: u64) {
    let pause = Duration::from_millis(dice.random_range(0..longest_ms));
    tokio::time::sleep(pause).await;
}

/// Cuts the power; in words, what that took.
async fn cut(
    cluster: &mut Cluster,
    volatile: &mut Volatile,
    dice: &mut StdRng,
) -> anyhow::Result<String> {
    volatile.freeze();
    let ended = cluster.kill_only(|| volatile.release()).await?;
    if let Some(status) = ended {
        anyhow::bail!(
            "`enfilade up` had ended with {status}:\n{}",
            cluster.log_tail()
        );
    }
    let mut fate = Fate::of(dice.random());
    let lost = volatile.come_back(&mut fate)?;
    Ok(format!(
        "{}; lost {} of {} pages in {} files, {} of {} names",
        fate.name(),
        lost.pages,
        lost.pages_unsynced,
        lost.files_unsynced,
        lost.names,
        lost.names_unsynced
    ))
}

impl Stage {
    /// Cuts the power under the cluster.
    async fn cut(&mut self, dice: &mut StdRng, name: &str) -> anyhow::Result<()> {
        let Some(volatile) = &mut self.volatile else {
            anyhow::bail!("nothing here forgets");
        };
        let what = cut(&mut self.cluster, volatile, dice).await?;
        self.fault(&format!("{name}: {what}"));
        Ok(())
    }
}
