//! Metrics and dashboards: every metric is shown, everything shown is a metric.

use std::collections::BTreeMap;
use std::path::Path;

use super::Finding;
use super::source::{self, Source};

const PREFIX: &str = "enfilade_";

/// What Prometheus appends to the name of a histogram.
const HISTOGRAM_PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Metrics declared in a `metrics.rs` and not named under `grafana/`, and the other way round.
pub(crate) fn shown(root: &Path) -> Vec<Finding> {
    let declared = declared(&source::all(root));
    let mut dashboards = Vec::new();
    for extension in ["json", "yml", "yaml"] {
        let files = source::files(root, extension);
        dashboards.extend(
            files
                .into_iter()
                .filter(|(path, _)| path.starts_with("grafana/")),
        );
    }
    compare(&declared, &dashboards)
}

fn compare(
    declared: &BTreeMap<String, (String, usize)>,
    dashboards: &[(String, String)],
) -> Vec<Finding> {
    let mut named: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (path, text) in dashboards {
        for (index, line) in text.lines().enumerate() {
            for name in names(line) {
                named.entry(name).or_insert((path.clone(), index + 1));
            }
        }
    }
    let base = |name: &str| {
        let parts = HISTOGRAM_PARTS.iter();
        parts
            .filter_map(|part| name.strip_suffix(part))
            .map(str::to_owned)
            .next()
    };
    let mut findings = Vec::new();
    for (name, (path, line)) in declared {
        let used = |other: &String| other == name || base(other).as_ref() == Some(name);
        if !named.keys().any(used) {
            let text = format!("metric {name} is on no dashboard and in no alert of grafana/");
            findings.push(Finding::new(path, *line, text));
        }
    }
    for (name, (path, line)) in &named {
        let known = declared.contains_key(name)
            || base(name).is_some_and(|base| declared.contains_key(&base));
        if !known {
            let text = format!("{name} is declared in no metrics.rs");
            findings.push(Finding::new(path, *line, text));
        }
    }
    findings
}

/// Names in the string literals of every `metrics.rs` outside tests, and where they stand.
fn declared(sources: &[Source]) -> BTreeMap<String, (String, usize)> {
    let mut found = BTreeMap::new();
    for source in sources {
        let metrics = source.path.ends_with("/metrics.rs") || source.path.contains("/metrics/");
        if !metrics || source.path.starts_with("tests/") {
            continue;
        }
        for (index, line) in source.text.lines().enumerate() {
            if source.is_test(index + 1) || line.trim_start().starts_with("//") {
                continue;
            }
            for literal in line.split('"').skip(1).step_by(2) {
                let name = names(literal).into_iter().next();
                if let Some(name) = name.filter(|name| name == literal) {
                    found
                        .entry(name)
                        .or_insert((source.path.clone(), index + 1));
                }
            }
        }
    }
    found
}

/// The metric names in a text: `enfilade_` and more, none of our crates' names.
fn names(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with(PREFIX) && word.len() > PREFIX.len())
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_metric_without_a_panel_and_a_panel_without_a_metric_are_found() {
    let text = "const A: &str = \"enfilade_gateway_put_seconds\";\n\
                const B: &str = \"enfilade_gateway_get_total\";\n";
    let declared = declared(&[Source::new("gateway/src/metrics.rs", text)]);
    let board = "rate(enfilade_gateway_put_seconds_bucket[5m])\nenfilade_gateway_fill_ratio";
    let found = compare(
        &declared,
        &[("grafana/a.json".to_owned(), board.to_owned())],
    );
    let places: Vec<(&str, usize)> = found
        .iter()
        .map(|finding| (finding.path.as_str(), finding.line))
        .collect();
    assert_eq!(
        places,
        [("gateway/src/metrics.rs", 2), ("grafana/a.json", 2)]
    );
}
