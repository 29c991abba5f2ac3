//! What a history must not show. The checks share no code with what they check.

pub(crate) mod available;
pub(crate) mod durable;
pub(crate) mod linearizable;
pub(crate) mod listing;
pub(crate) mod register;

use std::fmt;

use crate::history::{Action, Operation};

/// How the load marks, as a fault, a write that was acked with a wrong ETag.
pub(crate) const WRONG_ETAG: &str = "wrong etag:";

/// The kinds of broken promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An acked write is gone, or an audit found what it had replaced.
    LostAck,
    /// A read or listing under load gave what an acked operation had replaced before.
    StaleRead,
    /// Bytes, length or ETag that no write of this key has.
    WrongBytes,
    /// A key or value that nobody had written yet.
    Phantom,
    /// No order of the operations on a key explains what was seen.
    NotLinearizable,
    /// The search for an order was given up.
    Undecided,
    /// A listing out of order, or with a key twice.
    BadListing,
    /// An acked object could not be read in time.
    Unreadable,
    /// Writes or reads stood still for too long.
    Unavailable,
    /// The cluster's own report contradicts what was done to it.
    FalseStatus,
    /// More memory or open files than promised.
    OverLimit,
    /// The ledger of faults is not what is on the drives.
    Ledger,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::LostAck => "lost ack",
            Kind::StaleRead => "stale read",
            Kind::WrongBytes => "wrong bytes",
            Kind::Phantom => "phantom",
            Kind::NotLinearizable => "not linearizable",
            Kind::Undecided => "undecided",
            Kind::BadListing => "bad listing",
            Kind::Unreadable => "unreadable",
            Kind::Unavailable => "unavailable",
            Kind::FalseStatus => "false status",
            Kind::OverLimit => "over limit",
            Kind::Ledger => "inexact ledger",
        })
    }
}

/// One broken promise, with the numbers of the operations that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Finding {
        let text = text.into();
        Finding { kind, text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// Every finding of the checks that need nothing but the history.
pub(crate) fn all(operations: &[Operation]) -> Vec<Finding> {
    let registers = register::by_key(operations);
    let mut findings = etags(operations);
    findings.extend(durable::check(&registers));
    findings.extend(listing::check(operations, &registers));
    findings.extend(linearizable::check(operations, &registers));
    findings
}

fn etags(operations: &[Operation]) -> Vec<Finding> {
    let wrong = operations
        .iter()
        .filter_map(|operation| match &operation.action {
            Action::Fault { what } => what.strip_prefix(WRONG_ETAG),
            _ => None,
        });
    wrong
        .map(|text| Finding::new(Kind::WrongBytes, text.trim()))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
