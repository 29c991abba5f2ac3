//! Two enclosures die under load, one after the other, and come back; then two others die, so that
//! what was written before is read from those that came back.
//!
//! Each pair has a cluster of its own. With enclosures down, new volumes have two members on some
//! of the others; a later pair could take more of such a volume than the profile survives, which
//! would break no promise. That is why the second pair dies at rest, and only what was written
//! before the first one did is read without it.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Options;
use super::stage::Stage;
use super::verdict::Verdict;
use crate::workload::{Load, keys};

/// Who dies, in this order.
#[derive(Clone, Debug)]
struct Victims {
    first: [u32; 2],
    /// None where the topology is too small for the loss of any two.
    others: Vec<u32>,
}

/// Runs every chosen pair.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Verdict>> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut rng = StdRng::seed_from_u64(seed);
    // Which enclosures hold replicas is known when the first cluster runs.
    let mut stage = Stage::set(options, seed, options.scenario.name()).await?;
    let enclosures = stage.cluster.enclosures()?;
    let holders = enclosures.iter().filter(|enclosure| enclosure.meta);
    let holders: Vec<u32> = holders.map(|enclosure| enclosure.id).collect();
    let all: Vec<u32> = enclosures.iter().map(|enclosure| enclosure.id).collect();
    let pairs = options.pairs.choose(&holders, &mut rng);
    anyhow::ensure!(
        !pairs.is_empty(),
        "no pair among the replica holders {holders:?}"
    );
    println!("replica holders {holders:?}, pairs to kill: {pairs:?}");
    let mut verdicts = Vec::new();
    let mut first = Some(stage);
    for (index, pair) in (0..).zip(pairs) {
        let stage = match first.take() {
            Some(stage) => stage,
            None => {
                let name = format!("{}-{}-{}", options.scenario.name(), pair.0, pair.1);
                Stage::set(options, seed.wrapping_add(index), &name).await?
            }
        };
        let rest = all.iter().filter(|id| **id != pair.0 && **id != pair.1);
        let rest: Vec<u32> = rest.copied().collect();
        let victims = Victims {
            first: [pair.0, pair.1],
            others: match options.is_wide() {
                true => rest.choose_multiple(&mut rng, 2).copied().collect(),
                false => Vec::new(),
            },
        };
        verdicts.push(kill(stage, victims).await?);
    }
    Ok(verdicts)
}

async fn kill(mut stage: Stage, victims: Victims) -> anyhow::Result<Verdict> {
    stage.keep().await?;
    let load = stage.load(1);
    stage.hold().await;
    let sound = stage.audit(&load, "before the faults").await?
        && lose_under_load(&mut stage, &load, &victims).await?;
    let windows = load.stop().await;
    if !sound || !lose_others(&mut stage, &victims).await? {
        stage.say("something is wrong: no further faults");
    }
    stage.end(&windows).await
}

/// Whether nothing wrong was seen.
async fn lose_under_load(
    stage: &mut Stage,
    load: &Load,
    victims: &Victims,
) -> anyhow::Result<bool> {
    for (victim, name) in victims.first.iter().zip(["with one down", "with two down"]) {
        stage.cluster.kill(*victim).await?;
        stage.fault(&format!("killed enclosure {victim}"));
        stage.expect_health(false).await;
        stage.hold().await;
        if !stage.audit(load, name).await? {
            return Ok(false);
        }
        stage.hold().await;
    }
    start(stage, &victims.first).await?;
    stage.hold().await;
    stage.audit(load, "after their return").await
}

/// Whether nothing wrong was seen. No load may be at work.
async fn lose_others(stage: &mut Stage, victims: &Victims) -> anyhow::Result<bool> {
    if victims.others.is_empty() {
        return Ok(true);
    }
    for victim in &victims.others {
        stage.cluster.kill(*victim).await?;
        stage.fault(&format!("killed enclosure {victim}"));
    }
    stage.expect_health(false).await;
    let name = "of what was kept, with two others down";
    if !stage.audit_at_rest(name, keys::KEPT).await? {
        return Ok(false);
    }
    start(stage, &victims.others).await?;
    stage.audit_at_rest("in the end", "").await
}

async fn start(stage: &mut Stage, victims: &[u32]) -> anyhow::Result<()> {
    for victim in victims {
        stage.cluster.start_enclosure(*victim).await?;
        stage.fault(&format!("started enclosure {victim}"));
    }
    stage.expect_health(true).await;
    Ok(())
}
