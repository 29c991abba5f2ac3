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
    /// Removing a drive or an enclosure: what is still in the way, and what emptying it would move.
    Remove(PlanSubjectArgs),
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

/// Flags of `drive fail`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FailDriveArgs {
    /// The drive.
    pub(crate) id: DriveId,
    /// Also when volumes could lose no more members until it is done.
    #[arg(long)]
    pub(crate) force: bool,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `drive remove`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoveDriveArgs {
    /// The drive.
    pub(crate) id: DriveId,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `enclosure remove`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoveEnclosureArgs {
    /// The enclosure.
    pub(crate) id: EnclosureId,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `enclosure maintenance`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MaintenanceArgs {
    /// The enclosure.
    pub(crate) id: EnclosureId,
    /// For how long, such as `30m`, `2h` or `90s`; at most a week.
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = seconds,
        required_unless_present = "end"
    )]
    pub(crate) seconds: Option<u64>,
    /// Ends it.
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) end: bool,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Shows or changes the figures that operators may set.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// Shows them.
    Show(AdminArgs),
    /// Changes those that are named; all processes follow within seconds.
    Set(SettingsSetArgs),
}

/// Flags of `settings set`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingsSetArgs {
    /// How many drives of a hundred are expected to fail in a year.
    #[arg(long, value_name = "PERCENT", value_parser = millionths)]
    pub(crate) drive_failures: Option<u32>,
    /// How many enclosures of a hundred are expected to be lost for good in a year.
    #[arg(long, value_name = "PERCENT", value_parser = millionths)]
    pub(crate) enclosure_losses: Option<u32>,
    /// What each drive is assumed to add to repair in a second, while nothing was measured.
    #[arg(long, value_name = "SIZE")]
    pub(crate) repair_rate: Option<ByteSize>,
    /// What moves onto a drive take in a second at least, however busy it is.
    #[arg(long, value_name = "SIZE")]
    pub(crate) pace_floor: Option<ByteSize>,
    /// What moves onto a drive take in a second at most, however idle it is.
    #[arg(long, value_name = "SIZE")]
    pub(crate) pace_ceiling: Option<ByteSize>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// A time with its unit, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no time: write a number and s, m, h or d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(each).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(wrong)
}

/// Percent, in millionths.
fn millionths(text: &str) -> Result<u32, String> {
    let percent: f64 = text
        .trim_end_matches(['%', ' '])
        .parse()
        .map_err(|_| format!("'{text}' is no number of percent"))?;
    if !(0.0..=1000.0).contains(&percent) {
        return Err(format!("'{text}' is not between 0 and 1000 percent"));
    }
    // Bounded above: fits.
    Ok((percent * 10_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_read_with_their_units() {
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("1d"), Ok(86_400));
        for wrong in ["", "m", "30", "0m", "-1s", "3x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(millionths("1.5"), Ok(15_000));
        assert_eq!(millionths("0.1%"), Ok(1000));
        assert!(millionths("-1").is_err() && millionths("x").is_err());
    }
}
