//! The root group: its commands, and the view of its state that all processes watch.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use enfilade_placement::{
    BlobId, BucketId, ChainId, ClusterId, DriveId, DriveState, EnclosureId, EnclosureState, Epoch,
    Generation, Incarnation, IntentId, PartitionId, Profile, RequestId, Topology, Volume, VolumeId,
};
use serde::{Deserialize, Serialize};

use super::command::{GroupTime, Versioning};
use super::key::RowPrefix;
use super::moves::{Flip, Intent, MoveOrder, Moves, PlanNote, Subject};
use super::replicas::Replicas;
use super::tuning::Tuning;

/// A command in the log of the root group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootEnvelope {
    /// Names the request; repeats are answered with the first result for an hour (PROTOCOLS 2).
    pub request: RequestId,
    /// Refused when the group's time has passed this.
    pub deadline: GroupTime,
    /// The command.
    pub command: RootCommand,
}

/// A command of the root group. Each is applied atomically, or refused and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootCommand {
    /// The birth of a cluster (PROTOCOLS 10); refused when it has been born.
    Init(Birth),
    /// Enters an enclosure, at the end of its chain. Made again with the same request id, or by the
    /// same enclosure with new addresses, it answers the same id.
    JoinEnclosure {
        /// The id, when the enclosure has one already: a restart, or one of the first replicas,
        /// which have theirs from before the birth.
        id: Option<EnclosureId>,
        /// The chain; created when it is the first of it.
        chain: ChainId,
        /// Its addresses.
        addresses: Addresses,
    },
    /// Changes the state of an enclosure.
    SetEnclosure {
        /// The enclosure.
        id: EnclosureId,
        /// Its new state.
        state: EnclosureState,
    },
    /// Attaches a drive to an enclosure, by compare-and-set on its generation (PROTOCOLS 26): a new
    /// drive has generation 0. Made again with the request id that attached it last, however late,
    /// it answers the same generation.
    AttachDrive {
        /// The drive.
        drive: DriveId,
        /// The enclosure that has it.
        enclosure: EnclosureId,
        /// Its slot.
        slot: u32,
        /// Its capacity in bytes.
        capacity: u64,
        /// The generation in its superblock.
        generation: Generation,
    },
    /// Changes the state of a drive.
    SetDrive {
        /// The drive.
        drive: DriveId,
        /// Its new state.
        state: DriveState,
    },
    /// Opens a volume; its id is allocated in apply. Refused when a member's drive is not fit.
    OpenVolume {
        /// The erasure code.
        profile: Profile,
        /// The members.
        members: Vec<Option<DriveId>>,
        /// Whether they are spread less than the profile wants.
        violation: bool,
    },
    /// Takes an open volume out of service because a member was late (PROTOCOLS 14).
    SuspendVolume {
        /// The volume.
        volume: VolumeId,
        /// The epoch that the reporter knew.
        epoch: Epoch,
    },
    /// Puts a suspended volume back in service.
    ResumeVolume {
        /// The volume.
        volume: VolumeId,
        /// The epoch that the reporter knew.
        epoch: Epoch,
    },
    /// Begins to seal a volume: raises its epoch (PROTOCOLS 12).
    SealVolume {
        /// The volume.
        volume: VolumeId,
        /// The epoch that the proposer knew.
        epoch: Epoch,
    },
    /// A member has fenced a sealing volume, durably. The first one makes it sealed.
    VolumeFenced {
        /// The volume.
        volume: VolumeId,
        /// The epoch that the member now insists on.
        epoch: Epoch,
        /// The member.
        member: u8,
        /// Bytes of its shard.
        bytes: u64,
    },
    /// Removes a sealed volume that holds nothing referenced.
    RetireVolume {
        /// The volume.
        volume: VolumeId,
        /// The epoch that the proposer knew.
        epoch: Epoch,
    },
    /// Creates a bucket.
    CreateBucket {
        /// Its name.
        name: String,
        /// Who owns it: an access key.
        owner: String,
        /// Wall time of the gateway, in milliseconds of Unix time.
        created_ms: u64,
    },
    /// Begins to delete a bucket: `pending`, revision + 1 (PROTOCOLS 6).
    BeginDeleteBucket {
        /// Its name.
        name: String,
    },
    /// Ends what [`RootCommand::BeginDeleteBucket`] began: removes the bucket when it was found
    /// empty everywhere, else puts it back in service with revision + 1.
    EndDeleteBucket {
        /// The bucket.
        bucket: BucketId,
        /// The revision at which it was fenced.
        revision: u64,
        /// Whether it was empty.
        empty: bool,
    },
    /// Enters faults into the ledger (PROTOCOLS 22).
    ReportFaults(Vec<LedgerRow>),
    /// Removes ledger rows whose fragments were rebuilt, read back and verified.
    ///
    /// Only of members that are still on the drives of the node that says so: a shard that moved
    /// meanwhile is another's.
    CloseFaults {
        /// The rows.
        rows: Vec<LedgerRow>,
        /// The node's drives. None: the fragments are of blobs that are dead, whoever has them.
        drives: Vec<DriveId>,
    },
    /// Advances the group's time; proposed by the leader.
    Tick {
        /// Monotonic time since its last tick (or its election), in milliseconds.
        elapsed_ms: u64,
    },
    /// Replaces all rows of a shard by these: it is known now what it lacks.
    RefineFaults {
        /// The volume.
        volume: VolumeId,
        /// The member.
        member: u8,
        /// The drive that has it, as the node knows; when another has it, nothing is changed.
        drive: DriveId,
        /// What it lacks.
        ranges: Vec<LedgerRange>,
    },
    /// Changes what the ETags of a bucket's new objects are; answers the bucket.
    SetEtag {
        /// The bucket's name.
        name: String,
        /// What they are from now on.
        etag: EtagKind,
    },
    /// Gives a drive up: another one takes its slot, and its shards are to be rebuilt. Refused
    /// while the drive is in service.
    ReplaceDrive {
        /// The drive that is given up.
        old: DriveId,
        /// The one that takes its slot; it may not be attached yet.
        new: DriveId,
    },
    /// Begins to change how a bucket keeps versions: `pending`, revision + 1 (PROTOCOLS 6). Answers
    /// the bucket; one that keeps them so already stays as it is.
    SetVersioning {
        /// The bucket's name.
        name: String,
        /// How it is to keep them.
        versioning: Versioning,
    },
    /// Ends what [`RootCommand::SetVersioning`] began, when every partition that covers the bucket
    /// has committed the revision.
    EndSetVersioning {
        /// The bucket.
        bucket: BucketId,
        /// The revision.
        revision: u64,
    },
    /// Begins moves, as far as each is still fit: answers those that it began (PROTOCOLS 21).
    BeginMoves(Vec<MoveOrder>),
    /// Gives a member to the drive that an intent made its shard on, by compare-and-set on epoch
    /// and intent: the epoch is raised (PROTOCOLS 21).
    FlipMember(Flip),
    /// Ends intents whose members were flipped, and whose shards hold nothing dead any more.
    EndMoves(Vec<IntentId>),
    /// Ends intents without a flip; those that ended already are passed over.
    CancelMoves(Vec<IntentId>),
    /// Stops all moves but repair, or lets them go on.
    PauseMoves(bool),
    /// Notes what a plan comes to, before its moves.
    NotePlan(PlanNote),
    /// Enters something to be emptied, or takes it out again; then its intents are cancelled.
    Drain {
        /// What.
        subject: Subject,
        /// Whether it is to be emptied.
        on: bool,
    },
    /// A drive that came back after it was given up holds what it should: it counts again, and may
    /// be written to. Refused while one of its shards is in the ledger as a whole.
    ReconcileDrive {
        /// The drive.
        drive: DriveId,
        /// The generation under which it was looked through.
        generation: Generation,
    },
    /// Holds an enclosure's automatic `out` off for a while (PROTOCOLS 23).
    Maintain {
        /// The enclosure.
        id: EnclosureId,
        /// For so many milliseconds of the group's time from now, at most a week; 0 ends it.
        for_ms: u64,
    },
    /// Takes a drive, or an enclosure with its drives, out of the topology for good; refused while
    /// it has shards or metadata replicas. Its ids are never given or accepted again.
    Remove(Subject),
    /// Sets the figures that operators may set; refused when they cannot work together.
    Tune(Tuning),
    /// Begins to change the replicas of a group (PROTOCOLS 1), in the place of a change that is
    /// under way, if there is one.
    BeginReplicas {
        /// The group.
        group: PartitionId,
        /// The replicas that the proposer knew.
        from: Vec<EnclosureId>,
        /// Those that it is to have.
        to: Vec<EnclosureId>,
        /// The change that the proposer knew to be under way.
        replaces: Option<IntentId>,
    },
    /// The group has the replicas that a change asked for: committed, and no others learn.
    EndReplicas {
        /// The group.
        group: PartitionId,
        /// The change.
        change: IntentId,
    },
    /// A process has cleared what a replica held that left its group.
    ReplicaCleared {
        /// The group.
        group: PartitionId,
        /// The enclosure of the process.
        enclosure: EnclosureId,
        /// The change by which it left: of a later one this says nothing.
        change: IntentId,
    },
    /// Sets how many replicas a group has at most; 0: as many as the profile asks for.
    SetReplicas {
        /// How many.
        most: u32,
    },
    /// Changes the state of an enclosure that the leader judged by its silence; refused when it is
    /// another by now. When it goes out, that is noted for the brake (PROTOCOLS 23).
    JudgeEnclosure {
        /// The enclosure.
        id: EnclosureId,
        /// The state that it was judged from.
        from: EnclosureState,
        /// Its new state.
        to: EnclosureState,
    },
    /// Ends maintenance whose time is over; nothing when it was prolonged meanwhile.
    EndMaintenance {
        /// The enclosure.
        id: EnclosureId,
        /// Until when it was to last, as far as the proposer knew.
        until: GroupTime,
    },
}

