//! House rules that a machine can check (CONTRIBUTING.md lists them). A finding names file and
//! line.
//!
//! One line is exempted by a comment on it or above it, with a reason:
//! `// tidy: allow word: the field's name in libc`. A whole file is exempted in [`EXEMPT`].

use std::fmt::Write as _;
use std::path::Path;

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/licence.rs"]
mod licence;
#[path = "tidy/metrics.rs"]
mod metrics;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// Files that one rule does not bind: path, rule, reason.
const EXEMPT: &[(&str, &str, &str)] = &[];

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 where the whole file is meant.
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding {
            path: path.to_owned(),
            line,
            text: text.into(),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn none(rule: &str, findings: &[Finding]) {
    let mut report = String::new();
    for Finding { path, line, text } in findings {
        writeln!(report, "{path}:{line}: {text}").expect("a string takes every write");
    }
    assert!(
        findings.is_empty(),
        "house rule '{rule}': {} findings\n{report}",
        findings.len()
    );
}

/// Runs a rule over every Rust file, minus the exemptions.
#[track_caller]
fn check(rule: &str, find: fn(&Source) -> Vec<Finding>) {
    let findings: Vec<Finding> = source::all(root())
        .iter()
        .filter(|source| {
            !EXEMPT
                .iter()
                .any(|(path, exempt, _)| *exempt == rule && *path == source.path)
        })
        .flat_map(|source| {
            let mut findings = find(source);
            findings.retain(|finding| !source.allows(rule, finding.line));
            findings
        })
        .collect();
    none(rule, &findings);
}

#[test]
fn files_are_short() {
    for source in source::all(root()) {
        let lines = source.production_lines();
        if lines > rules::FILE_LINES_WARN {
            println!("warning: {}: {lines} lines without tests", source.path);
        }
    }
    check("length", rules::length);
}

#[test]
fn lines_fit_the_width() {
    check("width", rules::width);
}

#[test]
fn nothing_unfinished_is_left() {
    check("unfinished", rules::unfinished);
}

#[test]
fn nothing_unwraps_or_panics_outside_tests() {
    check("unwrap", rules::unwrap);
}

#[test]
fn identifiers_use_the_words_of_the_glossary() {
    check("word", rules::word);
}

#[test]
fn imports_name_what_they_take() {
    check("import", rules::import);
}

#[test]
fn modules_are_named_for_what_they_hold() {
    check("module", rules::module);
}

#[test]
fn pure_folders_hold_no_async_code() {
    check("pure", rules::pure);
}

#[test]
fn a_silenced_lint_has_its_reason() {
    check("reason", rules::reason);
}

#[test]
fn time_and_randomness_come_from_the_environment() {
    check("environment", rules::environment);
}

#[test]
fn crates_see_of_each_other_what_the_architecture_shows() {
    check("door", rules::door);
}

#[test]
fn crates_depend_in_one_direction() {
    none("direction", &crates::direction(crates::metadata()));
}

#[test]
fn crates_stay_away_from_what_is_not_theirs() {
    none("foreign crate", &crates::foreign(crates::metadata()));
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    none("licence", &crates::licences(crates::metadata()));
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    none("lints", &crates::lints(root()));
}

#[test]
fn the_readme_shows_the_two_commands_and_no_other() {
    none("two commands", &documents::two_commands(root()));
}

#[test]
fn the_documents_are_there_and_their_links_lead_somewhere() {
    none("documents", &documents::links(root()));
}

#[test]
fn nothing_names_a_folder_of_one_machine() {
    none("machine", &documents::machine_paths(root()));
}

#[test]
fn protocol_rules_are_cited_by_numbers_that_exist() {
    none("protocols", &documents::citations(root()));
}

#[test]
fn every_metric_is_shown_and_everything_shown_is_a_metric() {
    none("metrics", &metrics::shown(root()));
}
