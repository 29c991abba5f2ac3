//! What there is: chains, their enclosures, and the drives in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ChainId, DriveId, EnclosureId, Generation};

/// An ordered series of linked enclosures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its id.
    pub id: ChainId,
    /// Whether the tail is linked back, so that one cut strands nothing.
    pub closed: bool,
}

/// Whether an enclosure answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EnclosureState {
    /// It sends heartbeats.
    Up,
    /// Late: gets no new volumes.
    Suspect,
    /// Presumed dead.
    Down,
    /// Given up: its shards are to be rebuilt elsewhere.
    Out,
}

/// A JBOF: one DPU and its drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enclosure {
    /// Its id.
    pub id: EnclosureId,
    /// The chain that it is linked into.
    pub chain: ChainId,
    /// Its place in the chain: 0 is the head.
    pub position: u32,
    /// Whether it answers.
    pub state: EnclosureState,
    /// Where its shard service listens, `host:port`; empty in a cluster of one process.
    pub shard_address: String,
    /// Where its metadata service listens, `host:port`; empty when it holds no replicas.
    pub meta_address: String,
    /// Where its metrics and health are served, `host:port`; may be empty.
    pub admin_address: String,
}

/// The condition of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DriveState {
    /// Takes reads and writes.
    Healthy,
    /// Answers late: gets no new volumes.
    Slow,
    /// Over its fill limit: gets no new volumes.
    Full,
    /// Reported an I/O error or failed a sync (PROTOCOLS 25).
    Failing,
    /// Unplugged or unmounted.
    Gone,
    /// Came back after `out`: a read-only source until reconciled (PROTOCOLS 26).
    Returned,
    /// Another drive, one of another cluster, or a copy is where it should be (PROTOCOLS 26).
    Foreign,
    /// Given up by an operator: another drive took its place, its shards are to be rebuilt.
    Replaced,
}

impl DriveState {
    /// Whether a drive in this state can be read from.
    pub const fn is_served(self) -> bool {
        match self {
            Self::Healthy | Self::Slow | Self::Full | Self::Returned => true,
            Self::Failing | Self::Gone | Self::Foreign | Self::Replaced => false,
        }
    }
}

/// One drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// The UUID in its superblock.
    pub id: DriveId,
    /// The enclosure that it is attached to.
    pub enclosure: EnclosureId,
    /// Its slot in the enclosure, from 0.
    pub slot: u32,
    /// Bytes that it can hold.
    pub capacity: u64,
    /// Its condition.
    pub state: DriveState,
    /// How often it was attached (PROTOCOLS 26).
    pub generation: Generation,
}

/// Everything that is known to be there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Topology {
    /// All chains.
    pub chains: BTreeMap<ChainId, Chain>,
    /// All enclosures.
    pub enclosures: BTreeMap<EnclosureId, Enclosure>,
    /// All drives.
    pub drives: BTreeMap<DriveId, Drive>,
}

impl Topology {
    /// The enclosure that holds a drive.
    pub fn enclosure_of(&self, drive: DriveId) -> Option<&Enclosure> {
        self.enclosures.get(&self.drives.get(&drive)?.enclosure)
    }

    /// Whether a drive may take the members of a new volume: it is healthy, in an enclosure that
    /// is up.
    pub fn takes_volumes(&self, drive: DriveId) -> bool {
        let healthy = self
            .drives
            .get(&drive)
            .is_some_and(|d| d.state == DriveState::Healthy);
        healthy
            && self
                .enclosure_of(drive)
                .is_some_and(|e| e.state == EnclosureState::Up)
    }

    /// Whether a drive can be read from and written to as far as is known: neither it nor its
    /// enclosure has failed.
    pub fn is_present(&self, drive: DriveId) -> bool {
        let Some(state) = self.drives.get(&drive).map(|d| d.state) else {
            return false;
        };
        let answers =
            |e: &Enclosure| matches!(e.state, EnclosureState::Up | EnclosureState::Suspect);
        state.is_served() && self.enclosure_of(drive).is_some_and(answers)
    }
}
