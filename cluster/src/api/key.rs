//! Keys of objects, and how they order in rows.
//!
//! Row keys of everything that belongs to an object key begin with the same bytes: the bucket id
//! (8 bytes, big endian), then the key with each `0x00` written as `0x00 0xff`, then `0x00 0x00`.
//! So rows order as `(bucket, key)` do, no key's rows lie among another's, and a partition's range
//! is a range of rows in every table (PROTOCOLS 5).

use std::fmt;

use enfilade_placement::BucketId;
use serde::{Deserialize, Serialize};

/// The longest key, in bytes of UTF-8, as in S3.
pub const KEY_LEN_MAX: usize = 1024;

/// A bucket and a key in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The bucket.
    pub bucket: BucketId,
    /// The key: any UTF-8 of 1 to [`KEY_LEN_MAX`] bytes.
    pub key: String,
}

/// The first bytes of a range of rows: a boundary between partitions, or a seek position.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RowPrefix(Vec<u8>);

impl ObjectKey {
    /// Joins bucket and key.
    pub fn new(bucket: BucketId, key: impl Into<String>) -> Self {
        Self {
            bucket,
            key: key.into(),
        }
    }

    /// The bytes that all rows of this key begin with.
    pub fn row_prefix(&self) -> RowPrefix {
        let mut bytes = RowPrefix::of_keys_from(self.bucket, &self.key).0;
        bytes.extend_from_slice(&[0, 0]);
        RowPrefix(bytes)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

impl RowPrefix {
    /// All rows of a bucket begin with this.
    pub fn of_bucket(bucket: BucketId) -> Self {
        Self(bucket.get().to_be_bytes().to_vec())
    }

    /// All rows of keys that begin with `prefix` begin with this.
    pub fn of_keys_from(bucket: BucketId, prefix: &str) -> Self {
        let mut bytes = Vec::with_capacity(10 + prefix.len());
        bytes.extend_from_slice(&bucket.get().to_be_bytes());
        for byte in prefix.bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(0xff);
            }
        }
        Self(bytes)
    }

    /// Wraps bytes that were read from a row or a route.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// These bytes with a suffix: the key of one row.
    pub fn with(&self, suffix: &[u8]) -> Vec<u8> {
        [self.0.as_slice(), suffix].concat()
    }

    /// The first row key after all that begin with this; `None` when there is none.
    pub fn after(&self) -> Option<Vec<u8>> {
        let last = self.0.iter().rposition(|byte| *byte != 0xff)?;
        let mut bytes = self.0[..=last].to_vec();
        bytes[last] += 1;
        Some(bytes)
    }

    /// The bucket and the key (or what a key begins with) that this names, for people; `None` when
    /// it names none.
    pub fn parts(&self) -> Option<(BucketId, String)> {
        let (bucket, rest) = self.0.split_first_chunk::<8>()?;
        let mut key = Vec::with_capacity(rest.len());
        let mut bytes = rest.iter();
        while let Some(byte) = bytes.next() {
            if *byte == 0 && bytes.next() != Some(&0xff) {
                break;
            }
            key.push(*byte);
        }
        let bucket = BucketId::new(u64::from_be_bytes(*bucket));
        Some((bucket, String::from_utf8_lossy(&key).into_owned()))
    }

    /// Splits the key of a row into the object key that it belongs to and the rest; `None` when it
    /// does not begin with one.
    pub fn split_row(row: &[u8]) -> Option<(ObjectKey, &[u8])> {
        let (bucket, mut rest) = row.split_first_chunk::<8>()?;
        let mut key = Vec::with_capacity(rest.len());
        loop {
            let zero = rest.iter().position(|byte| *byte == 0)?;
            key.extend_from_slice(&rest[..zero]);
            let mark = *rest.get(zero + 1)?;
            rest = &rest[zero + 2..];
            match mark {
                0 => break,
                0xff => key.push(0),
                _ => return None,
            }
        }
        let key = String::from_utf8(key).ok()?;
        Some((
            ObjectKey::new(BucketId::new(u64::from_be_bytes(*bucket)), key),
            rest,
        ))
    }
}

impl fmt::Debug for RowPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowPrefix({})", hex::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn rows_order_as_their_keys_and_read_back(
            a in any::<(u64, String)>(), b in any::<(u64, String)>(), suffix in any::<Vec<u8>>()
        ) {
            let a = ObjectKey::new(BucketId::new(a.0), a.1);
            let b = ObjectKey::new(BucketId::new(b.0), b.1);
            let bytes = |key: &ObjectKey| (key.bucket, key.key.clone().into_bytes());
            let (row_a, row_b) = (a.row_prefix(), b.row_prefix());
            prop_assert_eq!(row_a.cmp(&row_b), bytes(&a).cmp(&bytes(&b)));
            let row = row_a.with(&suffix);
            prop_assert_eq!(row_a.parts(), Some((a.bucket, a.key.clone())));
            prop_assert_eq!(RowPrefix::split_row(&row), Some((a, suffix.as_slice())));
        }
    }

    #[test]
    fn a_key_that_extends_another_with_a_zero_byte_keeps_its_rows_apart() {
        let short = ObjectKey::new(BucketId::new(1), "a").row_prefix();
        let long = ObjectKey::new(BucketId::new(1), "a\0").row_prefix();
        assert!(!long.as_bytes().starts_with(short.as_bytes()));
        assert!(short.with(&[0xff; 40]) < long.with(&[]));
    }
}
