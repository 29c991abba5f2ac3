//! Roles: what a process is put together from, and in which order it stops.

pub(crate) mod drives;
pub(crate) mod gateway;
mod identity;
pub(crate) mod init;
pub(crate) mod meta;
pub(crate) mod process;
