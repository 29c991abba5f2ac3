//! The history of one key: its writes, and what each read may have seen.

use std::collections::BTreeMap;

use super::Kind;
use crate::history::{AUDITOR, Action, Operation, Outcome, Value};

/// A write, delete or create that may have taken effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) number: u64,
    pub(crate) start: u64,
    /// `u64::MAX` while it may still take effect.
    pub(crate) end: u64,
    /// Absent for a delete.
    pub(crate) value: Option<&'a Value>,
    pub(crate) acked: bool,
    /// Took effect only where there was no object.
    pub(crate) creates: bool,
}

/// A read that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub(crate) number: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) value: Option<&'a Value>,
    /// By the auditor, while the load rested.
    pub(crate) audit: bool,
}

/// A create that was refused because there was an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict {
    pub(crate) number: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// All that happened to one key.
#[derive(Debug, Default)]
pub(crate) struct Register<'a> {
    pub(crate) writes: Vec<Write<'a>>,
    pub(crate) reads: Vec<Read<'a>>,
    pub(crate) conflicts: Vec<Conflict>,
}

/// The registers of a history, by key.
pub(crate) fn by_key(operations: &[Operation]) -> BTreeMap<&str, Register<'_>> {
    let mut registers: BTreeMap<&str, Register<'_>> = BTreeMap::new();
    for operation in operations {
        let Some(key) = operation.action.key() else {
            continue;
        };
        let register = registers.entry(key).or_default();
        register.enter(operation);
    }
    registers
}

impl<'a> Register<'a> {
    fn enter(&mut self, operation: &'a Operation) {
        let (value, creates) = match &operation.action {
            Action::Put { value, .. } => (Some(value), false),
            Action::Create { value, .. } => (Some(value), true),
            Action::Delete { .. } => (None, false),
            Action::Get { value, .. } => return self.enter_read(operation, value.as_ref()),
            Action::List { .. } | Action::Fault { .. } => return,
        };
        let (acked, end) = match operation.outcome {
            Outcome::Acked => (true, operation.end),
            Outcome::Unknown { .. } => (false, u64::MAX),
            Outcome::Refused { .. } => return,
            Outcome::Conflict => {
                return self.conflicts.push(Conflict {
                    number: operation.number,
                    start: operation.start,
                    end: operation.end,
                });
            }
        };
        self.writes.push(Write {
            number: operation.number,
            start: operation.start,
            end,
            value,
            acked,
            creates,
        });
    }

    fn enter_read(&mut self, operation: &'a Operation, value: Option<&'a Value>) {
        if operation.is_acked() {
            self.reads.push(Read {
                number: operation.number,
                start: operation.start,
                end: operation.end,
                value,
                audit: operation.client == AUDITOR,
            });
        }
    }

    /// The write whose bytes these are.
    pub(crate) fn writer_of(&self, value: &Value) -> Option<&Write<'a>> {
        let mut writes = self.writes.iter();
        writes.find(|write| write.value.is_some_and(|own| own.digest == value.digest))
    }

    /// The value that a listing shows by length and ETag.
    pub(crate) fn listed(&self, length: u64, etag: &str) -> Option<&'a Value> {
        let mut values = self.writes.iter().filter_map(|write| write.value);
        values.find(|value| value.length == length && value.etag == etag)
    }

    /// An acked operation that replaced, before `read`, what was there at `since`.
    fn replaced(&self, since: u64, before: u64) -> Option<&Write<'a>> {
        let mut acked = self.writes.iter().filter(|write| write.acked);
        acked.find(|write| write.start > since && write.end < before)
    }

    /// What is wrong with a read by the order of real time alone. The search for an order of all
    /// operations says more; this says it in words.
    pub(crate) fn judge(&self, read: &Read<'_>) -> Result<(), (Kind, String)> {
        match read.value {
            Some(value) => self.judge_value(read, value),
            None => self.judge_absence(read),
        }
    }

    fn judge_value(&self, read: &Read<'_>, value: &Value) -> Result<(), (Kind, String)> {
        let Some(write) = self.writer_of(value) else {
            let seen = &value.digest;
            let length = value.length;
            return Err(match self.writes.is_empty() {
                true => (Kind::Phantom, "an object that nobody wrote".to_owned()),
                false => (
                    Kind::WrongBytes,
                    format!("{length} bytes with digest {seen}, which no write of the key sent"),
                ),
            });
        };
        let number = write.number;
        if let Some(own) = write.value
            && own.etag != value.etag
        {
            let text = format!("etag '{}' for the bytes of {number}", value.etag);
            return Err((Kind::WrongBytes, text));
        }
        if write.start > read.end {
            let text = format!("the bytes of {number} before it was sent");
            return Err((Kind::Phantom, text));
        }
        if let Some(newer) = self.replaced(write.end, read.start) {
            let kind = match read.audit {
                true => Kind::LostAck,
                false => Kind::StaleRead,
            };
            let text = format!("the bytes of {number}, though {} was acked", newer.number);
            return Err((kind, text));
        }
        Ok(())
    }

    fn judge_absence(&self, read: &Read<'_>) -> Result<(), (Kind, String)> {
        let written = |since: u64| {
            let mut acked = self.writes.iter().filter(|write| write.acked);
            acked.find(|write| {
                write.value.is_some() && write.start >= since && write.end < read.start
            })
        };
        let Some(lost) = written(0) else {
            return Ok(());
        };
        let mut deletes = self.writes.iter().filter(|write| write.value.is_none());
        let deleted = deletes.any(|delete| {
            let after = delete.end.saturating_add(1);
            delete.start <= read.end && written(after).is_none()
        });
        match deleted {
            true => Ok(()),
            false => {
                let text = format!("no object, though {} was acked", lost.number);
                Err((Kind::LostAck, text))
            }
        }
    }
}
