//! Commands about drives.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use enfilade_cluster::env::Env;
use enfilade_placement::DriveId;
use enfilade_storage_node::drive::file::FileDrive;
use enfilade_storage_node::engine::Engine;
use enfilade_storage_node::host::Host;
use enfilade_storage_node::settings::Settings;

use crate::admin::commands::{client, print, say, show};
use crate::admin::{model, moves, render, upkeep};
use crate::cli::{DriveCommand, DriveReplaceArgs, RebuildIndexArgs};
use crate::credentials::Token;
use crate::role::drives;

/// `enfilade drive ...`.
pub(crate) async fn run(command: &DriveCommand) -> Result<()> {
    match command {
        DriveCommand::List(args) => {
            let render = |all: &Vec<model::Drive>| render::drives(all);
            show(args, "drives", render).await
        }
        DriveCommand::Add(args) => drives::add(args),
        DriveCommand::Replace(args) => replace(args).await,
        DriveCommand::Drain(args) => moves::drain_drive(args).await,
        DriveCommand::Fail(args) => upkeep::fail_drive(args).await,
        DriveCommand::Remove(args) => upkeep::remove_drive(args).await,
        DriveCommand::RebuildIndex(args) => {
            let args = args.clone();
            let rebuild = tokio::task::spawn_blocking(move || rebuild_index(&args));
            rebuild.await.context("the rebuild stopped")?
        }
    }
}

/// Formats a folder, and tells the cluster that this drive takes the slot of one that failed.
///
/// The cluster is asked before anything is formatted. When the answer to the last step is lost, the
/// same command again finds the drive that it made, and goes on with it.
async fn replace(args: &DriveReplaceArgs) -> Result<()> {
    let client = client(&args.admin)?;
    let all: Vec<model::Drive> = client.get("drives").await?;
    let old = all.iter().find(|drive| drive.id == args.old.to_string());
    let old = old.with_context(|| format!("the cluster knows no drive {}", args.old))?;
    ensure!(
        !old.present,
        "drive {} is {} and in service: take it out first",
        old.id,
        old.state
    );
    let token: model::TokenText = client.get("token").await?;
    let token: Token = token.token.parse().context("the cluster's token")?;
    if let Some(wiped) = args.wipe {
        let what = || format!("wiping {}", args.folder.display());
        FileDrive::wipe(&args.folder, wiped).with_context(what)?;
    }
    let known = |drive: DriveId| all.iter().any(|one| one.id == drive.to_string());
    let made = FileDrive::look(&args.folder).filter(|found| {
        found.cluster == token.cluster && found.generation.get() == 0 && !known(found.drive)
    });
    let new = match made {
        Some(made) => made.drive,
        None => drives::format_new(&args.folder, token.cluster)?,
    };
    let path = format!("drives/{}/replace", args.old);
    let body = model::ReplaceDrive { by: new };
    let _: serde_json::Value = client.post(&path, &body).await?;
    let made = serde_json::json!({
        "old": args.old.to_string(),
        "drive": new.to_string(),
        "enclosure": old.enclosure,
        "slot": old.slot,
    });
    print(&args.admin, &made, || {
        format!(
            "drive {new} takes slot {} of enclosure {}; {} shards of drive {} are to be rebuilt\n",
            old.slot, old.enclosure, old.shards, args.old
        )
    })
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
    use enfilade_placement::ClusterId;

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
