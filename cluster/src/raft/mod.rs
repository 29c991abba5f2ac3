//! Raft by openraft, on RocksDB.
//!
//! The rest of the crate sees groups ([`groups`]): propose a command, read rows linearizably.

pub mod groups;
pub(crate) mod heartbeats;
mod log;
mod log_writer;
pub mod memory;
pub(crate) mod network;
pub mod rocks;
mod rocks_forget;
mod rocks_rows;
pub(crate) mod snapshot;
mod state_machine;
pub mod store;
pub mod types;
mod young;

#[cfg(test)]
mod tests;
