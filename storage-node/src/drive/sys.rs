//! Calls of the operating system that the standard library does not have.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use super::Space;

/// The kernel takes at most this many slices in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// Reads that many bytes, or as many as there are, into memory that is not zeroed before.
pub(super) fn read_vec(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::with_capacity(len);
    while bytes.len() < len {
        match read_more(file, offset, &mut bytes, (len, 0)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Reads that many bytes if they are all in the page cache. If not, the device is asked for the
/// first ones that are missing.
pub(super) fn read_held(file: &File, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::with_capacity(len);
    while bytes.len() < len {
        let read = read_more(file, offset, &mut bytes, (len, libc::RWF_NOWAIT));
        read.ok().filter(|read| *read > 0)?;
    }
    Some(bytes)
}

/// Reads once, to the end of `bytes`, which stand at an offset and are to become `len`.
fn read_more(
    file: &File,
    offset: u64,
    bytes: &mut Vec<u8>,
    (len, flags): (usize, libc::c_int),
) -> io::Result<usize> {
    let at = signed(offset + bytes.len() as u64)?;
    let want = len.saturating_sub(bytes.len());
    bytes.reserve(want);
    let spare = bytes.spare_capacity_mut();
    let slice = libc::iovec {
        iov_base: spare.as_mut_ptr().cast(),
        iov_len: want.min(spare.len()),
    };
    #[expect(
        unsafe_code,
        reason = "the standard library reads only into zeroed memory, and waits"
    )]
    // SAFETY: the kernel writes at most `iov_len` bytes to the spare capacity, which has room for
    // them and is borrowed for the call; the descriptor is open as long as `file` is.
    let result = unsafe { libc::preadv2(file.as_raw_fd(), &raw const slice, 1, at, flags) };
    let read = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: preadv2 filled so many bytes of the spare capacity after the length.
    #[expect(unsafe_code, reason = "the kernel filled them")]
    unsafe {
        bytes.set_len(bytes.len() + read);
    }
    Ok(read)
}

/// Asks that a range be read into the page cache, without waiting.
pub(super) fn will_need(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (signed(offset), signed(len)) else {
        return;
    };
    // SAFETY: no memory is passed; the descriptor is open as long as `file` is.
    #[expect(unsafe_code, reason = "the standard library has no posix_fadvise")]
    let _ =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED) };
}

/// Writes all slices from an offset on.
pub(super) fn write_all_at(file: &File, mut offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
    let mut slices = slices.to_vec();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let written = pwritev(file, offset, rest)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

fn pwritev(file: &File, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = slices.len().min(SLICES_MAX);
    let count = libc::c_int::try_from(count).map_err(io::Error::other)?;
    let offset = signed(offset)?;
    loop {
        // SAFETY: `IoSlice` has the layout of `iovec`, the first `count` of them live across the
        // call, the kernel only reads them, and the descriptor is open as long as `file` is.
        #[expect(unsafe_code, reason = "the standard library has no stable pwritev")]
        let result =
            unsafe { libc::pwritev(file.as_raw_fd(), slices.as_ptr().cast(), count, offset) };
        match usize::try_from(result) {
            Ok(written) => return Ok(written),
            Err(_) => retry_interrupted()?,
        }
    }
}

/// Starts writing dirty pages of a range to the device, without waiting. Errors show at the sync.
pub(super) fn start_write_back(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (signed(offset), signed(len)) else {
        return;
    };
    // SAFETY: no memory is passed; the descriptor is open as long as `file` is.
    #[expect(unsafe_code, reason = "the standard library has no sync_file_range")]
    let _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// Lets go of clean pages of a range. Errors cost nothing but memory.
pub(super) fn drop_cached(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (signed(offset), signed(len)) else {
        return;
    };
    // SAFETY: no memory is passed; the descriptor is open as long as `file` is.
    #[expect(unsafe_code, reason = "the standard library has no posix_fadvise")]
    let _ =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_DONTNEED) };
}

/// File systems whose `syncfs` makes everything durable. Of others it is not known; the kernel does
/// not even pass it on to one in user space (FUSE), and answers that all is well.
const SYNCFS_HOLDS: [libc::c_long; 5] = [
    libc::EXT4_SUPER_MAGIC,
    libc::XFS_SUPER_MAGIC,
    libc::BTRFS_SUPER_MAGIC,
    libc::F2FS_SUPER_MAGIC,
    libc::TMPFS_MAGIC,
];

/// Syncs the file system that a file is on. `false`, with nothing done: where that would not hold,
/// and on kernels before 5.8, which do not report errors.
pub(super) fn sync_file_system(file: &File) -> io::Result<bool> {
    static REPORTS: LazyLock<bool> = LazyLock::new(syncfs_reports);
    if !*REPORTS || !SYNCFS_HOLDS.contains(&kind(file)?) {
        return Ok(false);
    }
    // SAFETY: no memory is passed; the descriptor is open as long as `file` is.
    #[expect(unsafe_code, reason = "the standard library has no syncfs")]
    let result = unsafe { libc::syncfs(file.as_raw_fd()) };
    if result == 0 {
        Ok(true)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Which kind of file system a file is on: its magic number.
fn kind(file: &File) -> io::Result<libc::c_long> {
    // SAFETY: a `statfs` is integers only, for which zeros are valid.
    #[expect(unsafe_code, reason = "the standard library has no statfs")]
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `stat` is a live, writable statfs; the descriptor is open as long as `file` is.
        #[expect(unsafe_code, reason = "the standard library has no statfs")]
        let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) };
        if result == 0 {
            return Ok(stat.f_type);
        }
        retry_interrupted()?;
    }
}

fn syncfs_reports() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 8)
}

/// Frees the blocks of a range, keeping the length; `false` where the file system cannot.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    let (offset, len) = (signed(offset)?, signed(len)?);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    loop {
        // SAFETY: no memory is passed; the descriptor is open as long as `file` is.
        #[expect(unsafe_code, reason = "the standard library has no fallocate")]
        let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// The room of the file system that a file is on.
pub(super) fn space(file: &File) -> io::Result<Space> {
    // SAFETY: a `statvfs` is integers only, for which zeros are valid.
    #[expect(unsafe_code, reason = "the standard library has no statvfs")]
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `stat` is a live, writable statvfs; the descriptor is open as long as `file` is.
        #[expect(unsafe_code, reason = "the standard library has no statvfs")]
        let result = unsafe { libc::fstatvfs(file.as_raw_fd(), &raw mut stat) };
        if result == 0 {
            let block = stat.f_frsize;
            let space = Space {
                total: stat.f_blocks.saturating_mul(block),
                available: stat.f_bavail.saturating_mul(block),
            };
            return Ok(space);
        }
        retry_interrupted()?;
    }
}

fn retry_interrupted() -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted {
        Ok(())
    } else {
        Err(error)
    }
}

fn signed(number: u64) -> io::Result<i64> {
    i64::try_from(number).map_err(|_| io::ErrorKind::InvalidInput.into())
}
