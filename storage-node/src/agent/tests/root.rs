//! A metadata service that says what a test wants it to, and remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use enfilade_cluster::api::command::{KeyOp, KeyReply, Outcome, Refusal, WriteRequest};
use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::garbage::{GarbageAck, GarbageEntry, GarbageQuery};
use enfilade_cluster::api::heartbeat::{DriveReport, Heartbeat, HeartbeatReply};
use enfilade_cluster::api::key::{ObjectKey, RowPrefix};
use enfilade_cluster::api::query::{
    BlobAt, Found, GroupStatus, ListPage, ListQuery, PartsPage, PartsQuery, UploadsPage,
    UploadsQuery, Usage, VersionsPage, VersionsQuery,
};
use enfilade_cluster::api::record::{Blob, VersionId};
use enfilade_cluster::api::root::{
    LedgerQuery, LedgerRow, Partition, RootCommand, RootOutcome, RootRefusal, RootReply, RootView,
};
use enfilade_cluster::api::{MetadataClient, Result};
use enfilade_placement::{
    BlobId, BucketId, Drive, DriveId, DriveState, Epoch, Generation, IntentId, PartitionId,
    RequestId, Stamp, Topology, Volume, VolumeId, VolumeState,
};
use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct FakeRoot {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    revision: u64,
    drives: BTreeMap<DriveId, Drive>,
    attached_by: BTreeMap<DriveId, RequestId>,
    volumes: BTreeMap<VolumeId, Volume>,
    hidden: BTreeSet<VolumeId>,
    asked: usize,
    beats: Vec<Heartbeat>,
    fenced: Vec<(u8, Epoch)>,
    garbage: Vec<GarbageEntry>,
    acks: Vec<GarbageAck>,
    answers: BTreeMap<BlobId, KeyReply>,
    condemns: Vec<BlobId>,
    refused_reports: u32,
    reported: Vec<LedgerRow>,
}

impl FakeRoot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state();
            change(&mut state);
            state.revision += 1;
        }
        self.changed.notify_waiters();
    }

    pub(super) fn set_volume(&self, volume: Volume) {
        self.change(|state| {
            state.volumes.insert(volume.id, volume);
        });
    }

    pub(super) fn hide_from_view(&self, volume: VolumeId) {
        self.change(|state| {
            state.hidden.insert(volume);
        });
    }

    pub(super) fn forget(&self, volume: VolumeId) {
        self.change(|state| {
            state.volumes.remove(&volume);
        });
    }

    pub(super) fn asked(&self) -> usize {
        self.state().asked
    }

    pub(super) fn generation(&self, drive: DriveId) -> Generation {
        self.drive(drive)
            .map_or_else(Default::default, |d| d.generation)
    }

    pub(super) fn drive(&self, drive: DriveId) -> Option<Drive> {
        self.state().drives.get(&drive).cloned()
    }

    /// Somebody attached a drive.
    pub(super) fn set_attached(&self, drive: DriveId, generation: Generation, by: RequestId) {
        self.change(|state| {
            let known = state.drives.get_mut(&drive).unwrap();
            known.generation = generation;
            state.attached_by.insert(drive, by);
        });
    }

    pub(super) fn set_state(&self, drive: DriveId, new: DriveState) {
        self.change(|state| state.drives.get_mut(&drive).unwrap().state = new);
    }

    pub(super) fn beats(&self) -> Vec<Heartbeat> {
        self.state().beats.clone()
    }

    pub(super) fn fenced(&self) -> Vec<(u8, Epoch)> {
        self.state().fenced.clone()
    }

    pub(super) fn add_garbage(&self, entries: Vec<GarbageEntry>) {
        self.state().garbage.extend(entries);
    }

    pub(super) fn garbage_left(&self) -> usize {
        self.state().garbage.len()
    }

    pub(super) fn acks(&self) -> Vec<GarbageAck> {
        self.state().acks.clone()
    }

    pub(super) fn answer_condemn(&self, blob: BlobId, reply: KeyReply) {
        self.state().answers.insert(blob, reply);
    }

    /// The blob is no orphan.
    pub(super) fn keep_referenced(&self, blob: BlobId) {
        let extent = enfilade_cluster::api::record::Extent {
            volume: VolumeId::new(5),
            first_stripe: 0,
            stripes: u32::MAX,
        };
        self.answer_condemn(blob, KeyReply::Referenced(vec![extent]));
    }

    pub(super) fn condemns(&self, blob: BlobId) -> usize {
        self.state()
            .condemns
            .iter()
            .filter(|asked| **asked == blob)
            .count()
    }

    pub(super) fn refuse_reports(&self, times: u32) {
        self.state().refused_reports = times;
    }

    pub(super) fn reported(&self) -> Vec<LedgerRow> {
        self.state().reported.clone()
    }

    fn view(&self) -> RootView {
        let state = self.state();
        let id = PartitionId::new(1);
        let partition = Partition {
            id,
            epoch: Epoch::FIRST,
            start: RowPrefix::default(),
            end: None,
            replicas: Vec::new(),
            change: IntentId::new(0),
        };
        let shown = |volume: &&Volume| {
            let sealed = matches!(volume.state, VolumeState::Sealed | VolumeState::Retired);
            !sealed && !state.hidden.contains(&volume.id)
        };
        let volumes = state.volumes.values().filter(shown);
        RootView {
            revision: state.revision,
            volumes: volumes.map(|volume| (volume.id, volume.clone())).collect(),
            partitions: BTreeMap::from([(id, partition)]),
            topology: Topology {
                drives: state.drives.clone(),
                ..Topology::default()
            },
            ..RootView::default()
        }
    }
}

