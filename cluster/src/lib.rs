//! The metadata service of Enfilade: Raft groups on RocksDB, their state machines, and clients.

pub mod api;
pub mod call;
pub mod client;
pub mod env;
pub mod partition;
pub mod root;
pub mod rows;
mod typed;
pub mod server;
