//! Roles: what a process is put together from, and in which order it stops.

pub(crate) mod drives;
pub(crate) mod gateway;
pub(crate) mod init;
pub(crate) mod meta;
pub(crate) mod process;
