//! A file of which reads as zeros what the device cannot give.
//!
//! Whoever compares what is read with checksums takes such a place for rot, and goes past it: one
//! sector takes nothing with it but what it holds.

use std::io::IoSlice;

use bytes::Bytes;

use super::{DriveError, DriveFile, Result};

/// What is tried by itself when a longer read fails: a device's sector, or a page of the cache.
pub(crate) const BLOCK: u64 = 4096;

/// A file whose unreadable blocks are passed over, as far as `passes` says so: it is told the
/// offset of each, and what the drive said.
pub(crate) struct Lenient<'a, F> {
    file: &'a dyn DriveFile,
    passes: F,
}

impl<'a, F: Fn(u64, &str) -> bool + Send + Sync> Lenient<'a, F> {
    pub(crate) const fn new(file: &'a dyn DriveFile, passes: F) -> Self {
        Self { file, passes }
    }

    /// Reads block by block: for most of them this is the second attempt.
    fn read_blocks(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let left = usize::try_from(BLOCK - at % BLOCK).unwrap_or(usize::MAX);
            let end = filled.saturating_add(left).min(buffer.len());
            let part = &mut buffer[filled..end];
            let count = match self.file.read_at(at, part) {
                Err(DriveError::Unreadable(error)) => {
                    if !(self.passes)(at / BLOCK * BLOCK, &error) {
                        return Err(DriveError::Unreadable(error));
                    }
                    part.fill(0);
                    let there = self.file.size()?.saturating_sub(at);
                    part.len().min(usize::try_from(there).unwrap_or(usize::MAX))
                }
                count => count?,
            };
            filled += count;
            if filled < end {
                break;
            }
        }
        Ok(filled)
    }
}

impl<F: Fn(u64, &str) -> bool + Send + Sync> DriveFile for Lenient<'_, F> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match self.file.read_at(offset, buffer) {
            Err(DriveError::Unreadable(_)) => self.read_blocks(offset, buffer),
            read => read,
        }
    }

    fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        match self.file.read_vec(offset, len) {
            Err(DriveError::Unreadable(_)) => {
                let mut buffer = vec![0; len];
                let count = self.read_blocks(offset, &mut buffer)?;
                buffer.truncate(count);
                Ok(buffer)
            }
            read => read,
        }
    }

    fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        match self.file.read_bytes(offset, len) {
            Err(DriveError::Unreadable(_)) => self.read_vec(offset, len).map(Bytes::from),
            read => read,
        }
    }

    fn read_held(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.file.read_held(offset, len)
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()> {
        self.file.write_at(offset, slices)
    }

    fn size(&self) -> Result<u64> {
        self.file.size()
    }

    fn start_write_back(&self, offset: u64, len: u64) {
        self.file.start_write_back(offset, len);
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn drop_cached(&self, offset: u64, len: u64) {
        self.file.drop_cached(offset, len);
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<u64> {
        self.file.punch(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::drive::memory::MemoryDrive;
    use crate::drive::{Drive, Open};

    #[test]
    fn what_cannot_be_read_is_zeros_and_nothing_else_is() {
        let drive = MemoryDrive::default();
        let file = drive.open("x", Open::New).unwrap();
        let bytes: Vec<u8> = (0..20_000).map(|i| (i % 251 + 1) as u8).collect();
        file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        assert!(drive.spoil("x", 5000) && drive.spoil("x", 19_000));
        let passed = Mutex::new(Vec::new());
        let passes = |at, _: &str| {
            passed.lock().unwrap().push(at);
            true
        };
        let lenient = Lenient::new(file.as_ref(), passes);
        let mut expected = bytes.clone();
        expected[4096..8192].fill(0);
        expected[16_384..].fill(0);
        for (at, len) in [(0, 20_000), (100, 30_000), (4100, 4), (8000, 9000)] {
            let end = (at + len).min(bytes.len());
            let read = lenient.read_vec(at as u64, len).unwrap();
            assert_eq!(read, expected[at..end], "{at} {len}");
        }
        let mut passed = passed.lock().unwrap().clone();
        passed.sort_unstable();
        passed.dedup();
        assert_eq!(passed, [4096, 16_384]);
        let strict = Lenient::new(file.as_ref(), |at, _: &str| at != 4096);
        assert!(strict.read_vec(0, 5000).is_err());
        assert_eq!(strict.read_vec(8192, 100).unwrap(), bytes[8192..8292]);
    }
}
