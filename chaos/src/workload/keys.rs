//! The names of the objects that a load writes.

/// Endings that a server must carry through unchanged: percent signs that are no escapes, spaces,
/// plus signs, letters of two and four bytes, an empty part of a path.
const ENDINGS: [&str; 8] = [
    "",
    ".txt",
    " with space",
    "+plus",
    "-\u{fc}n\u{ef}",
    "%41",
    "//twice",
    "\u{1f41f}&=?#",
];

/// What one writer alone writes begins with this.
pub(crate) fn prefix(writer: u32) -> String {
    format!("w{writer:02}/")
}

/// A key that only this writer touches: its order is the writer's own.
pub(crate) fn own(writer: u32, index: usize) -> String {
    let ending = ENDINGS[index % ENDINGS.len()];
    format!("{}{:02}/{index:05}{ending}", prefix(writer), index % 7)
}

/// A key that is written once, before any fault, and never again.
pub(crate) fn kept(index: usize) -> String {
    let ending = ENDINGS[index % ENDINGS.len()];
    format!("{KEPT}{index:03}{ending}")
}

/// What is written once begins with this.
pub(crate) const KEPT: &str = "kept/";

/// A key that all writers overwrite.
pub(crate) fn shared(index: usize) -> String {
    format!("shared/{index:03}")
}

/// A key that all writers create under a condition, and delete.
pub(crate) fn once(index: usize) -> String {
    format!("once/{index:03}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_writers_share_a_key_of_their_own() {
        let keys: BTreeSet<String> = (0..12)
            .flat_map(|writer| (0..200).map(move |index| own(writer, index)))
            .collect();
        assert_eq!(keys.len(), 12 * 200);
        assert!(keys.iter().all(|key| key.len() <= 1024));
    }
}
