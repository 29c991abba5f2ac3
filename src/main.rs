//! Enfilade: a distributed, erasure-coded object store for DPU-JBOFs. One binary for every role.

mod admin;
mod bench;
mod cli;
mod codec;
mod credentials;
mod files;
mod memory;
mod os;
mod role;
mod settings;
mod signals;
mod telemetry;
mod up;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use cli::{BucketCommand, Cli, ClusterCommand, Command};

/// Work that blocks a thread when all else has ended has so long; then the process goes anyway.
const LAST_WORK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("enfilade: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    telemetry::init()?;
    match command {
        Command::Bench(command) => return bench::run(command),
        Command::Up(_) | Command::Node(_) => codec::choose_kernel()?,
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start threads")?;
    let result = runtime.block_on(dispatch(command));
    runtime.shutdown_timeout(LAST_WORK);
    result
}

async fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::run(args).await,
        Command::Node(args) => role::process::run(args).await,
        Command::Cluster(ClusterCommand::Init(args)) => role::init::run(args).await,
        Command::Cluster(ClusterCommand::Token(args)) => admin::commands::token(&args).await,
        Command::Drive(command) => admin::drive::run(&command).await,
        Command::Status(args) => admin::commands::status(&args).await,
        Command::Enclosure(command) => admin::commands::enclosure(&command).await,
        Command::Volume(command) => admin::commands::volume(&command).await,
        Command::Rebalance(command) => admin::moves::rebalance(&command).await,
        Command::Plan(command) => admin::moves::plan(&command).await,
        Command::Settings(command) => admin::upkeep::settings(&command).await,
        Command::Partition(command) => admin::groups::run(&command).await,
        Command::Bench(command) => bench::run(command),
        Command::Bucket(BucketCommand::Set(args)) => admin::commands::bucket_set(&args).await,
        Command::Bucket(BucketCommand::Du(args)) => admin::commands::bucket_du(&args).await,
        Command::Bucket(BucketCommand::Extents(args)) => admin::extents::show(&args).await,
        Command::Memory(args) => memory::run(&args),
    }
}
