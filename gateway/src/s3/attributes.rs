//! What clients say about objects besides their bytes: in from headers, out into answers.

use std::collections::BTreeMap;

use enfilade_cluster::api::record::{Attributes, Checksum, ObjectRecord};
use http::HeaderMap;
use s3s::dto::{
    GetObjectOutput, HeadObjectOutput, Metadata, StorageClass, Timestamp, TimestampFormat,
};
use s3s::{S3ErrorCode, S3Result};

use crate::s3::checksum::{scope_type, tell_checksum};
use crate::s3::conditions::{strong, timestamp};
use crate::s3::errors;

/// Standard headers that are kept as they came.
const KEPT: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
];

/// What S3 says of an object whose type nobody named.
const TYPE_UNKNOWN: &str = "binary/octet-stream";

/// The most bytes of user metadata, names and values together, as in S3.
const METADATA_MAX: usize = 2048;

/// What a request says about the object that it makes.
///
/// # Errors
/// `MetadataTooLarge`; `InvalidArgument` for a header that is no text; `NotImplemented` for a
/// storage class that is not offered.
pub(crate) fn of_request(headers: &HeaderMap, metadata: Option<Metadata>) -> S3Result<Attributes> {
    let metadata: BTreeMap<String, String> = metadata.unwrap_or_default().into_iter().collect();
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_MAX {
        let text = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(errors::error(S3ErrorCode::MetadataTooLarge, text));
    }
    let mut kept = BTreeMap::new();
    for name in KEPT {
        let Some(value) = headers.get(name) else {
            continue;
        };
        let malformed = || errors::invalid_argument(format!("the header {name} is not text"));
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| malformed())?;
        let value = match name {
            "content-encoding" => without_chunking(value),
            _ => value.to_owned(),
        };
        if !value.is_empty() {
            kept.insert(name.to_owned(), value);
        }
    }
    storage_class(headers)?;
    Ok(Attributes {
        headers: kept,
        metadata,
        ..Attributes::default()
    })
}

/// `aws-chunked` is the framing of the request, not of the object.
fn without_chunking(value: &str) -> String {
    let codings = value.split(',').map(str::trim);
    let kept: Vec<&str> = codings
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    kept.join(",")
}

fn storage_class(headers: &HeaderMap) -> S3Result<()> {
    match headers
        .get("x-amz-storage-class")
        .map(|value| value.as_bytes())
    {
        None | Some(b"STANDARD") => Ok(()),
        Some(_) => Err(errors::not_implemented(
            "a storage class other than STANDARD",
        )),
    }
}

/// An answer to a read of a whole object, without its body.
pub(crate) fn answer(record: &ObjectRecord) -> GetObjectOutput {
    let header = |name: &str| record.attributes.headers.get(name).cloned();
    let expires = header("expires");
    let metadata = &record.attributes.metadata;
    GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: header("cache-control"),
        content_disposition: header("content-disposition"),
        content_encoding: header("content-encoding"),
        content_language: header("content-language"),
        content_length: Some(signed(record.len)),
        content_type: Some(header("content-type").unwrap_or_else(|| TYPE_UNKNOWN.to_owned())),
        e_tag: Some(strong(&record.etag)),
        expires: expires.and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, &text).ok()),
        last_modified: Some(timestamp(record.modified_ms)),
        metadata: (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect()),
        website_redirect_location: header("x-amz-website-redirect-location"),
        ..GetObjectOutput::default()
    }
}

/// Adds the checksum that a record keeps.
pub(crate) fn tell(answer: &mut GetObjectOutput, checksum: &Checksum) {
    tell_checksum!(answer, checksum.algorithm, checksum.value.clone());
    answer.checksum_type = Some(scope_type(checksum.scope));
}

/// The same answer to a HEAD.
pub(crate) fn head(answer: GetObjectOutput) -> HeadObjectOutput {
    HeadObjectOutput {
        accept_ranges: answer.accept_ranges,
        cache_control: answer.cache_control,
        checksum_crc32: answer.checksum_crc32,
        checksum_crc32c: answer.checksum_crc32c,
        checksum_crc64nvme: answer.checksum_crc64nvme,
        checksum_sha1: answer.checksum_sha1,
        checksum_sha256: answer.checksum_sha256,
        checksum_type: answer.checksum_type,
        content_disposition: answer.content_disposition,
        content_encoding: answer.content_encoding,
        content_language: answer.content_language,
        content_length: answer.content_length,
        content_range: answer.content_range,
        content_type: answer.content_type,
        e_tag: answer.e_tag,
        expires: answer.expires,
        last_modified: answer.last_modified,
        metadata: answer.metadata,
        parts_count: answer.parts_count,
        version_id: answer.version_id,
        website_redirect_location: answer.website_redirect_location,
        ..HeadObjectOutput::default()
    }
}

/// The storage class of everything.
pub(crate) fn standard() -> StorageClass {
    StorageClass::from_static(StorageClass::STANDARD)
}

/// A length as S3's types have it.
pub(crate) fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn standard_headers_are_kept_and_chunk_framing_is_not() {
        let kept = of_request(
            &headers(&[
                ("content-type", "text/plain"),
                ("content-encoding", "aws-chunked, gzip"),
                ("x-amz-date", "20260101T000000Z"),
            ]),
            None,
        );
        let kept = kept.unwrap().headers;
        assert_eq!(kept.len(), 2);
        assert_eq!(kept["content-encoding"], "gzip");
        let only = of_request(&headers(&[("content-encoding", "aws-chunked")]), None).unwrap();
        assert!(only.headers.is_empty());
    }

    #[test]
    fn metadata_has_its_limit_and_storage_classes_are_not_pretended() {
        let metadata = |len| Some(Metadata::from([("k".to_owned(), "v".repeat(len))]));
        assert!(of_request(&HeaderMap::new(), metadata(METADATA_MAX - 1)).is_ok());
        let error = of_request(&HeaderMap::new(), metadata(METADATA_MAX)).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::MetadataTooLarge);
        let class = headers(&[("x-amz-storage-class", "GLACIER")]);
        let error = of_request(&class, None).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::NotImplemented);
    }
}
