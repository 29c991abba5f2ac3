//! Rust files as the rules see them: text without comments and literals, and which lines are tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Folders that hold nothing of ours: build output, data of a running cluster, others' code.
const SKIP: [&str; 4] = [".git", "data", "target", "third_party"];

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments and the contents of literals blanked, byte for byte as long.
    pub(crate) code: String,
    /// For each line, whether only tests compile it.
    test_lines: Vec<bool>,
}

impl Source {
    /// `path` decides, besides the text, whether the whole file is a test.
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = blank(text);
        let whole = is_test_path(path) || code.contains("#![cfg(test)]");
        let mut test_lines = vec![whole; text.lines().count()];
        for region in test_regions(&code, text) {
            let (first, last) = (line_of(text, region.start), line_of(text, region.end));
            for line in &mut test_lines[first - 1..last] {
                *line = true;
            }
        }
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            test_lines,
        }
    }

    /// Lines of code with their numbers from 1, without comments and literals, without tests.
    pub(crate) fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(number, _)| !self.is_test(*number))
    }

    /// Lines that are neither tests nor part of them.
    pub(crate) fn production_lines(&self) -> usize {
        self.test_lines.iter().filter(|test| !**test).count()
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// The line (from 1) that holds a byte offset.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        line_of(&self.text, offset)
    }

    /// Whether a comment with a reason on this line or the one above exempts it from a rule.
    pub(crate) fn allows(&self, rule: &str, line: usize) -> bool {
        let mark = format!("// tidy: allow {rule}: ");
        let excused = |number: usize| {
            self.text
                .lines()
                .nth(number.wrapping_sub(1))
                .and_then(|line| line.split_once(&mark))
                .is_some_and(|(_, reason)| !reason.trim().is_empty())
        };
        excused(line) || (line > 1 && excused(line - 1))
    }
}

/// Every Rust file of the repository, sorted by path.
pub(crate) fn all(root: &Path) -> Vec<Source> {
    let mut sources: Vec<Source> = files(root, "rs")
        .into_iter()
        .map(|(path, text)| Source::new(&path, &text))
        .collect();
    let tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs");
        let inside = |module: &String| {
            stem.strip_prefix(module.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if tests.iter().any(inside) {
            source.test_lines.fill(true);
        }
    }
    sources
}

/// Paths and texts of the repository's files with this extension, sorted by path.
pub(crate) fn files(root: &Path, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(root, root, extension, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &Path, extension: &str, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !SKIP.contains(&name.as_ref()) {
                walk(root, &path, extension, found);
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            let text = fs::read_to_string(&path).expect("our files are text");
            let path = path.strip_prefix(root).expect("inside the root");
            found.push((path.to_string_lossy().into_owned(), text));
        }
    }
}

fn is_test_path(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "benches")
        || ["/tests.rs", "/conformance.rs"]
            .iter()
            .any(|end| path.ends_with(end))
}

/// Modules (as paths without `.rs`) that a file declares under `#[cfg(test)]`.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let base = match name {
        "lib" | "main" | "mod" => folder,
        _ => stem,
    };
    test_regions(&source.code, &source.text)
        .iter()
        .filter_map(|region| {
            let item = source.code[region.clone()].trim_end_matches(';');
            let (_, module) = item.rsplit_once("mod ")?;
            let word = |c: char| c.is_alphanumeric() || c == '_';
            module.chars().all(word).then(|| format!("{base}/{module}"))
        })
        .collect()
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Byte ranges of the items that only tests (or the feature `test-util`) compile.
fn test_regions(code: &str, text: &str) -> Vec<std::ops::Range<usize>> {
    let mut regions: Vec<std::ops::Range<usize>> = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        if regions.last().is_some_and(|region| region.contains(&start)) {
            continue;
        }
        let Some(close) = closing(code, start + 1) else {
            continue;
        };
        let condition = &text[start..close];
        let test = condition.contains("test") && !condition.contains("not(");
        if test {
            regions.push(start..item_end(code, close + 1));
        }
    }
    regions
}

/// Offset of the bracket that closes the one at `open`.
pub(crate) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// End of the item that begins at `start`: its semicolon, comma or closing brace.
fn item_end(code: &str, start: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => match closing(code, at) {
                Some(close) => at = close,
                None => return bytes.len(),
            },
            b'{' => return closing(code, at).map_or(bytes.len(), |close| close + 1),
            b';' | b',' => return at + 1,
            // The end of what encloses the item: a field or variant without a comma.
            b'}' => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Blanks comments and the contents of string and character literals, keeping every newline.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => raw_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            let quoted = bytes[at] != b'/';
            for (index, byte) in out.iter_mut().enumerate().take(end).skip(at) {
                let border = quoted && (index == at || index == end - 1);
                if *byte != b'\n' && !border {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter().position(|byte| *byte == b'\n');
    rest.map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// End of a raw string that begins here, or the next byte.
fn raw_end(bytes: &[u8], start: usize) -> usize {
    let prefix = bytes[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_lowercase())
        .count();
    let hashes = bytes[start + prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = start + prefix + hashes;
    let raw = bytes[start..start + prefix].contains(&b'r') && prefix <= 2;
    if !raw || bytes.get(open) != Some(&b'"') {
        return start + 1;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let found = bytes[open + 1..]
        .windows(close.len())
        .position(|window| window == close);
    found.map_or(bytes.len(), |length| open + 1 + length + close.len())
}

/// End of a character literal that begins here, or the next byte for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        let rest = bytes[start + 3..].iter().position(|byte| *byte == b'\'');
        return rest.map_or(bytes.len(), |length| start + 3 + length + 1);
    }
    // One character of up to four bytes, then the quote.
    let close = (start + 2..start + 6).find(|at| bytes.get(*at) == Some(&b'\''));
    match close {
        Some(close)
            if std::str::from_utf8(&bytes[start + 1..close])
                .is_ok_and(|inner| inner.chars().count() == 1) =>
        {
            close + 1
        }
        _ => start + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = "a /* \" /* x */ */ \"q\\\"{\" // }\nr#\"y\"z\"# 'c' '\\'' 'life \u{e9}";
        let code = blank(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), 2);
        assert!(!code.contains(['x', 'y', 'z', '{', '}']), "{code}");
        assert!(
            code.starts_with('a') && code.contains("'life \u{e9}"),
            "{code}"
        );
    }

    #[test]
    fn a_test_module_is_known_line_by_line() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("x/src/lib.rs", text);
        let lines: Vec<usize> = source.production().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 6]);
    }

    #[test]
    fn code_for_everything_but_tests_is_no_test() {
        let source = Source::new("x/src/lib.rs", "#[cfg(not(test))]\nfn a() {}\n");
        assert_eq!(source.production_lines(), 2);
    }

    #[test]
    fn a_test_module_in_its_own_file_is_found() {
        let source = Source::new("x/src/log.rs", "#[cfg(test)]\nmod cases;\n");
        assert_eq!(test_modules(&source), ["x/src/log/cases"]);
        let source = Source::new(
            "x/src/log/mod.rs",
            "#[cfg(feature = \"test-util\")]\npub mod m;",
        );
        assert_eq!(test_modules(&source), ["x/src/log/m"]);
    }

    #[test]
    fn an_exemption_needs_its_reason() {
        let text = "a\n// tidy: allow word: libc calls it so\nb\nc // tidy: allow word: \n";
        let source = Source::new("x/src/lib.rs", text);
        assert!(source.allows("word", 3) && source.allows("word", 2));
        assert!(!source.allows("word", 4) && !source.allows("unwrap", 3));
    }
}
