//! The S3 front of Enfilade: authentication, S3 operations, and the object data path.

mod auth;
pub mod digest;
pub mod metrics;
pub mod path;
mod s3;
mod service;
pub mod settings;
pub mod view;
pub mod volumes;

pub use s3::{BodyTimes, S3Settings};
pub use service::{Gateway, GatewayError, GatewaySettings};
