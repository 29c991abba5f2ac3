//! What all operations share: finding the bucket, taking in a body, proposing a command.

use std::sync::Arc;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::command::{KeyOp, KeyReply, Refusal, Versioning, WriteRequest};
use enfilade_cluster::api::key::{KEY_LEN_MAX, ObjectKey};
use enfilade_cluster::api::query::Found;
use enfilade_cluster::api::record::{ChecksumAlgorithm, ObjectRecord, VersionId, VersionKind};
use enfilade_cluster::api::root::{Bucket, EtagKind, RootView};
use enfilade_cluster::env::Env;
use enfilade_placement::{RequestId, Stamp};
use enfilade_storage_node::api::Owner;
use http::HeaderMap;
use s3s::dto::{self, StreamingBlob};
use s3s::{S3ErrorCode, S3Result};

use crate::path::DataPath;
use crate::path::types::{WriteBody, Written};
use crate::s3::S3Settings;
use crate::s3::body::{Incoming, announced_len};
use crate::s3::checksum::{self, Claims};
use crate::s3::errors::{self, Fault};
use crate::view::View;

/// The longest body of one put or part, as in S3.
pub(crate) const BODY_LEN_MAX: u64 = 5 << 30;

/// How often a command is proposed anew because the bucket's settings changed meanwhile.
const REVISIONS_MAX: usize = 5;

/// Everything that the operations act on.
#[derive(Clone)]
pub(crate) struct Front {
    /// Settings.
    pub(crate) settings: Arc<S3Settings>,
    /// Time and randomness.
    pub(crate) env: Env,
    /// The metadata service.
    pub(crate) metadata: Arc<dyn MetadataClient>,
    /// The root state as it was heard.
    pub(crate) view: Arc<View>,
    /// Bodies to blobs and back.
    pub(crate) path: Arc<DataPath>,
}

/// A body to be received, and what it is for.
pub(crate) struct Receive<'a> {
    /// Whom it is for.
    pub(crate) owner: Owner,
    /// The body.
    pub(crate) body: Option<StreamingBlob>,
    /// The headers of the request.
    pub(crate) headers: &'a HeaderMap,
    /// What the client says its digests are.
    pub(crate) claims: &'a Claims,
    /// The checksum to compute.
    pub(crate) algorithm: Option<ChecksumAlgorithm>,
    /// SHA-256 of the body, when s3s verifies it as the body is read.
    pub(crate) verified: Option<[u8; 32]>,
    /// What the ETag will be.
    pub(crate) etag: EtagKind,
}

impl Front {
    /// The bucket of that name.
    ///
    /// # Errors
    /// `NoSuchBucket`; `AccessDenied` when the client expects another owner; 503 when the state of
    /// the cluster is not known for sure.
    pub(crate) async fn bucket(&self, name: &str, expected: Option<&str>) -> S3Result<Bucket> {
        let root = self.view.fresh().map_err(errors::stale_view)?;
        let bucket = match root.buckets.get(name) {
            Some(bucket) => bucket.clone(),
            // It may be newer than what was heard.
            None => self.refreshed(name).await?,
        };
        match expected {
            Some(owner) if owner != bucket.owner => Err(errors::error(
                S3ErrorCode::AccessDenied,
                "The bucket has another owner",
            )),
            _ => Ok(bucket),
        }
    }

    /// The root state, read now.
    pub(crate) async fn root(&self) -> S3Result<Arc<RootView>> {
        self.view.refresh().await.map_err(errors::metadata)
    }

    async fn refreshed(&self, name: &str) -> S3Result<Bucket> {
        let root = self.root().await?;
        root.buckets
            .get(name)
            .cloned()
            .ok_or_else(errors::no_such_bucket)
    }

    /// Writes a body as one blob; it is named by nothing yet.
    ///
    /// # Errors
    /// As S3 has them for a body that is too long, too short, unsigned or late; 503.
    pub(crate) async fn receive(&self, what: Receive<'_>) -> S3Result<Written> {
        let len = announced_len(what.headers)?;
        if len > BODY_LEN_MAX {
            return Err(errors::too_large());
        }
        let fault = Fault::default();
        let body = Incoming::new(what.body, len, self.settings.body, &self.env, &fault);
        let body = body
            .open()
            .await
            .map_err(|error| fault.explain(error.into()))?;
        // What s3s has verified when the body ends need not be computed again.
        let known = what
            .verified
            .filter(|_| what.algorithm == Some(ChecksumAlgorithm::Sha256));
        let digest = match known {
            Some(_) => None,
            None => checksum::wanted(what.algorithm),
        };
        let body = WriteBody {
            owner: what.owner,
            body,
            len: Some(len),
            len_max: BODY_LEN_MAX,
            digest,
            md5: what.etag == EtagKind::Md5 || what.claims.md5.is_some(),
        };
        let written = self.path.write(body).await;
        let mut written = written.map_err(|error| fault.explain(error))?;
        if let Some(sha256) = known {
            written.digest = Some((ChecksumAlgorithm::Sha256, sha256.to_vec()));
        }
        Ok(written)
    }

