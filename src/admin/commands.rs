//! Operators' commands: ask the admin API, print what it says.

use anyhow::{Context as _, Result};
use enfilade_cluster::api::root::EtagKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::client::AdminClient;
use crate::admin::{model, moves, render, upkeep};
use crate::cli::{
    AdminArgs, BucketDuArgs, BucketSetArgs, EnclosureAddArgs, EnclosureCommand, EnclosureStartArgs,
    EnclosureStopArgs, EtagArg, VolumeCommand,
};
use crate::credentials::RootCredentials;
use crate::up::layout::Layout;

pub(crate) fn client(args: &AdminArgs) -> Result<AdminClient> {
    let credentials = RootCredentials::find(&Layout::new(&args.data).credentials())?;
    AdminClient::new(&args.admin, &credentials)
}

/// `enfilade status`.
pub(crate) async fn status(args: &AdminArgs) -> Result<()> {
    show(args, "status", render::status).await
}

/// `enfilade cluster token`.
pub(crate) async fn token(args: &AdminArgs) -> Result<()> {
    show(args, "token", |token: &model::TokenText| {
        format!("{}\n", token.token)
    })
    .await
}

/// `enfilade volume ...`.
pub(crate) async fn volume(command: &VolumeCommand) -> Result<()> {
    match command {
        VolumeCommand::List(args) => {
            show(args, "volumes", |volumes: &Vec<model::Volume>| {
                render::volumes(volumes)
            })
            .await
        }
        VolumeCommand::Ledger(args) => {
            show(args, "ledger", |rows: &Vec<model::Fault>| {
                render::ledger(rows)
            })
            .await
        }
    }
}

/// `enfilade enclosure ...`.
pub(crate) async fn enclosure(command: &EnclosureCommand) -> Result<()> {
    match command {
        EnclosureCommand::List(args) => {
            let render = |all: &Vec<model::Enclosure>| render::enclosures(all);
            show(args, "enclosures", render).await
        }
        EnclosureCommand::Add(args) => add(args).await,
        EnclosureCommand::Drain(args) => moves::drain_enclosure(args).await,
        EnclosureCommand::Out(args) => moves::out(args).await,
        EnclosureCommand::Maintenance(args) => upkeep::maintenance(args).await,
        EnclosureCommand::Remove(args) => upkeep::remove_enclosure(args).await,
        EnclosureCommand::Start(args) => start(args).await,
        EnclosureCommand::Stop(args) => stop(args).await,
    }
}

/// `enfilade bucket set`.
pub(crate) async fn bucket_set(args: &BucketSetArgs) -> Result<()> {
    let body = model::SetBucket {
        etag: match args.etag {
            EtagArg::Md5 => EtagKind::Md5,
            EtagArg::Fast => EtagKind::Fast,
        },
    };
    let path = format!("buckets/{}", args.name);
    let set: model::BucketSet = client(&args.admin)?.post(&path, &body).await?;
    print(&args.admin, &set, || {
        let kind = match set.etag {
            EtagKind::Md5 => "MD5",
            EtagKind::Fast => "fast",
        };
        format!("bucket {}: ETags of new objects are {kind}\n", set.name)
    })
}

/// `enfilade bucket du`.
pub(crate) async fn bucket_du(args: &BucketDuArgs) -> Result<()> {
    let path = format!("buckets/{}/usage", args.name);
    show(&args.admin, &path, render::usage).await
}

async fn add(args: &EnclosureAddArgs) -> Result<()> {
    let chain = args.chain.map(|chain| chain.get());
    let body = model::AddEnclosure {
        drives: args.drives,
        chain,
    };
    let acted = client(&args.admin)?.post("enclosures", &body).await?;
    print_acted(&args.admin, &acted, "has joined")
}

async fn start(args: &EnclosureStartArgs) -> Result<()> {
    let path = format!("enclosures/{}/start", args.id);
    let acted = client(&args.admin)?
        .post(&path, &serde_json::json!({}))
        .await?;
    print_acted(&args.admin, &acted, "runs")
}

async fn stop(args: &EnclosureStopArgs) -> Result<()> {
    let path = format!("enclosures/{}/stop", args.id);
    let body = model::StopEnclosure { kill: args.kill };
    let acted = client(&args.admin)?.post(&path, &body).await?;
    print_acted(&args.admin, &acted, "has stopped")
}

fn print_acted(args: &AdminArgs, acted: &model::Acted, what: &str) -> Result<()> {
    let pid = acted
        .pid
        .map(|pid| format!(" (pid {pid})"))
        .unwrap_or_default();
    print(args, acted, || {
        format!("enclosure {} {what}{pid}\n", acted.id)
    })
}

/// Asks, and prints the very JSON, or text.
pub(crate) async fn show<T: Serialize + DeserializeOwned>(
    args: &AdminArgs,
    path: &str,
    render: impl FnOnce(&T) -> String,
) -> Result<()> {
    let value: T = client(args)?.get(path).await?;
    print(args, &value, || render(&value))
}

pub(crate) fn print(
    args: &AdminArgs,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<()> {
    if args.json {
        say(&format!(
            "{}\n",
            serde_json::to_string_pretty(value).context("cannot encode")?
        ))
    } else {
        say(&text())
    }
}

/// Writes to standard output; a reader that went away is no error.
pub(crate) fn say(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
