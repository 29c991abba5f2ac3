//! Rules for the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Finding;
use super::source;

const DOCUMENTS: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "GLOSSARY.md",
    "LICENSE",
    "README.md",
    "docs/protocols.md",
];

const COMMANDS: [&str; 2] = ["make test", "make up"];

/// Folders of the machine on which something was written, which readers do not have. Split, so that
/// this list is no finding of its own.
const MACHINE: [&str; 2] = [concat!("/wo", "rk/"), concat!("/tmp/", "look")];

const TEXT_EXTENSIONS: [&str; 9] = [
    "json", "md", "proto", "rs", "sh", "toml", "txt", "yaml", "yml",
];

/// The README must show `make up` and `make test` in its code blocks, and no third make command.
pub(crate) fn two_commands(root: &Path) -> Vec<Finding> {
    let text = fs::read_to_string(root.join("README.md")).unwrap_or_default();
    let shown: BTreeSet<String> = code_lines(&text)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            (words.first() == Some(&"make")).then(|| words.join(" "))
        })
        .collect();
    let wanted: BTreeSet<String> = COMMANDS.map(str::to_owned).into();
    if shown == wanted {
        return Vec::new();
    }
    let text = format!("shows {shown:?} in its code blocks, not {wanted:?}");
    vec![Finding::new("README.md", 0, text)]
}

/// Lines inside fenced code blocks.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        inside && !fence
    })
}

/// Documents that are absent, and relative links that lead nowhere.
pub(crate) fn links(root: &Path) -> Vec<Finding> {
    let absent = DOCUMENTS.iter().filter(|path| !root.join(path).exists());
    let mut findings: Vec<Finding> = absent
        .map(|path| Finding::new(path, 0, "the document is absent"))
        .collect();
    for (path, text) in source::files(root, "md") {
        let folder = root.join(&path);
        let folder = folder.parent().unwrap_or(root);
        for (index, line) in text.lines().enumerate() {
            for target in line.split("](").skip(1) {
                let target = target.split([')', '#']).next().unwrap_or_default();
                let relative = !target.is_empty() && !target.contains("://");
                if relative && !folder.join(target).exists() {
                    let text = format!("the link to {target} leads nowhere");
                    findings.push(Finding::new(&path, index + 1, text));
                }
            }
        }
    }
    findings
}

/// Absolute paths of one machine, in any text file.
pub(crate) fn machine_paths(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for extension in TEXT_EXTENSIONS {
        for (path, text) in source::files(root, extension) {
            for (index, line) in text.lines().enumerate() {
                for folder in MACHINE.iter().filter(|folder| line.contains(**folder)) {
                    let text = format!("names {folder}, a folder of one machine");
                    findings.push(Finding::new(&path, index + 1, text));
                }
            }
        }
    }
    findings
}

/// Citations (`PROTOCOLS 11`) of rules that docs/protocols.md does not have.
pub(crate) fn citations(root: &Path) -> Vec<Finding> {
    let text = fs::read_to_string(root.join("docs/protocols.md")).unwrap_or_default();
    let rules: BTreeSet<u32> = text.lines().filter_map(rule_number).collect();
    let mut findings = Vec::new();
    if rules != (1..=26).collect() {
        let text = format!("must hold the rules 1 to 26; it holds {rules:?}");
        findings.push(Finding::new("docs/protocols.md", 0, text));
    }
    for extension in ["md", "proto", "rs"] {
        for (path, text) in source::files(root, extension) {
            for (index, line) in text.lines().enumerate() {
                for cited in cited(line).filter(|number| !rules.contains(number)) {
                    let text = format!("cites rule {cited}, which docs/protocols.md does not have");
                    findings.push(Finding::new(&path, index + 1, text));
                }
            }
        }
    }
    findings
}

/// The number of a rule's heading, `### 11. Ack`.
fn rule_number(line: &str) -> Option<u32> {
    let heading = line.strip_prefix("### ")?;
    heading.split_once('.')?.0.parse().ok()
}

fn cited(line: &str) -> impl Iterator<Item = u32> {
    line.split("PROTOCOLS ").skip(1).filter_map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse().ok()
    })
}

#[test]
fn commands_are_read_from_code_blocks_only() {
    let text = "make a\n```sh\nmake up\n  # make x\n```\nmake b\n";
    assert_eq!(
        code_lines(text).collect::<Vec<_>>(),
        ["make up", "  # make x"]
    );
}

#[test]
fn headings_and_citations_are_read_as_numbers() {
    assert_eq!(rule_number("### 11. Ack"), Some(11));
    assert_eq!(rule_number("## A. Metadata groups"), None);
    let line = ["PROTO", "COLS 7, and PROTO", "COLS 130"].concat();
    assert_eq!(cited(&line).collect::<Vec<_>>(), [7, 130]);
}
