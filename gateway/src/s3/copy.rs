//! Copies: of whole objects, and of ranges into parts.
//!
//! A copy reads and writes the bytes: a blob has one record only (PROTOCOLS 19).

use std::ops::Range;

use enfilade_cluster::api::command::{KeyOp, NewObject};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::Found;
use enfilade_cluster::api::record::{ChecksumAlgorithm, ChecksumScope};
use enfilade_cluster::api::root::EtagKind;
use enfilade_storage_node::api::Owner;
use http::HeaderMap;
use s3s::dto::{
    self, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource,
    MetadataDirective, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use crate::path::types::{ReadContent, WriteBody, Written};
use crate::s3::checksum::{self, of_body, scope_type, tell_checksum};
use crate::s3::conditions::{ReadConditions, Verdict, on_write, strong, timestamp};
use crate::s3::errors::Fault;
use crate::s3::front::{BODY_LEN_MAX, checked_key, told_version};
use crate::s3::multipart::upload_id;
use crate::s3::parts::{self, PartAt, part_number};
use crate::s3::range::of_copy_source;
use crate::s3::{Front, attributes, body, errors, object};

/// The source of a copy, found.
struct Source {
    at: ObjectKey,
    found: Found,
    /// Its version id, as it is told.
    version: Option<String>,
}

impl Source {
    /// Finds the source and decides its conditions.
    async fn find(
        front: &Front,
        source: &CopySource,
        expected_owner: Option<&str>,
        conditions: &ReadConditions,
    ) -> S3Result<Self> {
        let CopySource::Bucket {
            bucket,
            key,
            version_id,
        } = source
        else {
            return Err(errors::not_implemented(
                "a copy source that is an access point",
            ));
        };
        checked_key(key)?;
        let bucket = front.bucket(bucket, expected_owner).await?;
        let at = ObjectKey::new(bucket.id, &**key);
        let found = front.found(&at, version_id.as_deref()).await?;
        match conditions.decide(&found.record.etag, found.record.modified_ms) {
            Verdict::Pass => {
                let version = told_version(&bucket, &found.record);
                Ok(Self { at, found, version })
            }
            Verdict::NotModified | Verdict::Failed => {
                let text = "At least one of the pre-conditions on the source did not hold";
                Err(errors::error(S3ErrorCode::PreconditionFailed, text))
            }
        }
    }

    /// Writes a range of it as a blob of its own.
    async fn rewrite(
        self,
        front: &Front,
        range: Range<u64>,
        owner: Owner,
        (algorithm, etag): (Option<ChecksumAlgorithm>, EtagKind),
    ) -> S3Result<Written> {
        let len = range.end - range.start;
        if len > BODY_LEN_MAX {
            let text = "The specified copy source is larger than the maximum allowable size for a \
                        copy source: 5368709120";
            return Err(errors::invalid_request(text));
        }
        let content = ReadContent::from(self.found);
        let bytes = front
            .path
            .read(self.at, content, range)
            .await
            .map_err(errors::read)?;
        let fault = Fault::default();
        let body = WriteBody {
            owner,
            body: body::relay(bytes, &fault),
            len: Some(len),
            len_max: BODY_LEN_MAX,
            digest: checksum::wanted(algorithm),
            md5: etag == EtagKind::Md5,
        };
        front
            .path
            .write(body)
            .await
            .map_err(|error| fault.explain(error))
    }
}

macro_rules! source_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: $input.copy_source_if_match,
            if_none_match: $input.copy_source_if_none_match,
            if_modified_since: $input.copy_source_if_modified_since,
            if_unmodified_since: $input.copy_source_if_unmodified_since,
        }
    };
}

