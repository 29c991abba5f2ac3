//! Where things are in the folder of an embedded cluster.

use std::path::{Path, PathBuf};

use enfilade_placement::EnclosureId;

/// The folder of an embedded cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A cluster in this folder.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Locked by the process that runs the cluster.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What the cluster is: its description.
    pub(crate) fn description(&self) -> PathBuf {
        self.root.join("cluster.toml")
    }

    /// Generated root credentials.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// The cluster's token.
    pub(crate) fn token(&self) -> PathBuf {
        self.root.join("token")
    }

    /// Which processes run, and where they listen.
    pub(crate) fn run_file(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// Everything of one enclosure.
    pub(crate) fn enclosure(&self, id: EnclosureId) -> PathBuf {
        self.root.join("enclosures").join(id.to_string())
    }

    /// The configuration of an enclosure's process.
    pub(crate) fn node_config(&self, id: EnclosureId) -> PathBuf {
        self.enclosure(id).join("node.toml")
    }

    /// The metadata replicas of an enclosure.
    pub(crate) fn meta(&self, id: EnclosureId) -> PathBuf {
        self.enclosure(id).join("meta")
    }

    /// The folders of an enclosure's drives.
    pub(crate) fn shelf(&self, id: EnclosureId) -> PathBuf {
        self.enclosure(id).join("drives")
    }

    /// One drive of an enclosure.
    pub(crate) fn drive(&self, id: EnclosureId, slot: usize) -> PathBuf {
        self.shelf(id).join(slot.to_string())
    }
}
