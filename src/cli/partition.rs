//! The command line of metadata groups: definitions, nothing else.

use clap::{Args, Subcommand};
use enfilade_placement::EnclosureId;

use super::AdminArgs;

/// Shows metadata groups and where their replicas are; moves replicas.
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// Lists the groups: range, leader, replicas, what is in them.
    List(AdminArgs),
    /// Moves a replica of a group to another enclosure.
    Move(PartitionMoveArgs),
    /// Sets how many replicas groups have at most.
    Replicas(PartitionReplicasArgs),
}

/// Flags of `partition move`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PartitionMoveArgs {
    /// The group; 0 is the root group.
    pub(crate) group: u32,
    /// The enclosure that has a replica.
    #[arg(long, value_name = "ENCLOSURE")]
    pub(crate) from: EnclosureId,
    /// The enclosure that is to have it.
    #[arg(long, value_name = "ENCLOSURE")]
    pub(crate) to: EnclosureId,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `partition replicas`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PartitionReplicasArgs {
    /// How many (1, 3, 5 or 7); 0: as many as the erasure code asks for, 2m+1.
    pub(crate) most: u32,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
