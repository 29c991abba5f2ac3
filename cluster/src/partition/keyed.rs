//! The rows of one key, as a command on it sees and changes them.

use bytes::Bytes;
use enfilade_placement::{Stamp, VolumeId};

use crate::api::command::{GroupTime, Refusal, Versioning};
use crate::api::key::RowPrefix;
use crate::api::record::{Blob, ObjectRecord, Place, VersionKind};
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
}

impl Keyed<'_, '_> {
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
        let mut found = None;
        if self.settings.versioning == Versioning::Off {
            return Ok(found);
        }
        let span = keys::all_of(&self.row);
        typed::scan(self.txn, Table::Versions, &span, &mut |key, value| {
            let record: ObjectRecord = typed::decode(Table::Versions, key, value)?;
            let null = record.null_version;
            found = null.then_some(record);
            Ok(typed::go_on_while(!null))
        })?;
        Ok(found)
    }

    /// The next stamp.
    pub(super) fn next_stamp(&mut self) -> Result<Stamp, RowsError> {
        state::count(self.txn, self.side, Kind::Stamp).map(Stamp::new)
    }

    /// Makes room for a new current version: an object that stays becomes an older version.
    pub(super) fn shelve(&mut self, latest: &ObjectRecord) {
        self.txn.delete(Table::Latest, keys::latest(&self.row));
        let key = keys::version(&self.row, latest.stamp);
        typed::store(self.txn, Table::Versions, key, latest);
    }

    /// Writes the current version.
    pub(super) fn put_latest(&mut self, record: &ObjectRecord) {
        typed::store(self.txn, Table::Latest, keys::latest(&self.row), record);
    }

    /// Writes a delete marker as the current version; `Latest` must be empty.
    pub(super) fn put_marker(&mut self, marker: &ObjectRecord) {
        let key = keys::version(&self.row, marker.stamp);
        typed::store(self.txn, Table::Versions, key, marker);
    }

    /// Removes the current version and its content.
    pub(super) fn remove_latest(&mut self, record: &ObjectRecord) -> Result<(), RowsError> {
        self.txn.delete(Table::Latest, keys::latest(&self.row));
        self.remove_content(record)
    }

    /// Removes an older version or a marker, and its content.
    pub(super) fn remove_older(&mut self, record: &ObjectRecord) -> Result<(), RowsError> {
        let key = keys::version(&self.row, record.stamp);
        self.txn.delete(Table::Versions, key);
        self.remove_content(record)
    }

    /// Makes the newest of the older versions current, when it is an object and nothing is.
    pub(super) fn promote(&mut self) -> Result<(), RowsError> {
        let span = keys::all_of(&self.row);
        let newest = typed::collect::<ObjectRecord>(self.txn, Table::Versions, &span, 1)?.pop();
        if let Some((key, record)) = newest
            && record.kind == VersionKind::Object
        {
            self.txn.delete(Table::Versions, key);
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

/// A bit for each of so many members.
const fn all_members(width: usize) -> u128 {
    if width >= 128 {
        u128::MAX
    } else {
        (1 << width) - 1
    }
}
