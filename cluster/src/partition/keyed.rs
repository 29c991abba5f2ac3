//! The rows of one key, as a command on it sees and changes them.

use bytes::Bytes;
use enfilade_placement::{BucketId, Stamp, VolumeId};

use crate::api::command::{GroupTime, Refusal, Versioning};
use crate::api::key::RowPrefix;
use crate::api::query::Usage;
use crate::api::record::{Blob, ObjectRecord, PartRecord, Place, VersionKind};
use crate::partition::content;
use crate::partition::keys::{self, Kind, Side};
use crate::partition::state::{self, Condemned, Garbage, Owner, Settings};
use crate::rows::{Rows, RowsError, Table, Txn};
use crate::typed;

/// The rows of one key.
pub(super) struct Keyed<'t, 'a> {
    /// Where they are read and written.
    pub(super) txn: &'t mut Txn<'a>,
    /// The partition's side rows.
    pub(super) side: Side,
    /// What all rows of the key begin with.
    pub(super) row: RowPrefix,
    /// The settings of its bucket.
    pub(super) settings: Settings,
    /// Partition time.
    pub(super) now: GroupTime,
    /// What has changed in the bucket's usage; written by [`Keyed::count`].
    pub(super) usage: Usage,
}

impl<'t, 'a> Keyed<'t, 'a> {
    /// The rows of a key, unchanged so far.
    pub(super) fn new(
        txn: &'t mut Txn<'a>,
        side: Side,
        row: RowPrefix,
        settings: Settings,
        now: GroupTime,
    ) -> Self {
        Self {
            txn,
            side,
            row,
            settings,
            now,
            usage: Usage::default(),
        }
    }

    /// Adds what has changed to the bucket's usage. Last, once.
    pub(super) fn count(self, bucket: BucketId) -> Result<(), RowsError> {
        if self.usage == Usage::default() {
            return Ok(());
        }
        let key = self.side.bucket(Kind::Usage, bucket);
        let mut usage: Usage = typed::load(self.txn, Table::Side, &key)?.unwrap_or_default();
        usage += self.usage;
        if usage == Usage::default() {
            self.txn.delete(Table::Side, key);
        } else {
            typed::store(self.txn, Table::Side, key, &usage);
        }
        Ok(())
    }

    /// The current version, when it is an object.
    pub(super) fn latest(&self) -> Result<Option<ObjectRecord>, RowsError> {
        typed::load(self.txn, Table::Latest, &keys::latest(&self.row))
    }

    /// A version other than that in `Latest`.
    pub(super) fn older(&self, stamp: Stamp) -> Result<Option<ObjectRecord>, RowsError> {
        typed::load(self.txn, Table::Versions, &keys::version(&self.row, stamp))
    }

    /// The `null` version among those that are not in `Latest`. There are none of these in a bucket
    /// that never kept versions.
    pub(super) fn older_null(&self) -> Result<Option<ObjectRecord>, RowsError> {
        if self.settings.versioning == Versioning::Off {
            return Ok(None);
        }
        older_null(self.txn, &self.row)
    }

    /// Writes a version other than the current object.
    fn put_older(&mut self, record: &ObjectRecord) {
        self.tally(record, false, 1);
        if record.null_version {
            typed::store(self.txn, Table::Nulls, keys::null(&self.row), &record.stamp);
        }
        let key = keys::version(&self.row, record.stamp);
        typed::store(self.txn, Table::Versions, key, record);
    }

    /// Takes the row of such a version away, not its content.
    fn take_older(&mut self, record: &ObjectRecord) {
        self.tally(record, false, -1);
        if record.null_version {
            self.txn.delete(Table::Nulls, keys::null(&self.row));
        }
        let key = keys::version(&self.row, record.stamp);
        self.txn.delete(Table::Versions, key);
    }

    /// Notes that a version comes (1) or goes (-1).
    fn tally(&mut self, record: &ObjectRecord, current: bool, times: i64) {
        let bytes = signed(record.len) * times;
        if record.kind == VersionKind::DeleteMarker {
            self.usage.markers += times;
        } else if current {
            self.usage.objects += times;
            self.usage.bytes += bytes;
        } else {
            self.usage.older += times;
            self.usage.older_bytes += bytes;
        }
    }

    /// Notes that a part comes (1) or goes (-1).
    pub(super) fn tally_part(&mut self, part: &PartRecord, times: i64) {
        self.usage.parts += times;
        self.usage.part_bytes += signed(part.blob.len) * times;
    }

    /// The next stamp.
    pub(super) fn next_stamp(&mut self) -> Result<Stamp, RowsError> {
        state::count(self.txn, self.side, Kind::Stamp).map(Stamp::new)
    }

    /// Makes room for a new current version: an object that stays becomes an older version.
    pub(super) fn shelve(&mut self, latest: &ObjectRecord) {
        self.tally(latest, true, -1);
        self.txn.delete(Table::Latest, keys::latest(&self.row));
        self.put_older(latest);
    }

    /// Writes the current version.
    pub(super) fn put_latest(&mut self, record: &ObjectRecord) {
        self.tally(record, true, 1);
        typed::store(self.txn, Table::Latest, keys::latest(&self.row), record);
    }

    /// Writes a delete marker as the current version; `Latest` must be empty.
    pub(super) fn put_marker(&mut self, marker: &ObjectRecord) {
        self.put_older(marker);
    }

