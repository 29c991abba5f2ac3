//! Scenarios: what is done to a cluster under load, and the verdict.

mod enclosure_loss;
mod growth;
mod memory;
mod pairs;
mod power_cut;
mod power_loss;
mod stage;
mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cluster::Shape;
use crate::workload::ops::Plan;
use pairs::Pairs;
use verdict::Verdict;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Kills an enclosure, then a second one, and starts both again.
    EnclosureLoss,
    /// Kills every process at once, and starts the cluster again.
    PowerLoss,
    /// Cuts the power under a cluster in one process: what was not synced is gone, too.
    PowerCut,
    /// Many clients, half of them very slow: the memory of a cluster in one process.
    Memory,
    /// Grows from 4 to 8 enclosures, shrinks to 5, loses a drive, replaces it, loses an enclosure,
    /// under load and `kill -9`; after each step what is on the drives is compared with the ledger.
    Growth,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Scenario::EnclosureLoss => "enclosure-loss",
            Scenario::PowerLoss => "power-loss",
            Scenario::PowerCut => "power-cut",
            Scenario::Memory => "memory",
            Scenario::Growth => "growth",
        }
    }
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// What is done to the cluster.
    pub(crate) scenario: Scenario,
    /// Decides every choice of the run [default: another one each time].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Which pairs of enclosures are killed, each in a cluster of its own: `all` pairs of metadata
    /// replica holders, a number of random ones, or pairs by id such as `1+4,2+3`.
    #[arg(long, default_value = "1")]
    pub(crate) pairs: Pairs,
    /// How often the power fails.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How often the power is cut, at random moments of load, start and recovery.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cuts: u32,
    /// Power cuts: syncs of files and folders whose path contains this succeed and do nothing.
    /// Everything: `/`. The run must fail then.
    #[arg(long, value_name = "PART")]
    pub(crate) ignore_sync: Option<String>,
    /// Memory: clients at once, of which half send 1 KiB a second.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..=4000))]
    pub(crate) clients: u32,
    /// Enclosures of the cluster.
    #[arg(long, default_value_t = 6)]
    pub(crate) enclosures: u32,
    /// Drives of each enclosure.
    #[arg(long, default_value_t = 4)]
    pub(crate) drives: u32,
    /// Profile of the cluster, k+m.
    #[arg(long, default_value = "4+2")]
    pub(crate) profile: String,
    /// Clients that write at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) writers: u32,
    /// Keys that each writer has for itself.
    #[arg(long, default_value_t = 60)]
    pub(crate) keys: usize,
    /// Keys that all writers overwrite, and as many that they create and delete.
    #[arg(long, default_value_t = 12)]
    pub(crate) shared: usize,
    /// Bytes of the largest object but those by multipart.
    #[arg(long, default_value_t = 8 << 20)]
    pub(crate) largest: usize,
    /// Seconds of load before, between and after the faults.
    #[arg(long, default_value_t = 8)]
    hold: u64,
    /// Seconds that writes, or reads, may stand still under load.
    #[arg(long, default_value_t = 20)]
    max_gap: u64,
    /// Seconds after which a client gives an operation up.
    #[arg(long, default_value_t = 60)]
    deadline: u64,
    /// Seconds that the cluster may take to become healthy, and an object to become readable.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Growth.
    #[command(flatten)]
    pub(crate) growth: growth::Flags,
    /// The program under test [default: `enfilade` beside this one, built when it is not there].
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// Where the folders of runs are made [default: the system's folder for temporary files].
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Keeps the folders of runs that passed, too.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Options {
    fn plan(&self, seed: u64, round: u32) -> Plan {
        Plan {
            seed,
            round,
            writers: self.writers,
            keys: self.keys,
            shared: self.shared,
            largest: match self.scenario {
                Scenario::Growth => self.largest.min(growth::LARGEST),
                _ => self.largest,
            },
            pause: match self.scenario {
                Scenario::Growth => Duration::from_millis(self.growth.pause),
                _ => Duration::ZERO,
            },
        }
    }

    fn shape(&self) -> Shape {
        if self.scenario == Scenario::Growth {
            return self.growth.shape(&self.profile);
        }
        Shape {
            enclosures: self.enclosures,
            drives: self.drives,
            profile: self.profile.clone(),
            processes: !matches!(self.scenario, Scenario::PowerCut | Scenario::Memory),
            files: (self.scenario == Scenario::Memory).then_some(memory::FILES),
            volume_target: None,
        }
    }

    /// Whether every fragment of a stripe has an enclosure of its own while all is well.
    fn is_wide(&self) -> bool {
        let parts = self
            .profile
            .split('+')
            .map(|part| part.trim().parse::<u32>());
        let width: Result<u32, _> = parts.sum();
        width.is_ok_and(|width| width <= self.enclosures)
    }

    fn hold(&self) -> Duration {
        Duration::from_secs(self.hold)
    }

    fn max_gap(&self) -> Duration {
        Duration::from_secs(self.max_gap)
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

/// Runs a scenario to its verdicts, one a cluster. Prints as it goes.
///
/// # Errors
/// When a run could not be carried out: then there is no verdict.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Verdict>> {
    match options.scenario {
        Scenario::EnclosureLoss => enclosure_loss::run(options).await,
        Scenario::PowerLoss => Ok(vec![power_loss::run(options).await?]),
        Scenario::PowerCut => Ok(vec![power_cut::run(options).await?]),
        Scenario::Memory => Ok(vec![memory::run(options).await?]),
        Scenario::Growth => Ok(vec![growth::run(options).await?]),
    }
}
