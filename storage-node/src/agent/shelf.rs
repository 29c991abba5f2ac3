//! Finding drives: in the folders of a shelf, where any drive of the cluster is served, and in the
//! place of a drive that was given up.
//!
//! A drive is known by its UUID, not by its folder: one that is moved here from another enclosure,
//! or to another folder, is served where it is found (PROTOCOLS 26).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use enfilade_placement::units::ByteSize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::drives::keep;
use super::{Context, DriveSpec};
use crate::drive::file::FileDrive;
use crate::drive::superblock::Superblock;

/// A folder with a folder for each drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    /// The folder.
    pub folder: PathBuf,
    /// What each drive may use; none: all of its file system.
    pub capacity: Option<ByteSize>,
}

/// A drive that was found.
struct Found {
    folder: PathBuf,
    superblock: Superblock,
    /// Its slot, when it was found on the shelf.
    shelved: Option<u32>,
}

/// Looks for drives until the agent stops, and keeps those that it finds.
pub(super) async fn scan(context: Arc<Context>, shelf: Option<Shelf>, specs: Vec<DriveSpec>) {
    let mut kept: BTreeSet<_> = specs.iter().map(|spec| spec.id).collect();
    let mut tasks = JoinSet::new();
    let nobody_waits = Arc::new(watch::Sender::new(0));
    loop {
        let (on, of) = (shelf.clone(), specs.clone());
        let found = tokio::task::spawn_blocking(move || look(on.as_ref(), &of));
        for found in found.await.unwrap_or_default() {
            let (identity, superblock) = (context.node.identity(), &found.superblock);
            let ours = superblock.cluster == identity.cluster
                && superblock.incarnation == identity.incarnation;
            if !ours {
                continue;
            }
            let id = superblock.drive;
            context.found(id, found.folder.clone());
            let of = specs
                .iter()
                .find(|spec| spec.folder.as_ref() == Some(&found.folder));
            let replaces = of.filter(|spec| spec.id != id && context.is_replaced(spec.id));
            let (slot, capacity) = match (found.shelved, replaces) {
                (_, Some(spec)) => (spec.slot, spec.capacity),
                (Some(slot), None) => (slot, shelf.as_ref().and_then(|shelf| shelf.capacity)),
                // Not where it is expected, and nobody said that it may be there.
                (None, None) => continue,
            };
            if kept.insert(id) {
                tracing::info!(drive = %id, folder = %found.folder.display(), "found a drive");
                let spec = DriveSpec::folder(id, slot, found.folder, capacity);
                tasks.spawn(keep(Arc::clone(&context), spec, Arc::clone(&nobody_waits)));
            }
        }
        if !context
            .pause(context.node.host().settings.rescan_interval)
            .await
        {
            break;
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn look(shelf: Option<&Shelf>, specs: &[DriveSpec]) -> Vec<Found> {
    let shelved = shelf.map(|shelf| FileDrive::folders(&shelf.folder));
    let shelved = (0..).zip(shelved.unwrap_or_default());
    let shelved = shelved.map(|(place, folder)| {
        let name = folder.file_name().and_then(|name| name.to_str());
        let slot = name.and_then(|name| name.parse().ok()).unwrap_or(place);
        (folder, Some(slot))
    });
    let configured = specs.iter().filter_map(|spec| spec.folder.clone());
    let folders = shelved.chain(configured.map(|folder| (folder, None)));
    let found = |(folder, shelved): (PathBuf, Option<u32>)| {
        let superblock = FileDrive::look(&folder)?;
        Some(Found {
            folder,
            superblock,
            shelved,
        })
    };
    folders.filter_map(found).collect()
}
