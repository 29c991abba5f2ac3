//! `enfilade bench drive`: the engine of one drive, in this process, on a folder that exists.
//!
//! With `--fio`, fio writes and reads in the same folder in turns with the engine: the same way
//! into the kernel, and as many bytes between syncs as the engine's groups had in that round. What
//! is given then is the median of the ratios of all rounds.

mod fio;
mod load;
mod rebuild;

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::load::Drive;
use super::{median, table};
use crate::cli::{BenchDriveArgs, DriveWork};

/// Bytes of an append or a read, and how many there are at once.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    bytes: u32,
    at_once: u32,
}

const KIB: u32 = 1024;
const APPENDS: [Pattern; 9] = patterns([4 * KIB, 64 * KIB, 1024 * KIB], [1, 16, 64]);

const fn patterns(bytes: [u32; 3], at_once: [u32; 3]) -> [Pattern; 9] {
    let mut all = [Pattern {
        bytes: 0,
        at_once: 0,
    }; 9];
    let mut at = 0;
    while at < 9 {
        all[at] = Pattern {
            bytes: bytes[at / 3],
            at_once: at_once[at % 3],
        };
        at += 1;
    }
    all
}

/// Reads: whether in order, and the pattern.
const READS: [(bool, Pattern); 5] = [
    (
        true,
        Pattern {
            bytes: 1024 * KIB,
            at_once: 1,
        },
    ),
    (
        false,
        Pattern {
            bytes: 64 * KIB,
            at_once: 1,
        },
    ),
    (
        false,
        Pattern {
            bytes: 64 * KIB,
            at_once: 16,
        },
    ),
    (
        false,
        Pattern {
            bytes: 4 * KIB,
            at_once: 1,
        },
    ),
    (
        false,
        Pattern {
            bytes: 4 * KIB,
            at_once: 16,
        },
    ),
];

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    /// Bytes of each append or read.
    bytes: u32,
    at_once: u32,
    /// Bytes between two syncs, on average; 0 for reads.
    group_bytes: u64,
    /// Median of the rounds, in MB/s (10^6 bytes).
    engine: f64,
    /// The same of fio.
    fio: Option<f64>,
    /// Median of engine / fio of each round.
    ratio: Option<f64>,
    /// The same two with fio working otherwise: as many writers in fio as in the engine, each with
    /// a file and syncs of its own (none for one writer, which is all that fio has anyway); reads
    /// at random past the page cache, by io_uring.
    fio_other: Option<f64>,
    ratio_other: Option<f64>,
    /// fio's command lines.
    commands: Vec<String>,
}

/// The result, as JSON has it.
#[derive(Debug, Serialize)]
struct Report {
    rounds: u32,
    lines: Vec<Line>,
    rebuild: Vec<rebuild::Rebuild>,
}

