//! The one encoding of rows, commands and messages: a version byte, then postcard.
//!
//! Postcard's wire format is stable and documented (<https://postcard.jamesmunns.com>). Enum
//! variants are numbered in order: new ones go to the end, and nothing is removed or reordered
//! while the version byte stays. A reader refuses versions that it does not know
//! (PROTOCOLS 10): it never guesses.

use serde::{Serialize, de::DeserializeOwned};

/// The version that this build writes, and the only one that it reads.
pub const VERSION: u8 = 1;

/// Bytes that are not a value of the expected type and version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// No bytes at all.
    #[error("{what}: empty")]
    Empty {
        /// The type that was expected.
        what: &'static str,
    },
    /// Written by a newer (or unknown) version of this program.
    #[error("{what}: version {version} is not known here (known: {VERSION})")]
    Version {
        /// The type that was expected.
        what: &'static str,
        /// The version byte found.
        version: u8,
    },
    /// Not a value of this type.
    #[error("{what}: {reason}")]
    Malformed {
        /// The type that was expected.
        what: &'static str,
        /// What the decoder says.
        reason: String,
    },
}

/// Encodes a value, with its version byte in front.
///
/// # Panics
/// Never for the types of this crate: they hold no sequences of unknown length and no types that
/// postcard cannot write.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("every encoded type is plain data")
}

/// Decodes what [`encode`] wrote. Trailing bytes are an error.
///
/// # Errors
/// When the version is unknown, or the bytes are not a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EncodingError> {
    let what = std::any::type_name::<T>();
    let (version, body) = bytes.split_first().ok_or(EncodingError::Empty { what })?;
    if *version != VERSION {
        return Err(EncodingError::Version {
            what,
            version: *version,
        });
    }
    let malformed = |reason: String| EncodingError::Malformed { what, reason };
    let (value, rest) = postcard::take_from_bytes(body).map_err(|e| malformed(e.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(malformed(format!("{} trailing bytes", rest.len())))
    }
}

/// `#[serde(with = "bytes_field")]` for `Bytes`: length and raw bytes.
pub mod bytes_field {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the bytes as one byte string.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads one byte string.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_and_trailing_bytes_are_refused() {
        let mut bytes = encode(&(7u32, "text".to_owned()));
        assert_eq!(decode::<(u32, String)>(&bytes), Ok((7, "text".to_owned())));
        bytes.push(0);
        assert!(matches!(
            decode::<(u32, String)>(&bytes),
            Err(EncodingError::Malformed { .. })
        ));
    }

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let error = decode::<u32>(&[2, 7]).unwrap_err();
        assert_eq!(
            error,
            EncodingError::Version {
                what: "u32",
                version: 2
            }
        );
        assert!(matches!(
            decode::<u32>(&[]),
            Err(EncodingError::Empty { .. })
        ));
    }
}
