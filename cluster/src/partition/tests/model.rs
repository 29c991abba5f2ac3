//! What S3 promises, as simply as it can be said: lists of versions, and sets of dead blobs.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::command::{Conditions, ETags, KeyReply, Refusal, Versioning};
use crate::api::query::Usage;
use crate::api::record::{Blob, Place};

use super::harness::etag;

/// A version of a key; none of the blobs: a delete marker.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) stamp: u64,
    pub(super) null: bool,
    pub(super) etag: String,
    pub(super) blobs: Option<Vec<Blob>>,
    /// Under legal hold.
    pub(super) held: bool,
}

/// One bucket.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) versioning: Versioning,
    /// Oldest first.
    pub(super) keys: BTreeMap<String, Vec<Version>>,
    pub(super) uploads: BTreeMap<(String, u128), BTreeMap<u16, Blob>>,
    pub(super) completed: BTreeMap<(String, u128), KeyReply>,
    /// Dead blobs by volume.
    pub(super) garbage: BTreeSet<(u64, u128)>,
    pub(super) condemned: BTreeSet<(String, u128)>,
    stamp: u64,
}

pub(super) type Answer = Result<KeyReply, Refusal>;

impl Model {
    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn die(&mut self, blobs: impl IntoIterator<Item = Blob>) {
        for blob in blobs {
            if let Place::Striped { extents, .. } = blob.place {
                let volumes = extents.iter().map(|extent| extent.volume.get());
                self.garbage
                    .extend(volumes.map(|volume| (volume, blob.id.get())));
            }
        }
    }

    /// Adds a version, as the bucket keeps them; nothing is left when it keeps no markers.
    fn add(&mut self, key: &str, etag: String, blobs: Option<Vec<Blob>>) -> u64 {
        let null = self.versioning != Versioning::Enabled;
        let versions = self.keys.entry(key.to_owned()).or_default();
        let replaced = versions.iter().position(|version| null && version.null);
        let dead = replaced
            .map(|index| versions.remove(index))
            .and_then(|dead| dead.blobs);
        self.die(dead.into_iter().flatten());
        if blobs.is_none() && self.versioning == Versioning::Off {
            self.keys.remove(key);
            return 0;
        }
        let stamp = self.next_stamp();
        let version = Version {
            stamp,
            null,
            etag,
            blobs,
            held: false,
        };
        self.keys.entry(key.to_owned()).or_default().push(version);
        stamp
    }

    pub(super) fn current(&self, key: &str) -> Option<&Version> {
        self.keys.get(key)?.last()
    }

    fn object(&self, key: &str) -> Option<&Version> {
        self.current(key).filter(|version| version.blobs.is_some())
    }

    /// Only what lies in volumes can have been dropped there.
    fn is_condemned(&self, key: &str, blob: &Blob) -> bool {
        let named = self.condemned.contains(&(key.to_owned(), blob.id.get()));
        named && blob.place != Place::Inline
    }

    /// Whether conditions on a key hold.
    fn holds(&self, key: &str, conditions: &Conditions) -> Result<(), Refusal> {
        let current = self.object(key).map(|version| &version.etag);
        let names = |etags: &ETags, etag: &String| match etags {
            ETags::Any => true,
            ETags::These(these) => these.iter().any(|one| one == etag),
        };
        if let Some(etags) = &conditions.if_match {
            let etag = current.ok_or(Refusal::NoSuchKey)?;
            names(etags, etag)
                .then_some(())
                .ok_or(Refusal::PreconditionFailed)?;
        }
        let excluded = conditions.if_none_match.as_ref().zip(current);
        match excluded.is_some_and(|(etags, etag)| names(etags, etag)) {
            true => Err(Refusal::PreconditionFailed),
            false => Ok(()),
        }
    }

    /// Whether a version that a write replaces may go.
    fn may_replace(&self, key: &str) -> Result<(), Refusal> {
        let replaces = self.versioning != Versioning::Enabled;
        let versions = self.keys.get(key).into_iter().flatten();
        let mut replaced = versions.filter(|version| replaces && version.null);
        match replaced.any(|version| version.held) {
            true => Err(Refusal::Locked),
            false => Ok(()),
        }
    }

    pub(super) fn put(
        &mut self,
        key: &str,
        blob: Blob,
        conditions: &Conditions,
        held: bool,
    ) -> Answer {
        self.holds(key, conditions)?;
        if self.is_condemned(key, &blob) {
            return Err(Refusal::BlobCondemned);
        }
        self.may_replace(key)?;
        let stamp = self.add(key, etag(&blob), Some(vec![blob]));
        let written = self
            .keys
            .get_mut(key)
            .and_then(|versions| versions.last_mut());
        written.unwrap().held = held;
        let versioned = self.versioning == Versioning::Enabled;
        let stamp = enfilade_placement::Stamp::new(stamp);
        Ok(KeyReply::Put { stamp, versioned })
    }

    pub(super) fn delete(&mut self, key: &str, conditions: &Conditions) -> Answer {
        self.holds(key, conditions)?;
        self.may_replace(key)?;
        let existed = self.object(key).is_some();
        let stamp = self.add(key, String::new(), None);
        let marker = (stamp > 0).then_some(enfilade_placement::Stamp::new(stamp));
        Ok(KeyReply::Deleted { marker, existed })
    }

