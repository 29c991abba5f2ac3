//! How long clients were without service: the longest time in which no operation of a kind was
//! acked, and the time from a fault to the first success that began after it.

use super::{Finding, Kind};
use crate::history::{AUDITOR, Action, Operation};

/// Spans without service, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Availability {
    pub(crate) writes: Gap,
    pub(crate) reads: Gap,
    /// The slowest write that was acked.
    pub(crate) slowest_write: u64,
    /// For each fault under load: what it was, until the next write, until the next read.
    pub(crate) after_faults: Vec<(String, Option<u64>, Option<u64>)>,
}

/// The longest span without a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    /// When it began, since the beginning of the history.
    pub(crate) from: u64,
    pub(crate) length: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Write,
    Read,
}

/// Measures within `windows`, the spans in which the load was free to work.
pub(crate) fn measure(operations: &[Operation], windows: &[(u64, u64)]) -> Availability {
    let acked: Vec<(&Operation, Class)> = operations
        .iter()
        .filter(|operation| operation.is_acked() && operation.client != AUDITOR)
        .filter_map(|operation| Some((operation, class(&operation.action)?)))
        .collect();
    let ends = |class: Class| {
        let mut ends: Vec<u64> = acked
            .iter()
            .filter(|(_, own)| *own == class)
            .map(|(operation, _)| operation.end)
            .collect();
        ends.sort_unstable();
        ends
    };
    let writes = acked.iter().filter(|(_, own)| *own == Class::Write);
    let slowest = writes.map(|(operation, _)| operation.end - operation.start);
    Availability {
        writes: longest(&ends(Class::Write), windows),
        reads: longest(&ends(Class::Read), windows),
        slowest_write: slowest.max().unwrap_or(0),
        after_faults: after_faults(operations, &acked, windows),
    }
}

fn class(action: &Action) -> Option<Class> {
    match action {
        Action::Put { .. } | Action::Create { .. } | Action::Delete { .. } => Some(Class::Write),
        Action::Get { .. } | Action::List { .. } => Some(Class::Read),
        Action::Fault { .. } => None,
    }
}

fn longest(ends: &[u64], windows: &[(u64, u64)]) -> Gap {
    let mut gap = Gap::default();
    for (open, close) in windows {
        let mut from = *open;
        let inside = ends.iter().filter(|end| (*open..=*close).contains(*end));
        for end in inside.chain([close]) {
            if end - from > gap.length {
                let length = end - from;
                gap = Gap { from, length };
            }
            from = *end;
        }
    }
    gap
}

fn after_faults(
    operations: &[Operation],
    acked: &[(&Operation, Class)],
    windows: &[(u64, u64)],
) -> Vec<(String, Option<u64>, Option<u64>)> {
    let mut found = Vec::new();
    for operation in operations {
        let Action::Fault { what } = &operation.action else {
            continue;
        };
        let at = operation.end;
        let loaded = windows
            .iter()
            .any(|(open, close)| *open <= at && at < *close);
        if !what.starts_with("killed") || !loaded {
            continue;
        }
        let next = |class: Class| {
            let later = acked
                .iter()
                .filter(|(operation, own)| *own == class && operation.start >= at);
            later.map(|(operation, _)| operation.end - at).min()
        };
        found.push((what.clone(), next(Class::Write), next(Class::Read)));
    }
    found
}

impl Availability {
    /// Gaps beyond what was promised, in microseconds.
    pub(crate) fn check(&self, limit: u64) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, gap) in [("writes", self.writes), ("reads", self.reads)] {
            if gap.length > limit {
                let (from, length) = (seconds(gap.from), seconds(gap.length));
                let text = format!("no {name} for {length} s, from second {from} on");
                findings.push(Finding::new(Kind::Unavailable, text));
            }
        }
        findings
    }
}

/// Seconds with one decimal place.
pub(crate) fn seconds(microseconds: u64) -> String {
    let tenths = microseconds / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Outcome, SCENARIO};

    fn operation(client: u32, start: u64, end: u64, action: Action) -> Operation {
        Operation {
            number: start,
            client,
            start,
            end,
            action,
            outcome: Outcome::Acked,
        }
    }

    fn delete(start: u64, end: u64) -> Operation {
        let key = "k".to_owned();
        operation(0, start, end, Action::Delete { key })
    }

    fn get(client: u32, start: u64, end: u64) -> Operation {
        let (key, value) = ("k".to_owned(), None);
        operation(client, start, end, Action::Get { key, value })
    }

    #[test]
    fn gaps_count_within_the_windows_of_load_and_without_audits() {
        let operations = [
            delete(0, 10),
            delete(10, 40),
            get(0, 5, 20),
            get(AUDITOR, 45, 60),
            delete(205, 220),
            get(0, 200, 290),
        ];
        let windows = [(0, 50), (200, 300)];
        let measured = measure(&operations, &windows);
        assert_eq!(
            measured.writes,
            Gap {
                from: 220,
                length: 80
            }
        );
        assert_eq!(
            measured.reads,
            Gap {
                from: 200,
                length: 90
            }
        );
        assert_eq!(measured.slowest_write, 30);
        assert_eq!(measured.check(100), []);
        assert_eq!(measured.check(85).len(), 1);
    }

    #[test]
    fn a_load_without_a_success_is_one_gap() {
        assert_eq!(measure(&[], &[(5, 105)]).writes.length, 100);
    }

    #[test]
    fn service_after_a_kill_counts_from_what_began_after_it() {
        let what = "killed enclosure 2".to_owned();
        let operations = [
            operation(SCENARIO, 100, 100, Action::Fault { what: what.clone() }),
            delete(90, 110),
            delete(120, 150),
            get(0, 130, 140),
        ];
        let measured = measure(&operations, &[(0, 1000)]);
        assert_eq!(measured.after_faults, [(what, Some(50), Some(40))]);
    }
}
