//! The S3 front of Enfilade: authentication, S3 operations, and the object data path.

pub mod path;
pub mod settings;
pub mod view;
