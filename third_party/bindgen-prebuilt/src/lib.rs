//! Stands in for the crate `bindgen` while `librocksdb-sys` is built.
//!
//! The real one needs libclang on the machine that builds. These bindings were made once from
//! `rocksdb/c.h` of RocksDB 11.8.1 (librocksdb-sys 0.19.0) by bindgen 0.72.1 with the options that
//! the crate's build script asks for, on x86-64 Linux; their layout tests hold on every 64-bit
//! little-endian Linux. `regenerate.md` beside this folder's manifest says how to make them anew.

use std::io;
use std::path::Path;

/// Accepts the options of the real builder and ignores them.
#[derive(Default)]
pub struct Builder;

/// The checked-in bindings.
pub struct Bindings;

impl Builder {
    /// Ignored: the header was read when the bindings were made.
    pub fn header(self, path: impl Into<String>) -> Self {
        let path = path.into();
        assert!(path.ends_with("rocksdb/c.h"), "only bindings of rocksdb/c.h are checked in");
        self
    }

    /// Ignored.
    pub fn derive_debug(self, _: bool) -> Self {
        self
    }

    /// Ignored.
    pub fn blocklist_type(self, _: impl Into<String>) -> Self {
        self
    }

    /// Ignored.
    pub fn ctypes_prefix(self, _: impl Into<String>) -> Self {
        self
    }

    /// Ignored.
    pub fn size_t_is_usize(self, _: bool) -> Self {
        self
    }

    /// Never fails.
    pub fn generate(self) -> Result<Bindings, io::Error> {
        Ok(Bindings)
    }
}

impl Bindings {
    /// Writes the checked-in bindings to `path`.
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        std::fs::write(path, include_str!("rocksdb_c.rs"))
    }
}
