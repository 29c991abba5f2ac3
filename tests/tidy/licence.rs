//! SPDX licence expressions: does some choice that they allow satisfy us?

/// Licences that let anybody use, change and ship the product. Each is permissive and compatible
/// with Apache-2.0.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether `expression` can be met with allowed licences alone. `A/B` is the old way of `A OR B`.
pub(crate) fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

fn either(tokens: &mut &[&str]) -> Option<bool> {
    let mut met = both(tokens)?;
    while take(tokens, "OR") {
        met |= both(tokens)?;
    }
    Some(met)
}

fn both(tokens: &mut &[&str]) -> Option<bool> {
    let mut met = one(tokens)?;
    while take(tokens, "AND") {
        met &= one(tokens)?;
    }
    Some(met)
}

fn one(tokens: &mut &[&str]) -> Option<bool> {
    if take(tokens, "(") {
        let met = either(tokens)?;
        return take(tokens, ")").then_some(met);
    }
    let (name, rest) = tokens.split_first()?;
    *tokens = rest;
    if take(tokens, "WITH") {
        let (exception, rest) = tokens.split_first()?;
        *tokens = rest;
        return Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(name))
}

fn take(tokens: &mut &[&str], token: &str) -> bool {
    match tokens.split_first() {
        Some((first, rest)) if *first == token => {
            *tokens = rest;
            true
        }
        _ => false,
    }
}

#[test]
fn a_choice_is_met_by_one_side_and_a_sum_by_both() {
    for met in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "GPL-2.0/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        "MIT OR GPL-3.0-only AND ISC",
    ] {
        assert!(is_allowed(met), "{met}");
    }
    for unmet in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR Apache-2.0) AND SSPL-1.0",
        "Apache-2.0 WITH Commons-Clause",
        "MIT OR",
        "(MIT",
        "MIT ISC",
    ] {
        assert!(!is_allowed(unmet), "{unmet}");
    }
}
