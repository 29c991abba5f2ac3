//! `enfilade bench digest`: MD5 with every kernel that this CPU runs, CRCs, SHA.

use std::hint::black_box;

use anyhow::Result;
use enfilade_cluster::api::record::ChecksumAlgorithm;
use enfilade_gateway::digest::Sha;
use enfilade_gateway::digest::bench::{BODIES, BODY, hash};
use enfilade_gateway::digest::crc::Crc;
use enfilade_gateway::digest::kernel::{Kernel, START};
use serde::Serialize;

use super::{Candidate, measure, noise, table};
use crate::cli::BenchDigestArgs;

/// The result, as JSON has it.
#[derive(Debug, Serialize)]
struct Report {
    /// The MD5 kernel that a gateway would use here.
    kernel: &'static str,
    rates: Vec<Rate>,
}

/// What one core does, in GB (10^9 bytes) a second, all bodies together.
#[derive(Debug, Serialize)]
struct Rate {
    digest: String,
    kernel: String,
    /// Bodies that are digested side by side.
    bodies: usize,
    rate: f64,
}

/// Measures, and prints.
///
/// # Errors
/// When the clock of the thread cannot be read.
pub(crate) fn run(args: &BenchDigestArgs) -> Result<()> {
    let data = noise(32 * BODY, 1);
    let (mut candidates, mut rates) = (Vec::new(), Vec::new());
    let mut row = |digest: &str, kernel: &str, bodies| {
        rates.push(Rate {
            digest: digest.to_owned(),
            kernel: kernel.to_owned(),
            bodies,
            rate: 0.0,
        });
    };
    for kernel in Kernel::available() {
        for bodies in BODIES {
            row("md5", kernel.name(), bodies);
            candidates.push(md5(kernel, bodies, &data));
        }
    }
    let body = &data[..4 * BODY];
    for (name, crc) in [
        ("crc64nvme", Crc::Crc64Nvme),
        ("crc32c", Crc::Crc32c),
        ("crc32", Crc::Crc32),
    ] {
        row(name, "-", 1);
        candidates.push(Candidate::new(body.len(), move || {
            black_box(crc.of_bytes(black_box(body)));
            Ok(())
        }));
    }
    for (name, algorithm) in [
        ("sha256", ChecksumAlgorithm::Sha256),
        ("sha1", ChecksumAlgorithm::Sha1),
    ] {
        row(name, "-", 1);
        candidates.push(Candidate::new(body.len(), move || {
            let sha = Sha::of(algorithm).map(|mut sha| {
                sha.update(black_box(body));
                sha.finish()
            });
            black_box(sha);
            Ok(())
        }));
    }
    for (rate, measured) in rates.iter_mut().zip(measure(&mut candidates, args.rounds)?) {
        rate.rate = measured;
    }
    let report = Report {
        kernel: Kernel::best().name(),
        rates,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

fn md5(kernel: Kernel, bodies: usize, data: &[u8]) -> Candidate<'_> {
    let mut states = vec![START; bodies];
    Candidate::new(bodies * BODY, move || {
        hash(kernel, &mut states, data);
        Ok(())
    })
}

/// A row for each digest and kernel, a column for each number of bodies.
fn text(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for rate in &report.rates {
        let begins = |row: &&mut Vec<String>| row[0] == rate.digest && row[1] == rate.kernel;
        let figure = format!("{:.2}", rate.rate);
        match rows.last_mut().filter(begins) {
            Some(row) => row.push(figure),
            None => rows.push(vec![rate.digest.clone(), rate.kernel.clone(), figure]),
        }
    }
    let bodies = BODIES.map(|bodies| bodies.to_string());
    let mut headings = vec!["digest", "kernel"];
    headings.extend(bodies.iter().map(String::as_str));
    format!(
        "GB/s a core, of so many bodies side by side; MD5 in use here: {}\n\n{}",
        report.kernel,
        table(&headings, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_table_has_all_numbers_of_bodies() {
        let rate = |digest: &str, bodies| Rate {
            digest: digest.to_owned(),
            kernel: "-".to_owned(),
            bodies,
            rate: 1.0,
        };
        let mut rates: Vec<Rate> = BODIES.iter().map(|bodies| rate("md5", *bodies)).collect();
        rates.push(rate("sha1", 1));
        let kernel = "single";
        let text = text(&Report { kernel, rates });
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1].split_whitespace().count(), 2 + BODIES.len());
    }
}
