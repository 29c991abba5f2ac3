//! What a step cost: foreground work during and before it, bytes moved beside the bound.

use std::fmt;

use crate::history::{AUDITOR, Action, Operation};

/// What clients of the load got done in a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Foreground {
    /// Seconds.
    pub(crate) seconds: f64,
    /// Operations that succeeded.
    pub(crate) operations: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    /// Microseconds in which half of them, and 99 in 100, were done.
    pub(crate) median: u64,
    pub(crate) slow: u64,
}

impl Foreground {
    /// Of the operations that began in a span of the history, in microseconds.
    pub(crate) fn measure(operations: &[Operation], from: u64, to: u64) -> Foreground {
        let mut figures = Foreground {
            seconds: to.saturating_sub(from) as f64 / 1e6,
            ..Foreground::default()
        };
        let mut times = Vec::new();
        let inside = |one: &&Operation| (from..to).contains(&one.start) && one.client != AUDITOR;
        for operation in operations.iter().filter(inside) {
            let bytes = match &operation.action {
                Action::Put { value, .. } | Action::Create { value, .. } => value.length,
                Action::Get { value, .. } => value.as_ref().map_or(0, |value| value.length),
                Action::Delete { .. } | Action::List { .. } => 0,
                Action::Fault { .. } => continue,
            };
            match operation.outcome {
                crate::history::Outcome::Acked | crate::history::Outcome::Conflict => {
                    figures.operations += 1;
                    figures.bytes += bytes;
                    times.push(operation.end - operation.start);
                }
                _ => figures.failed += 1,
            }
        }
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(0);
        (figures.median, figures.slow) = (at(50), at(99));
        figures
    }

    fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds.max(0.001)
    }

    /// Operations a second, as a part of what they were before.
    pub(crate) fn part_of(&self, before: &Foreground) -> f64 {
        self.rate() / before.rate().max(0.001)
    }
}

impl fmt::Display for Foreground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / self.seconds.max(0.001) / f64::from(1 << 20);
        let (median, slow) = (self.median as f64 / 1e3, self.slow as f64 / 1e3);
        let (rate, failed) = (self.rate(), self.failed);
        write!(
            f,
            "{rate:.0}/s, {mib:.1} MiB/s, median {median:.1} ms, p99 {slow:.1} ms, {failed} failed"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;

    #[test]
    fn only_what_the_load_began_within_the_span_counts() {
        let operation = |client, start, outcome| Operation {
            number: start,
            client,
            start,
            end: start + 2000,
            action: Action::Delete {
                key: "k".to_owned(),
            },
            outcome,
        };
        let why = String::new();
        let operations = [
            operation(1, 5, Outcome::Acked),
            operation(1, 1_000_000, Outcome::Acked),
            operation(2, 1_500_000, Outcome::Unknown { why }),
            operation(AUDITOR, 1_600_000, Outcome::Acked),
            operation(1, 3_000_000, Outcome::Acked),
        ];
        let measured = Foreground::measure(&operations, 1_000_000, 3_000_000);
        assert_eq!((measured.operations, measured.failed), (1, 1));
        assert_eq!((measured.median, measured.seconds), (2000, 2.0));
        let twice = Foreground::measure(&operations, 1_000_000, 2_000_000);
        assert!((measured.part_of(&twice) - 0.5).abs() < 1e-9);
    }
}
