//! A cluster in memory behind the real HTTP stack, and a client that signs.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod scripted;
pub(crate) mod sign;
