//! Writes past the page cache, on a device that does less than it is asked, or fails.

use super::*;

/// The most bytes of a write, here.
const BUFFER: usize = 4096;

/// A device that takes so many calls as `answers` has, and whatever comes after them.
struct Device {
    bytes: Vec<u8>,
    answers: Vec<io::Result<usize>>,
    calls: usize,
}

impl Device {
    fn new(answers: Vec<io::Result<usize>>) -> Self {
        Self {
            bytes: Vec::new(),
            answers,
            calls: 0,
        }
    }

    /// Writes what the next answer says, from the front of `bytes`.
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.calls += 1;
        let taken = match self.answers.is_empty() {
            true => bytes.len(),
            false => self.answers.remove(0)?.min(bytes.len()),
        };
        assert_eq!(at, 512 + self.bytes.len() as u64, "a gap, or a repeat");
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// Writes 10,240 bytes in four slices.
fn write(device: &mut Device) -> (io::Result<bool>, Vec<u8>) {
    let bytes: Vec<u8> = (0..10_240u32).map(|n| (n >> 3) as u8 ^ n as u8).collect();
    let cuts = [0, 100, 5000, 5000, 10_240];
    let slices: Vec<_> = cuts
        .windows(2)
        .map(|cut| IoSlice::new(&bytes[cut[0]..cut[1]]))
        .collect();
    let mut buffer = Buffer::alone(BUFFER);
    let written = write_pieces(&mut buffer, BUFFER, (512, &slices), |bytes, at| {
        device.write(bytes, at)
    });
    (written, bytes)
}

#[test]
fn what_is_written_in_parts_is_all_there() {
    let interrupted = || Err(io::ErrorKind::Interrupted.into());
    for answers in [
        vec![],
        vec![Ok(512), Ok(1024), interrupted(), Ok(512)],
        vec![interrupted(), Ok(4096), Ok(4096), Ok(512)],
    ] {
        let mut device = Device::new(answers);
        let (written, bytes) = write(&mut device);
        assert!(written.unwrap());
        assert_eq!(device.bytes, bytes);
    }
}

#[test]
fn a_failure_is_told_and_nothing_is_written_after_it() {
    for (number, before) in [
        (libc::EIO, 0),
        (libc::EIO, 2),
        (libc::ENOSPC, 1),
        // Refused for how it is written, but only after something was written.
        (libc::EINVAL, 1),
    ] {
        let mut answers: Vec<_> = (0..before).map(|_| Ok(512)).collect();
        answers.push(Err(errno(number)));
        let mut device = Device::new(answers);
        let (written, bytes) = write(&mut device);
        assert_eq!(written.unwrap_err().raw_os_error(), Some(number));
        assert_eq!(device.calls, before + 1);
        assert_eq!(device.bytes, bytes[..512 * before]);
    }
    let mut device = Device::new(vec![Ok(512), Ok(0)]);
    let (written, _) = write(&mut device);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn a_file_that_takes_no_such_writes_is_written_otherwise() {
    let mut device = Device::new(vec![Err(errno(libc::EINVAL))]);
    let (written, _) = write(&mut device);
    assert!(!written.unwrap());
    assert!(device.bytes.is_empty());
}

#[test]
fn a_record_of_a_mebibyte_is_one_write_and_more_are_of_equal_length() {
    let calls = |len: usize| {
        let bytes = vec![7; len];
        let mut calls = Vec::new();
        let mut buffer = Buffer::alone(PIECE_MAX);
        let slices = [IoSlice::new(&bytes)];
        let written = write_pieces(&mut buffer, PIECE_MAX, (0, &slices), |bytes, _| {
            calls.push(bytes.len());
            Ok(bytes.len())
        });
        assert!(written.unwrap());
        assert_eq!(calls.iter().sum::<usize>(), len);
        calls
    };
    assert_eq!(calls((1 << 20) + 4096), [(1 << 20) + 4096]);
    let many = calls(16 * ((1 << 20) + 4096));
    assert_eq!(many.len(), 16);
    assert!(many.iter().all(|len| *len >= 1 << 20), "{many:?}");
}
