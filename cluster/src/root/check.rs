//! What holds of the root state after every command: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_placement::{
    BucketId, Chain, ChainId, DriveId, Enclosure, EnclosureId, Epoch, PartitionId, Volume,
    VolumeId, VolumeState,
};
use serde::de::DeserializeOwned;

use crate::api::moves::{Intent, Stage, may_move};
use crate::api::replicas::ReplicaChange;
use crate::api::root::{Bucket, LedgerRange, LedgerRow, Partition};
use crate::root::apply::ledger::SHARD_ROWS_MAX;
use crate::root::keys::{self, Kind};
use crate::root::read;
use crate::root::state::{self, DriveRow, Head, StoredResult};
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

/// What is wrong with the root state: nothing, unless there is a defect.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn check(rows: &dyn Rows) -> Result<Vec<String>, RowsError> {
    let Some(head) = state::head(rows)? else {
        return Ok(Vec::new());
    };
    let wrong = Vec::new();
    let mut check = Check { rows, head, wrong };
    check.topology()?;
    check.volumes()?;
    check.buckets()?;
    check.partitions()?;
    check.ledger()?;
    check.intents()?;
    check.replicas()?;
    check.results()?;
    Ok(check.wrong)
}

struct Check<'r> {
    rows: &'r dyn Rows,
    head: Head,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    /// All rows of a kind; their keys must be those that their values call for.
    fn all<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        key_of: impl Fn(&T) -> Vec<u8>,
    ) -> Result<Vec<T>, RowsError> {
        let rows = typed::collect::<T>(self.rows, Table::Root, &keys::all(kind), usize::MAX)?;
        let mut values = Vec::new();
        for (key, value) in rows {
            let right = key_of(&value) == key;
            self.expect(right, || {
                format!("{kind:?}: wrong key {}", hex::encode(&key))
            });
            values.push(value);
        }
        Ok(values)
    }

    fn topology(&mut self) -> Result<(), RowsError> {
        let chains = self.all(Kind::Chain, |chain: &Chain| keys::chain(chain.id))?;
        let chains: BTreeSet<ChainId> = chains.iter().map(|chain| chain.id).collect();
        let enclosures = self.all(Kind::Enclosure, |one: &Enclosure| keys::enclosure(one.id))?;
        let mut places = BTreeSet::new();
        for enclosure in &enclosures {
            let id = enclosure.id;
            let known = chains.contains(&enclosure.chain);
            self.expect(known, || format!("enclosure {id}: no chain"));
            let free = places.insert((enclosure.chain, enclosure.position));
            self.expect(free, || format!("enclosure {id}: its position is taken"));
            let given = (1..self.head.next.enclosure).contains(&id.get());
            self.expect(given, || format!("enclosure {id}: the id was not given"));
        }
        let enclosures: BTreeSet<EnclosureId> = enclosures.iter().map(|one| one.id).collect();
        let outs = read::view(self.rows)?.outs;
        let known = outs.keys().all(|id| enclosures.contains(id));
        self.expect(known, || format!("out are {outs:?}"));
        let drives = self.all(Kind::Drive, |row: &DriveRow| keys::drive(row.drive.id))?;
        for DriveRow { drive, .. } in drives {
            let sound = enclosures.contains(&drive.enclosure) && drive.generation.get() > 0;
            self.expect(sound, || format!("drive {}: {drive:?}", drive.id));
        }
        Ok(())
    }

    fn volumes(&mut self) -> Result<(), RowsError> {
        let mut live = Vec::new();
        let mut sealed = 0;
        for volume in self.all(Kind::Volume, |volume: &Volume| keys::volume(volume.id))? {
            let id = volume.id;
            let drives: BTreeSet<DriveId> = volume.present().map(|(_, drive)| drive).collect();
            let mut known = volume.members.len() == volume.profile.width()
                && drives.len() == volume.present().count()
                && drives.len() >= volume.profile.ack_floor();
            // A drive may be removed that only volumes were on that are no more.
            for drive in drives
                .into_iter()
                .filter(|_| volume.state != VolumeState::Retired)
            {
                known &= self.rows.get(Table::Root, &keys::drive(drive))?.is_some();
            }
            self.expect(known, || {
                format!("volume {id}: members {:?}", volume.members)
            });
            let given = (1..self.head.next.volume).contains(&id.get());
            self.expect(given, || format!("volume {id}: the id was not given"));
            let first = volume.epoch == Epoch::FIRST;
            let fresh = match volume.state {
                VolumeState::Open | VolumeState::Suspended => {
                    live.push(id);
                    true
                }
                VolumeState::Sealing => {
                    live.push(id);
                    false
                }
                VolumeState::Sealed => {
                    sealed += 1;
                    false
                }
                VolumeState::Retired => false,
            };
            self.expect(fresh || !first, || format!("volume {id}: {volume:?}"));
        }
        let counted = self.head.sealed_volumes;
        self.expect(sealed == counted, || {
            format!("{sealed} volumes are sealed, counted {counted}")
        });
        let listed: Vec<VolumeId> = read::live(self.rows)?;
        self.expect(listed == live, || {
            format!("live are {live:?}, listed {listed:?}")
        });
        Ok(())
    }

    fn buckets(&mut self) -> Result<(), RowsError> {
        let buckets = self.all(Kind::Bucket, |bucket: &Bucket| keys::bucket(bucket.id))?;
        let span = keys::all(Kind::BucketName);
        let names = typed::collect::<BucketId>(self.rows, Table::Root, &span, usize::MAX)?;
        let named: BTreeMap<Vec<u8>, BucketId> = names.into_iter().collect();
        let by_name = |bucket: &Bucket| (keys::bucket_name(&bucket.name), bucket.id);
        let right: BTreeMap<Vec<u8>, BucketId> = buckets.iter().map(by_name).collect();
        let same = named == right && right.len() == buckets.len();
        self.expect(same, || format!("names {named:?} of {buckets:?}"));
        for bucket in buckets {
            let sound =
                bucket.revision > 0 && (1..self.head.next.bucket).contains(&bucket.id.get());
            let sound = sound && !(bucket.deleting && bucket.pending.is_some());
            self.expect(sound, || format!("{bucket:?}"));
        }
        Ok(())
    }

    /// Ranges cover the key space without overlap.
    fn partitions(&mut self) -> Result<(), RowsError> {
        let key = |partition: &Partition| keys::partition(partition.id);
        let mut partitions = self.all(Kind::Partition, key)?;
        partitions.sort_by(|a, b| a.start.cmp(&b.start));
        let first = partitions
            .first()
            .is_some_and(|first| first.start.as_bytes().is_empty());
        let last = partitions.last().is_some_and(|last| last.end.is_none());
        let joined = partitions
            .windows(2)
            .all(|pair| pair[0].end.as_ref() == Some(&pair[1].start));
        self.expect(first && last && joined, || format!("{partitions:?}"));
        let next = self.head.next.partition;
        let given = partitions
            .iter()
            .all(|one| (1..next).contains(&one.id.get()));
        self.expect(given, || format!("ids of {partitions:?}, next {next}"));
        Ok(())
    }

    fn ledger(&mut self) -> Result<(), RowsError> {
        let key = |row: &LedgerRow| keys::ledger(row.volume, row.member, &row.what);
        let rows = self.all(Kind::Ledger, key)?;
        let (there, counted) = (rows.len() as u64, self.head.ledger_rows);
        self.expect(there == counted, || {
            format!("{there} ledger rows, counted {counted}")
        });
        let mut shards: BTreeMap<(VolumeId, u8), Vec<LedgerRange>> = BTreeMap::new();
        for row in rows {
            shards
                .entry((row.volume, row.member))
                .or_default()
                .push(row.what);
        }
        for ((id, member), ranges) in shards {
            let volume = read::volumes(self.rows, &[id])?.pop();
            let holds = volume.is_some_and(|volume| {
                volume.state != VolumeState::Retired && usize::from(member) < volume.members.len()
            });
            self.expect(holds, || format!("ledger of volume {id}, member {member}"));
            let whole = ranges.contains(&LedgerRange::Whole);
            let few = ranges.len() <= if whole { 1 } else { SHARD_ROWS_MAX };
            self.expect(few, || {
                format!("{} ledger rows of volume {id}", ranges.len())
            });
            let apart = ranges.windows(2).all(|pair| match (&pair[0], &pair[1]) {
                (
                    LedgerRange::Stripes { blob, last, .. },
                    LedgerRange::Stripes {
                        blob: next, first, ..
                    },
                ) => blob != next || last.checked_add(1).is_some_and(|last| last < *first),
                _ => false,
            });
            let filled = ranges.iter().all(|range| match range {
                LedgerRange::Whole => true,
                LedgerRange::Stripes { first, last, .. } => first <= last,
            });
            self.expect(apart && filled, || {
                format!("ledger of volume {id}: {ranges:?}")
            });
        }
        Ok(())
    }

    /// Every intent is for a member of a sealed volume that is where it was when it began, or where
    /// it was to go, and no drive gets two members of one volume.
    fn intents(&mut self) -> Result<(), RowsError> {
        let key = |one: &Intent| keys::intent(one.volume, one.member);
        let mut targets = BTreeSet::new();
        for one in self.all(Kind::Intent, key)? {
            let volume = read::volumes(self.rows, &[one.volume])?.pop();
            let sound = volume.is_some_and(|volume| {
                let member = volume.members.get(usize::from(one.member));
                let place = match one.stage {
                    Stage::Make => member == Some(&one.from) && volume.member_of(one.to).is_none(),
                    Stage::Check => member == Some(&Some(one.to)),
                };
                may_move(&volume) && place
            });
            let new = targets.insert((one.volume, one.to));
            let given = (1..self.head.next.intent).contains(&one.id.get());
            self.expect(sound && new && given, || format!("{one:?}"));
        }
        Ok(())
    }

    /// A change is the last of its group, and asks for nothing where something is left over.
    fn replicas(&mut self) -> Result<(), RowsError> {
        let view = read::view(self.rows)?;
        let key = |change: &ReplicaChange| keys::replicas(change.group);
        for change in self.all(Kind::Replicas, key)? {
            let last = match change.group {
                PartitionId::ROOT => Some(view.replicas.root_change),
                group => view.partitions.get(&group).map(|one| one.change),
            };
            let given = (1..self.head.next.intent).contains(&change.id.get());
            let from = change.from == view.replicas_of(change.group);
            let sound = given && from && last == Some(change.id);
            self.expect(sound, || format!("{change:?}, the last is {last:?}"));
        }
        for group in view.groups() {
            let (placed, _) = view.placed(group);
            let left = |id: &EnclosureId| view.replicas.leftovers.contains_key(&(group, *id));
            let clear = !placed.iter().chain(view.replicas_of(group)).any(left);
            self.expect(clear && placed.is_sorted(), || {
                format!("group {group}: {placed:?}, {:?}", view.replicas.leftovers)
            });
        }
        Ok(())
    }

    fn results(&mut self) -> Result<(), RowsError> {
        let span = keys::all(Kind::Result);
        let results = typed::collect::<StoredResult>(self.rows, Table::Root, &span, usize::MAX)?;
        let span = keys::all(Kind::Expiry);
        let entries = typed::keys(self.rows, Table::Root, &span, usize::MAX)?;
        let expired = state::clock(self.rows)?.expired;
        let named: BTreeSet<Vec<u8>> = entries
            .iter()
            .filter_map(|entry| keys::expiry_parts(entry))
            .filter(|(until, _)| *until >= expired)
            .map(|(_, request)| keys::result(request))
            .collect();
        let right = results.iter().map(|(key, _)| key).eq(named.iter());
        self.expect(right && entries.len() == results.len(), || {
            format!("{} results, {} to expire", results.len(), entries.len())
        });
        Ok(())
    }
}
