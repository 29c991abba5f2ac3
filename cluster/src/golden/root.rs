//! Commands of the root group as its log holds them, results and the view.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_placement::{
    BucketId, ChainId, ClusterId, DriveId, DriveState, EnclosureId, EnclosureState, Epoch,
    Generation, IntentId, PartitionId, RequestId, Volume, VolumeId, VolumeState,
};

use crate::api::command::{GroupTime, Versioning};
use crate::api::key::RowPrefix;
use crate::api::moves::{Flip, Intent, MoveOrder, Moves, PlanNote, Reason, Stage, Subject};
use crate::api::replicas::{ReplicaChange, Replicas};
use crate::api::root::{
    Addresses, Birth, Bucket, EtagKind, LedgerRange, LedgerRow, Partition, RootCommand,
    RootEnvelope, RootOutcome, RootRefusal, RootReply, RootView,
};
use crate::api::tuning::Tuning;

use super::Lines;
use super::samples::{BLOB, profile};

const VOLUME: VolumeId = VolumeId::new(300);
const EPOCH: Epoch = Epoch::new(2);
const DRIVE: DriveId = DriveId::new(0xd1);
const INTENT: IntentId = IntentId::new(12);
const ENCLOSURE: EnclosureId = EnclosureId::new(6);

fn addresses() -> Addresses {
    Addresses {
        shard: "a:1".to_owned(),
        meta: "b:2".to_owned(),
        admin: "c:3".to_owned(),
    }
}

fn volume() -> Volume {
    Volume {
        id: VOLUME,
        profile: profile(),
        members: vec![
            Some(DRIVE),
            None,
            Some(DRIVE),
            Some(DRIVE),
            Some(DRIVE),
            Some(DRIVE),
        ],
        epoch: EPOCH,
        state: VolumeState::Sealing,
        bytes: 1 << 36,
        violation: true,
    }
}

fn bucket() -> Bucket {
    Bucket {
        id: BucketId::new(3),
        name: "name".to_owned(),
        owner: "owner".to_owned(),
        created_ms: 1_700_000_000_000,
        revision: 4,
        versioning: Versioning::Enabled,
        deleting: true,
        etag: EtagKind::Fast,
        pending: Some(Versioning::Suspended),
    }
}

fn faults() -> Vec<LedgerRow> {
    let row = |what| LedgerRow {
        volume: VOLUME,
        member: 5,
        what,
    };
    vec![
        row(LedgerRange::Whole),
        row(LedgerRange::stripes(BLOB, 7..=70_000)),
    ]
}

fn commands() -> Vec<RootCommand> {
    let (volume, epoch) = (VOLUME, EPOCH);
    vec![
        RootCommand::Init(Birth {
            cluster: ClusterId::new(0xc1),
            profile: profile(),
            volume_target: 1 << 36,
            open_volumes: 4,
            replicas: vec![EnclosureId::new(1), ENCLOSURE],
        }),
        RootCommand::JoinEnclosure {
            id: Some(ENCLOSURE),
            chain: ChainId::new(2),
            addresses: addresses(),
        },
        RootCommand::SetEnclosure {
            id: ENCLOSURE,
            state: EnclosureState::Out,
        },
        RootCommand::AttachDrive {
            drive: DRIVE,
            enclosure: ENCLOSURE,
            slot: 23,
            capacity: 1 << 44,
            generation: Generation::new(3),
        },
        RootCommand::SetDrive {
            drive: DRIVE,
            state: DriveState::Returned,
        },
        RootCommand::OpenVolume {
            profile: profile(),
            members: vec![Some(DRIVE), None],
            violation: true,
        },
        RootCommand::SuspendVolume { volume, epoch },
        RootCommand::ResumeVolume { volume, epoch },
        RootCommand::SealVolume { volume, epoch },
        RootCommand::VolumeFenced {
            volume,
            epoch,
            member: 5,
            bytes: 1 << 35,
        },
        RootCommand::RetireVolume { volume, epoch },
        RootCommand::CreateBucket {
            name: "name".to_owned(),
            owner: "owner".to_owned(),
            created_ms: 1,
        },
        RootCommand::BeginDeleteBucket {
            name: "name".to_owned(),
        },
        RootCommand::EndDeleteBucket {
            bucket: BucketId::new(3),
            revision: 4,
            empty: true,
        },
        RootCommand::ReportFaults(faults()),
        RootCommand::CloseFaults {
            rows: faults(),
            drives: vec![DRIVE],
        },
        RootCommand::Tick { elapsed_ms: 1000 },
    ]
}

