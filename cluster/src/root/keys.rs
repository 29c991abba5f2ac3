//! The keys of the root group's rows. Final format: what is written stays readable.
//!
//! Numbers are big endian; every key begins with its kind.

use enfilade_placement::{
    BlobId, BucketId, ChainId, DriveId, EnclosureId, PartitionId, RequestId, VolumeId,
};

use crate::api::command::GroupTime;
use crate::api::moves::Subject;
use crate::api::root::LedgerRange;
use crate::typed::{Span, starting_with};

/// The kinds of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing more: what there is one of.
    Head = 1,
    /// Nothing more: the group's time, and how far expiry has come.
    Clock = 2,
    /// `chain (4)`.
    Chain = 3,
    /// `enclosure (4)`.
    Enclosure = 4,
    /// `drive (16)`.
    Drive = 5,
    /// `volume (8)`: in any state.
    Volume = 6,
    /// `volume (8)`: it is open, suspended or sealing. No value.
    Live = 7,
    /// `bucket (8)`.
    Bucket = 8,
    /// The name's bytes: the bucket's id.
    BucketName = 9,
    /// `partition (4)`.
    Partition = 10,
    /// `volume (8), member (1), 0`: all of a shard; `volume (8), member (1), 1, blob (16),
    /// first stripe (4)`: stripes of a blob.
    Ledger = 11,
    /// `request (16)`: its result.
    Result = 12,
    /// `until (8), request (16)`: its result goes after that. No value.
    Expiry = 13,
    /// `volume (8), member (1)`: the intent for a shard.
    Intent = 14,
    /// `0, drive (16)` or `1, enclosure (4)`: it is to be emptied. No value.
    Drain = 15,
    /// `enclosure (4)`: until when its `out` is held off.
    Maintenance = 16,
    /// As `Drain`: it was removed for good. No value.
    Removed = 17,
    /// `group (4)`: the change of its replicas that is under way.
    Replicas = 18,
    /// `group (4), enclosure (4)`: a replica has left, by which change, and was not cleared yet.
    Leftover = 19,
    /// `enclosure (4)`: when it went out by itself last.
    Out = 20,
}

fn key(kind: Kind, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(kind as u8);
    key.extend_from_slice(rest);
    key
}

/// The row of a kind of which there is one.
pub(super) fn single(kind: Kind) -> Vec<u8> {
    key(kind, &[])
}

/// All rows of a kind.
pub(super) fn all(kind: Kind) -> Span {
    starting_with(key(kind, &[]))
}

pub(super) fn chain(id: ChainId) -> Vec<u8> {
    key(Kind::Chain, &id.get().to_be_bytes())
}

pub(super) fn enclosure(id: EnclosureId) -> Vec<u8> {
    key(Kind::Enclosure, &id.get().to_be_bytes())
}

pub(super) fn drive(id: DriveId) -> Vec<u8> {
    key(Kind::Drive, &id.to_bytes())
}

pub(super) fn volume(id: VolumeId) -> Vec<u8> {
    key(Kind::Volume, &id.get().to_be_bytes())
}

/// All volumes after one.
pub(super) fn volumes_after(id: VolumeId) -> Span {
    let (_, end) = all(Kind::Volume);
    let mut first = volume(id);
    first.push(0);
    (first, end)
}

pub(super) fn live(id: VolumeId) -> Vec<u8> {
    key(Kind::Live, &id.get().to_be_bytes())
}

/// The volume in a key of [`Kind::Live`].
pub(super) fn live_id(key: &[u8]) -> Option<VolumeId> {
    let id = key.get(1..)?.try_into().ok()?;
    Some(VolumeId::new(u64::from_be_bytes(id)))
}

pub(super) fn bucket(id: BucketId) -> Vec<u8> {
    key(Kind::Bucket, &id.get().to_be_bytes())
}

pub(super) fn bucket_name(name: &str) -> Vec<u8> {
    key(Kind::BucketName, name.as_bytes())
}

pub(super) fn partition(id: PartitionId) -> Vec<u8> {
    key(Kind::Partition, &id.get().to_be_bytes())
}

fn shard_bytes(volume: VolumeId, member: u8) -> Vec<u8> {
    let mut rest = volume.get().to_be_bytes().to_vec();
    rest.push(member);
    rest
}

/// A row of the ledger.
pub(super) fn ledger(volume: VolumeId, member: u8, what: &LedgerRange) -> Vec<u8> {
    let mut rest = shard_bytes(volume, member);
    match what {
        LedgerRange::Whole => rest.push(0),
        LedgerRange::Stripes { blob, first, .. } => {
            rest.push(1);
            rest.extend_from_slice(&BlobId::to_bytes(*blob));
            rest.extend_from_slice(&first.to_be_bytes());
        }
    }
    key(Kind::Ledger, &rest)
}

