//! What the rows of the root group hold, and the state as a command sees and changes it.

use enfilade_placement::{
    ClusterId, Drive, DriveId, DriveState, Enclosure, EnclosureId, EnclosureState, Epoch,
    Incarnation, IntentId, Profile, RequestId, Volume, VolumeId, VolumeState,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::api::command::GroupTime;
use crate::api::encoding;
use crate::api::moves::{PlanNote, Subject};
use crate::api::root::{RootOutcome, RootRefusal, RootReply};
use crate::api::tuning::Tuning;
use crate::root::keys::{self, Kind};
use crate::rows::{Rows, RowsError, Table, Txn};
use crate::typed;

/// What there is one of. Final format, as the rows of all kinds are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Grows with every change.
    pub(super) revision: u64,
    /// The cluster.
    pub(super) cluster: ClusterId,
    /// Its incarnation.
    pub(super) incarnation: Incarnation,
    /// Nothing newer is proposed, sent or written (PROTOCOLS 10).
    pub(super) level: u32,
    /// The erasure code of new volumes.
    pub(super) profile: Profile,
    /// Bytes of a shard at which its volume is sealed.
    pub(super) volume_target: u64,
    /// How many volumes are kept open for each profile.
    pub(super) open_volumes: u32,
    /// The next ids.
    pub(super) next: NextIds,
    /// How many volumes are sealed.
    pub(super) sealed_volumes: u64,
    /// How many rows the ledger has.
    pub(super) ledger_rows: u64,
    /// Whether only repair goes on.
    pub(super) moves_paused: bool,
    /// Bytes that were rebuilt, and that were moved for other reasons.
    pub(super) rebuilt_bytes: u64,
    pub(super) moved_bytes: u64,
    /// What the last plan came to.
    pub(super) plan: PlanNote,
    /// How fast shards were made lately, for whatever reason, and to repair alone.
    pub(super) work: Pace,
    pub(super) repair: Pace,
    /// The figures that operators may set.
    pub(super) tuning: Tuning,
    /// The replicas of the root group, and the last change of them that was begun.
    pub(super) root_replicas: (Vec<EnclosureId>, IntentId),
    /// No group is to have more replicas; 0: as many as the profile asks for.
    pub(super) replicas_most: u32,
}

/// How fast something was lately, by the group's time while any of it was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Bytes that were done.
    bytes: u64,
    /// Milliseconds that it took.
    took_ms: u64,
    /// Up to when that was counted.
    counted: GroupTime,
}

impl Pace {
    /// After so much work what was before counts half.
    const MEMORY_MS: u64 = 30 * 60 * 1000;
    /// The group's time comes in steps of seconds: less says nothing.
    const KNOWN_MS: u64 = 5 * 1000;

    /// Something begins, and nothing was under way: the time before does not count.
    pub(super) const fn begin(&mut self, now: GroupTime) {
        self.counted = now;
    }

    /// Something is done.
    pub(super) const fn step(&mut self, now: GroupTime, bytes: u64) {
        self.took_ms += now.0.saturating_sub(self.counted.0);
        self.bytes = self.bytes.saturating_add(bytes);
        self.counted = now;
        if self.took_ms > Self::MEMORY_MS {
            self.took_ms /= 2;
            self.bytes /= 2;
        }
    }

    /// Bytes a second; 0: not known.
    pub(super) fn rate(&self) -> u64 {
        if self.took_ms < Self::KNOWN_MS {
            return 0;
        }
        let rate = u128::from(self.bytes) * 1000 / u128::from(self.took_ms);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// Ids that were never given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NextIds {
    pub(super) enclosure: u32,
    pub(super) volume: u64,
    pub(super) bucket: u64,
    pub(super) partition: u32,
    pub(super) intent: u64,
}

/// The group's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Clock {
    /// The time.
    pub(super) now: GroupTime,
    /// All results that were to go before this are gone.
    pub(super) expired: GroupTime,
}

