//! Every acked byte is there: no read, audits above all, gave an older value, none, or a wrong one.

use std::collections::BTreeMap;

use super::Finding;
use super::register::Register;

/// Judges every read of every key by itself.
pub(crate) fn check(registers: &BTreeMap<&str, Register<'_>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, register) in registers {
        for read in &register.reads {
            if let Err((kind, text)) = register.judge(read) {
                let text = format!("{key:?}: operation {} read {text}", read.number);
                findings.push(Finding::new(kind, text));
            }
        }
    }
    findings
}