    pub(super) fn delete_version(
        &mut self,
        key: &str,
        stamp: u64,
        conditions: &Conditions,
    ) -> Answer {
        self.holds(key, conditions)?;
        let versions = self.keys.entry(key.to_owned()).or_default();
        let found = versions.iter().position(|version| version.stamp == stamp);
        if found.is_some_and(|index| versions[index].held) {
            return Err(Refusal::Locked);
        }
        let removed = found.map(|index| versions.remove(index));
        if versions.is_empty() {
            self.keys.remove(key);
        }
        let existed = removed.is_some();
        let is_marker = removed
            .as_ref()
            .is_some_and(|version| version.blobs.is_none());
        let marker = is_marker.then_some(enfilade_placement::Stamp::new(stamp));
        self.die(
            removed
                .and_then(|version| version.blobs)
                .into_iter()
                .flatten(),
        );
        Ok(KeyReply::Deleted { marker, existed })
    }

    pub(super) fn create_upload(&mut self, key: &str, upload: u128) -> Answer {
        let id = (key.to_owned(), upload);
        if self.completed.contains_key(&id) {
            return Err(Refusal::NoSuchUpload);
        }
        self.uploads.entry(id).or_default();
        Ok(KeyReply::UploadCreated)
    }

    pub(super) fn put_part(&mut self, key: &str, upload: u128, number: u16, blob: Blob) -> Answer {
        let condemned = self.is_condemned(key, &blob);
        let parts = self.uploads.get_mut(&(key.to_owned(), upload));
        let parts = parts.ok_or(Refusal::NoSuchUpload)?;
        if condemned {
            return Err(Refusal::BlobCondemned);
        }
        let dead = parts.insert(number, blob);
        self.die(dead);
        Ok(KeyReply::PartPut)
    }

    /// Completes with the parts of these numbers.
    pub(super) fn complete(
        &mut self,
        key: &str,
        upload: u128,
        numbers: &[u16],
        whole: &str,
        conditions: &Conditions,
    ) -> Answer {
        let id = (key.to_owned(), upload);
        let Some(parts) = self.uploads.get(&id) else {
            return self
                .completed
                .get(&id)
                .cloned()
                .ok_or(Refusal::NoSuchUpload);
        };
        if numbers.is_empty() {
            return Err(Refusal::InvalidPartOrder);
        }
        let (mut parts, mut chosen) = (parts.clone(), Vec::new());
        for (index, number) in numbers.iter().enumerate() {
            let blob = parts.remove(number).ok_or(Refusal::InvalidPart(*number))?;
            if index + 1 < numbers.len() && blob.len < 5 * 1024 * 1024 {
                return Err(Refusal::PartTooSmall(*number));
            }
            chosen.push(blob);
        }
        self.holds(key, conditions)?;
        self.may_replace(key)?;
        self.uploads.remove(&id);
        let len = chosen.iter().map(|blob| blob.len).sum();
        self.die(parts.into_values());
        let stamp = self.add(key, whole.to_owned(), Some(chosen));
        let reply = KeyReply::Completed {
            stamp: enfilade_placement::Stamp::new(stamp),
            versioned: self.versioning == Versioning::Enabled,
            etag: whole.to_owned(),
            checksum: None,
            len,
        };
        self.completed.insert(id, reply.clone());
        Ok(reply)
    }

    pub(super) fn abort(&mut self, key: &str, upload: u128) -> Answer {
        let parts = self.uploads.remove(&(key.to_owned(), upload));
        let parts = parts.ok_or(Refusal::NoSuchUpload)?;
        self.die(parts.into_values());
        Ok(KeyReply::UploadAborted)
    }

    pub(super) fn condemn(&mut self, key: &str, blob: u128) -> Answer {
        let versions = self.keys.get(key).into_iter().flatten();
        let of_versions = versions.flat_map(|version| version.blobs.iter().flatten());
        let uploads = self.uploads.iter().filter(|((of, _), _)| of == key);
        let of_parts = uploads.flat_map(|(_, parts)| parts.values());
        let found = of_versions
            .chain(of_parts)
            .find(|found| found.id.get() == blob);
        if let Some(Place::Striped { extents, .. }) = found.map(|found| &found.place) {
            return Ok(KeyReply::Referenced(extents.clone()));
        }
        self.condemned.insert((key.to_owned(), blob));
        Ok(KeyReply::Condemned)
    }

    /// What there is, counted.
    pub(super) fn usage(&self) -> Usage {
        let signed = |len: u64| i64::try_from(len).unwrap();
        let mut usage = Usage::default();
        for versions in self.keys.values() {
            for (index, version) in versions.iter().rev().enumerate() {
                let Some(blobs) = &version.blobs else {
                    usage.markers += 1;
                    continue;
                };
                let bytes = signed(blobs.iter().map(|blob| blob.len).sum());
                let (count, sum) = match index {
                    0 => (&mut usage.objects, &mut usage.bytes),
                    _ => (&mut usage.older, &mut usage.older_bytes),
                };
                (*count, *sum) = (*count + 1, *sum + bytes);
            }
        }
        for parts in self.uploads.values() {
            usage.uploads += 1;
            for blob in parts.values() {
                usage.parts += 1;
                usage.part_bytes += signed(blob.len);
            }
        }
        usage
    }

    /// Keys whose current version is an object.
    pub(super) fn listed(&self) -> Vec<&str> {
        let keys = self.keys.keys().map(String::as_str);
        keys.filter(|key| self.object(key).is_some()).collect()
    }
}
