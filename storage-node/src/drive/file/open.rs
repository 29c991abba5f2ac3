//! A file: which writes go past the page cache, and what is read ahead.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use crate::drive::buffer::Buffer;
use crate::drive::direct::{self, DIRECT_ALIGN};
use crate::drive::ring::{self, Outcome};
use crate::drive::{DriveError, DriveFile, Hold, Queued, Result, Way, sys};

/// Writes of whole blocks, from so many bytes on, go past the page cache. Smaller ones gain little,
/// and logs that get little each are written back together when they are synced.
const DIRECT_BYTES_MIN: u64 = 64 * 1024;

/// Reads of so many bytes may go on where the last one ended, but for so many: headers.
const AHEAD_BYTES_MIN: u64 = 128 * 1024;
const AHEAD_GAP_MAX: u64 = 8 * 1024;

/// Reads of so many bytes go into memory that is kept for others.
const KEPT_MEMORY_MIN: usize = 32 * 1024;

/// A file of a drive.
pub(super) struct OpenFile {
    file: Arc<File>,
    /// The same file, opened to be read and written past the page cache, where that can be done.
    direct: Option<Arc<File>>,
    /// Whether it does not take reads past the page cache after all.
    refuses: Arc<AtomicBool>,
    /// Where the last large read ended.
    read: AtomicU64,
}

impl OpenFile {
    pub(super) fn new(file: File, direct: Option<File>) -> Self {
        Self {
            file: Arc::new(file),
            direct: direct.map(Arc::new),
            refuses: Arc::default(),
            read: AtomicU64::new(0),
        }
    }

    /// Whether a large read begins where the last one ended, or a little after.
    fn follows(&self, offset: u64, len: usize) -> bool {
        let last = self.read.load(Ordering::Relaxed);
        let gap = offset.checked_sub(last);
        len as u64 >= AHEAD_BYTES_MIN && last > 0 && gap.is_some_and(|gap| gap <= AHEAD_GAP_MAX)
    }

    /// Lets the device go on while a large read that follows another is copied and verified.
    fn read_ahead(&self, offset: u64, len: usize) {
        let follows = self.follows(offset, len);
        let len = len as u64;
        if len < AHEAD_BYTES_MIN {
            return;
        }
        let end = offset.saturating_add(len);
        self.read.store(end, Ordering::Relaxed);
        if follows {
            sys::will_need(&self.file, end, len + AHEAD_GAP_MAX);
        }
    }

    /// The file to write past the page cache with, when that suits a write.
    fn direct(&self, offset: u64, slices: &[IoSlice<'_>]) -> Option<&File> {
        let direct = self.direct.as_ref()?;
        let len: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let whole = [offset, len].iter().all(|n| n.is_multiple_of(DIRECT_ALIGN));
        (whole && len >= DIRECT_BYTES_MIN).then_some(direct.as_ref())
    }
}

impl DriveFile for OpenFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DriveError::of_read(error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> Result<()> {
        if let Some(file) = self.direct(offset, slices)
            && direct::write_direct(file, offset, slices)?
        {
            return Ok(());
        }
        Ok(sys::write_all_at(&self.file, offset, slices)?)
    }

    fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.read_ahead(offset, len);
        sys::read_vec(&self.file, offset, len).map_err(DriveError::of_read)
    }

    fn read_held(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        sys::read_held(&self.file, offset, len)
    }

    fn read_bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        if len < KEPT_MEMORY_MIN {
            return self.read_vec(offset, len).map(Bytes::from);
        }
        self.read_ahead(offset, len);
        let mut buffer = Buffer::take(len);
        let read = self.read_at(offset, &mut buffer.bytes_mut()[..len])?;
        Ok(buffer.share(0..read).unwrap_or_default())
    }

    fn read_queued(&self, offset: u64, len: usize, way: Way, hold: &Hold) -> Option<Queued> {
        if self.follows(offset, len) {
            // A thread reads it, and asks for what comes next: the page cache has it by then.
            return None;
        }
        let direct = self.direct.as_ref();
        let direct = direct.filter(|_| way == Way::Past && !self.refuses.load(Ordering::Relaxed));
        let (file, skip) = match direct {
            Some(direct) => (direct, offset % DIRECT_ALIGN),
            None => (&self.file, 0),
        };
        let start = usize::try_from(skip).ok()?;
        let end = start.checked_add(len)?;
        let count = match direct {
            Some(_) => end.next_multiple_of(usize::try_from(DIRECT_ALIGN).ok()?),
            None => end,
        };
        let reading = ring::read(file, (offset - skip, count), start..end, hold)?;
        if len as u64 >= AHEAD_BYTES_MIN {
            self.read.store(offset + len as u64, Ordering::Relaxed);
        }
        let refuses = direct.map(|_| Arc::clone(&self.refuses));
        Some(Box::pin(async move {
            match reading.await {
                Outcome::Read(bytes) => return Some(bytes),
                Outcome::Refused => {
                    if let Some(refuses) = refuses {
                        refuses.store(true, Ordering::Relaxed);
                    }
                }
                Outcome::Failed => {}
            }
            None
        }))
    }

    fn will_need(&self, offset: u64, len: u64) {
        sys::will_need(&self.file, offset, len);
    }

    fn size(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn drop_cached(&self, offset: u64, len: u64) {
        sys::drop_cached(&self.file, offset, len);
    }

    fn start_write_back(&self, offset: u64, len: u64) {
        sys::start_write_back(&self.file, offset, len);
    }

    fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data()?)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        Ok(self.file.set_len(len)?)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<u64> {
        if len == 0 {
            return Ok(0);
        }
        Ok(if sys::punch(&self.file, offset, len)? {
            len
        } else {
            0
        })
    }
}
