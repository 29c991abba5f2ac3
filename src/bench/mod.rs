//! `enfilade bench`: what this machine does, measured where it is.
//!
//! Figures of one thread are in its own CPU time, so that other work on the machine takes nothing
//! from them but cache and memory. Candidates take turns, and the median of many short turns is
//! given: what disturbs hits all alike.

mod codec;
mod digest;
mod drive;
mod meta;
mod small;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::cli::BenchCommand;
use crate::os;

/// Runs a benchmark, and prints what it found.
///
/// # Errors
/// When it cannot run as asked, in words.
pub(crate) fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Codec(args) => codec::run(&args),
        BenchCommand::Digest(args) => digest::run(&args),
        BenchCommand::Drive(args) => drive::run(&args),
        BenchCommand::Meta(args) => meta::run(&args),
        BenchCommand::Small(args) => small::run(&args),
    }
}

/// How long a turn of a candidate takes at least, in CPU time.
const TURN: Duration = Duration::from_millis(4);

/// One of several ways to do the same work.
struct Candidate<'a> {
    /// Bytes that one call works on.
    bytes: usize,
    call: Box<dyn FnMut() -> Result<()> + 'a>,
}

impl<'a> Candidate<'a> {
    fn new(bytes: usize, call: impl FnMut() -> Result<()> + 'a) -> Self {
        Self {
            bytes,
            call: Box::new(call),
        }
    }

    /// Bytes a second of CPU time of this thread, in one turn.
    fn turn(&mut self) -> Result<f64> {
        let begin = os::thread_cpu_time()?;
        let (mut calls, mut batch) = (0_usize, 1);
        loop {
            for _ in 0..batch {
                (self.call)()?;
            }
            calls += batch;
            let spent = os::thread_cpu_time()?.saturating_sub(begin);
            if spent >= TURN {
                return Ok((self.bytes * calls) as f64 / spent.as_secs_f64());
            }
            batch *= 2;
        }
    }
}

/// The median rate of each candidate in GB/s a core: bytes per nanosecond of CPU time.
fn measure(candidates: &mut [Candidate<'_>], rounds: u32) -> Result<Vec<f64>> {
    let mut rates = vec![Vec::new(); candidates.len()];
    for candidate in &mut *candidates {
        candidate.turn()?;
    }
    for _ in 0..rounds {
        for (candidate, rates) in candidates.iter_mut().zip(&mut rates) {
            rates.push(candidate.turn()? / 1e9);
        }
    }
    Ok(rates.into_iter().map(median).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Bytes that no kernel can guess, the same in every run (xorshift64).
fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ ((seed as u64 + 1) << 17);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Rows under headings: the first two columns are text, the others numbers.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(String::len).max().unwrap_or_default();
            widest.max(headings[column].len())
        })
        .collect();
    let mut text = String::new();
    let headings: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [
            vec!["4+2".to_owned(), "scalar".to_owned(), "1.5".to_owned()],
            vec!["100+8".to_owned(), "avx2".to_owned(), "12.25".to_owned()],
        ];
        assert_eq!(
            table(&["profile", "kernel", "encode"], &rows),
            "profile  kernel  encode\n4+2      scalar     1.5\n100+8    avx2     12.25\n"
        );
    }

    #[test]
    fn every_candidate_gets_a_rate_and_an_error_ends_the_run() {
        let mut candidates = [
            Candidate::new(1000, || Ok(())),
            Candidate::new(1000, || {
                noise(2000, 1);
                Ok(())
            }),
        ];
        let rates = measure(&mut candidates, 3).expect("both run");
        assert!(rates[0] > rates[1] && rates[1] > 0.0, "{rates:?}");
        let mut refuses = [Candidate::new(1, || anyhow::bail!("no"))];
        assert!(measure(&mut refuses, 3).is_err());
    }
}
