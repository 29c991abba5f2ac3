//! Digests that clients name: `Content-MD5` and `x-amz-checksum-*`, in headers and in trailers.
//!
//! s3s parses them but compares nothing; that happens here, before a record is proposed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enfilade_cluster::api::record::{Checksum, ChecksumAlgorithm, ChecksumScope};
use enfilade_cluster::api::root::EtagKind;
use http::{HeaderMap, Method};
use s3s::crypto::Checksum as _;
use s3s::{S3ErrorCode, S3Request, S3Result, TrailingHeaders, crypto, dto};

use crate::digest::crc::Crc;
use crate::digest::fast_etag;
use crate::path::types::Written;
use crate::s3::errors;

/// All algorithms, with their headers and names in S3.
pub(crate) const ALGORITHMS: [(ChecksumAlgorithm, &str, &str); 5] = [
    (ChecksumAlgorithm::Crc32, "x-amz-checksum-crc32", "CRC32"),
    (ChecksumAlgorithm::Crc32c, "x-amz-checksum-crc32c", "CRC32C"),
    (
        ChecksumAlgorithm::Crc64Nvme,
        "x-amz-checksum-crc64nvme",
        "CRC64NVME",
    ),
    (ChecksumAlgorithm::Sha1, "x-amz-checksum-sha1", "SHA1"),
    (ChecksumAlgorithm::Sha256, "x-amz-checksum-sha256", "SHA256"),
];

/// The name of an algorithm in S3.
pub(crate) fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    let row = ALGORITHMS.iter().find(|row| row.0 == algorithm);
    row.map_or("", |row| row.2)
}

/// The algorithm of that name.
///
/// # Errors
/// `InvalidRequest` when there is none.
pub(crate) fn of_name(text: &str) -> S3Result<ChecksumAlgorithm> {
    let row = ALGORITHMS
        .iter()
        .find(|row| row.2.eq_ignore_ascii_case(text));
    let unknown = || errors::invalid_request("Checksum algorithm provided is unsupported");
    row.map(|row| row.0).ok_or_else(unknown)
}

fn of_header(text: &str) -> Option<ChecksumAlgorithm> {
    let row = ALGORITHMS
        .iter()
        .find(|row| row.1.eq_ignore_ascii_case(text));
    row.map(|row| row.0)
}

/// What S3 calls a scope.
pub(crate) fn scope_type(scope: ChecksumScope) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match scope {
        ChecksumScope::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumScope::Composite => dto::ChecksumType::COMPOSITE,
    })
}

/// Sets the one field of an answer that holds a checksum.
macro_rules! tell_checksum {
    ($answer:expr, $algorithm:expr, $value:expr) => {{
        use enfilade_cluster::api::record::ChecksumAlgorithm as Algorithm;
        let value = Some($value);
        match $algorithm {
            Algorithm::Crc32 => $answer.checksum_crc32 = value,
            Algorithm::Crc32c => $answer.checksum_crc32c = value,
            Algorithm::Crc64Nvme => $answer.checksum_crc64nvme = value,
            Algorithm::Sha1 => $answer.checksum_sha1 = value,
            Algorithm::Sha256 => $answer.checksum_sha256 = value,
        }
    }};
}
pub(crate) use tell_checksum;

/// The checksums of a request's fields, of which at most one is given.
macro_rules! named_checksums {
    ($input:expr) => {{
        use enfilade_cluster::api::record::ChecksumAlgorithm as Algorithm;
        [
            (Algorithm::Crc32, $input.checksum_crc32.as_ref()),
            (Algorithm::Crc32c, $input.checksum_crc32c.as_ref()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.as_ref()),
            (Algorithm::Sha1, $input.checksum_sha1.as_ref()),
            (Algorithm::Sha256, $input.checksum_sha256.as_ref()),
        ]
    }};
}
pub(crate) use named_checksums;

/// What a client says its body's digests are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(super) md5: Option<[u8; 16]>,
    pub(super) header: Option<(ChecksumAlgorithm, Vec<u8>)>,
    pub(super) trailer: Option<ChecksumAlgorithm>,
}

impl Claims {
    /// Reads the headers of a request with a body.
    ///
    /// # Errors
    /// When a value is malformed, when several are given, or when one is announced that is missing.
    pub(crate) fn of(headers: &HeaderMap) -> S3Result<Self> {
        let md5 = headers
            .get("content-md5")
            .map(|value| md5_value(value.as_bytes()))
            .transpose()?;
        let mut claims = Self {
            md5,
            ..Self::default()
        };
        for (algorithm, header, _) in ALGORITHMS {
            let Some(value) = headers.get(header) else {
                continue;
            };
            if claims.header.is_some() || headers.get_all(header).iter().count() > 1 {
                return Err(errors::invalid_request(ONE));
            }
            claims.header = Some((algorithm, checksum_value(algorithm, value.as_bytes())?));
        }
        for value in headers.get_all("x-amz-trailer") {
            let names = value.to_str().unwrap_or_default();
            for name in names.split(',').map(str::trim) {
                let text = "The value specified in the x-amz-trailer header is not supported";
                let unknown = || errors::invalid_request(text);
                let algorithm = of_header(name).ok_or_else(unknown)?;
                if claims.header.is_some() || claims.trailer.replace(algorithm).is_some() {
                    return Err(errors::invalid_request(ONE));
                }
            }
        }
        claims.announced(headers)?;
        Ok(claims)
    }

