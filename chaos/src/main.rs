//! Faults on a real cluster, and the proof that nothing was lost: starts processes, puts load on
//! them, kills them, and checks every acked byte.
//!
//! The seed decides what clients do and which enclosures die. It does not decide how the operating
//! system schedules processes: a run that failed is evidence by its history, not by being repeated.

mod check;
mod client;
mod cluster;
mod history;
mod scenario;
mod volatile;
mod walk;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use scenario::Options;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    version,
    about = "Faults on real processes, and the verdict"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario, and exits with 0 only when every promise was kept.
    Run(Box<Options>),
    /// Checks the history of an earlier run again.
    Check {
        /// `history.jsonl` in the folder of the run.
        history: PathBuf,
    },
    /// Walks through the drives of a cluster that runs, by their logs, and compares them with the
    /// records and with the ledger. Exits with 0 only when the ledger is exact.
    Walk {
        /// The folder of the cluster: `--data` of `enfilade up`.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The program that asks it [default: `enfilade` beside this one].
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(options) => {
            let verdicts = tokio::select! {
                verdicts = scenario::run(&options) => verdicts?,
                // Dropping the scenario ends the cluster.
                signal = interrupted() => anyhow::bail!("ended by {}", signal?),
            };
            let passed = verdicts.iter().filter(|verdict| verdict.passed()).count();
            let word = if passed == verdicts.len() {
                "PASS"
            } else {
                "FAIL"
            };
            println!("{word}: {passed} of {} runs passed", verdicts.len());
            Ok(exit(passed == verdicts.len()))
        }
        Command::Walk { dir, binary } => {
            let ask = cluster::Ask::folder(&dir, binary.as_deref())?;
            let walked = walk::walk(&dir, &ask).await?;
            for contradiction in &walked.contradictions {
                println!("{contradiction}");
            }
            println!("{walked}");
            Ok(exit(walked.contradictions.is_empty()))
        }
        Command::Check { history } => {
            let operations = history::read(&history)?;
            let findings = check::all(&operations);
            for finding in &findings {
                println!("{finding}");
            }
            println!(
                "{} operations, {} findings",
                operations.len(),
                findings.len()
            );
            Ok(exit(findings.is_empty()))
        }
    }
}

/// Waits for the wish that this process end.
async fn interrupted() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map(|()| "SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

fn exit(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
