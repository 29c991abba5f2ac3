//! Identifiers. Each is a type of its own, without `From<u64>`, so that ids cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An identifier or number could not be read from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {what}")]
pub struct ParseIdError {
    what: &'static str,
    text: String,
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($int);

        impl $name {
            /// Wraps the number.
            pub const fn new(number: $int) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> $int {
                self.0
            }

            /// The one after this.
            ///
            /// # Panics
            /// At the largest number, which no cluster reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { what: $what, text: text.to_owned() };
                text.parse().map(Self).map_err(|_| error())
            }
        }
    };
}

macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps 128 bits, as drawn from a random source.
            pub const fn new(bits: u128) -> Self {
                Self(bits.to_be_bytes())
            }

            /// The 128 bits.
            pub const fn get(self) -> u128 {
                u128::from_be_bytes(self.0)
            }

            /// The sixteen bytes, most significant first.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            /// From sixteen bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
        }

        impl Serialize for $name {
            /// As hexadecimal text for people (so also as a key in JSON), else as sixteen bytes.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.collect_str(self);
                }
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    return text.parse().map_err(de::Error::custom);
                }
                Deserialize::deserialize(deserializer).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.get())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Reads 32 hexadecimal digits; hyphens, as in a UUID, are passed over.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { what: $what, text: text.to_owned() };
                let digits: String = text.chars().filter(|c| *c != '-').collect();
                if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(error());
                }
                u128::from_str_radix(&digits, 16).map(Self::new).map_err(|_| error())
            }
        }
    };
}

number_id!(
    /// An enclosure; also the Raft id of its metadata replica. Numbered from 1, never used again.
    EnclosureId, u32, "enclosure id"
);
number_id!(
    /// A chain of enclosures. Numbered from 1.
    ChainId, u32, "chain id"
);
number_id!(
    /// A volume. Allocated by the root group, never used again.
    VolumeId, u64, "volume id"
);
number_id!(
    /// A partition of the object key space, and its Raft group. 0 is the root group.
    PartitionId, u32, "partition id"
);
number_id!(
    /// A bucket. Allocated by the root group; a bucket created again under its old name gets a new
    /// one.
    BucketId, u64, "bucket id"
);
number_id!(
    /// The version of a volume's membership, or of a partition's range.
    Epoch, u64, "epoch"
);
number_id!(
    /// The life of a cluster: a restore from a backup begins the next (PROTOCOLS 9).
    Incarnation, u32, "incarnation"
);
number_id!(
    /// How often a drive has been attached (PROTOCOLS 26).
    Generation, u32, "attach generation"
);
number_id!(
    /// A durable order to a node: move, rebuild, drop.
    IntentId, u64, "intent id"
);
number_id!(
    /// The version of an object within its partition, in Raft order (PROTOCOLS 4).
    Stamp, u64, "version stamp"
);

wide_id!(
    /// A cluster; drawn at birth.
    ClusterId, "cluster id"
);
wide_id!(
    /// A drive; the UUID in its superblock.
    DriveId, "drive id"
);
wide_id!(
    /// A blob: random, never used again (PROTOCOLS 19).
    BlobId, "blob id"
);
wide_id!(
    /// A multipart upload: random.
    UploadId, "upload id"
);
wide_id!(
    /// A command's request: random; the blob id for writes (PROTOCOLS 2).
    RequestId, "request id"
);

impl From<BlobId> for RequestId {
    fn from(blob: BlobId) -> Self {
        Self(blob.0)
    }
}

impl PartitionId {
    /// The root group.
    pub const ROOT: Self = Self(0);
}

impl Epoch {
    /// The epoch of a new volume or partition.
    pub const FIRST: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_id_reads_back_from_its_text_with_or_without_hyphens() {
        let id = DriveId::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string().parse::<DriveId>(), Ok(id));
        assert_eq!(
            "01234567-89ab-cdef-0011-223344556677".parse::<DriveId>(),
            Ok(id)
        );
    }

    #[test]
    fn a_wide_id_is_text_in_json_and_sixteen_bytes_in_records() {
        let id = DriveId::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let map = std::collections::BTreeMap::from([(id, EnclosureId::new(1))]);
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, r#"{"0123456789abcdef0011223344556677":1}"#);
        assert_eq!(
            serde_json::from_str::<std::collections::BTreeMap<_, _>>(&json).unwrap(),
            map
        );
        let bytes = postcard::to_allocvec(&id).unwrap();
        assert_eq!(bytes, id.to_bytes());
        assert_eq!(postcard::from_bytes(&bytes), Ok(id));
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for text in ["", "12", "zz234567-89ab-cdef-0011-223344556677", "+1"] {
            let error = text.parse::<BlobId>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("'{text}' is not a valid blob id")
            );
        }
        assert!("-1".parse::<EnclosureId>().is_err());
    }
}
