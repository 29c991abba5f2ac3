//! The command line: definitions, nothing else.

pub(crate) mod moves;
pub(crate) mod partition;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use enfilade_placement::units::ByteSize;
use enfilade_placement::{ChainId, DriveId, EnclosureId, Profile};

/// The folder of an embedded cluster, unless another is named.
pub(crate) const DATA_DEFAULT: &str = "./data";

/// A distributed, erasure-coded object store for DPU-JBOFs.
#[derive(Debug, Parser)]
#[command(name = "enfilade", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs an embedded cluster in the foreground; creates it in an empty folder.
    Up(UpArgs),
    /// Runs the process of one enclosure, with the roles that its configuration names.
    Node(NodeArgs),
    /// Creates clusters, and lets enclosures join them.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Prepares drives.
    #[command(subcommand)]
    Drive(DriveCommand),
    /// Shows how the cluster is.
    Status(AdminArgs),
    /// Lists, adds, starts and stops enclosures.
    #[command(subcommand)]
    Enclosure(EnclosureCommand),
    /// Shows volumes.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Shows moves and repairs; pauses, resumes and cancels moves.
    #[command(subcommand)]
    Rebalance(moves::RebalanceCommand),
    /// Says what a change of the cluster would move, and changes nothing.
    #[command(subcommand)]
    Plan(moves::PlanCommand),
    /// Shows or changes the figures that operators may set.
    #[command(subcommand)]
    Settings(moves::SettingsCommand),
    /// Shows metadata groups and where their replicas are; moves replicas.
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// Measures what this machine does.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Changes the settings of buckets.
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Explains how much memory and how many files a process may use.
    Memory(MemoryArgs),
}

/// Flags of `up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Folder of the cluster.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// How many enclosures a new cluster has [default: 6].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) enclosures: Option<u32>,
    /// How many drives each enclosure of a new cluster has [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) drives: Option<u32>,
    /// Over how many chains the enclosures of a new cluster are spread [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) chains: Option<u32>,
    /// Erasure code of a new cluster, data and parity fragments [default: 4+2].
    #[arg(long, value_name = "K+M")]
    pub(crate) profile: Option<Profile>,
    /// Bytes of a shard at which its volume is sealed, for a new cluster [default: 1 GiB].
    #[arg(long, value_name = "SIZE")]
    pub(crate) volume_target: Option<ByteSize>,
    /// Where S3 is served; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub(crate) s3: SocketAddr,
    /// Where metrics, health and the admin API are served; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    pub(crate) admin: SocketAddr,
    /// Host name under which buckets are also served as sub-domains (virtual-hosted style).
    #[arg(long, value_name = "HOST")]
    pub(crate) domain: Option<String>,
    /// Runs every enclosure in a process of its own.
    #[arg(long)]
    pub(crate) processes: bool,
}

/// Flags of `node`.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Configuration (TOML); ENFILADE_NODE_* override its entries.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Stops when standard input closes: for a process that another one supervises.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

/// Creates clusters, and lets enclosures join them.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Creates a cluster out of processes that run and wait to be born.
    Init(InitArgs),
    /// Prints the token with which a node joins. It is a secret.
    Token(AdminArgs),
}

/// Flags of `cluster init`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    /// Description of the cluster to be (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prepares drives.
#[derive(Debug, Subcommand)]
pub(crate) enum DriveCommand {
    /// Lists drives and how they are.
    List(AdminArgs),
    /// Formats an empty folder as a drive, and prints what to enter into the configuration.
    Add(DriveAddArgs),
    /// Empties a drive, so that it can be removed; what it held and cannot be read is rebuilt.
    Drain(moves::DrainDriveArgs),
    /// Gives a drive up at once: what it held is rebuilt from others, and nothing read from it.
    Fail(moves::FailDriveArgs),
    /// Takes a drive that holds nothing any more out of the cluster for good.
    Remove(moves::RemoveDriveArgs),
    /// Gives a drive up that failed, and formats an empty folder as the one that takes its slot.
    Replace(DriveReplaceArgs),
    /// Throws the index of a drive that nobody serves away, and builds a new one from its logs.
    RebuildIndex(RebuildIndexArgs),
}

