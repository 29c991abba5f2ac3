//! Listings agree with what was acked: every object that must be there once, in order, as it was
//! written, and none that must not be there.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::register::{Read, Register};
use super::{Finding, Kind};
use crate::history::{AUDITOR, Action, Entry, Operation, Value};

/// Judges every listing.
pub(crate) fn check(
    operations: &[Operation],
    registers: &BTreeMap<&str, Register<'_>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for operation in operations.iter().filter(|operation| operation.is_acked()) {
        if let Action::List { prefix, listed } = &operation.action {
            order(operation, prefix, listed, &mut findings);
            contents(operation, prefix, listed, registers, &mut findings);
        }
    }
    findings
}

fn order(operation: &Operation, prefix: &str, listed: &[Entry], findings: &mut Vec<Finding>) {
    let number = operation.number;
    for pair in listed.windows(2) {
        let [first, second] = pair else { continue };
        if first.key >= second.key {
            let (first, second) = (&first.key, &second.key);
            let text = format!("operation {number} listed {second:?} after {first:?}");
            findings.push(Finding::new(Kind::BadListing, text));
        }
    }
    for entry in listed.iter().filter(|entry| !entry.key.starts_with(prefix)) {
        let key = &entry.key;
        let text = format!("operation {number} listed {key:?} under {prefix:?}");
        findings.push(Finding::new(Kind::BadListing, text));
    }
}

fn contents(
    operation: &Operation,
    prefix: &str,
    listed: &[Entry],
    registers: &BTreeMap<&str, Register<'_>>,
    findings: &mut Vec<Finding>,
) {
    let number = operation.number;
    for entry in listed {
        let key = &entry.key;
        let register = registers.get(key.as_str());
        if register.is_none_or(|register| register.writes.is_empty()) {
            let text = format!("{key:?}: operation {number} listed what nobody wrote");
            findings.push(Finding::new(Kind::Phantom, text));
        }
    }
    for (key, register, seen) in seen(listed, registers, prefix) {
        if register.writes.is_empty() {
            continue;
        }
        let judged = match seen {
            Seen::Unknown(entry) => {
                let (length, etag) = (entry.length, &entry.etag);
                let text = format!("{length} bytes with etag '{etag}', which no write has");
                Err((Kind::WrongBytes, text))
            }
            Seen::Value(value) => register.judge(&as_read(operation, value)),
        };
        if let Err((kind, text)) = judged {
            let text = format!("{key:?}: operation {number} listed {text}");
            findings.push(Finding::new(kind, text));
        }
    }
}

/// What a listing says about one key.
enum Seen<'a> {
    /// The value, or that there is none.
    Value(Option<&'a Value>),
    /// An object that no write explains.
    Unknown(&'a Entry),
}

/// For every known key under the prefix, what the listing says about it.
fn seen<'a>(
    listed: &'a [Entry],
    registers: &'a BTreeMap<&str, Register<'a>>,
    prefix: &str,
) -> Vec<(&'a str, &'a Register<'a>, Seen<'a>)> {
    let entries: BTreeMap<&str, &Entry> = listed
        .iter()
        .map(|entry| (entry.key.as_str(), entry))
        .collect();
    let under = registers
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(prefix));
    let seen = under.map(|(key, register)| {
        let seen = match entries.get(key) {
            None => Seen::Value(None),
            Some(entry) => match register.listed(entry.length, &entry.etag) {
                Some(value) => Seen::Value(Some(value)),
                None => Seen::Unknown(entry),
            },
        };
        (*key, register, seen)
    });
    seen.collect()
}

/// A listing as a read of one key.
fn as_read<'a>(operation: &Operation, value: Option<&'a Value>) -> Read<'a> {
    Read {
        number: operation.number,
        start: operation.start,
        end: operation.end,
        value,
        audit: operation.client == AUDITOR,
    }
}

/// Every listing as reads of all known keys under its prefix, for the search for an order.
pub(crate) fn reads<'a>(
    operations: &'a [Operation],
    registers: &'a BTreeMap<&str, Register<'a>>,
) -> BTreeMap<&'a str, Vec<Read<'a>>> {
    let mut reads: BTreeMap<&str, Vec<Read<'a>>> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.is_acked()) {
        let Action::List { prefix, listed } = &operation.action else {
            continue;
        };
        for (key, _, seen) in seen(listed, registers, prefix) {
            if let Seen::Value(value) = seen {
                reads
                    .entry(key)
                    .or_default()
                    .push(as_read(operation, value));
            }
        }
    }
    reads
}