    /// `x-amz-sdk-checksum-algorithm` must agree with what is there.
    fn announced(&self, headers: &HeaderMap) -> S3Result<()> {
        let Some(value) = headers.get("x-amz-sdk-checksum-algorithm") else {
            return Ok(());
        };
        let announced = of_name(value.to_str().unwrap_or_default())?;
        match self.algorithm() {
            Some(found) if found == announced => Ok(()),
            Some(_) => Err(errors::invalid_request(
                "Value for x-amz-sdk-checksum-algorithm header is invalid",
            )),
            None => Err(errors::invalid_request(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* \
                 or x-amz-trailer headers were found",
            )),
        }
    }

    /// The algorithm that the client chose.
    pub(crate) fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.header
            .as_ref()
            .map(|(algorithm, _)| *algorithm)
            .or(self.trailer)
    }

    /// Compares with what arrived. Trailers must have been read to their end.
    ///
    /// # Errors
    /// `BadDigest` when one differs, `IncompleteBody` when an announced trailer is missing.
    pub(crate) fn verify(
        &self,
        written: &Written,
        trailers: Option<&TrailingHeaders>,
    ) -> S3Result<()> {
        if self.md5.is_some_and(|claimed| written.md5 != Some(claimed)) {
            return Err(bad_md5());
        }
        let claimed = match (&self.header, self.trailer) {
            (Some((algorithm, value)), _) => (*algorithm, value.clone()),
            (None, Some(algorithm)) => (algorithm, trailing(algorithm, trailers)?),
            (None, None) => return Ok(()),
        };
        match found(written, claimed.0)? == claimed.1 {
            true => Ok(()),
            false => Err(bad_checksum(claimed.0)),
        }
    }
}

const ONE: &str =
    "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed";

pub(super) fn bad_md5() -> s3s::S3Error {
    let text = "The Content-MD5 you specified did not match what we received";
    errors::error(S3ErrorCode::BadDigest, text)
}

pub(super) fn bad_checksum(algorithm: ChecksumAlgorithm) -> s3s::S3Error {
    let text = format!(
        "The {} you specified did not match what we received",
        name(algorithm)
    );
    errors::error(S3ErrorCode::BadDigest, text)
}

pub(super) fn md5_value(value: &[u8]) -> S3Result<[u8; 16]> {
    let bytes = STANDARD
        .decode(value)
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    let text = "The Content-MD5 you specified is not valid";
    bytes.ok_or_else(|| errors::error(S3ErrorCode::InvalidDigest, text))
}

fn checksum_value(algorithm: ChecksumAlgorithm, value: &[u8]) -> S3Result<Vec<u8>> {
    let bytes = STANDARD.decode(value).ok();
    let text = format!("Value for the {} checksum is invalid", name(algorithm));
    bytes
        .filter(|bytes| bytes.len() == digest_len(algorithm))
        .ok_or_else(|| errors::invalid_request(text))
}

/// The raw bytes of a stored or named checksum value; none when it is malformed.
pub(crate) fn raw(algorithm: ChecksumAlgorithm, value: &str) -> Option<Vec<u8>> {
    checksum_value(algorithm, value.as_bytes()).ok()
}

