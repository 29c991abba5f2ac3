//! What the folder of a process remembers: which cluster and enclosure it is of.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use enfilade_placement::{ClusterId, EnclosureId};
use serde::{Deserialize, Serialize};

use crate::credentials::Token;
use crate::files::{self, Secrecy};
use crate::settings::NodeConfig;

/// What an enclosure remembers of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The cluster that it belongs to.
    pub(crate) cluster: ClusterId,
    /// Its id there; none before it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enclosure: Option<EnclosureId>,
    /// Whether its metadata folder was made: an empty one is a loss from then on.
    #[serde(default)]
    pub(crate) meta: bool,
}

impl Identity {
    fn path(folder: &Path) -> PathBuf {
        folder.join("identity.toml")
    }

    /// What the folder remembers, or for a new one, what the configuration says.
    ///
    /// # Errors
    /// When the folder is of another cluster or enclosure.
    pub(crate) fn read(config: &NodeConfig, token: &Token) -> Result<Self> {
        let path = Self::path(&config.folder);
        let (cluster, enclosure) = (token.cluster, config.enclosure);
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(Self {
                cluster,
                enclosure,
                meta: false,
            });
        };
        let kept: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        ensure!(
            kept.cluster == cluster,
            "{} is of cluster {}, the token of {cluster}",
            config.folder.display(),
            kept.cluster
        );
        let same = enclosure.is_none() || enclosure == kept.enclosure;
        ensure!(same, "{} is of another enclosure", config.folder.display());
        Ok(kept)
    }

    /// Remembers it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = toml::to_string(self).context("cannot encode the identity")?;
        files::replace(&Self::path(folder), text.as_bytes(), Secrecy::Public)
    }

    /// Refuses to begin anew where replicas were: they have voted.
    ///
    /// # Errors
    /// When the folder is gone.
    pub(crate) fn check_meta(&self, folder: &Path) -> Result<()> {
        let there = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(
            there || !self.meta,
            "the metadata folder {} is gone or empty; an enclosure that has lost its replicas \
             must not vote again",
            folder.display()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_folder_that_was_lost_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let meta = folder.path().join("meta");
        let new = Identity::default();
        new.check_meta(&meta).unwrap();
        let used = Identity { meta: true, ..new };
        assert!(
            used.check_meta(&meta)
                .unwrap_err()
                .to_string()
                .contains("is gone or empty")
        );
        std::fs::create_dir_all(meta.join("db")).unwrap();
        used.check_meta(&meta).unwrap();
    }
}
