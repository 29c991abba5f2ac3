//! The bytes of a write, made from the seed of the run and the number of the operation: nothing has
//! to be kept to know later what a write held, and no two writes hold the same.

use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::history::Value;

/// The body of one write, as it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In one request.
    Whole(Bytes),
    /// By multipart.
    Parts(Vec<Bytes>),
}

/// The bytes from `offset` on of the write that operation `number` makes.
pub(crate) fn bytes(seed: u64, number: u64, offset: u64, length: usize) -> Bytes {
    let stream = mix(seed).wrapping_add(mix(number ^ 0x5bd1_e995));
    let mut out = BytesMut::with_capacity(length + 16);
    let mut word = offset / 8;
    let skip = usize::try_from(offset % 8).unwrap_or(0);
    while out.len() < length + skip {
        let position = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        out.extend_from_slice(&mix(stream.wrapping_add(position)).to_le_bytes());
        word += 1;
    }
    out.freeze().slice(skip..skip + length)
}

/// One write in one request.
pub(crate) fn whole(seed: u64, number: u64, length: usize) -> Body {
    Body::Whole(bytes(seed, number, 0, length))
}

/// One write in parts of these lengths.
pub(crate) fn parts(seed: u64, number: u64, lengths: &[usize]) -> Body {
    let mut all = bytes(seed, number, 0, lengths.iter().sum());
    Body::Parts(lengths.iter().map(|length| all.split_to(*length)).collect())
}

/// What a reader must see of a body.
pub(crate) fn value(body: &Body) -> Value {
    let pieces = match body {
        Body::Whole(bytes) => std::slice::from_ref(bytes),
        Body::Parts(parts) => parts.as_slice(),
    };
    let mut reading = Reading::default();
    for piece in pieces {
        reading.take(piece);
    }
    let etag = match body {
        Body::Whole(bytes) => hex::encode(Md5::digest(bytes)),
        Body::Parts(parts) => {
            let mut outer = Md5::new();
            for part in parts {
                outer.update(Md5::digest(part));
            }
            format!("{}-{}", hex::encode(outer.finalize()), parts.len())
        }
    };
    reading.value(&etag)
}

/// The value of bytes that arrive piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    length: u64,
    digest: Sha256,
}

impl Reading {
    pub(crate) fn take(&mut self, piece: &[u8]) {
        self.length += u64::try_from(piece.len()).unwrap_or(0);
        self.digest.update(piece);
    }

    /// The value of what was taken, under the ETag that came with it.
    pub(crate) fn value(self, etag: &str) -> Value {
        Value {
            length: self.length,
            digest: hex::encode(&self.digest.finalize()[..16]),
            etag: etag.trim_matches('"').to_owned(),
        }
    }
}

/// The finaliser of splitmix64: neighbours come out unrelated.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_a_body_can_be_made_alone() {
        let all = bytes(1, 2, 0, 100);
        for offset in 0..60 {
            let range = bytes(1, 2, offset, 40);
            let at = usize::try_from(offset).unwrap();
            assert_eq!(range, all.slice(at..at + 40));
        }
    }

    #[test]
    fn writes_differ_by_number_and_by_seed() {
        let one = bytes(1, 2, 0, 24);
        assert_ne!(one, bytes(1, 3, 0, 24));
        assert_ne!(one, bytes(2, 2, 0, 24));
        assert_eq!(one, bytes(1, 2, 0, 24));
    }

    #[test]
    fn parts_hold_the_bytes_of_the_whole_under_another_etag() {
        let (whole, parts) = (whole(1, 2, 30), parts(1, 2, &[10, 15, 5]));
        let (one, other) = (value(&whole), value(&parts));
        assert_eq!((one.length, &one.digest), (30, &other.digest));
        assert!(other.etag.ends_with("-3") && one.etag.len() == 32);
    }
}
