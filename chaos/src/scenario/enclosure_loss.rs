//! Two enclosures die under load, one after the other, and come back.
//!
//! Each pair has a cluster of its own. With enclosures down, new volumes have two members on some
//! of the others; a later pair could take more of such a volume than the profile survives, which
//! would break no promise.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Options;
use super::stage::Stage;
use super::verdict::Verdict;

/// Runs every chosen pair.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Verdict>> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut rng = StdRng::seed_from_u64(seed);
    // Which enclosures hold replicas is known when the first cluster runs.
    let mut stage = Stage::set(options, seed, options.scenario.name()).await?;
    let holders: Vec<u32> = stage
        .cluster
        .enclosures()?
        .iter()
        .filter(|enclosure| enclosure.meta)
        .map(|enclosure| enclosure.id)
        .collect();
    let pairs = options.pairs.choose(&holders, &mut rng);
    anyhow::ensure!(
        !pairs.is_empty(),
        "no pair among the replica holders {holders:?}"
    );
    println!("replica holders {holders:?}, pairs to kill: {pairs:?}");
    let mut verdicts = Vec::new();
    let mut first = Some(stage);
    for (index, pair) in (0..).zip(&pairs) {
        let stage = match first.take() {
            Some(stage) => stage,
            None => {
                let name = format!("{}-{}-{}", options.scenario.name(), pair.0, pair.1);
                Stage::set(options, seed.wrapping_add(index), &name).await?
            }
        };
        verdicts.push(kill_both(stage, *pair).await?);
    }
    Ok(verdicts)
}

async fn kill_both(mut stage: Stage, pair: (u32, u32)) -> anyhow::Result<Verdict> {
    let load = stage.load(1);
    stage.hold().await;
    let sound =
        stage.audit(&load, "before the faults").await? && lose(&mut stage, &load, pair).await?;
    if !sound {
        stage.say("something is wrong: no further faults");
    }
    let windows = load.stop().await;
    stage.end(&windows).await
}

/// Whether nothing wrong was seen.
async fn lose(
    stage: &mut Stage,
    load: &crate::workload::Load,
    pair: (u32, u32),
) -> anyhow::Result<bool> {
    for (victim, name) in [(pair.0, "with one down"), (pair.1, "with two down")] {
        stage.cluster.kill(victim).await?;
        stage.fault(&format!("killed enclosure {victim}"));
        stage.expect_health(false).await;
        stage.hold().await;
        if !stage.audit(load, name).await? {
            return Ok(false);
        }
        stage.hold().await;
    }
    for victim in [pair.0, pair.1] {
        stage.cluster.start_enclosure(victim).await?;
        stage.fault(&format!("started enclosure {victim}"));
    }
    stage.expect_health(true).await;
    stage.hold().await;
    stage.audit(load, "after their return").await
}
