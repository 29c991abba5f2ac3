//! The data path: bodies to blobs in volumes, and back. Nothing of S3 below here.

pub mod types;
