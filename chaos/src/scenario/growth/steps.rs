//! The steps, in their order.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::figures::Foreground;
use super::watch::Watch;
use super::{Drive, FIFTH, Growth, LAST_THREE, add};

/// Enclosures that are there when the cluster has shrunk.
const LEFT: usize = 5;

impl Growth {
    /// All of them, until something is wrong.
    pub(super) async fn steps(&mut self) -> anyhow::Result<()> {
        self.settle().await?;
        let from = self.stage.history.now();
        self.stage.hold().await;
        let operations = self.stage.history.operations()?;
        self.before = Foreground::measure(&operations, from, self.stage.history.now());
        self.look("loading").await?;
        for step in 0..6 {
            if self.stop {
                self.stage.say("something is wrong: no further steps");
                return Ok(());
            }
            match step {
                0 => self.grow("4 to 5 enclosures", &[FIFTH]).await?,
                1 => self.grow("5 to 8 enclosures", &LAST_THREE).await?,
                2 => self.shrink().await?,
                3 => self.fail_drive().await?,
                4 => self.replace_drive().await?,
                _ => self.lose_enclosure().await?,
            }
        }
        Ok(())
    }

    async fn begin(&self, name: &str) -> anyhow::Result<(u64, Watch)> {
        self.stage.fault(&format!("step: {name}"));
        Ok((self.stage.history.now(), Watch::start(self.ask()?).await?))
    }

    /// Says what a change would move, by the dry run.
    async fn foretell(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let plan: Value = self.ask()?.json(&[arguments, &["--json"]].concat()).await?;
        let plan = match &plan["plan"] {
            Value::Null => &plan,
            inner => inner,
        };
        let (bytes, bound) = (&plan["bytes"], &plan["bound_bytes"]);
        let what = arguments.join(" ");
        self.stage
            .say(&format!("`{what}`: {bytes} bytes to move, bound {bound}"));
        Ok(())
    }

    async fn grow(&mut self, name: &str, drives: &[u32]) -> anyhow::Result<()> {
        let (from, watch) = self.begin(name).await?;
        for drives in drives {
            let text = drives.to_string();
            self.foretell(&["plan", "add", "--drives", &text]).await?;
            add(&self.stage, *drives).await?;
        }
        self.after(name, from, watch).await
    }

    /// Enclosures that hold no replica of the metadata, and are not lost.
    fn without_replicas(&mut self) -> anyhow::Result<Vec<u32>> {
        let lost = self.lost.enclosures.clone();
        let enclosures = self.stage.cluster.enclosures()?.iter();
        let free = enclosures.filter(|one| !one.meta && !lost.contains(&one.id));
        Ok(free.map(|one| one.id).collect())
    }

    async fn shrink(&mut self) -> anyhow::Result<()> {
        let name = "drain to 5 enclosures";
        let free = self.without_replicas()?;
        let surplus = self.stage.cluster.enclosures()?.len() - LEFT;
        let chosen = free.choose_multiple(&mut self.dice, surplus);
        let chosen: Vec<u32> = chosen.copied().collect();
        ensure!(
            chosen.len() == surplus,
            "too many replicas to drain {surplus}"
        );
        let (from, watch) = self.begin(name).await?;
        for id in &chosen {
            let text = id.to_string();
            self.foretell(&["enclosure", "drain", &text]).await?;
            self.stage.fault(&format!("drains enclosure {id}"));
        }
        self.after(name, from, watch).await?;
        let drives = self.drives().await?;
        let held = drives.iter().filter(|one| chosen.contains(&one.enclosure));
        let held: u64 = held.map(|drive| drive.shards).sum();
        ensure!(
            held == 0,
            "{held} shards are on drained enclosures {chosen:?}"
        );
        // They have nothing to give: nobody misses them.
        for id in chosen {
            self.drained.push(id);
        }
        Ok(())
    }

    fn folder(&self, drive: &Drive) -> PathBuf {
        let (enclosure, slot) = (drive.enclosure, drive.slot);
        let data = self.stage.cluster.data();
        data.join(format!("enclosures/{enclosure}/drives/{slot}"))
    }

    async fn fail_drive(&mut self) -> anyhow::Result<()> {
        let name = "a drive fails";
        let mut drives = self.drives().await?;
        drives.retain(|drive| drive.shards > 0 && drive.state == "healthy");
        let drive = drives.choose(&mut self.dice);
        let drive = drive.context("no drive holds anything")?.clone();
        let (from, watch) = self.begin(name).await?;
        self.foretell(&["plan", "fail", "--drive", &drive.id])
            .await?;
        let (folder, away) = (self.folder(&drive), self.stage.cluster.data());
        let away = away.with_file_name(format!("failed-{}", drive.id));
        std::fs::rename(&folder, &away)
            .with_context(|| format!("moving {} away", folder.display()))?;
        let (id, enclosure) = (&drive.id, drive.enclosure);
        self.stage
            .fault(&format!("drive {id} of enclosure {enclosure} is gone"));
        self.stage.expect_health(false).await;
        // Without waiting for the ten minutes in which it might come back.
        let ask = self.ask()?;
        ask.text(&["drive", "drain", "--force", id]).await?;
        self.lost.drives.push(drive.id.clone());
        self.failed = Some(drive);
        self.after(name, from, watch).await
    }

    async fn replace_drive(&mut self) -> anyhow::Result<()> {
        let name = "a drive is replaced";
        let drive = self.failed.take().context("no drive has failed")?;
        let (from, watch) = self.begin(name).await?;
        let folder = self.folder(&drive);
        let folder = folder.to_str().context("a folder with an odd name")?;
        let ask = self.ask()?;
        ask.text(&["drive", "replace", &drive.id, folder]).await?;
        self.stage.fault(&format!("drive {} is replaced", drive.id));
        self.lost.drives.clear();
        self.after(name, from, watch).await
    }

    async fn lose_enclosure(&mut self) -> anyhow::Result<()> {
        let name = "an enclosure is lost";
        let mut free = self.without_replicas()?;
        free.retain(|id| !self.drained.contains(id));
        let id = *free
            .choose(&mut self.dice)
            .context("no enclosure to lose")?;
        let text = id.to_string();
        let (from, watch) = self.begin(name).await?;
        self.foretell(&["plan", "fail", "--enclosure", &text])
            .await?;
        self.stage.cluster.kill(id).await?;
        let data = self.stage.cluster.data();
        let folder = data.join(format!("enclosures/{id}"));
        std::fs::rename(&folder, data.with_file_name(format!("lost-{id}")))
            .with_context(|| format!("moving {} away", folder.display()))?;
        self.stage
            .fault(&format!("killed enclosure {id}, for good"));
        self.stage.expect_health(false).await;
        self.lost.enclosures.push(id);
        self.give_up(&text).await?;
        self.after(name, from, watch).await
    }

    /// `enfilade enclosure out`, which is refused until the enclosure counts as down.
    async fn give_up(&self, id: &str) -> anyhow::Result<()> {
        let began = std::time::Instant::now();
        loop {
            let Err(error) = self.ask()?.text(&["enclosure", "out", id]).await else {
                self.stage.fault(&format!("enclosure {id} is given up"));
                return Ok(());
            };
            ensure!(began.elapsed() < self.stage.options.patience(), "{error:#}");
            tokio::time::sleep(super::LOOK).await;
        }
    }
}