/// Those that came later.
fn later_commands() -> Vec<RootCommand> {
    vec![
        RootCommand::RefineFaults {
            volume: VOLUME,
            member: 5,
            drive: DRIVE,
            ranges: vec![LedgerRange::stripes(BLOB, 1..=2)],
        },
        RootCommand::SetEtag {
            name: "name".to_owned(),
            etag: EtagKind::Fast,
        },
        RootCommand::ReplaceDrive {
            old: DRIVE,
            new: DriveId::new(0xd2),
        },
        RootCommand::SetVersioning {
            name: "name".to_owned(),
            versioning: Versioning::Suspended,
        },
        RootCommand::EndSetVersioning {
            bucket: BucketId::new(3),
            revision: 4,
        },
        RootCommand::BeginMoves(vec![MoveOrder {
            volume: VOLUME,
            member: 5,
            from: Some(DRIVE),
            to: DriveId::new(0xd2),
            reason: Reason::Spread,
        }]),
        RootCommand::FlipMember(Flip {
            intent: INTENT,
            volume: VOLUME,
            epoch: EPOCH,
            member: 5,
            bytes: 1 << 35,
            lacks: vec![LedgerRange::stripes(BLOB, 1..=2)],
        }),
        RootCommand::EndMoves(vec![INTENT]),
        RootCommand::CancelMoves(vec![INTENT]),
        RootCommand::PauseMoves(true),
        RootCommand::NotePlan(note()),
        RootCommand::Drain {
            subject: Subject::Enclosure(ENCLOSURE),
            on: true,
        },
        RootCommand::ReconcileDrive {
            drive: DRIVE,
            generation: Generation::new(4),
        },
        RootCommand::Maintain {
            id: ENCLOSURE,
            for_ms: 1_800_000,
        },
        RootCommand::Remove(Subject::Enclosure(ENCLOSURE)),
        RootCommand::Tune(Tuning::default()),
    ]
}

/// Those of replicas.
fn replica_commands() -> Vec<RootCommand> {
    vec![
        RootCommand::BeginReplicas {
            group: PartitionId::new(1),
            from: vec![EnclosureId::new(1)],
            to: vec![ENCLOSURE],
            replaces: Some(INTENT),
        },
        RootCommand::EndReplicas {
            group: PartitionId::ROOT,
            change: INTENT,
        },
        RootCommand::ReplicaCleared {
            group: PartitionId::new(1),
            enclosure: ENCLOSURE,
            change: INTENT,
        },
        RootCommand::SetReplicas { most: 3 },
        RootCommand::JudgeEnclosure {
            id: ENCLOSURE,
            from: EnclosureState::Down,
            to: EnclosureState::Out,
        },
        RootCommand::EndMaintenance {
            id: ENCLOSURE,
            until: GroupTime(600_000),
        },
    ]
}

fn replicas() -> Replicas {
    let change = ReplicaChange {
        id: INTENT,
        group: PartitionId::new(1),
        from: vec![EnclosureId::new(1)],
        to: vec![ENCLOSURE],
        touched: BTreeSet::from([EnclosureId::new(1), ENCLOSURE]),
    };
    Replicas {
        root: vec![ENCLOSURE],
        root_change: INTENT,
        changes: BTreeMap::from([(change.group, change)]),
        leftovers: BTreeMap::from([((PartitionId::ROOT, EnclosureId::new(1)), INTENT)]),
        most: 3,
    }
}

fn note() -> PlanNote {
    PlanNote {
        bytes: 1 << 40,
        bound_bytes: 1 << 39,
        unplaced: 1,
        unreadable: 2,
        done_before: 3,
    }
}

fn intent() -> Intent {
    Intent {
        id: INTENT,
        volume: VOLUME,
        member: 5,
        from: Some(DRIVE),
        to: DriveId::new(0xd2),
        reason: Reason::Drain,
        stage: Stage::Check,
    }
}

