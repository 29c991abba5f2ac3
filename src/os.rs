//! What the standard library lacks: limits of the process, and signals to others.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Fewer open files than this do not carry an embedded cluster.
pub(crate) const FILES_LEAST: u64 = 1024;

/// Raises the limit of open files as far as the system lets us, and returns it.
///
/// # Errors
/// When it stays below [`FILES_LEAST`].
pub(crate) fn raise_file_limit() -> Result<u64> {
    let (soft, hard) = file_limits().context("cannot read the limit of open files")?;
    let limit = if soft < hard && set_soft_limit(hard, hard).is_ok() {
        hard
    } else {
        soft
    };
    if limit < FILES_LEAST {
        bail!(
            "only {limit} files may be open (RLIMIT_NOFILE), {FILES_LEAST} are needed at least: \
             raise it with `ulimit -n 4096`"
        );
    }
    Ok(limit)
}

#[expect(unsafe_code, reason = "std offers no getrlimit")]
fn file_limits() -> io::Result<(u64, u64)> {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live, writable rlimit; the call keeps nothing of it.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) };
    if result == 0 {
        Ok((limits.rlim_cur, limits.rlim_max))
    } else {
        Err(io::Error::last_os_error())
    }
}

#[expect(unsafe_code, reason = "std offers no setrlimit")]
fn set_soft_limit(soft: u64, hard: u64) -> io::Result<()> {
    let limits = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the pointer is to a live rlimit, only read during the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks a process of ours to end (SIGTERM).
///
/// # Errors
/// When there is no such process, or it is not ours.
#[expect(unsafe_code, reason = "std sends no signal but SIGKILL")]
pub(crate) fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    if pid <= 1 {
        return Err(io::Error::other("not the id of one process"));
    }
    // SAFETY: kill takes plain numbers; the id is positive, so no process group is meant.
    let result = unsafe { libc::kill(pid, libc::SIGTERM) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes that the file system of a folder can hold.
///
/// # Errors
/// When there is no such folder.
#[expect(unsafe_code, reason = "std offers no statvfs")]
pub(crate) fn file_system_size(folder: &Path) -> io::Result<u64> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and the pointer is to room for one statvfs.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call filled it in, since it returned 0.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// CPU time that the calling thread has used.
///
/// # Errors
/// Never on a system that has the clock; Linux has.
pub(crate) fn thread_cpu_time() -> io::Result<Duration> {
    cpu_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of this process have used.
///
/// # Errors
/// Never on a system that has the clock; Linux has.
pub(crate) fn process_cpu_time() -> io::Result<Duration> {
    cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

#[expect(unsafe_code, reason = "std offers no clocks of CPU time")]
fn cpu_time(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live, writable timespec; the call keeps nothing of it.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let nanoseconds = u32::try_from(time.tv_nsec).map_err(io::Error::other)?;
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, nanoseconds))
}

/// When a process began, in clock ticks since the machine did: with its id it names one process
/// for as long as the machine runs, while ids alone are used again. None when there is none, or it
/// has ended and only waits to be reaped.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; after it come the state and numbers.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_a_start_and_a_dead_one_has_none() {
        let start = process_start(std::process::id()).expect("we run");
        assert_eq!(process_start(std::process::id()), Some(start));
        let mut child = std::process::Command::new("true")
            .spawn()
            .expect("there is a `true`");
        child.wait().expect("it ends");
        assert_eq!(process_start(child.id()), None);
    }

    #[test]
    fn the_time_of_a_thread_goes_on_when_it_works() {
        let begin = thread_cpu_time().expect("there is a clock");
        while thread_cpu_time().expect("there is a clock") == begin {}
        assert!(thread_cpu_time().expect("there is a clock") > begin);
    }

    #[test]
    fn a_file_system_has_a_size_and_an_absent_folder_none() {
        assert!(file_system_size(Path::new("/")).expect("there is a root") > 0);
        assert!(file_system_size(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn no_process_group_is_signalled() {
        assert!(terminate(0).is_err() && terminate(1).is_err() && terminate(u32::MAX).is_err());
    }

    #[test]
    fn the_limit_of_files_is_at_least_what_it_was() {
        let (soft, _) = file_limits().expect("there is a limit");
        if soft >= FILES_LEAST {
            assert!(raise_file_limit().expect("enough files") >= soft);
        }
    }
}
