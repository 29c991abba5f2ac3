//! What the admin API says, as JSON: the server writes it, commands read it, docs/cli.md explains
//! every name. Names stay; new ones may come.

pub(crate) mod extents;
mod moves;

use std::collections::BTreeMap;

use enfilade_cluster::api::root::EtagKind;
use enfilade_placement::DriveId;
use serde::{Deserialize, Serialize};

pub(crate) use self::moves::{
    Drain, Durability, Move, MoveAnswer, MoveAsk, Moves, Plan, PlanSide, Tuning,
};

/// `GET /admin/v1/status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Whether nothing is missing anywhere, as far as is known.
    pub(crate) healthy: bool,
    /// Why it is not healthy; empty when it is.
    pub(crate) reasons: Vec<String>,
    /// What an operator should know although it is healthy.
    pub(crate) warnings: Vec<String>,
    /// Whether the metadata service answered. When not, the rest is not known.
    pub(crate) metadata: bool,
    /// The cluster.
    pub(crate) cluster: String,
    /// Its incarnation.
    pub(crate) incarnation: u32,
    /// The erasure code of new volumes.
    pub(crate) profile: String,
    /// How many losses are survived.
    pub(crate) tolerance: Tolerance,
    /// Chains.
    pub(crate) chains: Vec<Chain>,
    /// Enclosures.
    pub(crate) enclosures: Vec<Enclosure>,
    /// Drives.
    pub(crate) drives: Drives,
    /// Volumes.
    pub(crate) volumes: Volumes,
    /// Fragments that are missing or corrupt.
    pub(crate) missing: Missing,
    /// How likely data is to last.
    pub(crate) durability: Durability,
    /// Raft groups.
    pub(crate) groups: Vec<Group>,
}

/// PROTOCOLS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tolerance {
    /// Fragments of a stripe that may be lost: m of the profile.
    pub(crate) m: usize,
    /// Replicas that every metadata group may lose.
    pub(crate) f: usize,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// Its id.
    pub(crate) id: u32,
    /// Whether it is a ring.
    pub(crate) closed: bool,
    /// Its enclosures, from the head.
    pub(crate) enclosures: Vec<u32>,
}

/// An enclosure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enclosure {
    /// Its id.
    pub(crate) id: u32,
    /// Its chain.
    pub(crate) chain: u32,
    /// Its place in the chain, from 0.
    pub(crate) position: u32,
    /// `up`, `suspect`, `down` or `out`, as the metadata service judges.
    pub(crate) state: String,
    /// Its drives.
    pub(crate) drives: usize,
    /// Those of them that are healthy.
    pub(crate) drives_healthy: usize,
    /// Bytes that they can hold.
    pub(crate) capacity: u64,
    /// Members of volumes on it.
    pub(crate) shards: usize,
    /// For how many more seconds its `out` is held off; none: it is not under maintenance.
    pub(crate) maintenance_seconds: Option<u64>,
    /// Whether it holds metadata replicas.
    pub(crate) meta: bool,
    /// Where its metrics and health are served.
    pub(crate) admin: String,
    /// Its process, when this admin API belongs to the process that started it.
    pub(crate) process: Option<Process>,
}

/// A process that `up` started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The enclosure.
    pub(crate) id: u32,
    /// Its pid; none while it does not run.
    pub(crate) pid: Option<u32>,
    /// `starting`, `running`, `stopped` or `exited`.
    pub(crate) state: String,
}

/// Drives, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Drives {
    /// All.
    pub(crate) total: usize,
    /// By condition: `healthy`, `slow`, `full`, `failing`, `gone`, `foreign`, `returned`; those
    /// that were given up do not count.
    pub(crate) by_state: BTreeMap<String, usize>,
    /// Those that cannot be read from: they or their enclosure have failed.
    pub(crate) absent: usize,
    /// Bytes that all can hold.
    pub(crate) capacity: u64,
    /// How far scrub is: on the drive that is furthest behind.
    pub(crate) scrub: Option<Scrub>,
}

/// How far the scrub of a drive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scrub {
    /// Within which everything is to be scrubbed, in seconds.
    pub(crate) period: u64,
    /// How long ago everything had been, in seconds that the drive was served; none: not yet, or
    /// there is nothing.
    pub(crate) complete: Option<u64>,
    /// For how long the shard was not scrubbed that was not for longest.
    pub(crate) oldest: u64,
    /// How much of what the drive holds is not due, in percent.
    pub(crate) percent: u8,
}

