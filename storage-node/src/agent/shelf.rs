//! Finding drives: in the folders of a shelf, where any drive of the cluster is served, and in the
//! place of a drive that was given up.
//!
//! A drive is known by its UUID, not by its folder: one that is moved here from another enclosure,
//! or to another folder, is served where it is found (PROTOCOLS 26).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use enfilade_placement::DriveId;
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
    /// The folder itself, by device and inode, whatever its path.
    identity: (u64, u64),
    superblock: Superblock,
    /// Its slot, when it was found on the shelf.
    shelved: Option<u32>,
}

/// Looks for drives until the agent stops, and keeps those that it finds.
pub(super) async fn scan(context: Arc<Context>, shelf: Option<Shelf>, specs: Vec<DriveSpec>) {
    let mut kept: BTreeSet<_> = specs.iter().map(|spec| spec.id).collect();
    let mut tasks = JoinSet::new();
    let nobody_waits = Arc::new(watch::Sender::new(0));
    let mut doubtful = BTreeMap::new();
    loop {
        let (on, of) = (shelf.clone(), specs.clone());
        let identity = context.node.identity();
        let ours = move |found: &Found| {
            let superblock = &found.superblock;
            superblock.cluster == identity.cluster && superblock.incarnation == identity.incarnation
        };
        let found = tokio::task::spawn_blocking(move || look(on.as_ref(), &of));
        let mut found = found.await.unwrap_or_default();
        found.retain(ours);
        // One that is just being moved may be seen twice once.
        let twins = twins(&found);
        let certain = twins.iter().filter(|(id, _)| doubtful.contains_key(*id));
        context.set_twins(certain.map(|(id, text)| (*id, text.clone())).collect());
        doubtful = twins;
        for found in found {
            let superblock = &found.superblock;
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

/// Drives that are in more than one folder, and in which.
fn twins(found: &[Found]) -> BTreeMap<DriveId, String> {
    let mut folders: BTreeMap<DriveId, BTreeMap<(u64, u64), &PathBuf>> = BTreeMap::new();
    for one in found {
        let of_drive = folders.entry(one.superblock.drive).or_default();
        of_drive.entry(one.identity).or_insert(&one.folder);
    }
    let several = folders.into_iter().filter(|(_, folders)| folders.len() > 1);
    let text = |(id, folders): (DriveId, BTreeMap<_, &PathBuf>)| {
        let mut folders: Vec<String> = folders.values().map(|f| f.display().to_string()).collect();
        folders.sort();
        (id, format!("found in {}", folders.join(" and ")))
    };
    several.map(text).collect()
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
        let about = std::fs::metadata(&folder).ok()?;
        Some(Found {
            folder,
            identity: (about.dev(), about.ino()),
            superblock,
            shelved,
        })
    };
    folders.filter_map(found).collect()
}
