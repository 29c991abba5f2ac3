//! The S3 front through its real HTTP stack, over the in-memory twins of metadata and nodes.

mod buckets;
mod digests;
mod faults;
mod listing;
mod multipart;
mod objects;
mod outcomes;
mod signatures;
mod support;
mod versions;
