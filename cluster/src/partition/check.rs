//! What holds of a partition's rows after every command: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_placement::{BlobId, BucketId, Epoch, PartitionId, Stamp};

use crate::api::command::{GroupTime, Versioning};
use crate::api::key::RowPrefix;
use crate::api::query::Usage;
use crate::api::record::{
    Blob, CONTENT_IN_RECORD_MAX, Content, ObjectRecord, PartRecord, Place, UploadRecord,
    VersionKind,
};
use crate::partition::apply::ack_garbage::bit;
use crate::partition::keys::{self, Kind, Side};
use crate::partition::read;
use crate::partition::state::{
    self, Completed, Condemned, Garbage, Owner, Range, Settings, StoredResult,
};
use crate::rows::{Rows, RowsError, Table};
use crate::typed;

/// What is wrong with the rows of a partition: nothing, unless there is a defect.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn check(rows: &dyn Rows, group: PartitionId) -> Result<Vec<String>, RowsError> {
    let side = Side::new(group);
    let Some(range) = state::range(rows, side)? else {
        return Ok(Vec::new());
    };
    let mut check = Check::new(rows, side, range)?;
    check.versions()?;
    check.uploads()?;
    check.references()?;
    check.garbage()?;
    check.expiry()?;
    check.settings()?;
    check.usage()?;
    Ok(check.wrong)
}

/// What must never go back between two states: counters, time and epoch.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn check_progress(
    before: &dyn Rows,
    after: &dyn Rows,
    group: PartitionId,
) -> Result<Vec<String>, RowsError> {
    let numbers = |rows: &dyn Rows| -> Result<[u64; 4], RowsError> {
        let side = Side::new(group);
        Ok([
            state::counter(rows, side, Kind::Stamp)?,
            state::counter(rows, side, Kind::Sequence)?,
            state::clock(rows, side)?.now.0,
            state::range(rows, side)?.map_or(0, |range| range.epoch.get()),
        ])
    };
    let (before, after) = (numbers(before)?, numbers(after)?);
    let back = before
        .iter()
        .zip(after)
        .any(|(before, after)| after < *before);
    let text = format!("stamp, sequence, time, epoch went from {before:?} back to {after:?}");
    Ok(back.then_some(text).into_iter().collect())
}

/// What buckets hold in the partitions of a split, as counted and in truth: both must be the same.
///
/// # Errors
/// When rows cannot be read or decoded.
pub fn sums(
    rows: &dyn Rows,
    groups: &[PartitionId],
) -> Result<[BTreeMap<BucketId, Usage>; 2], RowsError> {
    let [mut counted, mut truth] = [BTreeMap::new(), BTreeMap::new()];
    for group in groups {
        for (bucket, usage) in read::usages(rows, *group)? {
            *counted.entry(bucket).or_insert_with(Usage::default) += usage;
        }
        let side = Side::new(*group);
        let Some(range) = state::range(rows, side)? else {
            continue;
        };
        let mut check = Check::new(rows, side, range)?;
        check.versions()?;
        check.uploads()?;
        for (bucket, usage) in check.usages {
            *truth.entry(bucket).or_insert_with(Usage::default) += usage;
        }
    }
    let some = |usage: &mut Usage| *usage != Usage::default();
    counted.retain(|_, usage| some(usage));
    truth.retain(|_, usage| some(usage));
    Ok([counted, truth])
}

struct Check<'r> {
    rows: &'r dyn Rows,
    side: Side,
    range: Range,
    stamp: u64,
    /// What references which striped blob, by row key in `Blobs`.
    references: BTreeMap<Vec<u8>, (BlobId, Owner)>,
    /// Row keys in `Inline` that must be there.
    inline: BTreeSet<Vec<u8>>,
    /// What the buckets hold, counted by looking at everything.
    usages: BTreeMap<BucketId, Usage>,
    /// Row keys in `Nulls` that must be there, and their stamps.
    nulls: BTreeSet<(Vec<u8>, Stamp)>,
    wrong: Vec<String>,
}

