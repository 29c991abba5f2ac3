//! Reading what was planned: few reads, each block compared with its checksum.

use bytes::Bytes;

use super::{Blocks, Fault};
use crate::drive::DriveFile;
use crate::erasure::checksum::{FragmentSeed, verify_blocks};

/// The most bytes that are read at once.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Blocks that are to be read and verified.
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) count: usize,
    pub(super) payload: u64,
    pub(super) first: u32,
    pub(super) seed: FragmentSeed,
    pub(super) checksums: Vec<u32>,
}

impl Planned {
    /// The blocks, when their bytes are what they were.
    fn verify(self, bytes: Bytes) -> Result<Blocks, Fault> {
        let Self {
            count,
            payload,
            first,
            seed,
            checksums,
            ..
        } = self;
        let whole = bytes.len() == count;
        if !whole || verify_blocks(seed, first, &bytes, &checksums).is_err() {
            let stripe = seed.stripe;
            return Err(Fault::Rot { stripe, payload });
        }
        Ok(Blocks {
            first,
            bytes,
            checksums,
        })
    }
}

/// Reads and verifies what was planned; what lies end to end is read at once.
pub(super) fn fetch(
    file: &dyn DriveFile,
    planned: Vec<Result<Planned, Fault>>,
) -> Vec<Result<Blocks, Fault>> {
    let mut answers = Vec::with_capacity(planned.len());
    let mut planned = planned.into_iter().peekable();
    while let Some(next) = planned.next() {
        let begin = match next {
            Ok(begin) => begin,
            Err(fault) => {
                answers.push(Err(fault));
                continue;
            }
        };
        let (at, mut len) = (begin.at, begin.count);
        let mut together = vec![begin];
        while let Some(Ok(next)) = planned.next_if(|next| {
            next.as_ref()
                .is_ok_and(|next| next.at == at + len as u64 && len + next.count <= READ_BYTES_MAX)
        }) {
            len += next.count;
            together.push(next);
        }
        match file.read_vec(at, len) {
            Ok(bytes) => {
                let mut bytes = Bytes::from(bytes);
                for planned in together {
                    let part = bytes.split_to(planned.count.min(bytes.len()));
                    answers.push(planned.verify(part));
                }
            }
            Err(error) => answers.extend(together.iter().map(|_| Err(error.clone().into()))),
        }
    }
    answers
}