/// Fails to compile when a kind is added: it needs a sample above.
const fn command_name(command: &RootCommand) -> &'static str {
    match command {
        RootCommand::Init(_) => "init",
        RootCommand::JoinEnclosure { .. } => "join-enclosure",
        RootCommand::SetEnclosure { .. } => "set-enclosure",
        RootCommand::AttachDrive { .. } => "attach-drive",
        RootCommand::SetDrive { .. } => "set-drive",
        RootCommand::OpenVolume { .. } => "open-volume",
        RootCommand::SuspendVolume { .. } => "suspend-volume",
        RootCommand::ResumeVolume { .. } => "resume-volume",
        RootCommand::SealVolume { .. } => "seal-volume",
        RootCommand::VolumeFenced { .. } => "volume-fenced",
        RootCommand::RetireVolume { .. } => "retire-volume",
        RootCommand::CreateBucket { .. } => "create-bucket",
        RootCommand::BeginDeleteBucket { .. } => "begin-delete-bucket",
        RootCommand::EndDeleteBucket { .. } => "end-delete-bucket",
        RootCommand::ReportFaults(_) => "report-faults",
        RootCommand::CloseFaults { .. } => "close-faults",
        RootCommand::Tick { .. } => "tick",
        RootCommand::RefineFaults { .. } => "refine-faults",
        RootCommand::SetEtag { .. } => "set-etag",
        RootCommand::ReplaceDrive { .. } => "replace-drive",
        RootCommand::SetVersioning { .. } => "set-versioning",
        RootCommand::EndSetVersioning { .. } => "end-set-versioning",
        RootCommand::BeginMoves(_) => "begin-moves",
        RootCommand::FlipMember(_) => "flip-member",
        RootCommand::EndMoves(_) => "end-moves",
        RootCommand::CancelMoves(_) => "cancel-moves",
        RootCommand::PauseMoves(_) => "pause-moves",
        RootCommand::NotePlan(_) => "note-plan",
        RootCommand::Drain { .. } => "drain",
        RootCommand::ReconcileDrive { .. } => "reconcile-drive",
        RootCommand::Maintain { .. } => "maintain",
        RootCommand::Remove(_) => "remove",
        RootCommand::Tune(_) => "tune",
        RootCommand::BeginReplicas { .. } => "begin-replicas",
        RootCommand::EndReplicas { .. } => "end-replicas",
        RootCommand::ReplicaCleared { .. } => "replica-cleared",
        RootCommand::SetReplicas { .. } => "set-replicas",
        RootCommand::JudgeEnclosure { .. } => "judge-enclosure",
        RootCommand::EndMaintenance { .. } => "end-maintenance",
    }
}

const fn reply_name(reply: &RootReply) -> &'static str {
    match reply {
        RootReply::Done => "done",
        RootReply::Enclosure(_) => "enclosure",
        RootReply::Attached(_) => "attached",
        RootReply::Volume(_) => "volume",
        RootReply::Bucket(_) => "bucket",
        RootReply::Intents(_) => "intents",
    }
}

const fn refusal_name(refusal: &RootRefusal) -> &'static str {
    match refusal {
        RootRefusal::Born(_) => "born",
        RootRefusal::NotBorn => "not-born",
        RootRefusal::Expired => "expired",
        RootRefusal::NotFound(_) => "not-found",
        RootRefusal::StaleEpoch(_) => "stale-epoch",
        RootRefusal::WrongState(_) => "wrong-state",
        RootRefusal::StaleGeneration { .. } => "stale-generation",
        RootRefusal::UnfitMembers(_) => "unfit-members",
        RootRefusal::BucketExists(_) => "bucket-exists",
        RootRefusal::BucketNotEmpty => "bucket-not-empty",
        RootRefusal::BucketBusy => "bucket-busy",
        RootRefusal::DriveInService(_) => "drive-in-service",
        RootRefusal::IntentEnded(_) => "intent-ended",
        RootRefusal::DriveInDoubt(_) => "drive-in-doubt",
        RootRefusal::Unfit(_) => "unfit",
        RootRefusal::Removed(_) => "removed",
        RootRefusal::UnfitReplicas(_) => "unfit-replicas",
    }
}

