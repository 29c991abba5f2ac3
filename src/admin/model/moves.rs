//! Moves and plans in the admin API.

use serde::{Deserialize, Serialize};

/// `GET /admin/v1/moves`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Moves {
    /// Whether only repair goes on.
    pub(crate) paused: bool,
    /// Bytes of the last plan.
    pub(crate) plan_bytes: u64,
    /// The least that any scheme must move to get as far.
    pub(crate) bound_bytes: u64,
    /// Bytes of the last plan that were moved and rebuilt.
    pub(crate) moved_bytes: u64,
    /// Bytes of it that are left.
    pub(crate) backlog_bytes: u64,
    /// Bytes a second that were moved and rebuilt lately, while any were; 0: not known.
    pub(crate) rate: u64,
    /// Bytes a second that were rebuilt lately, while any were; 0: not known.
    pub(crate) repair_rate: u64,
    /// Members that have to go somewhere, and for which no drive has room.
    pub(crate) unplaced: u64,
    /// Volumes of which too little can be read to rebuild what is lost.
    pub(crate) unreadable: u64,
    /// Bytes rebuilt since the cluster's birth.
    pub(crate) rebuilt_bytes_total: u64,
    /// Bytes moved for other reasons.
    pub(crate) moved_bytes_total: u64,
    /// What is under way.
    pub(crate) under_way: Vec<Move>,
    /// What is being emptied, and how many shards it still holds.
    pub(crate) drains: Vec<Drain>,
}

/// A shard on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    /// The volume.
    pub(crate) volume: u64,
    /// The member.
    pub(crate) member: u8,
    /// The drive that has or had it.
    pub(crate) from: Option<String>,
    /// The drive that gets it.
    pub(crate) to: String,
    /// `repair`, `drain`, `spread`, `rebalance`.
    pub(crate) reason: String,
    /// `make`, `check`.
    pub(crate) stage: String,
}

/// Something that is being emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// The drive, if it is one.
    pub(crate) drive: Option<String>,
    /// Else the enclosure.
    pub(crate) enclosure: Option<u32>,
    /// Shards that it still holds; 0: it can be removed.
    pub(crate) shards: usize,
}

/// The body of what asks for a plan or changes moves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveAsk {
    /// `plan/add`: how many drives.
    #[serde(default)]
    pub(crate) drives: Option<u32>,
    /// `plan/add`: bytes of each.
    #[serde(default)]
    pub(crate) capacity: Option<u64>,
    /// `plan/add`: the chain.
    #[serde(default)]
    pub(crate) chain: Option<u32>,
    /// `plan/drain`, `plan/fail`: a drive.
    #[serde(default)]
    pub(crate) drive: Option<String>,
    /// `plan/drain`, `plan/fail`: an enclosure.
    #[serde(default)]
    pub(crate) enclosure: Option<u32>,
    /// `drain`, `maintenance`: takes it back.
    #[serde(default)]
    pub(crate) undo: bool,
    /// `drain`, `fail`: also when it would break a promise.
    #[serde(default)]
    pub(crate) force: bool,
    /// `maintenance`: for how long.
    #[serde(default)]
    pub(crate) for_seconds: Option<u64>,
}

/// What a plan comes to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Moves and rebuilds.
    pub(crate) moves: usize,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Of those, bytes that are rebuilt.
    pub(crate) rebuilt_bytes: u64,
    /// The least that any scheme must move to get as far.
    pub(crate) bound_bytes: u64,
    /// Bytes a second that were moved and rebuilt lately; 0: not known.
    pub(crate) rate: u64,
    /// Seconds that it takes at that rate; none: not known.
    pub(crate) seconds: Option<u64>,
    /// Open volumes that are sealed for it.
    pub(crate) seals: usize,
    /// Before.
    pub(crate) before: PlanSide,
    /// After.
    pub(crate) after: PlanSide,
    /// Members that have to go somewhere, and for which no drive has room.
    pub(crate) unplaced: usize,
    /// Volumes of which too little can be read to rebuild what is lost.
    pub(crate) unreadable: usize,
    /// Bytes that do not fit below the fill limit.
    pub(crate) overflow_bytes: u64,
    /// Why a drain or a removal would be refused; empty: it would not.
    pub(crate) refusals: Vec<String>,
}

/// How the cluster is on one side of a plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct PlanSide {
    /// Volumes with two members or more on one drive.
    pub(crate) drive_violations: usize,
    /// In one enclosure.
    pub(crate) enclosure_violations: usize,
    /// With too many in one chain.
    pub(crate) chain_violations: usize,
    /// Volumes that the loss of one enclosure makes unreadable.
    pub(crate) one_enclosure_loses: usize,
    /// Fill of the fullest drive, in millionths.
    pub(crate) fullest: u64,
    /// Of the emptiest.
    pub(crate) emptiest: u64,
    /// How likely data is to last.
    pub(crate) durability: Durability,
}

/// How likely data is to last a year, and what that follows from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Durability {
    /// The number of nines of the share of data that is there after a year: 11 is 99.999999999 %.
    pub(crate) nines: f64,
    /// The same of the volume that is worst off.
    pub(crate) worst_volume_nines: f64,
    /// Failures of a drive a year.
    pub(crate) drive_failures: f64,
    /// Losses of an enclosure, for good, a year.
    pub(crate) enclosure_losses: f64,
    /// Bytes a second that the cluster rebuilds.
    pub(crate) repair_rate: u64,
    /// Whether that was measured; else it is assumed.
    pub(crate) repair_measured: bool,
    /// Mean hours from a loss to the end of its rebuild.
    pub(crate) repair_hours: f64,
}

/// `GET` and `POST /admin/v1/settings`; what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tuning {
    /// Failures of a drive a year, in millionths.
    #[serde(default)]
    pub(crate) drive_failures_ppm: Option<u32>,
    /// Losses of an enclosure, for good, a year, in millionths.
    #[serde(default)]
    pub(crate) enclosure_losses_ppm: Option<u32>,
    /// Bytes a second that each drive is assumed to add to repair, while nothing was measured.
    #[serde(default)]
    pub(crate) repair_rate: Option<u64>,
    /// Bytes a second that moves onto a drive take at least.
    #[serde(default)]
    pub(crate) pace_floor: Option<u64>,
    /// Bytes a second that moves onto a drive take at most.
    #[serde(default)]
    pub(crate) pace_ceiling: Option<u64>,
}

/// The answer to what changes moves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct MoveAnswer {
    /// What it comes to, when that was asked or had to be known.
    pub(crate) plan: Option<Plan>,
    /// The intents that were given up.
    pub(crate) cancelled: usize,
}