/// What a cluster is born with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// Its id.
    pub cluster: ClusterId,
    /// Its erasure code for new volumes.
    pub profile: Profile,
    /// Bytes of a shard at which its volume is sealed.
    pub volume_target: u64,
    /// How many volumes are kept open for each profile.
    pub open_volumes: u32,
    /// The replicas of the first partition, and the enclosures that they are in.
    pub replicas: Vec<EnclosureId>,
}

/// Where an enclosure's services listen, each `host:port` or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Addresses {
    /// Fragments.
    pub shard: String,
    /// Metadata and Raft.
    pub meta: String,
    /// Metrics and health.
    pub admin: String,
}

/// What a root command came to.
pub type RootOutcome = Result<RootReply, RootRefusal>;

/// What a root command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootReply {
    /// Done.
    Done,
    /// The enclosure is entered.
    Enclosure(EnclosureId),
    /// The drive is attached, under this generation from now on.
    Attached(Generation),
    /// The volume, as it now is.
    Volume(Volume),
    /// The bucket, as it now is.
    Bucket(Bucket),
    /// The intents that were begun.
    Intents(Vec<Intent>),
}

/// Why the root state machine refused a command. Committed and final: it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RootRefusal {
    /// The cluster was born already.
    #[error("the cluster exists already: {0}")]
    Born(ClusterId),
    /// The cluster was not born yet.
    #[error("the cluster was not initialised")]
    NotBorn,
    /// The deadline has passed.
    #[error("the request's deadline has passed")]
    Expired,
    /// No such enclosure, drive, volume or bucket.
    #[error("there is no such {0}")]
    NotFound(String),
    /// The volume's epoch is another; the volume as it is.
    #[error("volume {} is at epoch {}", .0.id, .0.epoch)]
    StaleEpoch(Volume),
    /// The volume's state does not allow it.
    #[error("volume {} is {:?}", .0.id, .0.state)]
    WrongState(Volume),
    /// The drive is attached under another generation: a copy, or an older superblock.
    #[error("drive {drive} is attached with generation {attached}, not {offered}")]
    StaleGeneration {
        /// The drive.
        drive: DriveId,
        /// The generation that the root state holds.
        attached: Generation,
        /// The one offered.
        offered: Generation,
    },
    /// The members do not fit the profile or the topology.
    #[error("unfit members: {0}")]
    UnfitMembers(String),
    /// The bucket exists already.
    #[error("the bucket exists already")]
    BucketExists(Bucket),
    /// The bucket is not empty.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// The bucket is in the midst of another change, or its revision is another.
    #[error("the bucket is being changed")]
    BucketBusy,
    /// The drive works, and is not given up.
    #[error("drive {0} is in service: take it out first")]
    DriveInService(DriveId),
    /// The intent ended: by its flip, or it was cancelled.
    #[error("intent {0} has ended")]
    IntentEnded(IntentId),
    /// What the drive holds was not compared with the other members yet.
    #[error("drive {0} is not reconciled yet")]
    DriveInDoubt(DriveId),
    /// What is asked for cannot be done now; the reason.
    #[error("{0}")]
    Unfit(String),
    /// It was removed for good.
    #[error("{0} was removed from the cluster for good: add it anew, with another id")]
    Removed(String),
    /// The replicas cannot be those, or are no longer those that the proposer knew.
    #[error("unfit replicas: {0}")]
    UnfitReplicas(String),
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its id.
    pub id: BucketId,
    /// Its name.
    pub name: String,
    /// Who owns it: an access key.
    pub owner: String,
    /// When it was created, in milliseconds of Unix time.
    pub created_ms: u64,
    /// The version of its settings; commands carry it.
    pub revision: u64,
    /// How it keeps versions.
    pub versioning: Versioning,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What the ETags of its new objects are. Only gateways act on it, so that its change is no
    /// new revision.
    pub etag: EtagKind,
    /// How it is about to keep versions: not all partitions have heard of it yet.
    pub pending: Option<Versioning>,
}