/// The ledger of a shard.
pub(super) fn ledger_of_shard(volume: VolumeId, member: u8) -> Span {
    starting_with(key(Kind::Ledger, &shard_bytes(volume, member)))
}

/// The ledger of a volume.
pub(super) fn ledger_of_volume(volume: VolumeId) -> Span {
    starting_with(key(Kind::Ledger, &volume.get().to_be_bytes()))
}

/// The intent for a shard.
pub(super) fn intent(volume: VolumeId, member: u8) -> Vec<u8> {
    key(Kind::Intent, &shard_bytes(volume, member))
}

/// The intents for the shards of a volume.
pub(super) fn intents_of_volume(volume: VolumeId) -> Span {
    starting_with(key(Kind::Intent, &volume.get().to_be_bytes()))
}

/// What is to be emptied.
pub(super) fn drain(subject: Subject) -> Vec<u8> {
    key(Kind::Drain, &subject_bytes(subject))
}

/// What was removed for good.
pub(super) fn removed(subject: Subject) -> Vec<u8> {
    key(Kind::Removed, &subject_bytes(subject))
}

/// Until when an enclosure's `out` is held off.
pub(super) fn maintenance(id: EnclosureId) -> Vec<u8> {
    key(Kind::Maintenance, &id.get().to_be_bytes())
}

/// When an enclosure went out by itself last.
pub(super) fn out(id: EnclosureId) -> Vec<u8> {
    key(Kind::Out, &id.get().to_be_bytes())
}

/// The enclosure in a key of [`Kind::Maintenance`] or [`Kind::Out`].
pub(super) fn enclosure_of(key: &[u8]) -> Option<EnclosureId> {
    let id = key.get(1..)?.try_into().ok()?;
    Some(EnclosureId::new(u32::from_be_bytes(id)))
}

fn subject_bytes(subject: Subject) -> Vec<u8> {
    let mut rest = Vec::with_capacity(17);
    match subject {
        Subject::Drive(id) => {
            rest.push(0);
            rest.extend_from_slice(&id.to_bytes());
        }
        Subject::Enclosure(id) => {
            rest.push(1);
            rest.extend_from_slice(&id.get().to_be_bytes());
        }
    }
    rest
}

/// What a key of [`Kind::Drain`] names.
pub(super) fn drained(key: &[u8]) -> Option<Subject> {
    let (kind, id) = key.get(1..)?.split_first()?;
    match kind {
        0 => Some(Subject::Drive(DriveId::from_bytes(id.try_into().ok()?))),
        1 => {
            let id = u32::from_be_bytes(id.try_into().ok()?);
            Some(Subject::Enclosure(EnclosureId::new(id)))
        }
        _ => None,
    }
}

/// The change of a group's replicas.
pub(super) fn replicas(group: PartitionId) -> Vec<u8> {
    key(Kind::Replicas, &group.get().to_be_bytes())
}

/// A replica that has left its group.
pub(super) fn leftover(group: PartitionId, enclosure: EnclosureId) -> Vec<u8> {
    let (group, enclosure) = (group.get().to_be_bytes(), enclosure.get().to_be_bytes());
    key(Kind::Leftover, &[group, enclosure].concat())
}

/// What a key of [`Kind::Leftover`] names.
pub(super) fn left_over(key: &[u8]) -> Option<(PartitionId, EnclosureId)> {
    let (group, enclosure) = key.get(1..)?.split_first_chunk::<4>()?;
    let group = PartitionId::new(u32::from_be_bytes(*group));
    let enclosure = u32::from_be_bytes(enclosure.try_into().ok()?);
    Some((group, EnclosureId::new(enclosure)))
}

pub(super) fn result(request: RequestId) -> Vec<u8> {
    key(Kind::Result, &request.to_bytes())
}

pub(super) fn expiry(until: GroupTime, request: RequestId) -> Vec<u8> {
    let mut rest = until.0.to_be_bytes().to_vec();
    rest.extend_from_slice(&request.to_bytes());
    key(Kind::Expiry, &rest)
}

/// The entries of results that go when the time is `now`, of those from `from` on.
pub(super) fn expired(from: GroupTime, now: GroupTime) -> Span {
    let first = key(Kind::Expiry, &from.0.to_be_bytes());
    (first, Some(key(Kind::Expiry, &now.0.to_be_bytes())))
}

/// The time and the request in a key of [`Kind::Expiry`].
pub(super) fn expiry_parts(entry: &[u8]) -> Option<(GroupTime, RequestId)> {
    let (until, request) = entry.get(1..)?.split_first_chunk::<8>()?;
    let request = RequestId::from_bytes(request.try_into().ok()?);
    Some((GroupTime(u64::from_be_bytes(*until)), request))
}