pub(crate) async fn object(
    front: &Front,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let S3Request { input, headers, .. } = req;
    checked_key(&input.key)?;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let replace = replaces(input.metadata_directive.as_ref())?;
    let asked = input
        .checksum_algorithm
        .as_ref()
        .map(dto::ChecksumAlgorithm::as_str);
    let asked = asked.map(checksum::of_name).transpose()?;
    let conditions = source_conditions!(input);
    let owner = input.expected_source_bucket_owner.as_deref();
    let source = Source::find(front, &input.copy_source, owner, &conditions).await?;
    let at = ObjectKey::new(bucket.id, &input.key);
    let redirect = input.website_redirect_location.is_some();
    if source.at == at && !replace && !redirect && asked.is_none() {
        let text = "This copy request is illegal because it is trying to copy an object to itself \
                    without changing the object's metadata, storage class, website redirect \
                    location or encryption attributes";
        return Err(errors::invalid_request(text));
    }
    let record = &source.found.record;
    let from_request = attributes::of_request(&headers, input.metadata)?;
    let attributes = match replace {
        true => from_request,
        false => kept(record.attributes.clone(), &from_request),
    };
    // As in S3, a copy carries the algorithm of its source on.
    let carried = record.checksum.as_ref().map(|checksum| checksum.algorithm);
    let algorithm = asked.or(carried);
    let whole = 0..record.len;
    let (owner, digests) = (Owner { at, upload: None }, (algorithm, bucket.etag));
    let copy_source_version_id = source.version.clone();
    let written = source.rewrite(front, whole, owner, digests).await?;
    let checksum = of_body(&written, algorithm)?;
    let etag = checksum::etag_of(&written, bucket.etag)?;
    let modified_ms = front.env.clock.wall_ms();
    let blob = written.blob;
    let object = NewObject {
        etag: etag.clone(),
        modified_ms,
        attributes,
        checksum: Some(checksum.clone()),
        blob: blob.clone(),
        inline: written.inline,
    };
    let conditions = copy_conditions(&headers)?;
    let op = KeyOp::Put { object, conditions };
    let reply = front
        .commit(&bucket, &input.key, blob.id.into(), op)
        .await?;
    front.path.committed(&blob);
    let mut result = CopyObjectResult {
        checksum_type: Some(scope_type(ChecksumScope::FullObject)),
        e_tag: Some(strong(etag)),
        last_modified: Some(timestamp(modified_ms)),
        ..CopyObjectResult::default()
    };
    tell_checksum!(result, checksum.algorithm, checksum.value);
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id,
        version_id: object::put_version(&bucket, &reply),
        ..CopyObjectOutput::default()
    }))
}

/// The source's attributes; a redirect is never copied, only said anew.
fn kept(
    mut source: enfilade_cluster::api::record::Attributes,
    request: &enfilade_cluster::api::record::Attributes,
) -> enfilade_cluster::api::record::Attributes {
    const REDIRECT: &str = "x-amz-website-redirect-location";
    source.headers.remove(REDIRECT);
    if let Some(value) = request.headers.get(REDIRECT) {
        source.headers.insert(REDIRECT.to_owned(), value.clone());
    }
    source.lock = Default::default();
    source
}

fn replaces(directive: Option<&MetadataDirective>) -> S3Result<bool> {
    match directive.map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => Ok(false),
        Some(MetadataDirective::REPLACE) => Ok(true),
        Some(_) => Err(errors::invalid_argument("Unknown metadata directive")),
    }
}

/// `If-Match` and `If-None-Match` on the target, which s3s does not read for copies.
fn copy_conditions(headers: &HeaderMap) -> S3Result<enfilade_cluster::api::command::Conditions> {
    let read = |name: &str| {
        let Some(value) = headers.get(name) else {
            return Ok(None);
        };
        let condition = dto::ETagCondition::parse_http_header(value.as_bytes());
        let malformed = |_| errors::invalid_argument(format!("invalid header: {name}"));
        condition.map(Some).map_err(malformed)
    };
    Ok(on_write(read("if-match")?, read("if-none-match")?))
}

pub(crate) async fn part(
    front: &Front,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let part = PartAt {
        bucket: &bucket,
        key: &input.key,
        upload: upload_id(&input.upload_id)?,
        number: part_number(input.part_number)?,
    };
    let algorithm = parts::algorithm_of(front, &part).await?;
    let conditions = source_conditions!(input);
    let owner = input.expected_source_bucket_owner.as_deref();
    let source = Source::find(front, &input.copy_source, owner, &conditions).await?;
    let copy_source_version_id = source.version.clone();
    let range = of_copy_source(input.copy_source_range.as_deref(), source.found.record.len)?;
    let written = source
        .rewrite(front, range, part.owner(), (algorithm, bucket.etag))
        .await?;
    let record = parts::commit(front, &part, written, algorithm).await?;
    let mut result = CopyPartResult {
        e_tag: Some(strong(&record.etag)),
        last_modified: Some(timestamp(record.modified_ms)),
        ..CopyPartResult::default()
    };
    if let Some(checksum) = record.checksum {
        tell_checksum!(result, checksum.algorithm, checksum.value);
    }
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id,
        ..UploadPartCopyOutput::default()
    }))
}
