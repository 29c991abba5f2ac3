//! The state machine against its invariants, and against a simple model of what S3 promises.

mod door;
mod garbage;
mod harness;
mod heavy;
mod listing;
mod model;
mod multipart;
mod pages;
mod random;
mod splits;
mod versions;