    /// Proposes a command for a key, under `request` (the blob's id when it names a blob: PROTOCOLS
    /// 2). When the bucket's settings have changed, the refusal is final and the command is
    /// proposed anew under an id of its own, as long as the bucket is the same.
    ///
    /// # Errors
    /// See [`errors::refusal`]; 503 when the outcome is unknown.
    pub(crate) async fn commit(
        &self,
        bucket: &Bucket,
        key: &str,
        request: RequestId,
        op: KeyOp,
    ) -> S3Result<KeyReply> {
        let (mut revision, mut request) = (bucket.revision, request);
        for _ in 0..REVISIONS_MAX {
            let command = WriteRequest {
                request,
                bucket: bucket.id,
                revision,
                key: key.to_owned(),
                op: op.clone(),
            };
            let refusal = match self
                .metadata
                .write(command)
                .await
                .map_err(errors::metadata)?
            {
                Ok(reply) => return Ok(reply),
                Err(refusal) => refusal,
            };
            let (Refusal::StaleRevision(_) | Refusal::BucketFenced) = refusal else {
                return Err(errors::refusal(refusal));
            };
            let now = self.refreshed(&bucket.name).await?;
            if now.id != bucket.id {
                // The bucket was deleted and made again: the blob's owner is a key of the old one.
                return Err(errors::unavailable(
                    "the bucket was replaced meanwhile, try again",
                ));
            }
            if now.deleting {
                return Err(errors::unavailable("the bucket is being deleted"));
            }
            revision = now.revision;
            request = self.request();
        }
        Err(errors::unavailable(
            "the bucket's settings keep changing, try again",
        ))
    }

    /// The current object of a key, or the version named, with its record.
    ///
    /// # Errors
    /// `NoSuchKey`, also behind a delete marker; `NoSuchVersion` for a version that is not there;
    /// `MethodNotAllowed` for one that is a delete marker.
    pub(crate) async fn found(&self, at: &ObjectKey, version: Option<&str>) -> S3Result<Found> {
        let version = version.map(version_of).transpose()?;
        let found = self
            .metadata
            .object(at, version)
            .await
            .map_err(errors::metadata)?;
        match found {
            Some(found) if found.record.kind == VersionKind::Object => Ok(found),
            Some(marker) => Err(is_marker(&marker.record, version.is_some())),
            None if version.is_some() => Err(no_such_version()),
            None => Err(errors::no_such_key()),
        }
    }

    /// A new request id, for a command that names no blob.
    pub(crate) fn request(&self) -> RequestId {
        RequestId::new(self.env.random.next_u128())
    }

    /// The owner as S3 tells it.
    pub(crate) fn owner(&self) -> dto::Owner {
        let id = Some(self.settings.access_key.clone());
        dto::Owner {
            display_name: id.clone(),
            id,
        }
    }
}

/// The S3 version id of what was written while versioning was not enabled.
pub(crate) const NULL: &str = "null";

/// The version that a client names.
///
/// # Errors
/// `NoSuchVersion` when it cannot be one of ours.
pub(crate) fn version_of(text: &str) -> S3Result<VersionId> {
    if text == NULL {
        return Ok(VersionId::Null);
    }
    let stamp = text.parse::<Stamp>().map_err(|_| no_such_version())?;
    Ok(VersionId::Stamp(stamp))
}

/// The S3 version id of a version.
pub(crate) fn version_text(null: bool, stamp: Stamp) -> String {
    match null {
        true => NULL.to_owned(),
        false => stamp.to_string(),
    }
}

/// The version id that a read tells: none in a bucket that never kept versions.
pub(crate) fn told_version(bucket: &Bucket, record: &ObjectRecord) -> Option<String> {
    let kept = bucket.versioning != Versioning::Off || !record.null_version;
    kept.then(|| version_text(record.null_version, record.stamp))
}

/// A read met a delete marker: 404 when it asked for the key, 405 when it asked for the marker.
fn is_marker(record: &ObjectRecord, named: bool) -> s3s::S3Error {
    let mut error = match named {
        true => errors::error(
            S3ErrorCode::MethodNotAllowed,
            "The specified version is a delete marker",
        ),
        false => errors::no_such_key(),
    };
    let mut headers = HeaderMap::new();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/xml"),
    );
    headers.insert(
        "x-amz-delete-marker",
        http::HeaderValue::from_static("true"),
    );
    let version = version_text(record.null_version, record.stamp);
    if let Ok(version) = http::HeaderValue::try_from(version) {
        headers.insert("x-amz-version-id", version);
    }
    error.set_headers(headers);
    error
}

fn no_such_version() -> s3s::S3Error {
    errors::error(
        S3ErrorCode::NoSuchVersion,
        "The specified version does not exist",
    )
}

/// A key of a bucket, checked.
///
/// # Errors
/// `KeyTooLongError`; `UserKeyMustBeSpecified` when it is empty.
pub(crate) fn checked_key(key: &str) -> S3Result<()> {
    if key.is_empty() {
        let text = "The key must not be empty";
        return Err(errors::error(S3ErrorCode::UserKeyMustBeSpecified, text));
    }
    if key.len() > KEY_LEN_MAX {
        return Err(errors::error(
            S3ErrorCode::KeyTooLongError,
            "Your key is too long",
        ));
    }
    Ok(())
}