    /// Removes the current version and its content.
    pub(super) fn remove_latest(&mut self, record: &ObjectRecord) -> Result<(), RowsError> {
        self.tally(record, true, -1);
        self.txn.delete(Table::Latest, keys::latest(&self.row));
        self.remove_content(record)
    }

    /// Removes an older version or a marker, and its content.
    pub(super) fn remove_older(&mut self, record: &ObjectRecord) -> Result<(), RowsError> {
        self.take_older(record);
        self.remove_content(record)
    }

    /// Whether a version is newer than all that are in `Versions`, or is the newest of them.
    pub(super) fn is_newest(&self, stamp: Stamp) -> Result<bool, RowsError> {
        let (first, _) = keys::all_of(&self.row);
        let newer = (first, Some(keys::version(&self.row, stamp)));
        typed::is_empty(self.txn, Table::Versions, &newer)
    }

    /// Makes the newest of the older versions current, when it is an object. Nothing must be
    /// current, nor anything newer than the version `gone`, which has just been removed: so what
    /// was removed before it, from the newest on, is not passed over again.
    pub(super) fn promote(&mut self, gone: Stamp) -> Result<(), RowsError> {
        let (_, end) = keys::all_of(&self.row);
        let span = (keys::version(&self.row, gone), end);
        let newest = typed::collect::<ObjectRecord>(self.txn, Table::Versions, &span, 1)?.pop();
        if let Some((_, record)) = newest
            && record.kind == VersionKind::Object
        {
            self.take_older(&record);
            self.put_latest(&record);
        }
        Ok(())
    }

    fn remove_content(&mut self, record: &ObjectRecord) -> Result<(), RowsError> {
        for blob in content::all(self.txn, &self.row, record)? {
            self.release(&blob)?;
        }
        content::remove(self.txn, &self.row, record)
    }

    /// Whether a new reference to a blob is refused: because it was condemned, or because it has
    /// one already (PROTOCOLS 19).
    pub(super) fn refuses(&self, blob: &Blob) -> Result<Option<Refusal>, RowsError> {
        let key = keys::blob(&self.row, blob.id);
        let refusal = match blob.place {
            Place::Inline => self
                .txn
                .get(Table::Inline, &key)?
                .map(|_| Refusal::BlobReferenced),
            Place::Striped { .. } => {
                let condemned = self.side.condemned(&self.row, blob.id);
                if typed::load::<Condemned>(self.txn, Table::Side, &condemned)?.is_some() {
                    return Ok(Some(Refusal::BlobCondemned));
                }
                self.txn
                    .get(Table::Blobs, &key)?
                    .map(|_| Refusal::BlobReferenced)
            }
        };
        Ok(refusal)
    }

    /// References a blob; the bytes are those of an inline one.
    pub(super) fn reference(&mut self, blob: &Blob, inline: &Bytes, owner: Owner) {
        let key = keys::blob(&self.row, blob.id);
        match blob.place {
            Place::Inline => self.txn.put(Table::Inline, key, inline.to_vec()),
            Place::Striped { .. } => typed::store(self.txn, Table::Blobs, key, &owner),
        }
    }

    /// References a blob by a record instead of by a part.
    pub(super) fn hand_over(&mut self, blob: &Blob, owner: Owner) {
        if matches!(blob.place, Place::Striped { .. }) {
            typed::store(
                self.txn,
                Table::Blobs,
                keys::blob(&self.row, blob.id),
                &owner,
            );
        }
    }

    /// Ends the reference to a blob: inline bytes go at once, fragments by the garbage queue.
    pub(super) fn release(&mut self, blob: &Blob) -> Result<(), RowsError> {
        let key = keys::blob(&self.row, blob.id);
        let Place::Striped {
            profile, extents, ..
        } = &blob.place
        else {
            self.txn.delete(Table::Inline, key);
            return Ok(());
        };
        self.txn.delete(Table::Blobs, key);
        let mut volumes: Vec<VolumeId> = extents.iter().map(|extent| extent.volume).collect();
        volumes.sort_unstable();
        volumes.dedup();
        let garbage = Garbage {
            blob: blob.id,
            since: self.now,
            pending: all_members(profile.width()),
            row: self.row.clone(),
        };
        for volume in volumes {
            let sequence = state::count(self.txn, self.side, Kind::Sequence)?;
            let key = self.side.garbage(volume, sequence);
            typed::store(self.txn, Table::Side, key, &garbage);
        }
        Ok(())
    }
}

/// The `null` version of a key, when it is in `Versions`.
pub(super) fn older_null(
    rows: &dyn Rows,
    row: &RowPrefix,
) -> Result<Option<ObjectRecord>, RowsError> {
    let key = keys::null(row);
    let Some(stamp) = typed::load(rows, Table::Nulls, &key)? else {
        return Ok(None);
    };
    let record = typed::load(rows, Table::Versions, &keys::version(row, stamp))?;
    record
        .map(Some)
        .ok_or_else(|| typed::broken(Table::Nulls, &key, "there is no such version"))
}

/// Lengths are far below what is lost here.
fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// A bit for each of so many members.
const fn all_members(width: usize) -> u128 {
    if width >= 128 {
        u128::MAX
    } else {
        (1 << width) - 1
    }
}