/// Measures, and prints.
///
/// # Errors
/// When the folder cannot be used.
pub(crate) fn run(args: &BenchDriveArgs) -> Result<()> {
    let folder = args.folder.join("enfilade-bench");
    fs::create_dir(&folder)
        .with_context(|| format!("cannot create {}; remove what is there", folder.display()))?;
    let measured = measure(args, &folder);
    let removed = fs::remove_dir_all(&folder);
    let report = measured?;
    removed.with_context(|| format!("cannot remove {}", folder.display()))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

fn measure(args: &BenchDriveArgs, folder: &std::path::Path) -> Result<Report> {
    let fio = args.fio && fio::installed();
    if args.fio && !fio {
        eprintln!("fio is not installed: measured without it");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let most = u64::from(args.mib) << 20;
    let wants = |work| args.only.is_empty() || args.only.contains(&work);
    let mut lines = Vec::new();
    for pattern in APPENDS.iter().filter(|_| wants(DriveWork::Append)) {
        let pattern = *pattern;
        lines.push(append_line(
            &runtime,
            folder,
            pattern,
            (args.rounds, most, fio),
        )?);
    }
    if wants(DriveWork::Read) {
        lines.extend(read_lines(&runtime, folder, (args.rounds, most, fio))?);
    }
    let mut rebuilds = Vec::new();
    let records = [4 * KIB, 64 * KIB, 1024 * KIB];
    for bytes in records.into_iter().filter(|_| wants(DriveWork::Rebuild)) {
        // Few headers are read too quickly to tell.
        let most = if bytes == 1024 * KIB { 4 * most } else { most };
        rebuilds.push(rebuild::measure(
            &runtime,
            folder,
            (bytes, args.rounds, most),
        )?);
    }
    Ok(Report {
        rounds: args.rounds,
        lines,
        rebuild: rebuilds,
    })
}

/// Appends of a pattern move so many bytes in a round: small ones less, because their time is that
/// of the syncs.
fn bytes_of(pattern: Pattern, most: u64) -> u64 {
    let syncs = 2048 * u64::from(pattern.bytes) * u64::from(pattern.at_once);
    syncs.min(most)
}

fn append_line(
    runtime: &tokio::runtime::Runtime,
    folder: &std::path::Path,
    pattern: Pattern,
    (rounds, most, with_fio): (u32, u64, bool),
) -> Result<Line> {
    let bytes = bytes_of(pattern, most);
    let (mut ours, mut fio, mut each) = (Vec::new(), Rates::default(), Rates::default());
    let (mut group_bytes, mut commands) = (0, Vec::new());
    for _ in 0..rounds {
        let drive = Drive::create(folder)?;
        let appended = drive.append(runtime, pattern, bytes)?;
        drive.remove(runtime)?;
        ours.push(appended.rate);
        group_bytes = appended.group_bytes;
        if with_fio {
            let job = fio::Job::append(folder, pattern, bytes, group_bytes);
            fio.take(job.run()?, appended.rate);
            commands = vec![job.command()];
            if pattern.at_once > 1 {
                let job = fio::Job::append_each(folder, pattern, bytes);
                each.take(job.run()?, appended.rate);
                commands.push(job.command());
            }
        }
    }
    Ok(Line {
        what: "append".to_owned(),
        bytes: pattern.bytes,
        at_once: pattern.at_once,
        group_bytes,
        engine: median(ours),
        fio: fio.rate(),
        ratio: fio.ratio(),
        fio_other: each.rate(),
        ratio_other: each.ratio(),
        commands,
    })
}

/// What fio did in each round, and the engine in comparison.
#[derive(Default)]
struct Rates {
    rates: Vec<f64>,
    ratios: Vec<f64>,
}

impl Rates {
    fn take(&mut self, rate: f64, engine: f64) {
        self.rates.push(rate);
        self.ratios.push(engine / rate);
    }

    fn rate(&self) -> Option<f64> {
        (!self.rates.is_empty()).then(|| median(self.rates.clone()))
    }

    fn ratio(&self) -> Option<f64> {
        (!self.ratios.is_empty()).then(|| median(self.ratios.clone()))
    }
}

fn read_lines(
    runtime: &tokio::runtime::Runtime,
    folder: &std::path::Path,
    (rounds, most, with_fio): (u32, u64, bool),
) -> Result<Vec<Line>> {
    let drive = Drive::create(folder)?;
    let stored = Pattern {
        bytes: 1024 * KIB,
        at_once: 1,
    };
    drive.append(runtime, stored, most)?;
    let mut lines = Vec::new();
    for (in_order, pattern) in READS {
        let bytes = match in_order {
            true => most,
            false => (16384 * u64::from(pattern.bytes)).min(most / 4),
        };
        let (mut ours, mut theirs, mut direct) = (Vec::new(), Rates::default(), Rates::default());
        let job = fio::Job::read(&drive.log(), in_order, pattern, bytes);
        let past = fio::Job::read_direct(&drive.log(), pattern, bytes);
        for round in 0..rounds {
            load::forget_cached(&drive.log())?;
            let rate = drive.read(runtime, in_order, pattern, (bytes, round))?;
            ours.push(rate);
            if with_fio {
                load::forget_cached(&drive.log())?;
                theirs.take(job.run()?, rate);
                if !in_order {
                    direct.take(past.run()?, rate);
                }
            }
        }
        lines.push(Line {
            what: if in_order {
                "read in order"
            } else {
                "read at random"
            }
            .to_owned(),
            bytes: pattern.bytes,
            at_once: pattern.at_once,
            group_bytes: 0,
            engine: median(ours),
            fio: theirs.rate(),
            ratio: theirs.ratio(),
            fio_other: direct.rate(),
            ratio_other: direct.ratio(),
            commands: match (with_fio, in_order) {
                (true, true) => vec![job.command()],
                (true, false) => vec![job.command(), past.command()],
                _ => Vec::new(),
            },
        });
    }
    drive.remove(runtime)?;
    Ok(lines)
}

fn text(report: &Report) -> String {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let rows: Vec<Vec<String>> = report
        .lines
        .iter()
        .map(|line| {
            vec![
                line.what.clone(),
                format!("{} KiB", line.bytes / KIB),
                line.at_once.to_string(),
                format!("{}", line.group_bytes / u64::from(KIB)),
                format!("{:.1}", line.engine),
                optional(line.fio, 1),
                optional(line.ratio, 2),
                optional(line.fio_other, 1),
                optional(line.ratio_other, 2),
            ]
        })
        .collect();
    let headings = [
        "what",
        "bytes",
        "at once",
        "KiB a sync",
        "MB/s",
        "fio",
        "ratio",
        "fio, 2nd",
        "ratio",
    ];
    let mut text = table(&headings, &rows);
    let rows: Vec<Vec<String>> = report
        .rebuild
        .iter()
        .map(|rebuild| {
            vec![
                format!("{} records", rebuild.records),
                format!("{} KiB", rebuild.bytes / KIB),
                format!("{:.2}", rebuild.gigabytes),
                format!("{:.0}", rebuild.per_second),
                format!("{:.0}", rebuild.headers_per_second),
                format!("{:.2}", rebuild.ratio),
            ]
        })
        .collect();
    let headings = [
        "rebuild",
        "bytes",
        "GB/s",
        "records/s",
        "headers/s",
        "ratio",
    ];
    text.push('\n');
    text.push_str(&table(&headings, &rows));
    let commands = report.lines.iter().flat_map(|line| &line.commands);
    for command in commands {
        text.push('\n');
        text.push_str(command);
    }
    text.push('\n');
    text
}
