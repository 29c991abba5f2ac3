//! A file whose readers go through it from front to back, in small steps or in strides.

use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{DriveFile, Result};

/// Steps up to this are served from a window that is read at once.
const NEAR: u64 = 64 * 1024;
/// Bytes of a window.
const WINDOW: usize = 256 * 1024;
/// In strides, so many places ahead are asked for before they are read.
const STRIDES: u64 = 8;

/// Reads ahead of its readers. For walks by one thread, while nobody writes what it has passed.
pub(crate) struct ReadAhead<'a> {
    file: &'a dyn DriveFile,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the last read began, how far it was from the one before, and how much it read.
    last: u64,
    stride: u64,
    /// Bytes that were read ahead, and where they begin.
    start: u64,
    window: Vec<u8>,
}

impl State {
    fn held(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.window.get(from..from.checked_add(len)?)
    }
}

impl<'a> ReadAhead<'a> {
    pub(crate) fn new(file: &'a dyn DriveFile) -> Self {
        Self {
            file,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DriveFile for ReadAhead<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut state = self.state();
        let stride = offset.saturating_sub(state.last);
        if let Some(held) = state.held(offset, buffer.len()) {
            buffer.copy_from_slice(held);
            (state.last, state.stride) = (offset, stride);
            return Ok(buffer.len());
        }
        let near = (1..=NEAR).contains(&stride) && buffer.len() < WINDOW;
        if stride > NEAR && stride.abs_diff(state.stride) <= NEAR {
            let len = buffer.len() as u64;
            let ahead = offset.saturating_add(stride.saturating_mul(STRIDES));
            self.file.will_need(ahead, len.saturating_add(NEAR / 8));
        }
        (state.last, state.stride) = (offset, stride);
        if !near {
            drop(state);
            return self.file.read_at(offset, buffer);
        }
        state.window = self.file.read_vec(offset, WINDOW)?;
        state.start = offset;
        let count = buffer.len().min(state.window.len());
        buffer[..count].copy_from_slice(&state.window[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()> {
        self.state().window.clear();
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
        self.state().window.clear();
        self.file.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<u64> {
        self.state().window.clear();
        self.file.punch(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::memory::MemoryDrive;
    use crate::drive::{Drive, Open};

    #[test]
    fn any_walk_reads_what_is_in_the_file() {
        let file = MemoryDrive::default().open("x", Open::New).unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32)
            .map(|i| i.wrapping_mul(2_654_435_761) as u8 ^ (i >> 9) as u8)
            .collect();
        file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        for (step, len) in [
            (100, 50),
            (4200, 2048),
            (70_000, 2048),
            (300_000, 4096),
            (999, 5000),
        ] {
            let ahead = ReadAhead::new(file.as_ref());
            for at in (0..3_010_000usize).step_by(step) {
                let mut buffer = vec![0xee; len];
                let count = ahead.read_at(at as u64, &mut buffer).unwrap();
                let there = &bytes[at.min(bytes.len())..(at + len).min(bytes.len())];
                assert_eq!(&buffer[..count], there, "{at} by {step}");
            }
        }
        // Backwards, and after the file was cut.
        let ahead = ReadAhead::new(file.as_ref());
        let mut buffer = [0; 10];
        for at in [500u64, 600, 550, 100] {
            ahead.read_at(at, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[at as usize..at as usize + 10]);
        }
        ahead.set_len(105).unwrap();
        assert_eq!(ahead.read_at(100, &mut buffer), Ok(5));
    }
}