/// A drive, and the request that attached it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DriveRow {
    /// The drive.
    pub(super) drive: Drive,
    /// A node that crashed before it wrote the new generation down asks again with this.
    pub(super) attached_by: RequestId,
    /// The drive that took its slot, when it was given up.
    pub(super) replaced_by: Option<DriveId>,
    /// It, or its enclosure, was given up: when it comes back, it is to be reconciled before it
    /// takes anything (PROTOCOLS 26).
    pub(super) given_up: bool,
}

/// The result of a request (PROTOCOLS 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredResult {
    /// When it goes.
    pub(super) until: GroupTime,
    /// What the first one came to.
    pub(super) outcome: RootOutcome,
}

/// Why a command ends without a reply.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is refused.
    Refused(RootRefusal),
    /// The replica must stop.
    Rows(RowsError),
}

impl From<RootRefusal> for Stop {
    fn from(refusal: RootRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RowsError> for Stop {
    fn from(error: RowsError) -> Self {
        Self::Rows(error)
    }
}

/// There is no such thing.
pub(super) fn not_found(what: String) -> Stop {
    RootRefusal::NotFound(what).into()
}

/// What there is one of; none before the cluster's birth.
pub(super) fn head(rows: &dyn Rows) -> Result<Option<Head>, RowsError> {
    typed::load(rows, Table::Root, &keys::single(Kind::Head))
}

/// The time.
pub(super) fn clock(rows: &dyn Rows) -> Result<Clock, RowsError> {
    let clock = typed::load(rows, Table::Root, &keys::single(Kind::Clock))?;
    Ok(clock.unwrap_or_default())
}

/// The root state, as a command sees and changes it.
pub(super) struct State<'t, 'a> {
    txn: &'t mut Txn<'a>,
    /// What there is one of; written by [`State::finish`].
    pub(super) head: Head,
    changed: bool,
}

impl<'t, 'a> State<'t, 'a> {
    pub(super) const fn new(txn: &'t mut Txn<'a>, head: Head) -> Self {
        Self {
            txn,
            head,
            changed: false,
        }
    }

    /// Whether only repair goes on from now.
    pub(super) fn pause_moves(&mut self, paused: bool) -> RootReply {
        self.changed |= self.head.moves_paused != paused;
        self.head.moves_paused = paused;
        RootReply::Done
    }

    /// Sets how many replicas a group has at most.
    pub(super) fn set_replicas_most(&mut self, most: u32) -> RootReply {
        self.changed |= self.head.replicas_most != most;
        self.head.replicas_most = most;
        RootReply::Done
    }

    /// Notes the replicas of the root group, and the last change of them.
    pub(super) fn set_root_replicas(&mut self, replicas: Vec<EnclosureId>, change: IntentId) {
        self.head.root_replicas = (replicas, change);
        self.changed = true;
    }

    /// Notes what a plan comes to.
    pub(super) fn note_plan(&mut self, note: PlanNote) -> RootReply {
        let done_before = self
            .head
            .rebuilt_bytes
            .saturating_add(self.head.moved_bytes);
        self.head.plan = PlanNote {
            done_before,
            ..note
        };
        self.changed = true;
        RootReply::Done
    }

    /// Sets the figures that operators may set.
    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.changed |= self.head.tuning != tuning;
        self.head.tuning = tuning;
    }

    /// Something was removed for good, and is not accepted again.
    pub(super) fn refuse_removed(&self, subject: Subject) -> Result<(), Stop> {
        if self
            .txn
            .get(Table::Root, &keys::removed(subject))?
            .is_none()
        {
            return Ok(());
        }
        let what = match subject {
            Subject::Drive(id) => format!("drive {id}"),
            Subject::Enclosure(id) => format!("enclosure {id}"),
        };
        Err(RootRefusal::Removed(what).into())
    }

    /// Raises the revision when anything changed.
    pub(super) fn finish(mut self) {
        if self.changed {
            self.head.revision += 1;
            typed::store(self.txn, Table::Root, keys::single(Kind::Head), &self.head);
        }
    }

    pub(super) const fn rows(&self) -> &Txn<'a> {
        self.txn
    }

