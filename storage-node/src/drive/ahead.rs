//! A file whose readers go through it from front to back, in small steps or in strides.

use std::io::IoSlice;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use bytes::Bytes;

use super::{DriveFile, Result};

/// Steps up to this are served from a window that is read at once.
const NEAR: u64 = 64 * 1024;
/// Bytes of a window.
const WINDOW: usize = 256 * 1024;
/// In strides, so many places ahead are asked for before they are read.
const STRIDES: u64 = 8;
/// After so many windows in small steps, a thread of its own reads the next ones, so many ahead.
const WINDOWS_BEFORE: u32 = 8;
const WINDOWS_AHEAD: usize = 4;

/// Reads ahead of its readers. For walks by one thread, while nobody writes what it has passed.
pub(crate) struct ReadAhead<'scope, 'env> {
    file: &'env dyn DriveFile,
    scope: &'scope Scope<'scope, 'env>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the last read began, and how far it was from the one before.
    last: u64,
    stride: u64,
    /// Bytes that were read ahead, and where they begin.
    start: u64,
    window: Bytes,
    /// How many windows were read one after another.
    windows: u32,
    /// The windows from the thread.
    next: Option<Receiver<(u64, Bytes)>>,
}

impl State {
    fn held(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.window.get(from..from.checked_add(len)?)
    }

    /// Whether the window ends amid so many bytes from an offset.
    fn ends_in(&self, offset: u64, len: usize) -> bool {
        let end = self.start + self.window.len() as u64;
        (self.start..end).contains(&offset) && end < offset + len as u64
    }

    /// Takes the windows of the thread up to the one that holds a place.
    fn take_window(&mut self, offset: u64) {
        while let Some((start, window)) = self.next.as_ref().and_then(|next| next.recv().ok()) {
            let end = start + window.len() as u64;
            (self.start, self.window) = (start, window);
            if offset < end {
                return;
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.window = Bytes::new();
        self.windows = 0;
        self.next = None;
    }
}

impl<'scope, 'env> ReadAhead<'scope, 'env> {
    pub(crate) fn new(file: &'env dyn DriveFile, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self {
            file,
            scope,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that reads windows from an offset on, until there are no more or nobody
    /// wants them; none when the system has no more threads.
    fn start(&self, from: u64) -> Option<Receiver<(u64, Bytes)>> {
        let (file, (sender, receiver)) = (self.file, sync_channel(WINDOWS_AHEAD));
        let read = move || {
            let mut at = from;
            // What fails here is read again by the walk, and told there.
            while let Ok(window) = file.read_bytes(at, WINDOW) {
                let (start, len) = (at, window.len());
                at += len as u64;
                if len == 0 || sender.send((start, window)).is_err() {
                    break;
                }
            }
        };
        let started = Builder::new()
            .name("read-ahead".to_owned())
            .spawn_scoped(self.scope, read);
        started.ok().map(|_| receiver)
    }

    /// Gets the window that begins or lies at an offset.
    fn window(&self, state: &mut State, offset: u64) -> Result<()> {
        if state.next.is_some() {
            state.take_window(offset);
            if state.held(offset, 1).is_some() {
                return Ok(());
            }
        }
        state.window = self.file.read_bytes(offset, WINDOW)?;
        state.start = offset;
        state.windows += 1;
        if state.windows >= WINDOWS_BEFORE && state.next.is_none() {
            state.next = self.start(offset + state.window.len() as u64);
        }
        Ok(())
    }
}

impl DriveFile for ReadAhead<'_, '_> {
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
            state.forget();
            drop(state);
            return self.file.read_at(offset, buffer);
        }
        if state.next.is_some() && state.ends_in(offset, buffer.len()) {
            // The rest is in the next window, which the next step begins with.
            drop(state);
            return self.file.read_at(offset, buffer);
        }
        self.window(&mut state, offset)?;
        let from = usize::try_from(offset - state.start).unwrap_or(usize::MAX);
        let there = state.window.get(from..).unwrap_or_default();
        if there.len() < buffer.len() && state.next.is_some() {
            drop(state);
            return self.file.read_at(offset, buffer);
        }
        let count = buffer.len().min(there.len());
        buffer[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()> {
        self.state().forget();
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
        self.state().forget();
        self.file.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<u64> {
        self.state().forget();
        self.file.punch(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread::scope;

    use super::*;
    use crate::drive::memory::MemoryDrive;
    use crate::drive::{Drive, Open};

    fn bytes() -> Vec<u8> {
        (0..6_000_000u32)
            .map(|i| i.wrapping_mul(2_654_435_761) as u8 ^ (i >> 9) as u8)
            .collect()
    }

    fn file() -> Arc<dyn DriveFile> {
        let file = MemoryDrive::default().open("x", Open::New).unwrap();
        file.write_at(0, &[IoSlice::new(&bytes())]).unwrap();
        file
    }

    #[test]
    fn any_walk_reads_what_is_in_the_file() {
        let (file, bytes) = (file(), bytes());
        for (step, len) in [
            (100, 50),
            (4200, 2048),
            (70_000, 2048),
            (300_000, 4096),
            (999, 5000),
        ] {
            scope(|scope| {
                let ahead = ReadAhead::new(file.as_ref(), scope);
                for at in (0..6_010_000usize).step_by(step) {
                    let mut buffer = vec![0xee; len];
                    let count = ahead.read_at(at as u64, &mut buffer).unwrap();
                    let there = &bytes[at.min(bytes.len())..(at + len).min(bytes.len())];
                    assert_eq!(&buffer[..count], there, "{at} by {step}");
                }
            });
        }
        // Backwards, and after the file was cut.
        scope(|scope| {
            let ahead = ReadAhead::new(file.as_ref(), scope);
            let mut buffer = [0; 10];
            for at in [500u64, 600, 550, 100] {
                ahead.read_at(at, &mut buffer).unwrap();
                assert_eq!(buffer, bytes[at as usize..at as usize + 10]);
            }
            ahead.set_len(105).unwrap();
            assert_eq!(ahead.read_at(100, &mut buffer), Ok(5));
        });
    }

    #[test]
    fn a_walk_that_turns_or_ends_while_a_thread_reads_ahead_reads_what_is_in_the_file() {
        let file = file();
        let bytes = bytes();
        scope(|scope| {
            let ahead = ReadAhead::new(file.as_ref(), scope);
            let read = |at: usize, len: usize| {
                let mut buffer = vec![0xee; len];
                let count = ahead.read_at(at as u64, &mut buffer).unwrap();
                assert_eq!(buffer[..count], bytes[at..at + count], "{at}");
                assert_eq!(count, len, "{at}");
            };
            let steps = |from: usize, to| (from..to).step_by(4200).for_each(|at| read(at, 2048));
            steps(0, 3_000_000);
            assert!(ahead.state().next.is_some(), "a thread reads ahead");
            // A large read amid, a step back, a leap, and on from there.
            read(3_001_000, 700_000);
            steps(3_001_000, 5_500_000);
            assert!(ahead.state().next.is_some());
            read(5_400_000, 100);
            steps(1_000, 4_000_000);
            assert!(ahead.state().next.is_some());
            read(5_900_000, 100);
            assert!(ahead.state().next.is_none());
        });
    }
}