/// What the ETag of a new object or part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EtagKind {
    /// MD5, as in S3.
    #[default]
    Md5,
    /// Made of what is computed anyway, and marked so that no client takes it for an MD5.
    Fast,
}

/// A contiguous range of keys, replicated by one Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its id, and its Raft group.
    pub id: PartitionId,
    /// The version of its range.
    pub epoch: Epoch,
    /// The first row key of its range; empty for the first partition.
    pub start: RowPrefix,
    /// The first row key after its range; none for the last partition.
    pub end: Option<RowPrefix>,
    /// Where its replicas are, but for a change that is under way; in order of their ids.
    pub replicas: Vec<EnclosureId>,
    /// The last change of them that was begun; 0: none.
    pub change: IntentId,
}

/// An entry of the ledger: fragments known to be missing or corrupt (PROTOCOLS 22).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The volume.
    pub volume: VolumeId,
    /// The member.
    pub member: u8,
    /// Which fragments.
    pub what: LedgerRange,
}

/// Which rows of the ledger a node asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerQuery {
    /// Its drives.
    pub drives: Vec<DriveId>,
    /// Only shards after this one, by volume and member.
    pub after: Option<(VolumeId, u8)>,
    /// No further shard is begun when there are so many rows.
    pub limit: u32,
}

/// Which fragments of a shard are missing or corrupt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LedgerRange {
    /// All.
    Whole,
    /// Of one blob, a run of stripes.
    Stripes {
        /// The blob.
        blob: BlobId,
        /// The first stripe.
        first: u32,
        /// The last stripe.
        last: u32,
    },
}