fn unscripted<T>() -> Result<T> {
    Err(MetadataError::Invalid("not in the script".to_owned()))
}

#[async_trait]
impl MetadataClient for FakeRoot {
    async fn write(&self, request: WriteRequest) -> Result<Outcome> {
        let KeyOp::Condemn { blob } = request.op else {
            return unscripted();
        };
        let mut state = self.state();
        state.condemns.push(blob);
        Ok(state.answers.get(&blob).cloned().ok_or(Refusal::Expired))
    }

    async fn root(&self, request: RequestId, command: RootCommand) -> Result<RootOutcome> {
        let mut state = self.state();
        Ok(match command {
            RootCommand::AttachDrive {
                drive,
                generation,
                enclosure,
                slot,
                capacity,
            } => {
                let known = state.drives.get(&drive).map(|known| known.generation);
                let attached = known.unwrap_or_default();
                let again = state.attached_by.get(&drive) == Some(&request);
                if again && generation.next() == attached {
                    return Ok(Ok(RootReply::Attached(attached)));
                }
                if attached != generation {
                    return Ok(Err(RootRefusal::StaleGeneration {
                        drive,
                        attached,
                        offered: generation,
                    }));
                }
                let row = Drive {
                    id: drive,
                    enclosure,
                    slot,
                    capacity,
                    state: DriveState::Healthy,
                    generation: generation.next(),
                };
                state.drives.insert(drive, row);
                state.attached_by.insert(drive, request);
                state.revision += 1;
                self.changed.notify_waiters();
                Ok(RootReply::Attached(generation.next()))
            }
            RootCommand::VolumeFenced { member, epoch, .. } => {
                state.fenced.push((member, epoch));
                Ok(RootReply::Done)
            }
            RootCommand::ReportFaults(rows) => {
                if state.refused_reports > 0 {
                    state.refused_reports -= 1;
                    return Err(MetadataError::Unavailable("later".to_owned()));
                }
                state.reported.extend(rows);
                Ok(RootReply::Done)
            }
            _ => return unscripted(),
        })
    }

    async fn watch(&self, since: u64, wait: Duration) -> Result<RootView> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            let view = self.view();
            if view.revision > since {
                return Ok(view);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(view);
            }
        }
    }

    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<Volume>> {
        let mut state = self.state();
        state.asked += 1;
        Ok(ids
            .iter()
            .filter_map(|id| state.volumes.get(id).cloned())
            .collect())
    }

    async fn heartbeat(&self, beat: Heartbeat) -> Result<HeartbeatReply> {
        let mut state = self.state();
        state.beats.push(beat);
        Ok(HeartbeatReply {
            revision: state.revision,
        })
    }

    async fn garbage(&self, query: GarbageQuery) -> Result<Vec<GarbageEntry>> {
        let state = self.state();
        let asked = |entry: &&GarbageEntry| query.shards.contains(&(entry.volume, entry.member));
        Ok(state.garbage.iter().filter(asked).cloned().collect())
    }

    async fn ack_garbage(&self, _: PartitionId, acks: Vec<GarbageAck>) -> Result<()> {
        let mut state = self.state();
        for ack in acks {
            state.garbage.retain(|entry| {
                entry.sequence != ack.sequence || !ack.members.contains(&entry.member)
            });
            state.acks.push(ack);
        }
        Ok(())
    }

    async fn object(&self, _: &ObjectKey, _: Option<VersionId>) -> Result<Option<Found>> {
        unscripted()
    }

    async fn blobs(&self, _: &ObjectKey, _: Stamp, _: u64, _: usize) -> Result<Vec<BlobAt>> {
        unscripted()
    }

    async fn inline(&self, _: &ObjectKey, _: BlobId) -> Result<Option<Bytes>> {
        unscripted()
    }

    async fn blob(&self, _: &ObjectKey, _: BlobId) -> Result<Option<Blob>> {
        unscripted()
    }

    async fn list(&self, _: BucketId, _: ListQuery) -> Result<ListPage> {
        unscripted()
    }

    async fn versions(&self, _: BucketId, _: VersionsQuery) -> Result<VersionsPage> {
        unscripted()
    }

    async fn usage(&self, _: BucketId) -> Result<Usage> {
        unscripted()
    }

    async fn uploads(&self, _: BucketId, _: UploadsQuery) -> Result<UploadsPage> {
        unscripted()
    }

    async fn parts(&self, _: &ObjectKey, _: PartsQuery) -> Result<Option<PartsPage>> {
        unscripted()
    }

    async fn is_empty(&self, _: BucketId) -> Result<bool> {
        unscripted()
    }

    async fn all_volumes(&self, _: Option<VolumeId>, _: usize) -> Result<Vec<Volume>> {
        unscripted()
    }

    async fn ledger(&self, _: usize) -> Result<Vec<LedgerRow>> {
        unscripted()
    }

    async fn ledger_of(&self, _: LedgerQuery) -> Result<Vec<LedgerRow>> {
        unscripted()
    }

    async fn drive_reports(&self) -> Result<Vec<DriveReport>> {
        unscripted()
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>> {
        unscripted()
    }
}