#[test]
fn commands_of_the_root_group_are_kept_as_they_were() {
    let mut lines = Lines::default();
    for command in commands()
        .into_iter()
        .chain(later_commands())
        .chain(replica_commands())
    {
        let name = command_name(&command);
        let envelope = RootEnvelope {
            request: RequestId::new(9),
            deadline: GroupTime(600_000),
            command,
        };
        lines.add(name, &envelope);
    }
    lines.compare("root-commands.txt");
}

#[test]
fn results_of_the_root_group_are_kept_as_they_were() {
    let mut lines = Lines::default();
    let generation = Generation::new(3);
    for reply in [
        RootReply::Done,
        RootReply::Enclosure(ENCLOSURE),
        RootReply::Attached(generation),
        RootReply::Volume(volume()),
        RootReply::Bucket(bucket()),
        RootReply::Intents(vec![intent()]),
    ] {
        let name = reply_name(&reply);
        let outcome: RootOutcome = Ok(reply);
        lines.add(name, &outcome);
    }
    for refusal in [
        RootRefusal::Born(ClusterId::new(1)),
        RootRefusal::NotBorn,
        RootRefusal::Expired,
        RootRefusal::NotFound("bucket".to_owned()),
        RootRefusal::StaleEpoch(volume()),
        RootRefusal::WrongState(volume()),
        RootRefusal::StaleGeneration {
            drive: DRIVE,
            attached: generation,
            offered: Generation::new(1),
        },
        RootRefusal::UnfitMembers("why".to_owned()),
        RootRefusal::BucketExists(bucket()),
        RootRefusal::BucketNotEmpty,
        RootRefusal::BucketBusy,
        RootRefusal::DriveInService(DRIVE),
        RootRefusal::IntentEnded(INTENT),
        RootRefusal::DriveInDoubt(DRIVE),
        RootRefusal::Unfit("why".to_owned()),
        RootRefusal::Removed("drive".to_owned()),
        RootRefusal::UnfitReplicas("why".to_owned()),
    ] {
        let name = refusal_name(&refusal);
        let outcome: RootOutcome = Err(refusal);
        lines.add(name, &outcome);
    }
    lines.compare("root-outcomes.txt");
}

#[test]
fn states_and_views_are_kept_as_they_were() {
    let mut lines = Lines::default();
    lines.add(
        "volume-states",
        &[
            VolumeState::Open,
            VolumeState::Suspended,
            VolumeState::Sealing,
            VolumeState::Sealed,
            VolumeState::Retired,
        ],
    );
    lines.add(
        "enclosure-states",
        &[
            EnclosureState::Up,
            EnclosureState::Suspect,
            EnclosureState::Down,
            EnclosureState::Out,
        ],
    );
    lines.add(
        "drive-states",
        &[
            DriveState::Healthy,
            DriveState::Slow,
            DriveState::Full,
            DriveState::Failing,
            DriveState::Gone,
            DriveState::Returned,
            DriveState::Foreign,
            DriveState::Replaced,
        ],
    );
    let partition = Partition {
        id: PartitionId::new(1),
        epoch: Epoch::new(3),
        start: RowPrefix::of_bucket(BucketId::new(3)),
        end: Some(RowPrefix::of_keys_from(BucketId::new(3), "m")),
        replicas: vec![ENCLOSURE],
        change: INTENT,
    };
    lines.add("partition", &partition);
    let view = RootView {
        revision: 300,
        cluster: ClusterId::new(0xc1),
        profile: Some(profile()),
        volumes: BTreeMap::from([(VOLUME, volume())]),
        buckets: BTreeMap::from([("name".to_owned(), bucket())]),
        partitions: BTreeMap::from([(partition.id, partition)]),
        sealed_volumes: 2,
        ledger_rows: 1,
        moves: Moves {
            intents: vec![intent()],
            drains: BTreeSet::from([Subject::Drive(DRIVE), Subject::Enclosure(ENCLOSURE)]),
            paused: true,
            rebuilt_bytes: 1 << 40,
            moved_bytes: 1 << 41,
            plan: note(),
            rate: 1 << 30,
            repair_rate: 1 << 29,
        },
        maintenance: BTreeMap::from([(ENCLOSURE, GroupTime(600_000))]),
        replicas: replicas(),
        outs: BTreeMap::from([(ENCLOSURE, GroupTime(300_000))]),
        ..RootView::default()
    };
    lines.add("view", &view);
    lines.compare("root-states.txt");
}
