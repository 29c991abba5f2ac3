//! The storage node of Enfilade: the drive engine, the erasure codec, and the shard service.

pub mod api;
pub mod erasure;