impl<'r> Check<'r> {
    fn new(rows: &'r dyn Rows, side: Side, range: Range) -> Result<Self, RowsError> {
        Ok(Self {
            rows,
            side,
            range,
            stamp: state::counter(rows, side, Kind::Stamp)?,
            references: BTreeMap::new(),
            inline: BTreeSet::new(),
            usages: BTreeMap::new(),
            nulls: BTreeSet::new(),
            wrong: Vec::new(),
        })
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    fn all<T: serde::de::DeserializeOwned>(
        &self,
        table: Table,
    ) -> Result<Vec<(Vec<u8>, T)>, RowsError> {
        let span = self.range.cut((Vec::new(), None));
        typed::collect(self.rows, table, &span, usize::MAX)
    }

    fn side<T: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
    ) -> Result<Vec<(Vec<u8>, T)>, RowsError> {
        typed::collect(self.rows, Table::Side, &self.side.all(kind), usize::MAX)
    }

    /// Object records, of all versions of all keys.
    fn versions(&mut self) -> Result<(), RowsError> {
        let mut by_key: BTreeMap<RowPrefix, Vec<(bool, ObjectRecord)>> = BTreeMap::new();
        for table in [Table::Latest, Table::Versions] {
            for (key, record) in self.all::<ObjectRecord>(table)? {
                let Some((at, _)) = RowPrefix::split_row(&key) else {
                    self.wrong
                        .push(format!("{table:?}: key {}", hex::encode(&key)));
                    continue;
                };
                let row = at.row_prefix();
                let latest = table == Table::Latest;
                let right = match latest {
                    true => keys::latest(&row),
                    false => keys::version(&row, record.stamp),
                };
                self.expect(right == key, || format!("{at}: wrong key in {table:?}"));
                by_key.entry(row).or_default().push((latest, record));
            }
        }
        for (row, mut versions) in by_key {
            versions.sort_by_key(|(_, record)| record.stamp);
            self.versions_of(&row, &versions)?;
        }
        Ok(())
    }

    /// The versions of one key, oldest first.
    fn versions_of(
        &mut self,
        row: &RowPrefix,
        versions: &[(bool, ObjectRecord)],
    ) -> Result<(), RowsError> {
        let bucket = RowPrefix::split_row(row.as_bytes()).map(|(at, _)| at.bucket);
        let settings = bucket.map(|id| self.side.bucket(Kind::Bucket, id));
        let settings = match settings {
            Some(key) => typed::load::<Settings>(self.rows, Table::Side, &key)?,
            None => None,
        };
        let nulls = versions.iter().filter(|(_, record)| record.null_version);
        let nulls = nulls.count();
        self.expect(nulls <= 1, || format!("{row:?}: {nulls} null versions"));
        let newest = versions.len() - 1;
        let off = settings.unwrap_or_default().versioning == Versioning::Off;
        self.expect(!off || newest == 0, || format!("{row:?}: keeps versions"));
        for (index, (latest, record)) in versions.iter().enumerate() {
            self.tally(bucket, *latest, record);
            if record.null_version && !latest {
                self.nulls.insert((keys::null(row), record.stamp));
            }
            let current = index == newest && record.kind == VersionKind::Object;
            self.expect(*latest == current, || {
                format!("{row:?}: {} is in the wrong table", record.stamp)
            });
            let stamp = record.stamp.get();
            let given = stamp > 0 && stamp <= self.stamp;
            self.expect(given, || format!("{row:?}: stamp {stamp} was not given"));
            self.content(row, record)?;
        }
        Ok(())
    }

    fn tally(&mut self, bucket: Option<BucketId>, current: bool, record: &ObjectRecord) {
        let usage = self.usages.entry(bucket.unwrap_or_default()).or_default();
        let bytes = i64::try_from(record.len).unwrap_or(i64::MAX);
        *usage += match (record.kind, current) {
            (VersionKind::DeleteMarker, _) => Usage {
                markers: 1,
                ..Usage::default()
            },
            (VersionKind::Object, true) => Usage {
                objects: 1,
                bytes,
                ..Usage::default()
            },
            (VersionKind::Object, false) => Usage {
                older: 1,
                older_bytes: bytes,
                ..Usage::default()
            },
        };
    }

    /// Counts and bytes are exact, and `null` versions are found.
    fn usage(&mut self) -> Result<(), RowsError> {
        let counted: BTreeMap<_, _> = read::usages(self.rows, self.side.group())?
            .into_iter()
            .collect();
        // Counts of what was given away stay: only sums over partitions count then.
        let right = counted == self.usages || self.range.epoch > Epoch::FIRST;
        let usages = self.usages.clone();
        self.expect(right, || format!("usage {counted:?}, in truth {usages:?}"));
        let nulls: BTreeSet<_> = self.all::<Stamp>(Table::Nulls)?.into_iter().collect();
        let right = nulls == self.nulls;
        self.expect(right, || {
            "null versions are not where they are said to be".to_owned()
        });
        Ok(())
    }