/// One of `GET /admin/v1/drives`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drive {
    /// Its UUID.
    pub(crate) id: String,
    /// The enclosure that it is attached to.
    pub(crate) enclosure: u32,
    /// Its slot there.
    pub(crate) slot: u32,
    /// `healthy`, `slow`, `full`, `failing`, `gone`, `foreign`, `returned`, `replaced`.
    pub(crate) state: String,
    /// Why it is not healthy, as its node says; empty when it is, or nobody says why.
    pub(crate) reason: String,
    /// Where another drive with the same UUID was found; empty when nowhere.
    pub(crate) twins: Vec<String>,
    /// Whether it can be read from: neither it nor its enclosure has failed.
    pub(crate) present: bool,
    /// Bytes that it can hold.
    pub(crate) capacity: u64,
    /// How often it was attached.
    pub(crate) generation: u64,
    /// Members of volumes on it.
    pub(crate) shards: usize,
    /// How far its scrub is; none while nobody says.
    pub(crate) scrub: Option<Scrub>,
}

/// `POST /admin/v1/drives/UUID/replace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplaceDrive {
    /// The drive that takes its slot.
    pub(crate) by: DriveId,
}

/// Volumes, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Volumes {
    /// All but retired ones.
    pub(crate) total: usize,
    /// By state: `open`, `suspended`, `sealing`, `sealed`, `retired`.
    pub(crate) by_state: BTreeMap<String, usize>,
    /// With all members.
    pub(crate) whole: usize,
    /// Without some, and able to lose more.
    pub(crate) degraded: usize,
    /// Readable, and able to lose no more.
    pub(crate) at_risk: usize,
    /// With fewer than k members.
    pub(crate) unreadable: usize,
    /// Spread less than the profile wants.
    pub(crate) violations: usize,
}

/// The ledger (PROTOCOLS 22).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// Shards that are missing as a whole: members of volumes that are vacant or absent.
    pub(crate) shards: usize,
    /// Bytes of those shards, at most.
    pub(crate) shard_bytes: u64,
    /// Further ranges of fragments that are known to be missing or corrupt.
    pub(crate) ranges: u64,
}

/// A Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its id; 0 is the root group.
    pub(crate) id: u32,
    /// The enclosure of the leader, as the newest term has it.
    pub(crate) leader: Option<u32>,
    /// The newest term.
    pub(crate) term: u64,
    /// The enclosures that vote.
    pub(crate) voters: Vec<u32>,
    /// Those that do not answer.
    pub(crate) silent: Vec<u32>,
    /// Those that learn, and do not vote yet.
    pub(crate) learners: Vec<u32>,
    /// The enclosures that it is to have replicas in, while they change; else none.
    pub(crate) moving_to: Vec<u32>,
    /// The first and the last key of its range, as `BUCKET/KEY`; empty where it has no end.
    pub(crate) range: (String, String),
    /// The version of its range.
    pub(crate) epoch: u64,
    /// What buckets hold in it: objects, and bytes of all that they hold.
    pub(crate) objects: i64,
    /// As above.
    pub(crate) bytes: i64,
    /// Replicas that it may lose when all are there.
    pub(crate) tolerates: usize,
    /// The replicas that answer.
    pub(crate) replicas: Vec<Replica>,
}

/// `POST /admin/v1/groups/ID/move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveReplica {
    /// The enclosure that has a replica.
    pub(crate) from: u32,
    /// The enclosure that is to have it.
    pub(crate) to: u32,
}

/// A group whose replicas are on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicasBegun {
    /// The group.
    pub(crate) group: u32,
    /// The enclosures that it is to have replicas in.
    pub(crate) to: Vec<u32>,
}

/// `POST /admin/v1/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetReplicas {
    /// How many replicas a group has at most; 0: as many as the erasure code asks for.
    pub(crate) most: u32,
}

/// A replica of a Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replica {
    /// Its enclosure.
    pub(crate) enclosure: u32,
    /// The enclosure of the leader, as far as it knows.
    pub(crate) leader: Option<u32>,
    /// Raft's term.
    pub(crate) term: u64,
    /// The last log entry that it applied.
    pub(crate) applied: u64,
}

