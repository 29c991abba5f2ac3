//! Moves: shards on their way to another drive, and what is to be emptied (PROTOCOLS 21).

use std::collections::BTreeSet;

use enfilade_placement::{
    DriveId, EnclosureId, Epoch, IntentId, Topology, Volume, VolumeId, VolumeState,
};
use serde::{Deserialize, Serialize};

use super::root::LedgerRange;

/// Why a shard goes to another drive; the order is that of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// It is lost, and is rebuilt from others.
    Repair,
    /// Its drive is to be emptied.
    Drain,
    /// Too many members of its volume are in one failure domain.
    Spread,
    /// Its drive holds more than its share.
    Rebalance,
}

impl Reason {
    /// The word in metrics and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Drain => "drain",
            Self::Spread => "spread",
            Self::Rebalance => "rebalance",
        }
    }
}

/// A move that root is asked to begin: of one member of a sealed volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveOrder {
    /// The volume.
    pub volume: VolumeId,
    /// The member.
    pub member: u8,
    /// The drive that had it when the move was planned; none: it was vacant.
    pub from: Option<DriveId>,
    /// The drive that is to have it.
    pub to: DriveId,
    /// Why.
    pub reason: Reason,
}

/// How far an intent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// The shard is being made.
    Make,
    /// The member is flipped. What died meanwhile may be in the new shard: all its blobs are looked
    /// up once (PROTOCOLS 20).
    Check,
}

/// A durable order to the node of a drive: make this shard, have the member flipped, then look for
/// what died meanwhile. It may be carried out in part, and again, until it ends or is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its id, never given again.
    pub id: IntentId,
    /// The volume.
    pub volume: VolumeId,
    /// The member.
    pub member: u8,
    /// The drive that has the member until the flip; none: it was vacant.
    pub from: Option<DriveId>,
    /// The drive that is to have it, and whose node carries the intent out.
    pub to: DriveId,
    /// Why.
    pub reason: Reason,
    /// How far it is.
    pub stage: Stage,
}

/// What ends the first stage of an intent: the shard is whole on its new drive, synced, and fenced
/// (PROTOCOLS 21).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// The intent.
    pub intent: IntentId,
    /// The volume.
    pub volume: VolumeId,
    /// The epoch under which the shard was made.
    pub epoch: Epoch,
    /// The member.
    pub member: u8,
    /// Bytes of the shard's fragments.
    pub bytes: u64,
    /// What the shard lacks of blobs that nothing references yet: its ledger from now on.
    pub lacks: Vec<LedgerRange>,
}

/// A drive, or an enclosure with all drives that it has or gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A drive.
    Drive(DriveId),
    /// An enclosure.
    Enclosure(EnclosureId),
}

/// What the last plan came to, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanNote {
    /// Bytes that it moves and rebuilds.
    pub bytes: u64,
    /// The least that any scheme must.
    pub bound_bytes: u64,
    /// Members that have to go somewhere, and for which no drive has room.
    pub unplaced: u64,
    /// Volumes of which too little can be read to rebuild what is lost.
    pub unreadable: u64,
    /// Bytes that had been moved and rebuilt when the plan was noted; set by root.
    pub done_before: u64,
}

/// Moves: those that are under way, and what they follow from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moves {
    /// The intents, ordered by volume and member.
    pub intents: Vec<Intent>,
    /// What an operator wants emptied.
    pub drains: BTreeSet<Subject>,
    /// Whether only repair goes on.
    pub paused: bool,
    /// Bytes that were rebuilt since the cluster's birth, of shards that were lost.
    pub rebuilt_bytes: u64,
    /// Bytes that were moved for other reasons.
    pub moved_bytes: u64,
    /// What the last plan came to.
    pub plan: PlanNote,
    /// Bytes a second that were moved and rebuilt lately, while any were; 0: not known.
    pub rate: u64,
    /// Bytes a second that were rebuilt lately, while any were; 0: not known.
    pub repair_rate: u64,
}

impl Moves {
    /// The intent for a shard.
    pub fn intent(&self, volume: VolumeId, member: u8) -> Option<&Intent> {
        let place = self
            .intents
            .binary_search_by_key(&(volume, member), |one| (one.volume, one.member));
        self.intents.get(place.ok()?)
    }

    /// Bytes of the last plan that were moved and rebuilt since.
    pub fn done_bytes(&self) -> u64 {
        let done = self.rebuilt_bytes.saturating_add(self.moved_bytes);
        done.saturating_sub(self.plan.done_before)
    }

    /// Bytes of the last plan that are still to be moved or rebuilt.
    pub fn backlog_bytes(&self) -> u64 {
        self.plan.bytes.saturating_sub(self.done_bytes())
    }

    /// The drives that are to be emptied.
    pub fn leaving(&self, topology: &Topology) -> BTreeSet<DriveId> {
        if self.drains.is_empty() {
            return BTreeSet::new();
        }
        let leaves = |drive: DriveId, enclosure| {
            self.drains.contains(&Subject::Drive(drive))
                || self.drains.contains(&Subject::Enclosure(enclosure))
        };
        let drives = topology.drives.values();
        drives
            .filter(|drive| leaves(drive.id, drive.enclosure))
            .map(|drive| drive.id)
            .collect()
    }
}

/// Whether a volume's members may move: its content is final (PROTOCOLS 12).
pub fn may_move(volume: &Volume) -> bool {
    volume.state == VolumeState::Sealed
}
