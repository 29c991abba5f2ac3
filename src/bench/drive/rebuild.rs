//! Building the index from a log, against reading the log's headers one after another.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::load::{Drive, forget_cached, log_in};
use super::{Pattern, bytes_of, median};

/// Medians of the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Rebuild {
    /// Bytes of each record's fragments.
    pub(super) bytes: u32,
    pub(super) records: u64,
    /// Of log, in GB (10^9 bytes) a second.
    pub(super) gigabytes: f64,
    /// Records a second.
    pub(super) per_second: f64,
    /// Headers a second that a plain walk reads, and checks nothing.
    pub(super) headers_per_second: f64,
    /// Records a second over headers a second.
    pub(super) ratio: f64,
}

/// The log ends with a record that proves all before it to be synced: else the last commit group,
/// 16 records, would be read whole and written again, however long the log.
///
/// Opens a drive whose index was removed; what opening takes where there is neither index nor log
/// is taken off: making the files of an index.
pub(super) fn measure(
    runtime: &Runtime,
    folder: &Path,
    (bytes, rounds, most): (u32, u32, u64),
) -> Result<Rebuild> {
    let pattern = Pattern { bytes, at_once: 16 };
    let drive = Drive::create(folder)?;
    drive.append(runtime, pattern, bytes_of(pattern, most))?;
    drive.prove(runtime)?;
    let mut path = drive.close(runtime)?;
    let log = log_in(&path);
    let len = std::fs::metadata(&log)?.len() as f64;
    let (mut opens, mut empty, mut walks, mut records) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        std::fs::remove_dir_all(path.join("index")).context("cannot remove the index")?;
        forget_cached(&log)?;
        let begun = Instant::now();
        let rebuilt = Drive::open(&path)?;
        opens.push(begun.elapsed().as_secs_f64());
        path = rebuilt.close(runtime)?;
        empty.push(open_empty(runtime, &path, &log)?.as_secs_f64());
        forget_cached(&log)?;
        let begun = Instant::now();
        records = walk(&log)?;
        walks.push(begun.elapsed().as_secs_f64());
    }
    let empty = empty.into_iter().fold(f64::INFINITY, f64::min);
    let ratios = opens.iter().zip(&walks);
    let ratios: Vec<f64> = ratios
        .map(|(open, walk)| walk / net(*open, empty))
        .collect();
    let per = |seconds: f64| records as f64 / seconds;
    std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let per_second = median(opens.iter().map(|open| per(net(*open, empty))).collect());
    Ok(Rebuild {
        bytes,
        records,
        gigabytes: per_second * len / records.max(1) as f64 / 1e9,
        per_second,
        headers_per_second: median(walks.into_iter().map(per).collect()),
        ratio: median(ratios),
    })
}

/// What is left of the time of an opening without what opening takes in any case; all of it where
/// that hides what is measured.
fn net(open: f64, empty: f64) -> f64 {
    let net = open - empty;
    if net > open / 10.0 { net } else { open }
}

/// How long it takes to open the drive without its log and index; the log is put back.
fn open_empty(runtime: &Runtime, drive: &Path, log: &Path) -> Result<Duration> {
    let aside = drive.join("aside.log");
    std::fs::remove_dir_all(drive.join("index")).context("cannot remove the index")?;
    std::fs::rename(log, &aside).context("cannot put the log aside")?;
    let begun = Instant::now();
    let opened = Drive::open(drive)?;
    let took = begun.elapsed();
    opened.close(runtime)?;
    std::fs::rename(&aside, log).context("cannot put the log back")?;
    Ok(took)
}

/// Reads each header of a log, to find the next one; how many there are.
fn walk(log: &Path) -> Result<u64> {
    let file = File::open(log)?;
    let len = file.metadata()?.len();
    let (mut at, mut count, mut header) = (4096, 0, [0; 2048]);
    let number = |header: &[u8], at: usize| {
        let bytes = header
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    while at < len {
        let read = file.read_at(&mut header, at)?;
        let header = header.get(..read).unwrap_or_default();
        anyhow::ensure!(header.starts_with(b"EFLR"), "no record at {at}");
        // The lengths of header and payload, and the padding.
        at += [8, 12, 92]
            .map(|place| u64::from(number(header, place)))
            .iter()
            .sum::<u64>();
        count += 1;
    }
    Ok(count)
}
