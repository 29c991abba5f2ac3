//! The metadata service of one process: its groups, and the loops that their leaders run.

pub mod read;