    pub(super) fn load<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, RowsError> {
        typed::load(self.txn, Table::Root, key)
    }

    /// Writes a row. It is a change only when the row was another.
    pub(super) fn set<T: Serialize>(&mut self, key: Vec<u8>, value: &T) -> Result<(), RowsError> {
        self.set_bytes(key, encoding::encode(value))
    }

    /// Writes a row that has no value.
    pub(super) fn mark(&mut self, key: Vec<u8>) -> Result<(), RowsError> {
        self.set_bytes(key, Vec::new())
    }

    fn set_bytes(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), RowsError> {
        if self.txn.get(Table::Root, &key)?.as_ref() != Some(&value) {
            self.txn.put(Table::Root, key, value);
            self.changed = true;
        }
        Ok(())
    }

    /// Removes a row.
    pub(super) fn unset(&mut self, key: Vec<u8>) -> Result<(), RowsError> {
        if self.txn.get(Table::Root, &key)?.is_some() {
            self.txn.delete(Table::Root, key);
            self.changed = true;
        }
        Ok(())
    }

    pub(super) fn enclosure(&self, id: EnclosureId) -> Result<Enclosure, Stop> {
        let found = self.load(&keys::enclosure(id))?;
        found.ok_or_else(|| not_found(format!("enclosure: {id}")))
    }

    pub(super) fn drive(&self, id: DriveId) -> Result<DriveRow, Stop> {
        let found = self.load(&keys::drive(id))?;
        found.ok_or_else(|| not_found(format!("drive: {id}")))
    }

    /// Whether a drive may take the members of a new volume.
    pub(super) fn takes_volumes(&self, id: DriveId) -> Result<bool, RowsError> {
        let Some(row) = self.load::<DriveRow>(&keys::drive(id))? else {
            return Ok(false);
        };
        let enclosure = self.load::<Enclosure>(&keys::enclosure(row.drive.enclosure))?;
        let up = enclosure.is_some_and(|enclosure| enclosure.state == EnclosureState::Up);
        let fit = up && row.drive.state == DriveState::Healthy;
        Ok(fit && !self.is_drained(&row.drive)?)
    }

    /// Whether a drive is to be emptied.
    fn is_drained(&self, drive: &Drive) -> Result<bool, RowsError> {
        for subject in [
            Subject::Drive(drive.id),
            Subject::Enclosure(drive.enclosure),
        ] {
            if self.txn.get(Table::Root, &keys::drain(subject))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn volume(&self, id: VolumeId) -> Result<Volume, Stop> {
        let found = self.load(&keys::volume(id))?;
        found.ok_or_else(|| not_found(format!("volume: {id}")))
    }

    /// A volume, when its epoch is the one that the proposer knew.
    pub(super) fn volume_at(&self, id: VolumeId, epoch: Epoch) -> Result<Volume, Stop> {
        let volume = self.volume(id)?;
        if volume.epoch == epoch {
            Ok(volume)
        } else {
            Err(RootRefusal::StaleEpoch(volume).into())
        }
    }

    /// Writes a volume, and keeps the list of those that are live and the count of sealed ones.
    pub(super) fn set_volume(&mut self, volume: &Volume) -> Result<(), RowsError> {
        let key = keys::volume(volume.id);
        let old = self.load::<Volume>(&key)?.map(|old| old.state);
        self.set(key, volume)?;
        if old == Some(VolumeState::Sealed) {
            self.head.sealed_volumes -= 1;
        }
        if volume.state == VolumeState::Sealed {
            self.head.sealed_volumes += 1;
        }
        match volume.state {
            VolumeState::Open | VolumeState::Suspended | VolumeState::Sealing => {
                self.mark(keys::live(volume.id))
            }
            VolumeState::Sealed | VolumeState::Retired => self.unset(keys::live(volume.id)),
        }
    }
}
