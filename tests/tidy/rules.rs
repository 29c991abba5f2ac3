//! Rules for one Rust file.

use super::Finding;
use super::source::{Source, closing};

/// Longer files are named in the output: time to cut them.
pub(crate) const FILE_LINES_WARN: usize = 400;
const FILE_LINES_MAX: usize = 700;
const WIDTH_MAX: usize = 100;

const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"];
const PANICS: [&str; 3] = [".unwrap()", ".unwrap_err()", "panic!("];

/// Words that the glossary has another word for. A word is a part of an identifier, in either case
/// convention: `disk` is found in `disk_fill` and `DiskFill`.
const BANNED_WORDS: [(&str, &str); 8] = [
    ("placement_group", "volume"),
    ("osd", "drive"),
    ("disk", "drive"),
    ("disks", "drives"),
    ("rack", "chain"),
    ("heal", "repair"),
    ("bitrot", "rot; the search for it is scrub"),
    ("decommission", "drain"),
];

const BANNED_MODULES: [&str; 5] = ["utils", "common", "helpers", "misc", "manager"];

/// Where decisions are made: plain functions over plain data.
const PURE: [&str; 4] = [
    "placement/src/",
    "cluster/src/root/",
    "cluster/src/partition/",
    "storage-node/src/erasure/",
];

/// Reads of the world, where they may stand, and what to use elsewhere.
const ENVIRONMENT: [(&str, &[&str], &str); 6] = [
    ("Instant::now", &["cluster/src/env"], "cluster::env::Clock"),
    (
        "SystemTime::now",
        &["cluster/src/env"],
        "cluster::env::Clock",
    ),
    ("rand::rng(", &["cluster/src/env"], "cluster::env::Rng"),
    ("rand::random", &["cluster/src/env"], "cluster::env::Rng"),
    ("thread::sleep", &[], "an awaited condition"),
    ("unbounded_channel", &[], "a channel with a bound"),
];

/// Crates whose code runs in a simulation, and must not read the world by itself.
const SIMULATED: [&str; 4] = [
    "placement/src/",
    "cluster/src/",
    "storage-node/src/",
    "gateway/src/",
];

/// Which modules of another crate a crate may name: folder, crate, modules.
const DOORS: [(&str, &str, &[&str]); 3] = [
    (
        "storage-node/src/",
        "enfilade_cluster",
        &["api", "client", "env"],
    ),
    (
        "gateway/src/",
        "enfilade_cluster",
        &["api", "client", "env"],
    ),
    (
        "gateway/src/",
        "enfilade_storage_node",
        &["api", "client", "erasure"],
    ),
];

pub(crate) fn length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let text = format!("{lines} lines, at most {FILE_LINES_MAX}; cut it by idea");
    vec![Finding::new(&source.path, 0, text)]
}

pub(crate) fn width(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| line.chars().count() > WIDTH_MAX && !line.contains("://"))
        .map(|(index, line)| {
            let text = format!("{} characters, at most {WIDTH_MAX}", line.chars().count());
            Finding::new(&source.path, index + 1, text)
        })
        .collect()
}

pub(crate) fn unfinished(source: &Source) -> Vec<Finding> {
    let lines = source.code.lines().enumerate();
    lines
        .flat_map(|(index, line)| {
            let found = UNFINISHED.iter().filter(move |mark| has_token(line, mark));
            found.map(move |mark| Finding::new(&source.path, index + 1, format!("`{mark}`")))
        })
        .collect()
}

pub(crate) fn unwrap(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.production() {
        for call in PANICS.iter().filter(|call| has_token(line, call)) {
            let text =
                format!("`{call}` outside tests: return an error, or say in expect() why not");
            findings.push(Finding::new(&source.path, number, text));
        }
    }
    findings
}

pub(crate) fn word(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.code.lines().enumerate() {
        for identifier in identifiers(line) {
            let snake = format!("_{}_", snake_case(identifier));
            for (word, instead) in BANNED_WORDS {
                if snake.contains(&format!("_{word}_")) {
                    let text = format!("`{identifier}`: we say {instead}, not {word}");
                    findings.push(Finding::new(&source.path, index + 1, text));
                }
            }
        }
    }
    findings
}