/// Flags of `drive replace`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DriveReplaceArgs {
    /// The UUID of the drive that is given up.
    pub(crate) old: DriveId,
    /// The empty folder of the new one: on its node's shelf, or where the old one was.
    pub(crate) folder: PathBuf,
    /// The drive in that folder, whose content is thrown away.
    #[arg(long, value_name = "UUID")]
    pub(crate) wipe: Option<DriveId>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `drive rebuild-index`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RebuildIndexArgs {
    /// The drive's folder.
    pub(crate) folder: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `drive add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DriveAddArgs {
    /// Configuration of the node that will serve the drive.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The empty folder.
    pub(crate) folder: PathBuf,
    /// The drive in that folder, whose content is thrown away.
    #[arg(long, value_name = "UUID")]
    pub(crate) wipe: Option<DriveId>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lists, adds, starts and stops enclosures.
#[derive(Debug, Subcommand)]
pub(crate) enum EnclosureCommand {
    /// Lists enclosures and their processes.
    List(AdminArgs),
    /// Adds an enclosure to an embedded cluster that runs.
    Add(EnclosureAddArgs),
    /// Empties an enclosure, so that it can be removed.
    Drain(moves::DrainEnclosureArgs),
    /// Gives an enclosure up that is down: what it held is rebuilt elsewhere.
    Out(EnclosureOutArgs),
    /// Keeps an enclosure from being given up while somebody works on it.
    Maintenance(moves::MaintenanceArgs),
    /// Takes an enclosure that holds nothing any more out of the cluster for good.
    Remove(moves::RemoveEnclosureArgs),
    /// Starts the process of an enclosure again (`up --processes`).
    Start(EnclosureStartArgs),
    /// Stops the process of an enclosure (`up --processes`).
    Stop(EnclosureStopArgs),
}

/// Flags of `enclosure add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnclosureAddArgs {
    /// How many drives it has [default: as many as the cluster began with].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) drives: Option<u32>,
    /// The chain at whose end it is linked [default: the shortest].
    #[arg(long, value_name = "ID")]
    pub(crate) chain: Option<ChainId>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `enclosure start`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnclosureStartArgs {
    /// The enclosure.
    pub(crate) id: EnclosureId,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `enclosure out`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnclosureOutArgs {
    /// The enclosure.
    pub(crate) id: EnclosureId,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `enclosure stop`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnclosureStopArgs {
    /// The enclosure.
    pub(crate) id: EnclosureId,
    /// Kills it at once (SIGKILL) instead of asking it to end (SIGTERM).
    #[arg(long)]
    pub(crate) kill: bool,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Shows volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Lists all volumes.
    List(AdminArgs),
    /// Lists the fragments that are known to be missing or corrupt, but for shards that are missing
    /// as a whole: `volume list` has those.
    Ledger(AdminArgs),
}

/// Measures what this machine does.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The erasure codec, with every kernel that this CPU runs.
    Codec(BenchCodecArgs),
    /// The metadata service: puts, gets and listings of records.
    Meta(BenchMetaArgs),
    /// Digests: MD5 of 1 to 32 bodies with every kernel that this CPU runs, CRCs, SHA.
    Digest(BenchDigestArgs),
    /// The engine of a drive: appends, reads, and building its index anew.
    Drive(BenchDriveArgs),
    /// Small blobs in the full and in the shortened code.
    Small(BenchSmallArgs),
}

/// Flags of `bench small`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchSmallArgs {
    /// A folder on a drive; what is measured is done in a new one inside, and removed.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Erasure codes to measure, data and parity fragments.
    #[arg(long, value_name = "K+M", num_args = 1.., default_values = ["4+2", "8+3"])]
    pub(crate) profile: Vec<Profile>,
    /// Sizes of blobs, in KiB; at most a unit.
    #[arg(long, value_name = "KIB", num_args = 1..,
          default_values = ["4", "16", "24", "32", "48", "64"],
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) kib: Vec<u32>,
    /// Blobs of each size.
    #[arg(long, value_name = "N", default_value_t = 320,
          value_parser = clap::value_parser!(u32).range(16..=100_000))]
    pub(crate) blobs: u32,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `bench meta`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchMetaArgs {
    /// Replicas of the groups, all in this process.
    #[arg(long, value_name = "N", num_args = 1.., default_values_t = [1, 3])]
    pub(crate) replicas: Vec<u32>,
    /// Clients at a time.
    #[arg(long, value_name = "N", num_args = 1.., default_values_t = [1, 64, 512])]
    pub(crate) clients: Vec<usize>,
    /// Seconds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Lists large buckets instead.
    #[arg(long)]
    pub(crate) lists: bool,
    /// Has so many groups do nothing instead, with the most of the replicas.
    #[arg(long, value_name = "GROUPS", conflicts_with = "lists")]
    pub(crate) idle: Option<u32>,
    /// Keys of the largest bucket that is listed; a tenth are deleted in others.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub(crate) keys: u64,
    /// An empty folder, on the device that is to be measured; removed afterwards.
    #[arg(long, value_name = "DIR", default_value = "enfilade-bench-meta")]
    pub(crate) folder: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `bench digest`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchDigestArgs {
    /// Turns of each digest, of which the median is given.
    #[arg(long, value_name = "N", default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `bench drive`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchDriveArgs {
    /// A folder on the drive; what is measured is done in a new one inside, and removed.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Lets fio do the same in turns with the engine.
    #[arg(long)]
    pub(crate) fio: bool,
    /// Measures only this; more than one may be named.
    #[arg(long, value_name = "WHAT", num_args = 1..)]
    pub(crate) only: Vec<DriveWork>,
    /// Rounds, of which the median is given.
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// The most that a round moves, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub(crate) mib: u32,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `bench drive` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DriveWork {
    /// Appends by 1, 16 and 64 writers.
    Append,
    /// Reads, in order and at random.
    Read,
    /// Building the index from a log.
    Rebuild,
}

/// Flags of `bench codec`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchCodecArgs {
    /// Erasure codes to measure, data and parity fragments [default: 4+2 8+3 10+4 20+4].
    #[arg(long, value_name = "K+M", num_args = 1..)]
    pub(crate) profile: Vec<Profile>,
    /// Bytes of a fragment.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536,
          value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(crate) unit: u32,
    /// Turns of each kernel, of which the median is given.
    #[arg(long, value_name = "N", default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Changes the settings of buckets.
#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// Changes the settings of a bucket; what is in it stays as it is.
    Set(BucketSetArgs),
    /// Tells what a bucket holds: counts and bytes, exact.
    Du(BucketDuArgs),
    /// Lists where the blobs of a bucket are: their stripes, and the volumes that hold them.
    Extents(BucketExtentsArgs),
}

