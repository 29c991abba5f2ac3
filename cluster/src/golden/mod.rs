//! Pinned bytes of everything that is kept: commands, answers, records, rows.
//!
//! A change of a format fails here. What is kept stays readable: a new variant goes to the end of
//! its enum and adds lines; lines that change need a new version byte ([`crate::api::encoding`]).
//! `GOLDEN=write cargo test --release -p enfilade-cluster golden` writes the files anew.

mod commands;
mod records;
mod root;
mod rows;
mod samples;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::encoding;

/// Named encodings, in order.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Adds a value, which must read back.
    fn add<T>(&mut self, name: &str, value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let bytes = encoding::encode(value);
        assert_eq!(encoding::decode::<T>(&bytes).as_ref(), Ok(value), "{name}");
        self.bytes(name, &bytes);
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.0, "{name} {}", hex::encode(bytes)).expect("a string takes every write");
    }

    /// Compares with the pinned lines of `golden/<file>`.
    fn compare(self, file: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/golden")
            .join(file);
        if std::env::var_os("GOLDEN").is_some_and(|what| what == "write") {
            std::fs::write(&path, &self.0).unwrap();
        }
        let pinned = std::fs::read_to_string(&path).unwrap_or_default();
        let names: BTreeSet<&str> = self
            .0
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            names.len(),
            self.0.lines().count(),
            "every name stands for one thing"
        );
        let (now, then): (BTreeSet<_>, BTreeSet<_>) =
            (self.0.lines().collect(), pinned.lines().collect());
        let gone: Vec<_> = then.difference(&now).collect();
        let new: Vec<_> = now.difference(&then).collect();
        assert!(
            gone.is_empty() && new.is_empty(),
            "{file}: pinned {gone:#?}, now {new:#?}"
        );
    }
}