    /// The blobs of one version.
    fn content(&mut self, row: &RowPrefix, record: &ObjectRecord) -> Result<(), RowsError> {
        let stamp = record.stamp;
        let span = keys::all_content(row, stamp);
        let chunks = typed::collect::<Vec<Blob>>(self.rows, Table::Content, &span, usize::MAX)?;
        let (mut offset, mut count) = (0u64, 0u32);
        let in_record = match &record.content {
            Content::Blobs(blobs) => vec![(keys::content(row, stamp, 0), blobs.clone())],
            Content::Rows { .. } => Vec::new(),
        };
        let is_rows = in_record.is_empty();
        self.expect(is_rows || chunks.is_empty(), || {
            format!("{row:?}: {stamp} has content rows that it does not need")
        });
        for (key, blobs) in in_record.into_iter().chain(chunks) {
            let at = keys::content_offset(&key);
            self.expect(at == Some(offset), || {
                format!("{row:?}: {stamp} has a gap at {offset}")
            });
            let weight: usize = blobs.iter().map(Blob::weight).sum();
            let bounded = weight <= CONTENT_IN_RECORD_MAX || (is_rows && blobs.len() == 1);
            self.expect(bounded, || {
                format!("{row:?}: {stamp} has a heavy content row")
            });
            for blob in blobs {
                self.reference(row, &blob, Owner::Record { stamp, offset });
                offset += blob.len;
                count += 1;
            }
        }
        self.expect(offset == record.len, || {
            format!("{row:?}: {stamp} has {offset} bytes, not {}", record.len)
        });
        if let Content::Rows { blobs } = record.content {
            self.expect(blobs == count, || {
                format!("{row:?}: {stamp} has {count} blobs")
            });
        }
        let parts: u64 = record.parts.iter().sum();
        self.expect(record.parts.is_empty() || parts == record.len, || {
            format!("{row:?}: the parts of {stamp} are {parts} bytes")
        });
        Ok(())
    }

    fn reference(&mut self, row: &RowPrefix, blob: &Blob, owner: Owner) {
        let key = keys::blob(row, blob.id);
        let first = match blob.place {
            Place::Inline => self.inline.insert(key),
            Place::Striped { .. } => self.references.insert(key, (blob.id, owner)).is_none(),
        };
        self.expect(first, || {
            format!("{row:?}: {:?} is referenced twice", blob.id)
        });
    }

    fn uploads(&mut self) -> Result<(), RowsError> {
        let mut open = BTreeSet::new();
        for (key, upload) in self.all::<UploadRecord>(Table::Uploads)? {
            let row = RowPrefix::split_row(&key).map(|(at, _)| at.row_prefix());
            let right = row.as_ref().map(|row| keys::upload(row, upload.id));
            self.expect(right.as_ref() == Some(&key), || {
                format!("{:?}: wrong key", upload.id)
            });
            if let Some(row) = &row {
                let completed = self.side.completed(row, upload.id);
                let completed = self.rows.get(Table::Side, &completed)?.is_some();
                self.expect(!completed, || {
                    format!("{:?}: open and completed", upload.id)
                });
            }
            let bucket = RowPrefix::split_row(&key).map(|(at, _)| at.bucket);
            let bucket = bucket.unwrap_or_default();
            self.usages.entry(bucket).or_default().uploads += 1;
            open.insert(key);
        }
        for (key, part) in self.all::<PartRecord>(Table::Parts)? {
            let (of, number) = key.split_at(key.len().saturating_sub(2));
            self.expect(open.contains(of), || {
                format!("part {}: no upload", part.number)
            });
            let named = number == part.number.to_be_bytes();
            self.expect(named, || format!("part {}: wrong key", part.number));
            if let Some((at, rest)) = RowPrefix::split_row(of)
                && let Ok(upload) = rest.try_into()
            {
                let upload = enfilade_placement::UploadId::from_bytes(upload);
                let number = part.number;
                let usage = self.usages.entry(at.bucket).or_default();
                usage.parts += 1;
                usage.part_bytes += i64::try_from(part.blob.len).unwrap_or(i64::MAX);
                self.reference(&at.row_prefix(), &part.blob, Owner::Part { upload, number });
            }
        }
        Ok(())
    }

