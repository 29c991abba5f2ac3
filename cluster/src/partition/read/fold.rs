//! Prefix and delimiter: which rows a listing looks at, and which it passes over by seeking.

use enfilade_placement::BucketId;

use crate::api::key::{ObjectKey, RowPrefix};

/// The keys of a bucket that begin with a prefix, folded at a delimiter.
pub(super) struct Folding<'q> {
    bucket: BucketId,
    prefix: &'q str,
    delimiter: Option<&'q str>,
}

impl<'q> Folding<'q> {
    pub(super) fn new(bucket: BucketId, prefix: &'q str, delimiter: Option<&'q str>) -> Self {
        let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
        Self {
            bucket,
            prefix,
            delimiter,
        }
    }

    /// What a key is folded into; `None` when it stands for itself.
    pub(super) fn folded<'k>(&self, key: &'k str) -> Option<&'k str> {
        let (delimiter, rest) = (self.delimiter?, key.strip_prefix(self.prefix)?);
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end)
    }

    /// The first row that may be of a listing from its beginning.
    pub(super) fn first(&self) -> Vec<u8> {
        RowPrefix::of_keys_from(self.bucket, self.prefix)
            .as_bytes()
            .to_vec()
    }

    /// The first row after the listing; none: the table's end.
    pub(super) fn end(&self) -> Option<Vec<u8>> {
        RowPrefix::of_keys_from(self.bucket, self.prefix).after()
    }

    /// The first row that may be of a listing after `after`, a key or a folded prefix. `None` when
    /// there can be no more.
    pub(super) fn first_after(&self, after: &str) -> Option<Vec<u8>> {
        if after.as_bytes() < self.prefix.as_bytes() {
            return Some(self.first());
        }
        match self.folded(after) {
            // What folds as `after` does comes before it, or is it.
            Some(folded) => self.past_folded(folded),
            None => ObjectKey::new(self.bucket, after).row_prefix().after(),
        }
    }

    /// The first row after all keys that are folded into `folded`.
    pub(super) fn past_folded(&self, folded: &str) -> Option<Vec<u8>> {
        RowPrefix::of_keys_from(self.bucket, folded).after()
    }
}
