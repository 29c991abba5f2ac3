//! What openraft is told about our types.

use std::fmt;

use bytes::Bytes;
use openraft::BasicNode;
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};

use crate::api::command::Outcome;
use crate::api::encoding::bytes_field;
use crate::api::root::RootOutcome;

openraft::declare_raft_types!(
    /// The types of every group: commands are encoded bytes, and a replica is named by the id of
    /// its enclosure.
    pub TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = BasicNode,
        AsyncRuntime = TokioRuntime,
);

/// A log entry.
pub type Entry = EntryOf<TypeConfig>;
/// A position in a log.
pub type LogId = LogIdOf<TypeConfig>;
/// A vote.
pub type Vote = VoteOf<TypeConfig>;
/// The members of a group, as of some log position.
pub type Membership = StoredMembershipOf<TypeConfig>;
/// Position and membership of a snapshot.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// An encoded `PartitionEnvelope` or `RootEnvelope`, its version byte in front (PROTOCOLS 10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The encoded envelope.
    #[serde(with = "bytes_field")]
    pub bytes: Bytes,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// What applying an entry came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to tell: an entry of Raft's own.
    None,
    /// Of a partition's command.
    Partition(Outcome),
    /// Of a root command.
    Root(RootOutcome),
}

/// How far a group's rows have come: in the same batch as the rows (PROTOCOLS 7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The last applied entry.
    pub applied: Option<LogId>,
    /// The last applied membership.
    pub membership: Membership,
}
