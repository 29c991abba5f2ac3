//! Who asks, and whether the request may be looked at at all.
//!
//! s3s verifies signatures. What it leaves open is closed here: which headers a signature must
//! cover, forms of signature that can be replayed for ever, and requests whose meaning we do not
//! provide.

mod admit;
mod guard;

use async_trait::async_trait;
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Result};

use crate::s3::errors;

pub(crate) use admit::{admit, query_pairs};
pub(crate) use guard::{Guard, OperationName};

/// The one user that there is.
pub(crate) struct RootUser {
    access_key: String,
    secret_key: SecretKey,
}

impl RootUser {
    pub(crate) fn new(access_key: &str, secret_key: &str) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key: SecretKey::from(secret_key),
        }
    }
}

#[async_trait]
impl S3Auth for RootUser {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match access_key == self.access_key {
            true => Ok(self.secret_key.clone()),
            false => {
                let text = "The AWS access key Id you provided does not exist in our records";
                Err(errors::error(S3ErrorCode::InvalidAccessKeyId, text))
            }
        }
    }
}
