//! The storage node of Enfilade: the drive engine, the erasure codec, and the shard service.

pub mod agent;
pub mod api;
pub mod client;
pub mod drive;
pub mod engine;
pub mod erasure;
pub mod host;
pub mod metrics;
mod rebuild;
pub mod server;
pub mod settings;
mod sync;
mod wire;
