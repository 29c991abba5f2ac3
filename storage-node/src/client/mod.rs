//! Clients of storage nodes: in process, remote, and a twin in memory for tests.

pub mod in_process;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod remote;

#[cfg(test)]
mod tests;
