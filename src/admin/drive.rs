//! Commands about drives.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use enfilade_cluster::env::Env;
use enfilade_storage_node::drive::file::FileDrive;
use enfilade_storage_node::engine::Engine;
use enfilade_storage_node::host::Host;
use enfilade_storage_node::settings::Settings;

use crate::admin::commands::say;
use crate::cli::{DriveCommand, RebuildIndexArgs};
use crate::role::drives;

/// `enfilade drive ...`.
pub(crate) async fn run(command: &DriveCommand) -> Result<()> {
    match command {
        DriveCommand::Add(args) => drives::add(args),
        DriveCommand::RebuildIndex(args) => {
            let args = args.clone();
            let rebuild = tokio::task::spawn_blocking(move || rebuild_index(&args));
            rebuild.await.context("the rebuild stopped")?
        }
    }
}

/// Builds the index of a drive that nobody serves from its logs.
fn rebuild_index(args: &RebuildIndexArgs) -> Result<()> {
    let what = || format!("rebuilding the index of {}", args.folder.display());
    let json = rebuild(&args.folder).with_context(what)?;
    if args.json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&json)?));
    }
    let number = |name: &str| json[name].as_u64().unwrap_or_default();
    say(&format!(
        "drive {}: {} shards, {} records, {} fragments ({} bytes)\n\
         corrupt fragments: {}, unreadable places: {}, bytes cut off that were never acked: {}\n",
        json["drive"].as_str().unwrap_or_default(),
        number("shards"),
        number("records"),
        number("fragments"),
        number("bytes"),
        number("corrupt"),
        number("damaged"),
        number("cut"),
    ))
}

fn rebuild(folder: &Path) -> Result<serde_json::Value> {
    let (drive, superblock) = FileDrive::open_any(folder)?;
    let host = Host::new(Env::real(), Settings::default());
    let rebuilt = Engine::rebuild_index(&host, Arc::new(drive), superblock.drive)?;
    Ok(serde_json::json!({
        "drive": superblock.drive.to_string(),
        "shards": rebuilt.shards,
        "records": rebuilt.records,
        "fragments": rebuilt.fragments,
        "bytes": rebuilt.bytes,
        "corrupt": rebuilt.corrupt,
        "damaged": rebuilt.damaged,
        "cut": rebuilt.cut,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_placement::{ClusterId, DriveId};

    #[test]
    fn the_index_of_a_drive_in_use_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drive");
        drives::format(&path, DriveId::new(1), ClusterId::new(1)).unwrap();
        let held = FileDrive::open_any(&path).unwrap();
        let error = format!("{:#}", rebuild(&path).unwrap_err());
        assert!(error.contains("in use by another process"), "{error}");
        assert!(!path.join("index").exists());
        drop(held);
        assert_eq!(rebuild(&path).unwrap()["shards"], 0);
        let error = format!("{:#}", rebuild(folder.path()).unwrap_err());
        assert!(error.contains("no superblock"), "{error}");
    }
}
