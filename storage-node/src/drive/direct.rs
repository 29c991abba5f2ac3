//! Writes past the page cache, through an aligned buffer.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::buffer::{BLOCK, Buffer};

/// Writes past the page cache begin and end at multiples of this, in the file and in memory: no
/// drive or file system asks for more.
pub(super) const DIRECT_ALIGN: u64 = BLOCK as u64;

/// The most bytes of one write: a record of a MiB with its header, in one piece. As much is held by
/// each thread that writes: a committer.
pub(super) const PIECE_MAX: usize = 1024 * 1024 + 64 * 1024;

/// Opens a file that exists for reads and writes past the page cache; none where they are not to be
/// had.
pub(super) fn open_direct(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    options.open(path).ok()
}

/// Writes all slices, whole blocks in sum, past the page cache. `false`: this file does not take
/// such writes after all, and nothing was written.
pub(super) fn write_direct(file: &File, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<bool> {
    thread_local! {
        static BUFFER: RefCell<Option<Buffer>> = const { RefCell::new(None) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        let buffer = buffer.get_or_insert_with(|| Buffer::alone(PIECE_MAX));
        write_pieces(buffer, PIECE_MAX, (offset, slices), |bytes, at| {
            file.write_at(bytes, at)
        })
    })
}

/// Slices, as far as they were copied.
struct Source<'a> {
    slices: &'a [IoSlice<'a>],
    /// Bytes of the first slice that were copied.
    copied: usize,
}

impl Source<'_> {
    /// Copies what comes next; how many bytes, fewer than there is room for only at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some((first, others)) = self.slices.split_first() {
            let rest = &first[self.copied..];
            let count = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            self.copied += count;
            if self.copied < first.len() {
                break;
            }
            (self.slices, self.copied) = (others, 0);
        }
        filled
    }
}

/// Writes the slices in pieces of about equal length, at most `most` bytes each.
fn write_pieces(
    buffer: &mut Buffer,
    most: usize,
    (offset, slices): (u64, &[IoSlice<'_>]),
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<bool> {
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let count = total.div_ceil(most).max(1);
    let piece = total.div_ceil(count).next_multiple_of(BLOCK);
    let buffer = &mut buffer.bytes_mut()[..piece];
    let mut source = Source { slices, copied: 0 };
    let mut at = offset;
    loop {
        let filled = source.fill(buffer);
        if filled == 0 {
            return Ok(true);
        }
        if !write_blocks(&buffer[..filled], at, at == offset, &mut write)? {
            return Ok(false);
        }
        at += filled as u64;
    }
}

/// Writes blocks; `false` when the first of all are refused for how they are written.
fn write_blocks(
    mut blocks: &[u8],
    offset: u64,
    first: bool,
    write: &mut impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<bool> {
    let mut at = offset;
    while !blocks.is_empty() {
        match write(blocks, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                blocks = &blocks[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if first && at == offset && error.raw_os_error() == Some(libc::EINVAL) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
