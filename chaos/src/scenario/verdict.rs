//! How a run went.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::check::Finding;
use crate::check::available::{Availability, seconds};
use crate::history::{AUDITOR, Action, Operation, Outcome};

/// Findings that are printed; the rest is counted.
const SHOWN: usize = 10;

/// The result of one run.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    name: String,
    pub(crate) seed: u64,
    /// Where everything is kept; absent when it was removed.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) audits: u64,
    pub(crate) audited_objects: u64,
    pub(crate) audited_bytes: u64,
    /// The longest time from the start of enclosures until the status was healthy.
    pub(crate) healthy_after: Duration,
    pub(crate) availability: Availability,
    pub(crate) took: Duration,
    acked_writes: usize,
    written_bytes: u64,
    unknown_writes: usize,
    reads: usize,
    failed_reads: usize,
    lists: usize,
}

impl Verdict {
    pub(crate) fn new(name: &str, seed: u64, folder: &Path) -> Verdict {
        Verdict {
            name: name.to_owned(),
            seed,
            folder: Some(folder.to_owned()),
            findings: Vec::new(),
            audits: 0,
            audited_objects: 0,
            audited_bytes: 0,
            healthy_after: Duration::ZERO,
            availability: Availability::default(),
            took: Duration::ZERO,
            acked_writes: 0,
            written_bytes: 0,
            unknown_writes: 0,
            reads: 0,
            failed_reads: 0,
            lists: 0,
        }
    }

    /// Counts what the load did.
    pub(crate) fn count(&mut self, operations: &[Operation]) {
        for operation in operations
            .iter()
            .filter(|operation| operation.client != AUDITOR)
        {
            let acked = operation.is_acked();
            match &operation.action {
                Action::Put { value, .. } | Action::Create { value, .. } if acked => {
                    self.acked_writes += 1;
                    self.written_bytes += value.length;
                }
                Action::Delete { .. } if acked => self.acked_writes += 1,
                Action::Put { .. } | Action::Create { .. } | Action::Delete { .. } => {
                    let unknown = matches!(operation.outcome, Outcome::Unknown { .. });
                    self.unknown_writes += usize::from(unknown);
                }
                Action::Get { .. } if acked => self.reads += 1,
                Action::List { .. } if acked => self.lists += 1,
                Action::Get { .. } | Action::List { .. } => self.failed_reads += 1,
                Action::Fault { .. } => {}
            }
        }
    }

    /// The verdict with all findings.
    fn in_full(&self) -> String {
        let findings = self.findings.iter().map(|finding| format!("{finding}\n"));
        format!("{self}\n{}", findings.collect::<String>())
    }

    /// Prints the verdict, and writes it down if the folder of the run stays.
    pub(crate) fn keep(&self) -> anyhow::Result<()> {
        if let Some(folder) = &self.folder {
            let path = folder.join("verdict.txt");
            std::fs::write(&path, self.in_full())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        println!("{self}");
        Ok(())
    }

    pub(crate) fn passed(&self) -> bool {
        // A run that did nothing proves nothing.
        self.findings.is_empty() && self.acked_writes > 0 && self.audited_objects > 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "PASS" } else { "FAIL" };
        let (name, seed, took) = (&self.name, self.seed, self.took.as_secs());
        writeln!(f, "{word} {name} (seed {seed}, {took} s)")?;
        let (acked, mib) = (self.acked_writes, self.written_bytes >> 20);
        let (unknown, failed) = (self.unknown_writes, self.failed_reads);
        writeln!(
            f,
            "  writes   {acked} acked ({mib} MiB), {unknown} with an unknown outcome"
        )?;
        let (reads, lists) = (self.reads, self.lists);
        writeln!(
            f,
            "  reads    {reads} objects, {lists} listings, {failed} failed"
        )?;
        let (audits, objects) = (self.audits, self.audited_objects);
        let mib = self.audited_bytes >> 20;
        writeln!(
            f,
            "  audits   {audits}, {objects} objects byte for byte ({mib} MiB)"
        )?;
        let gaps = &self.availability;
        let (writes, reads) = (seconds(gaps.writes.length), seconds(gaps.reads.length));
        let slowest = seconds(gaps.slowest_write);
        writeln!(
            f,
            "  longest  {writes} s without a write, {reads} s without a read;"
        )?;
        writeln!(f, "           slowest write {slowest} s")?;
        if self.healthy_after > Duration::ZERO {
            let after = self.healthy_after.as_secs_f64();
            writeln!(
                f,
                "  healthy  {after:.1} s after the start of the enclosures"
            )?;
        }
        writeln!(f, "  findings {}", self.findings.len())?;
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "    {finding}")?;
        }
        if let Some(folder) = &self.folder {
            writeln!(f, "  kept in  {}", folder.display())?;
        }
        Ok(())
    }
}