/// Flags of `bucket extents`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BucketExtentsArgs {
    /// The bucket [default: all, one after the other].
    pub(crate) name: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `bucket du`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BucketDuArgs {
    /// The bucket.
    pub(crate) name: String,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Flags of `bucket set`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BucketSetArgs {
    /// The bucket.
    pub(crate) name: String,
    /// What the ETags of new objects are: MD5 as in S3, or made of what is computed anyway.
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) etag: EtagArg,
    /// Where to ask.
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// What ETags are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EtagArg {
    /// MD5.
    Md5,
    /// CRC-64/NVME and length, marked by `-1` at the end.
    Fast,
}

/// Flags of `memory`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemoryArgs {
    /// Drives that the process serves.
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) drives: u32,
    /// Clients at a time.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) clients: u32,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where admin commands ask, and how they answer.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArgs {
    /// The admin API of any process of the cluster.
    #[arg(
        long,
        value_name = "URL",
        env = "ENFILADE_ADMIN",
        default_value = "http://127.0.0.1:9001"
    )]
    pub(crate) admin: String,
    /// Folder of an embedded cluster, whose credentials are used when ENFILADE_ROOT_USER and
    /// ENFILADE_ROOT_PASSWORD are not set.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// Prints JSON, with the names of docs/cli.md.
    #[arg(long)]
    pub(crate) json: bool,
}
