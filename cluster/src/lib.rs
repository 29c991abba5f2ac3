//! The metadata service of Enfilade: Raft groups on RocksDB, their state machines, and clients.

pub mod api;
pub mod bench;
pub mod call;
pub mod client;
pub mod env;
#[cfg(test)]
mod golden;
pub mod metrics;
pub mod partition;
pub mod raft;
pub mod root;
pub mod rows;
pub mod server;
pub mod settings;
mod typed;
pub mod wire;