pub(crate) fn import(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (start, statement) in uses(&source.code) {
        let number = source.line_of(start);
        if statement.contains('*') && !source.is_test(number) {
            findings.push(Finding::new(
                &source.path,
                number,
                "a wildcard hides what is used",
            ));
        }
        if statement.contains("super::super") {
            findings.push(Finding::new(
                &source.path,
                number,
                "`super::super`: begin at `crate`",
            ));
        }
    }
    findings
}

pub(crate) fn module(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.code.lines().enumerate() {
        let Some((before, after)) = line.split_once("mod ") else {
            continue;
        };
        let declares = before.trim().is_empty() || before.trim_start().starts_with("pub");
        let name = identifiers(after).next().unwrap_or_default();
        if declares && BANNED_MODULES.contains(&name) {
            let text = format!("a module `{name}` collects what has no place; name what it does");
            findings.push(Finding::new(&source.path, index + 1, text));
        }
    }
    findings
}

pub(crate) fn pure(source: &Source) -> Vec<Finding> {
    if !PURE.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    let lines = source.production();
    lines
        .filter(|(_, line)| identifiers(line).any(|word| word == "async" || word == "await"))
        .map(|(number, _)| Finding::new(&source.path, number, "async code in a pure folder"))
        .collect()
}

pub(crate) fn reason(source: &Source) -> Vec<Finding> {
    let openings = ["#[allow(", "#[expect(", "#![allow(", "#![expect("];
    let mut findings = Vec::new();
    for opening in openings {
        for (start, _) in source.code.match_indices(opening) {
            let end = closing(&source.code, start + opening.len() - 1);
            let body = &source.code[start..end.unwrap_or(source.code.len())];
            if !body.contains("reason") {
                let text = format!("`{opening}..)]` without `reason = \"..\"`");
                findings.push(Finding::new(&source.path, source.line_of(start), text));
            }
        }
    }
    findings
}

pub(crate) fn environment(source: &Source) -> Vec<Finding> {
    if !SIMULATED
        .iter()
        .any(|folder| source.path.starts_with(folder))
    {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.production() {
        for (call, allowed, instead) in ENVIRONMENT {
            let at_home = allowed.iter().any(|home| source.path.starts_with(home));
            if line.contains(call) && !at_home {
                let text = format!("`{call}`: use {instead}");
                findings.push(Finding::new(&source.path, number, text));
            }
        }
    }
    findings
}

pub(crate) fn door(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, other, doors) in DOORS {
        if !source.path.starts_with(folder) {
            continue;
        }
        for (start, _) in source.code.match_indices(&format!("{other}::")) {
            let number = source.line_of(start);
            let modules = modules(&source.code, start + other.len() + 2);
            let closed = modules.filter(|name| !doors.contains(name));
            for name in closed.filter(|_| !source.is_test(number)) {
                let text = format!("`{other}::{name}`: only {doors:?} are open to {folder}");
                findings.push(Finding::new(&source.path, number, text));
            }
        }
    }
    findings
}

/// Modules that a path names at `at`: one, or several in braces. Types at a crate's root are open
/// to all.
fn modules(code: &str, at: usize) -> impl Iterator<Item = &str> {
    let rest = &code[at..];
    let (group, end) = match rest.starts_with('{') {
        true => (1, closing(code, at).map_or(rest.len(), |close| close - at)),
        false => (0, rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())),
    };
    let mut depth = 0usize;
    let items = rest[group..end].split(move |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    items
        .filter_map(|item| identifiers(item).next())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the line holds `token` where no longer identifier begins (`my_todo!(` is not `todo!(`).
fn has_token(line: &str, token: &str) -> bool {
    line.match_indices(token).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !token.starts_with(char::is_alphabetic) || !before.is_some_and(is_word)
    })
}

fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_word(c))
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// `DiskFill` -> `disk_fill`, `HTTPServer` -> `http_server`, `DISK_FILL` -> `disk_fill`.
fn snake_case(identifier: &str) -> String {
    let chars: Vec<char> = identifier.chars().collect();
    let mut out = String::new();
    for (index, c) in chars.iter().enumerate() {
        let after_lower =
            index > 0 && (chars[index - 1].is_lowercase() || chars[index - 1].is_numeric());
        let before_lower = index > 0
            && chars[index - 1].is_uppercase()
            && chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_lower || before_lower) {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// The `use` statements: offset and text.
fn uses(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut offset = 0;
    for line in code.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let word = trimmed.trim_start_matches(|c: char| c != 'u');
        let plain = trimmed.starts_with("use ");
        let public = trimmed.starts_with("pub") && trimmed.contains(" use ") && !word.is_empty();
        if plain || public {
            let rest = &code[offset..];
            let end = rest.find(';').unwrap_or(rest.len());
            found.push((offset, &rest[..end]));
        }
        offset += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        let findings = rule(&Source::new(path, text));
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_long_file_is_found_and_a_short_one_is_not() {
        let text = "x\n".repeat(FILE_LINES_MAX);
        assert_eq!(lines(length, "a.rs", &text), [0usize; 0]);
        assert_eq!(lines(length, "a.rs", &format!("{text}x\n")), [0]);
    }

    #[test]
    fn width_counts_characters_and_spares_addresses() {
        let wide = "\u{e9}".repeat(WIDTH_MAX);
        let text = format!("{wide}\n{wide}x\n// https://{wide}\n");
        assert_eq!(lines(width, "a.rs", &text), [2]);
    }

    #[test]
    fn unfinished_code_is_found_in_tests_too_but_not_in_words_about_it() {
        let text = "todo!(\"\")\n// todo!(\nmy_todo!(\n#[ignore]\nlet x = \"dbg!(\";\n";
        assert_eq!(lines(unfinished, "tests/a.rs", text), [1, 4]);
    }

    #[test]
    fn unwrap_is_found_outside_tests_only() {
        let text = "a.unwrap();\na.unwrap_or(1);\npanic!(\"x\");\nassert!(a);\n\
                    #[cfg(test)]\nmod tests { a.unwrap() }\n";
        assert_eq!(lines(unwrap, "x/src/a.rs", text), [1, 3]);
        assert_eq!(lines(unwrap, "x/tests/a.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn banned_words_are_found_as_parts_of_identifiers() {
        let text =
            "disk_fill\nDiskFill\nDISK\nhealthy\ntracking\n// disk\n\"disk\"\nPlacementGroup\n";
        assert_eq!(lines(word, "a.rs", text), [1, 2, 3, 8]);
    }

    #[test]
    fn wildcards_are_for_tests() {
        let text = "use a::*;\npub use b::{c,\n  d::*};\nlet x = a * b;\n\
                    #[cfg(test)]\nmod tests {\n    use super::*;\n}\n";
        assert_eq!(lines(import, "x/src/a.rs", text), [1, 2]);
    }

    #[test]
    fn collecting_modules_are_found() {
        let text = "mod utils;\npub mod common {}\npub(crate) mod manager;\nmod commonality;\n";
        assert_eq!(lines(module, "a.rs", text), [1, 2, 3]);
    }

    #[test]
    fn async_code_is_found_in_pure_folders_only() {
        let text = "async fn a() {}\nfn asynchronous() {}\n";
        assert_eq!(lines(pure, "cluster/src/root/apply.rs", text), [1]);
        assert_eq!(lines(pure, "cluster/src/server.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn a_reason_may_stand_on_another_line() {
        let text = "#[allow(x)]\n#[expect(\n    x,\n    reason = \"y\"\n)]\n#![allow(z)]\n";
        assert_eq!(lines(reason, "a.rs", text), [1, 6]);
    }

    #[test]
    fn clocks_are_read_in_the_environment_only() {
        let text = "let a = Instant::now();\n";
        assert_eq!(lines(environment, "cluster/src/raft.rs", text), [1]);
        assert_eq!(
            lines(environment, "cluster/src/env.rs", text),
            [] as [usize; 0]
        );
        assert_eq!(lines(environment, "src/main.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn only_the_open_modules_of_a_crate_are_named() {
        let text = "use enfilade_cluster::api::X;\nuse enfilade_cluster::raft::Y;\n\
                    use enfilade_cluster::Z;\n\
                    use enfilade_cluster::{\n    Z, api::{A, b},\n    raft::C,\n};\n";
        assert_eq!(lines(door, "gateway/src/a.rs", text), [2, 4]);
        assert_eq!(lines(door, "src/a.rs", text), [] as [usize; 0]);
    }
}