const fn digest_len(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

fn trailing(algorithm: ChecksumAlgorithm, trailers: Option<&TrailingHeaders>) -> S3Result<Vec<u8>> {
    let header = ALGORITHMS
        .iter()
        .find(|row| row.0 == algorithm)
        .map_or("", |row| row.1);
    let value = trailers.and_then(|trailers| trailers.read(|map| map.get(header).cloned()));
    let Some(value) = value.flatten() else {
        let text = format!("The announced trailer {header} is missing");
        return Err(errors::error(S3ErrorCode::IncompleteBody, text));
    };
    checksum_value(algorithm, value.as_bytes())
}

/// The digests to ask the data path for, which always computes CRC-64/NVME.
pub(crate) fn wanted(algorithm: Option<ChecksumAlgorithm>) -> Option<ChecksumAlgorithm> {
    algorithm.filter(|algorithm| *algorithm != ChecksumAlgorithm::Crc64Nvme)
}

/// The ETag of a body that was written.
///
/// # Errors
/// When the data path was not asked for its MD5.
pub(crate) fn etag_of(written: &Written, kind: EtagKind) -> S3Result<String> {
    match (kind, written.md5) {
        (EtagKind::Fast, _) => Ok(fast_etag(written.blob.crc64, written.blob.len)),
        (EtagKind::Md5, Some(md5)) => Ok(hex::encode(md5)),
        (EtagKind::Md5, None) => Err(errors::internal("a digest was not computed", "MD5")),
    }
}

/// SHA-256 of a request's body, when s3s compares the body with it while it is read, as it does for
/// signatures of version 4 that name one (`UploadStream` in its `ops/signature.rs`). It keeps what
/// it computes to itself; but a body that ends without an error has just this digest.
pub(crate) fn verified_sha256<T>(req: &S3Request<T>) -> Option<[u8; 32]> {
    // Only signatures of version 4 name a service; forms, which s3s does not verify so, are posted.
    let signed = req.service.as_deref() == Some("s3") && req.method == Method::PUT;
    let mut values = req.headers.get_all("x-amz-content-sha256").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let mut sha256 = [0; 32];
    hex::decode_to_slice(value.as_bytes(), &mut sha256).ok()?;
    signed.then_some(sha256)
}

fn found(written: &Written, algorithm: ChecksumAlgorithm) -> S3Result<Vec<u8>> {
    if algorithm == ChecksumAlgorithm::Crc64Nvme {
        return Ok(written.blob.crc64.to_be_bytes().to_vec());
    }
    let digest = written.digest.as_ref();
    let digest = digest.filter(|(computed, _)| *computed == algorithm);
    let missing = || errors::internal("a digest was not computed", name(algorithm));
    digest.map(|(_, value)| value.clone()).ok_or_else(missing)
}

/// The checksum that a record keeps of one body: of the client's algorithm, else CRC-64/NVME.
///
/// # Errors
/// When the data path was not asked for it.
pub(crate) fn of_body(
    written: &Written,
    algorithm: Option<ChecksumAlgorithm>,
) -> S3Result<Checksum> {
    let algorithm = algorithm.unwrap_or(ChecksumAlgorithm::Crc64Nvme);
    let value = STANDARD.encode(found(written, algorithm)?);
    Ok(Checksum {
        algorithm,
        scope: ChecksumScope::FullObject,
        value,
    })
}

/// The checksum over the checksums of parts.
pub(crate) fn composite(algorithm: ChecksumAlgorithm, parts: &[Vec<u8>]) -> Checksum {
    let mut hasher = hasher(Some(algorithm));
    for part in parts {
        hasher.update(part);
    }
    let value = value_in(&hasher.finalize(), algorithm).unwrap_or_default();
    let value = format!("{value}-{}", parts.len());
    Checksum {
        algorithm,
        scope: ChecksumScope::Composite,
        value,
    }
}

/// The checksum of an object from those of its parts and their lengths; none when the algorithm
/// cannot be combined.
pub(crate) fn combined(algorithm: ChecksumAlgorithm, parts: &[(Vec<u8>, u64)]) -> Option<Checksum> {
    let crc = Crc::of(algorithm)?;
    let number = |raw: &Vec<u8>| raw.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let mut parts = parts.iter();
    let first = parts.next().map_or(0, |(raw, _)| number(raw));
    let whole = parts.fold(first, |whole, (raw, len)| {
        crc.combine(whole, number(raw), *len)
    });
    Some(Checksum {
        algorithm,
        scope: ChecksumScope::FullObject,
        value: STANDARD.encode(crc.to_bytes(whole)),
    })
}

pub(super) fn hasher(algorithm: Option<ChecksumAlgorithm>) -> s3s::checksum::ChecksumHasher {
    let mut hasher = s3s::checksum::ChecksumHasher::default();
    match algorithm {
        Some(ChecksumAlgorithm::Crc32) => hasher.crc32 = Some(crypto::Crc32::new()),
        Some(ChecksumAlgorithm::Crc32c) => hasher.crc32c = Some(crypto::Crc32c::new()),
        Some(ChecksumAlgorithm::Crc64Nvme) => hasher.crc64nvme = Some(crypto::Crc64Nvme::new()),
        Some(ChecksumAlgorithm::Sha1) => hasher.sha1 = Some(crypto::Sha1::new()),
        Some(ChecksumAlgorithm::Sha256) => hasher.sha256 = Some(crypto::Sha256::new()),
        None => {}
    }
    hasher
}

pub(super) fn value_in(digest: &dto::Checksum, algorithm: ChecksumAlgorithm) -> Option<String> {
    let all = named_checksums!(digest);
    all.into_iter()
        .find(|(one, _)| *one == algorithm)
        .and_then(|(_, value)| value.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use enfilade_cluster::api::record::{Blob, Place};
    use enfilade_placement::BlobId;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn written(body: &[u8]) -> Written {
        let crc64 = u64::from_be_bytes(crypto::Crc64Nvme::checksum(body));
        let blob = Blob {
            id: BlobId::new(1),
            len: body.len() as u64,
            crc64,
            place: Place::Inline,
        };
        let crc32 = crypto::Crc32::checksum(body).to_vec();
        let md5 = Some(crypto::Md5::checksum(body));
        Written {
            blob,
            inline: Bytes::copy_from_slice(body),
            md5,
            digest: Some((ChecksumAlgorithm::Crc32, crc32)),
        }
    }

    #[test]
    fn claims_that_hold_pass_and_others_are_bad_digests() {
        let body = written(b"hello");
        let crc = STANDARD.encode(crypto::Crc32::checksum(b"hello"));
        let md5 = STANDARD.encode(crypto::Md5::checksum(b"hello"));
        let right = headers(&[("x-amz-checksum-crc32", &crc), ("content-md5", &md5)]);
        Claims::of(&right).unwrap().verify(&body, None).unwrap();
        let other = STANDARD.encode(crypto::Crc32::checksum(b"hullo"));
        let wrong = headers(&[("x-amz-checksum-crc32", &other)]);
        let error = Claims::of(&wrong).unwrap().verify(&body, None).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::BadDigest);
        let other = STANDARD.encode(crypto::Md5::checksum(b"hullo"));
        let wrong = headers(&[("content-md5", &other)]);
        let error = Claims::of(&wrong).unwrap().verify(&body, None).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::BadDigest);
    }

    #[test]
    fn malformed_and_contradictory_claims_are_refused() {
        for (pairs, code) in [
            (vec![("content-md5", "AAAA")], S3ErrorCode::InvalidDigest),
            (
                vec![("content-md5", "not base64")],
                S3ErrorCode::InvalidDigest,
            ),
            (
                vec![("x-amz-checksum-crc32", "AAAA")],
                S3ErrorCode::InvalidRequest,
            ),
            (
                vec![
                    ("x-amz-checksum-crc32", "AAAAAA=="),
                    ("x-amz-checksum-crc32c", "AAAAAA=="),
                ],
                S3ErrorCode::InvalidRequest,
            ),
            (
                vec![
                    ("x-amz-checksum-crc32", "AAAAAA=="),
                    ("x-amz-trailer", "x-amz-checksum-sha1"),
                ],
                S3ErrorCode::InvalidRequest,
            ),
            (
                vec![("x-amz-trailer", "x-amz-checksum-md4")],
                S3ErrorCode::InvalidRequest,
            ),
            (
                vec![("x-amz-sdk-checksum-algorithm", "CRC32")],
                S3ErrorCode::InvalidRequest,
            ),
        ] {
            assert_eq!(
                Claims::of(&headers(&pairs)).unwrap_err().code(),
                &code,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn an_announced_trailer_that_is_missing_is_an_incomplete_body() {
        let claims = Claims::of(&headers(&[("x-amz-trailer", "x-amz-checksum-crc32")])).unwrap();
        let error = claims.verify(&written(b"x"), None).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::IncompleteBody);
    }

    #[test]
    fn checksums_of_parts_combine_to_that_of_the_whole() {
        let (a, b, c) = (&b"first part,"[..], &b" second,"[..], &b" third"[..]);
        let whole = [a, b, c].concat();
        let crc = |bytes: &[u8]| crypto::Crc64Nvme::checksum(bytes).to_vec();
        let parts: Vec<_> = [a, b, c].map(|part| (crc(part), part.len() as u64)).into();
        let combined = combined(ChecksumAlgorithm::Crc64Nvme, &parts).unwrap();
        assert_eq!(combined.value, STANDARD.encode(crc(&whole)));
        let crc = |bytes: &[u8]| crypto::Crc32c::checksum(bytes).to_vec();
        let parts: Vec<_> = [a, b, c].map(|part| (crc(part), part.len() as u64)).into();
        let combined = super::combined(ChecksumAlgorithm::Crc32c, &parts).unwrap();
        assert_eq!(combined.value, STANDARD.encode(crc(&whole)));
        assert!(super::combined(ChecksumAlgorithm::Sha1, &parts).is_none());
    }

    #[test]
    fn a_composite_is_over_raw_digests_and_counts_its_parts() {
        let parts = [b"a", b"b"].map(|part| crypto::Sha256::checksum(part).to_vec());
        let all = crypto::Sha256::checksum(&parts.concat());
        let composite = composite(ChecksumAlgorithm::Sha256, &parts);
        assert_eq!(composite.value, format!("{}-2", STANDARD.encode(all)));
    }
}
