//! Only what is offered passes: operations, query parameters and headers that are not known here
//! answer `NotImplemented`, so that no request succeeds with another meaning than its client's.
//!
//! The danger is real: an operation newer than s3s falls through to the plain one of its method,
//! and `DELETE /bucket?something-new` would delete the bucket.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use enfilade_cluster::env::Env;
use http::{HeaderMap, HeaderName};
use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3ErrorCode, S3Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::query_pairs;
use crate::s3::{checksum, errors};

/// Where the guard notes the operation's name for metrics; rides in the request's extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperationName(pub(crate) Arc<OnceLock<&'static str>>);

/// Requests whose XML is held in memory at the same time: 16 of at most 8 MiB.
const WHOLE_BODIES: usize = 16;

/// How long a request waits for its turn to be held.
const WHOLE_BODY_WAIT: Duration = Duration::from_secs(10);

/// Operations whose XML s3s reads whole.
const WITH_XML: [&str; 3] = ["CompleteMultipartUpload", "CreateBucket", "DeleteObjects"];

/// Checks every request after its signature and before its body.
pub(crate) struct Guard {
    env: Env,
    whole_bodies: Arc<Semaphore>,
}

/// A turn to be held in memory; rides in the request's extensions, and so ends with it.
#[derive(Clone)]
struct Turn(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl Guard {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            env,
            whole_bodies: Arc::new(Semaphore::new(WHOLE_BODIES)),
        }
    }

    async fn turn(&self) -> S3Result<Turn> {
        let permit = Arc::clone(&self.whole_bodies).acquire_owned();
        tokio::select! {
            permit = permit => {
                Ok(Turn(Arc::new(permit.expect("the semaphore is never closed"))))
            }
            () = self.env.clock.sleep(WHOLE_BODY_WAIT) => {
                Err(errors::slow_down("too many requests with XML are under way, try again"))
            }
        }
    }
}

#[async_trait]
impl S3Access for Guard {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let name = cx.s3_op().name();
        let known = OPERATIONS
            .iter()
            .find(|operation| operation.0 == name)
            .copied();
        if let (Some(known), Some(slot)) = (known, cx.extensions_mut().get::<OperationName>()) {
            slot.0.get_or_init(|| known.0);
        }
        if cx.credentials().is_none() {
            return Err(errors::error(
                S3ErrorCode::AccessDenied,
                "A signature is required",
            ));
        }
        let Some((name, parameters)) = known else {
            return Err(errors::not_implemented(cx.s3_op().name()));
        };
        check_query(parameters, cx.uri().query().unwrap_or_default())?;
        check_headers(cx.headers())?;
        if WITH_XML.contains(&name) {
            let turn = self.turn().await?;
            cx.extensions_mut().insert(turn);
        }
        Ok(())
    }
}

const LISTING: &[&str] = &[
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "list-type",
    "marker",
    "max-keys",
    "metadata",
    "prefix",
    "start-after",
];

const READING: &[&str] = &[
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];

/// The operations that are offered, and their query parameters.
pub(crate) const OPERATIONS: [(&str, &[&str]); 25] = [
    ("AbortMultipartUpload", &["uploadId"]),
    ("CompleteMultipartUpload", &["uploadId"]),
    ("CopyObject", &[]),
    ("CreateBucket", &[]),
    ("CreateMultipartUpload", &["uploads"]),
    ("DeleteBucket", &[]),
    ("DeleteObject", &["versionId"]),
    ("DeleteObjects", &["delete"]),
    ("GetBucketLocation", &["location"]),
    ("GetBucketVersioning", &["versioning"]),
    ("GetObject", READING),
    ("GetObjectAttributes", &["attributes", "versionId"]),
    ("GetObjectTagging", &["tagging", "versionId"]),
    ("HeadBucket", &[]),
    ("HeadObject", READING),
    (
        "ListBuckets",
        &[
            "bucket-region",
            "continuation-token",
            "max-buckets",
            "prefix",
        ],
    ),
    (
        "ListMultipartUploads",
        &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-uploads",
            "prefix",
            "upload-id-marker",
            "uploads",
        ],
    ),
    (
        "ListObjectVersions",
        &[
            "delimiter",
            "encoding-type",
            "key-marker",
            "max-keys",
            "prefix",
            "version-id-marker",
            "versions",
        ],
    ),
    ("ListObjects", LISTING),
    ("ListObjectsV2", LISTING),
    (
        "ListParts",
        &["max-parts", "part-number-marker", "uploadId"],
    ),
    ("PutBucketVersioning", &["versioning"]),
    ("PutObject", &[]),
    ("UploadPart", &["partNumber", "uploadId"]),
    ("UploadPartCopy", &["partNumber", "uploadId"]),
];