/// One of `GET /admin/v1/volumes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Its id.
    pub(crate) id: u64,
    /// `open`, `suspended`, `sealing`, `sealed` or `retired`.
    pub(crate) state: String,
    /// Its erasure code.
    pub(crate) profile: String,
    /// Its epoch.
    pub(crate) epoch: u64,
    /// Bytes of its fullest shard when last reported.
    pub(crate) bytes: u64,
    /// Whether it is spread less than the profile wants.
    pub(crate) violation: bool,
    /// The indices of members that are vacant or absent.
    pub(crate) missing: Vec<usize>,
    /// Its members, in order.
    pub(crate) members: Vec<Option<Member>>,
}

/// A member of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The drive.
    pub(crate) drive: String,
    /// Its enclosure; none when the drive is not known.
    pub(crate) enclosure: Option<u32>,
}

/// One of `GET /admin/v1/ledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// The volume.
    pub(crate) volume: u64,
    /// The member.
    pub(crate) member: u8,
    /// The blob; none: the whole shard.
    pub(crate) blob: Option<String>,
    /// The first and the last stripe.
    pub(crate) stripes: Option<(u32, u32)>,
}

/// `POST /admin/v1/enclosures`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddEnclosure {
    /// How many drives.
    #[serde(default)]
    pub(crate) drives: Option<u32>,
    /// The chain.
    #[serde(default)]
    pub(crate) chain: Option<u32>,
}

/// `POST /admin/v1/enclosures/ID/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopEnclosure {
    /// By SIGKILL.
    #[serde(default)]
    pub(crate) kill: bool,
}

/// The answer to whatever acts on an enclosure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acted {
    /// The enclosure.
    pub(crate) id: u32,
    /// What it is now: `running`, `stopped`.
    pub(crate) state: String,
    /// Its process, if one runs.
    pub(crate) pid: Option<u32>,
}

/// `POST /admin/v1/buckets/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetBucket {
    /// What the ETags of new objects are.
    #[serde(with = "etag_kind")]
    pub(crate) etag: EtagKind,
}

/// The settings of a bucket, as they now are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketSet {
    /// The bucket.
    pub(crate) name: String,
    /// What the ETags of new objects are: `md5`, `fast`.
    #[serde(with = "etag_kind")]
    pub(crate) etag: EtagKind,
}

/// `GET /admin/v1/buckets/NAME/usage`: what a bucket holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketUsage {
    /// The bucket.
    pub(crate) name: String,
    /// Keys with an object.
    pub(crate) objects: i64,
    /// Bytes of those objects.
    pub(crate) bytes: i64,
    /// Older versions.
    pub(crate) older_versions: i64,
    /// Bytes of those.
    pub(crate) older_bytes: i64,
    /// Delete markers.
    pub(crate) delete_markers: i64,
    /// Open uploads.
    pub(crate) uploads: i64,
    /// Their parts.
    pub(crate) parts: i64,
    /// Bytes of those parts.
    pub(crate) part_bytes: i64,
}

/// Names in JSON, which are not those of the encoding in the metadata.
mod etag_kind {
    use enfilade_cluster::api::root::EtagKind;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(kind: &EtagKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match kind {
            EtagKind::Md5 => "md5",
            EtagKind::Fast => "fast",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<EtagKind, D::Error> {
        match String::deserialize(from)?.as_str() {
            "md5" => Ok(EtagKind::Md5),
            "fast" => Ok(EtagKind::Fast),
            other => Err(de::Error::unknown_variant(other, &["md5", "fast"])),
        }
    }
}

/// `GET /admin/v1/token`. A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenText {
    /// With this a node joins.
    pub(crate) token: String,
}

/// Any failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What went wrong, for people.
    pub(crate) error: String,
}

/// `POST /admin/v1/birth`: what a cluster begins with. Also the file of `enfilade cluster init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Birth {
    /// The erasure code of new volumes, `k+m`.
    pub(crate) profile: String,
    /// Bytes of a shard at which its volume is sealed.
    pub(crate) volume_target: u64,
    /// How many volumes are kept open.
    pub(crate) open_volumes: u32,
    /// The enclosures that hold the first metadata replicas.
    pub(crate) replicas: Vec<Founder>,
}

/// An enclosure that holds a first metadata replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Founder {
    /// Its id.
    pub(crate) id: u32,
    /// Where its metadata service is reached, `host:port`.
    pub(crate) meta: String,
}
