//! The command line of moves and plans: definitions, nothing else.

use clap::{Args, Subcommand};
use enfilade_placement::units::ByteSize;
use enfilade_placement::{ChainId, DriveId, EnclosureId};

use super::AdminArgs;

/// Shows moves and repairs; pauses, resumes and cancels moves.
#[derive(Debug, Subcommand)]
pub(crate) enum RebalanceCommand {
    /// Shows what is moved and rebuilt, and how far it is.
    Status(RebalanceStatusArgs),
    /// Stops all moves until they are resumed. Repair goes on.
    Pause(AdminArgs),
    /// Lets moves go on.
    Resume(AdminArgs),
    /// Gives up the moves that are under way, and pauses. Nothing is lost by it.
    Cancel(AdminArgs),
}

/// Flags of `rebalance status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RebalanceStatusArgs {
    /// Shows it anew every second until nothing is left to do.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// What a change of the cluster would move.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Adding an enclosure.
    Add(PlanAddArgs),
    /// Emptying a drive or an enclosure.
    Drain(PlanSubjectArgs),
    /// Losing a drive or an enclosure for good.
    Fail(PlanSubjectArgs),
}

/// Flags of `plan add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanAddArgs {
    /// How many drives it has.
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) drives: u32,
    /// What each of them holds [default: as much as the largest there is].
    #[arg(long, value_name = "SIZE")]
    pub(crate) capacity: Option<ByteSize>,
    /// The chain at whose end it is linked [default: the shortest].
    #[arg(long, value_name = "ID")]
    pub(crate) chain: Option<ChainId>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `plan drain` and `plan fail`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanSubjectArgs {
    /// A drive.
    #[arg(long, value_name = "UUID", required_unless_present = "enclosure")]
    pub(crate) drive: Option<DriveId>,
    /// An enclosure.
    #[arg(long, value_name = "ID", conflicts_with = "drive")]
    pub(crate) enclosure: Option<EnclosureId>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of every drain.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainArgs {
    /// Takes it back: what was moved stays where it is now.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Also when the rest has no room for all of it, or is spread less well afterwards.
    #[arg(long)]
    pub(crate) force: bool,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `drive drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainDriveArgs {
    /// The drive.
    pub(crate) id: DriveId,
    /// How.
    #[command(flatten)]
    pub(crate) how: DrainArgs,
}

/// Flags of `enclosure drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainEnclosureArgs {
    /// The enclosure.
    pub(crate) id: EnclosureId,
    /// How.
    #[command(flatten)]
    pub(crate) how: DrainArgs,
}