    /// Every blob in a record or part has exactly its reference, and every reference its blob.
    fn references(&mut self) -> Result<(), RowsError> {
        let mut left = self.references.clone();
        for (key, owner) in self.all::<Owner>(Table::Blobs)? {
            let named = left.remove(&key).is_some_and(|(_, by)| by == owner);
            self.expect(named, || {
                format!("blob {}: nothing refers as it says", hex::encode(&key))
            });
        }
        self.expect(left.is_empty(), || {
            format!("blobs without reference: {left:?}")
        });
        let span = self.range.cut((Vec::new(), None));
        let inline = typed::keys(self.rows, Table::Inline, &span, usize::MAX)?;
        let inline: BTreeSet<Vec<u8>> = inline.into_iter().collect();
        let same = inline == self.inline;
        self.expect(same, || {
            "inline bytes are not those of the inline blobs".to_owned()
        });
        Ok(())
    }

    fn garbage(&mut self) -> Result<(), RowsError> {
        let last = state::counter(self.rows, self.side, Kind::Sequence)?;
        let now = state::clock(self.rows, self.side)?.now;
        let alive: BTreeSet<BlobId> = self.references.values().map(|(blob, _)| *blob).collect();
        let entries = self.side::<Garbage>(Kind::Garbage)?;
        for (key, garbage) in &entries {
            let blob = garbage.blob;
            let dead = !alive.contains(&blob);
            self.expect(dead, || format!("{blob:?} is garbage and referenced"));
            let sound = Side::garbage_id(key).is_some_and(|(_, number)| number <= last);
            let sound = sound && garbage.pending != 0 && garbage.since <= now;
            self.expect(sound, || {
                format!("garbage {blob:?}: {garbage:?}, numbers to {last}")
            });
        }
        for (key, floor) in self.side::<u64>(Kind::Floor)? {
            let Some((volume, member)) = key.get(5..13).zip(key.last()) else {
                continue;
            };
            for (entry, garbage) in &entries {
                let passed = entry.get(5..13) == Some(volume)
                    && Side::garbage_id(entry).is_some_and(|(_, number)| number <= floor)
                    && garbage.pending & bit(*member) != 0;
                self.expect(!passed, || {
                    format!("floor {floor} of {member} hides {garbage:?}")
                });
            }
        }
        Ok(())
    }

    /// Every row that is to go has its entry, and every entry its row.
    fn expiry(&mut self) -> Result<(), RowsError> {
        let mut left: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut until = |key: &[u8], until: GroupTime| left.insert(self.side.expiry(until, key));
        for (key, result) in self.side::<StoredResult>(Kind::Result)? {
            until(&key, result.until);
        }
        for (key, completed) in self.side::<Completed>(Kind::Completed)? {
            until(&key, completed.until);
        }
        let condemned = self.side::<Condemned>(Kind::Condemned)?;
        for (key, row) in &condemned {
            until(key, row.until);
        }
        for (key, _) in condemned {
            let blob = key.get(5..).unwrap_or_default();
            let referenced = self.references.contains_key(blob);
            self.expect(!referenced, || {
                format!("condemned and referenced: {blob:?}")
            });
        }
        let entries = typed::keys(
            self.rows,
            Table::Side,
            &self.side.all(Kind::Expiry),
            usize::MAX,
        )?;
        let expired = state::clock(self.rows, self.side)?.expired;
        for entry in entries {
            let known = left.remove(&entry);
            self.expect(known, || {
                format!("expiry without row: {}", hex::encode(&entry))
            });
            let reached = self
                .side
                .expiry_target(&entry)
                .is_some_and(|(at, _)| at >= expired);
            self.expect(reached, || {
                format!("expiry left behind: {}", hex::encode(&entry))
            });
        }
        self.expect(left.is_empty(), || format!("{} rows never go", left.len()));
        Ok(())
    }

    fn settings(&mut self) -> Result<(), RowsError> {
        for (key, settings) in self.side::<Settings>(Kind::Bucket)? {
            let right = key.len() == 13 && settings.revision > 0;
            self.expect(right, || {
                format!("settings {settings:?} of {}", hex::encode(&key))
            });
        }
        Ok(())
    }
}
