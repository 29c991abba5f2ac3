//! Calls of the operating system that the standard library does not have.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use super::Space;

/// The kernel takes at most this many slices in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

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

/// The room of the file system that a file is on, and its id (`f_fsid`; 0 when it has none).
pub(super) fn space(file: &File) -> io::Result<(Space, u64)> {
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
            return Ok((space, stat.f_fsid));
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