fn check_query(known: &[&str], query: &str) -> S3Result<()> {
    for (name, _) in query_pairs(query) {
        // `x-id` names the operation; `x-amz-*` is looked at as a header.
        let extra = name.starts_with("x-") || name.starts_with("X-");
        let signature = ["AWSAccessKeyId", "Expires", "Signature"].contains(&name.as_str());
        if !extra && !signature && !known.contains(&name.as_str()) {
            return Err(errors::not_implemented(format!(
                "the query parameter {name}"
            )));
        }
    }
    Ok(())
}

/// Headers whose meaning is provided, or that mean nothing to us.
const HEADERS: [&str; 29] = [
    "x-amz-bucket-region",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-range",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-max-parts",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-object-attributes",
    "x-amz-object-ownership",
    "x-amz-optional-object-attributes",
    "x-amz-part-number-marker",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-source-expected-bucket-owner",
    "x-amz-storage-class",
    "x-amz-tagging-directive",
    "x-amz-trailer",
    "x-amz-user-agent",
    "x-amz-website-redirect-location",
];

/// Headers that are provided only with these values.
const VALUES: [(&str, &[&str]); 4] = [
    ("x-amz-acl", &["private", "bucket-owner-full-control"]),
    ("x-amz-bucket-object-lock-enabled", &["false", "False"]),
    ("x-amz-bypass-governance-retention", &["false", "False"]),
    (
        "x-amz-server-side-encryption-bucket-key-enabled",
        &["false", "False"],
    ),
];

fn check_headers(headers: &HeaderMap) -> S3Result<()> {
    for name in headers.keys().map(HeaderName::as_str) {
        if !name.starts_with("x-amz-") || name.starts_with("x-amz-meta-") {
            continue;
        }
        let plain = HEADERS.contains(&name)
            || checksum::ALGORITHMS
                .iter()
                .any(|algorithm| algorithm.1 == name);
        let values = VALUES
            .iter()
            .find(|row| row.0 == name)
            .map(|row| row.1)
            .unwrap_or_default();
        let allowed = |value: &http::HeaderValue| values.iter().any(|one| value == one);
        if !plain && !headers.get_all(name).iter().all(allowed) {
            return Err(errors::not_implemented(format!("the header {name}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(name: &'static str, value: &'static str) -> bool {
        let header = (
            HeaderName::from_static(name),
            http::HeaderValue::from_static(value),
        );
        check_headers(&HeaderMap::from_iter([header])).is_ok()
    }

    #[test]
    fn headers_that_promise_what_we_do_not_keep_are_refused() {
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-key", "AAAA"),
            (
                "x-amz-copy-source-server-side-encryption-customer-key",
                "AAAA",
            ),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-object-lock-legal-hold", "ON"),
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=x"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-checksum-sha512", "AAAA"),
            ("x-amz-mfa", "1 2"),
            ("x-amz-write-offset-bytes", "5"),
            ("x-amz-rename-source", "b/k"),
            ("x-amz-something-new", "1"),
        ] {
            assert!(!passes(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-meta-anything", "at all"),
            ("x-amz-checksum-sha256", "AAAA"),
            ("x-amz-bucket-object-lock-enabled", "false"),
            ("amz-sdk-request", "attempt=1"),
        ] {
            assert!(passes(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn a_parameter_that_names_another_operation_is_refused() {
        let of = |name: &str| OPERATIONS.iter().find(|row| row.0 == name).unwrap().1;
        assert!(check_query(of("DeleteBucket"), "metadataConfiguration").is_err());
        assert!(check_query(of("PutObject"), "renameObject").is_err());
        assert!(check_query(of("PutObject"), "x-id=PutObject&X-Amz-Signature=0").is_ok());
        assert!(check_query(of("ListObjectsV2"), "list-type=2&prefix=a%2Fb").is_ok());
        assert!(check_query(of("GetObject"), "\u{e9}").is_err());
    }
}
