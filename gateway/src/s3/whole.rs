//! Digests of bodies that s3s reads whole: XML, whose bytes the operations never see.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use s3s::crypto::Checksum as _;
use s3s::{S3Result, crypto};

use crate::s3::checksum::{ALGORITHMS, Claims, bad_checksum, bad_md5, hasher, md5_value, value_in};
use crate::s3::errors;

/// Digests of a body that s3s reads whole (XML), fed as it passes through the service; rides in the
/// request's extensions.
#[derive(Clone, Default)]
pub(crate) struct BodyDigests(Arc<Mutex<(crypto::Md5, s3s::checksum::ChecksumHasher)>>);

impl BodyDigests {
    /// Begins, when the headers claim anything; a malformed claim is found later.
    pub(crate) fn begin(headers: &HeaderMap) -> Option<Self> {
        let algorithm = ALGORITHMS.iter().find(|row| headers.contains_key(row.1));
        if algorithm.is_none() && !headers.contains_key("content-md5") {
            return None;
        }
        let hasher = hasher(algorithm.map(|row| row.0));
        Some(Self(Arc::new(Mutex::new((crypto::Md5::new(), hasher)))))
    }

    /// Takes in the next bytes.
    pub(crate) fn update(&self, bytes: &[u8]) {
        let mut hashers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hashers.0.update(bytes);
        hashers.1.update(bytes);
    }
}

/// Compares the claims of a request whose body s3s has read whole.
///
/// # Errors
/// As for [`Claims::of`] and [`Claims::verify`]; `NotImplemented` for a chunked body, whose digests
/// are not computed.
pub(crate) fn verify_whole<T>(req: &s3s::S3Request<T>) -> S3Result<()> {
    let claims = Claims::of(&req.headers)?;
    if claims == Claims::default() {
        return Ok(());
    }
    match req.extensions.get::<BodyDigests>() {
        Some(digests) if claims.trailer.is_none() => verify(&claims, digests),
        _ => Err(errors::not_implemented(
            "a checksum of a chunked request of this kind",
        )),
    }
}

/// Compares only `Content-MD5`: for requests whose checksum headers are not about their bodies.
///
/// # Errors
/// As for [`verify_whole`].
pub(crate) fn verify_whole_md5<T>(req: &s3s::S3Request<T>) -> S3Result<()> {
    let md5 = req.headers.get("content-md5");
    let Some(md5) = md5.map(|value| md5_value(value.as_bytes())).transpose()? else {
        return Ok(());
    };
    let claims = Claims {
        md5: Some(md5),
        ..Claims::default()
    };
    match req.extensions.get::<BodyDigests>() {
        Some(digests) => verify(&claims, digests),
        None => Err(errors::not_implemented(
            "Content-MD5 of a chunked request of this kind",
        )),
    }
}

/// Compares with digests of a body that was read whole.
fn verify(claims: &Claims, digests: &BodyDigests) -> S3Result<()> {
    let mut hashers = digests.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (md5, checksum) = std::mem::take(&mut *hashers);
    if claims.md5.is_some_and(|claimed| claimed != md5.finalize()) {
        return Err(bad_md5());
    }
    let Some((algorithm, claimed)) = &claims.header else {
        return Ok(());
    };
    match value_in(&checksum.finalize(), *algorithm) {
        Some(found) if found == STANDARD.encode(claimed) => Ok(()),
        _ => Err(bad_checksum(*algorithm)),
    }
}