impl LedgerRange {
    /// The stripes of one blob.
    pub fn stripes(blob: BlobId, stripes: RangeInclusive<u32>) -> Self {
        Self::Stripes {
            blob,
            first: *stripes.start(),
            last: *stripes.end(),
        }
    }
}

/// What every process knows of the root state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RootView {
    /// Its revision: grows with every change. 0: nothing is known yet.
    pub revision: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Nothing newer than this level is proposed, sent or written (PROTOCOLS 10).
    pub level: u32,
    /// The group's time when the view was made.
    pub time: GroupTime,
    /// The profile of new volumes.
    pub profile: Option<Profile>,
    /// Bytes of a shard at which its volume is sealed.
    pub volume_target: u64,
    /// How many volumes are kept open for each profile.
    pub open_volumes: u32,
    /// Chains, enclosures, drives.
    pub topology: Topology,
    /// Volumes that are open, suspended or sealing.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Buckets by name.
    pub buckets: BTreeMap<String, Bucket>,
    /// Partitions by id; their ranges cover the key space without overlap.
    pub partitions: BTreeMap<PartitionId, Partition>,
    /// How many volumes are sealed.
    pub sealed_volumes: u64,
    /// How many ledger rows there are.
    pub ledger_rows: u64,
    /// Shards on their way to other drives.
    pub moves: Moves,
    /// Enclosures whose `out` is held off, and until when.
    pub maintenance: BTreeMap<EnclosureId, GroupTime>,
    /// The figures that operators may set.
    pub tuning: Tuning,
    /// Replicas of the groups.
    pub replicas: Replicas,
    /// When enclosures went out by themselves last, by the group's time (PROTOCOLS 23).
    pub outs: BTreeMap<EnclosureId, GroupTime>,
}

impl RootView {
    /// Whether an enclosure is under maintenance at the time of the view.
    pub fn is_maintained(&self, id: EnclosureId) -> bool {
        self.maintenance
            .get(&id)
            .is_some_and(|until| *until > self.time)
    }

    /// The partition that holds a row key.
    pub fn partition_of(&self, row: &[u8]) -> Option<&Partition> {
        self.partitions.values().find(|partition| {
            let ends_after = partition
                .end
                .as_ref()
                .is_none_or(|end| row < end.as_bytes());
            row >= partition.start.as_bytes() && ends_after
        })
    }
}
