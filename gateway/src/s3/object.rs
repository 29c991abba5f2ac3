//! Objects: put, get, head.

use enfilade_cluster::api::command::{KeyOp, KeyReply, NewObject, Versioning};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::Found;
use enfilade_cluster::api::record::{Checksum, ObjectRecord};
use enfilade_cluster::api::root::Bucket;
use enfilade_storage_node::api::Owner;
use http::{HeaderMap, HeaderValue, header};
use s3s::dto::{
    ChecksumMode, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
    GetObjectInput, GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    HeadObjectInput, HeadObjectOutput, ObjectAttributes, ObjectPart, PostObjectInput,
    PostObjectOutput, PutObjectInput, PutObjectOutput, Range, Tag, Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::path::types::ReadContent;
use crate::s3::attributes::{self, signed, standard};
use crate::s3::checksum::{Claims, etag_of, of_body, scope_type, tell_checksum, verified_sha256};
use crate::s3::conditions::{ReadConditions, Verdict, on_write, strong, timestamp};
use crate::s3::front::{NULL, Receive, checked_key, told_version};
use crate::s3::range::{Selection, select};
use crate::s3::{Front, body, errors};

pub(crate) async fn put(
    front: &Front,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let verified = verified_sha256(&req);
    let S3Request {
        input,
        headers,
        trailing_headers,
        ..
    } = req;
    checked_key(&input.key)?;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let claims = Claims::of(&headers)?;
    let attributes = attributes::of_request(&headers, input.metadata)?;
    let at = ObjectKey::new(bucket.id, &input.key);
    let body = Receive {
        owner: Owner { at, upload: None },
        body: input.body,
        headers: &headers,
        claims: &claims,
        algorithm: claims.algorithm(),
        verified,
        etag: bucket.etag,
    };
    let written = front.receive(body).await?;
    claims.verify(&written, trailing_headers.as_ref())?;
    let checksum = of_body(&written, claims.algorithm())?;
    let etag = etag_of(&written, bucket.etag)?;
    let object = NewObject {
        etag: etag.clone(),
        modified_ms: front.env.clock.wall_ms(),
        attributes,
        checksum: Some(checksum.clone()),
        blob: written.blob.clone(),
        inline: written.inline,
    };
    let conditions = on_write(input.if_match, input.if_none_match);
    let op = KeyOp::Put { object, conditions };
    let reply = front
        .commit(&bucket, &input.key, written.blob.id.into(), op)
        .await?;
    front.path.committed(&written.blob);
    let mut answer = PutObjectOutput {
        checksum_type: Some(scope_type(checksum.scope)),
        e_tag: Some(strong(etag)),
        version_id: put_version(&bucket, &reply),
        ..PutObjectOutput::default()
    };
    tell_checksum!(answer, checksum.algorithm, checksum.value);
    Ok(S3Response::new(answer))
}

/// The version id to tell after a put, when the bucket keeps versions or did.
pub(crate) fn put_version(bucket: &Bucket, reply: &KeyReply) -> Option<String> {
    match reply {
        KeyReply::Put {
            versioned: false, ..
        }
        | KeyReply::Completed {
            versioned: false, ..
        } => (bucket.versioning == Versioning::Suspended).then(|| NULL.to_owned()),
        KeyReply::Put {
            stamp,
            versioned: true,
        } => Some(stamp.to_string()),
        KeyReply::Completed {
            stamp,
            versioned: true,
            ..
        } => Some(stamp.to_string()),
        _ => None,
    }
}

/// Not offered; the default of s3s would take it for a put, with the file in memory.
pub(crate) async fn post(
    _: &Front,
    _: S3Request<PostObjectInput>,
) -> S3Result<S3Response<PostObjectOutput>> {
    Err(errors::not_implemented("a POST of a form"))
}

/// What a read asks for: the fields that GET and HEAD share.
struct Read {
    conditions: ReadConditions,
    range: Option<Range>,
    part: Option<i32>,
    checksum: Option<ChecksumMode>,
}

macro_rules! read_of {
    ($input:expr) => {
        Read {
            conditions: ReadConditions {
                if_match: $input.if_match,
                if_none_match: $input.if_none_match,
                if_modified_since: $input.if_modified_since,
                if_unmodified_since: $input.if_unmodified_since,
            },
            range: $input.range,
            part: $input.part_number,
            checksum: $input.checksum_mode,
        }
    };
}

impl Read {
    /// Decides what of the object to send.
    fn decide(self, record: &ObjectRecord) -> S3Result<(Selection, GetObjectOutput)> {
        match self.conditions.decide(&record.etag, record.modified_ms) {
            Verdict::Pass => {}
            Verdict::NotModified => return Err(not_modified(record)),
            Verdict::Failed => {
                let text = "At least one of the pre-conditions you specified did not hold";
                return Err(errors::error(S3ErrorCode::PreconditionFailed, text));
            }
        }
        let selection = select(record.len, &record.parts, self.range, self.part)?;
        let mut answer = attributes::answer(record);
        answer.content_length = Some(signed(selection.bytes.end - selection.bytes.start));
        answer.content_range.clone_from(&selection.content_range);
        answer.parts_count = selection.parts;
        let whole = selection.bytes == (0..record.len);
        let wanted = self
            .checksum
            .is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        if let Some(checksum) = record.checksum.as_ref().filter(|_| wanted && whole) {
            attributes::tell(&mut answer, checksum);
        }
        Ok((selection, answer))
    }
}

/// Whether `If-Range`, which s3s does not read, allows a range: else a client that goes on with a
/// download would join the bytes of two objects.
fn same_still(headers: &HeaderMap, record: &ObjectRecord) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    match Timestamp::parse(TimestampFormat::HttpDate, text) {
        // A strong comparison: another second is another object.
        Ok(time) => time == timestamp(record.modified_ms / 1000 * 1000),
        Err(_) => text.trim_matches('"') == record.etag,
    }
}

/// 304, with what a cache needs to keep its copy.
fn not_modified(record: &ObjectRecord) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", record.etag)) {
        headers.insert(header::ETAG, etag);
    }
    let mut text = Vec::new();
    let modified = timestamp(record.modified_ms);
    if modified
        .format(TimestampFormat::HttpDate, &mut text)
        .is_ok()
        && let Ok(modified) = HeaderValue::from_bytes(&text)
    {
        headers.insert(header::LAST_MODIFIED, modified);
    }
    error.set_headers(headers);
    error
}

pub(crate) async fn get(
    front: &Front,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let S3Request {
        mut input, headers, ..
    } = req;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let at = ObjectKey::new(bucket.id, input.key);
    let found = front.found(&at, input.version_id.as_deref()).await?;
    if !same_still(&headers, &found.record) {
        input.range = None;
    }
    let (selection, mut answer) = read_of!(input).decide(&found.record)?;
    answer.version_id = told_version(&bucket, &found.record);
    let len = selection.bytes.end - selection.bytes.start;
    let bytes = front
        .path
        .read(at, ReadContent::from(found), selection.bytes)
        .await;
    answer.body = Some(body::outgoing(bytes.map_err(errors::read)?, len));
    Ok(S3Response::new(answer))
}

pub(crate) async fn head(
    front: &Front,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let at = ObjectKey::new(bucket.id, input.key);
    let found = front.found(&at, input.version_id.as_deref()).await?;
    let overrides = (
        input.response_cache_control,
        input.response_content_disposition,
        input.response_content_encoding,
        input.response_content_language,
        input.response_content_type,
        input.response_expires,
    );
    let (_, answer) = read_of!(input).decide(&found.record)?;
    let mut answer = attributes::head(answer);
    answer.version_id = told_version(&bucket, &found.record);
    // For a GET, s3s does this.
    answer.cache_control = overrides.0.or(answer.cache_control);
    answer.content_disposition = overrides.1.or(answer.content_disposition);
    answer.content_encoding = overrides.2.or(answer.content_encoding);
    answer.content_language = overrides.3.or(answer.content_language);
    answer.content_type = overrides.4.or(answer.content_type);
    answer.expires = overrides.5.or(answer.expires);
    Ok(S3Response::new(answer))
}

pub(crate) async fn attributes(
    front: &Front,
    req: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let at = ObjectKey::new(bucket.id, input.key);
    let Found { record, .. } = front.found(&at, input.version_id.as_deref()).await?;
    let mut answer = GetObjectAttributesOutput {
        last_modified: Some(timestamp(record.modified_ms)),
        version_id: told_version(&bucket, &record),
        ..GetObjectAttributesOutput::default()
    };
    // One header may name several, with commas between.
    let names = input
        .object_attributes
        .iter()
        .flat_map(|names| names.as_str().split(','));
    for name in names.map(str::trim) {
        match name {
            ObjectAttributes::ETAG => answer.e_tag = Some(strong(&record.etag)),
            ObjectAttributes::OBJECT_SIZE => answer.object_size = Some(signed(record.len)),
            ObjectAttributes::STORAGE_CLASS => answer.storage_class = Some(standard()),
            ObjectAttributes::CHECKSUM => {
                answer.checksum = record.checksum.as_ref().map(told_checksum);
            }
            ObjectAttributes::OBJECT_PARTS => {
                answer.object_parts =
                    told_parts(&record.parts, input.part_number_marker, input.max_parts)?;
            }
            _ => return Err(errors::invalid_argument("Invalid attribute name specified")),
        }
    }
    Ok(S3Response::new(answer))
}

fn told_checksum(checksum: &Checksum) -> s3s::dto::Checksum {
    let mut told = s3s::dto::Checksum {
        checksum_type: Some(scope_type(checksum.scope)),
        ..s3s::dto::Checksum::default()
    };
    tell_checksum!(told, checksum.algorithm, checksum.value.clone());
    told
}

fn told_parts(
    lens: &[u64],
    after: Option<i32>,
    max: Option<i32>,
) -> S3Result<Option<GetObjectAttributesParts>> {
    if lens.is_empty() {
        return Ok(None);
    }
    let (after, max) = (after.unwrap_or(0), max.unwrap_or(1000).min(1000));
    if after < 0 || max < 0 {
        return Err(errors::invalid_argument(
            "part-number-marker and max-parts must not be negative",
        ));
    }
    let parts: Vec<ObjectPart> = (1..)
        .zip(lens)
        .filter(|(number, _)| *number > after)
        .take(usize::try_from(max).unwrap_or(0))
        .map(|(number, len)| ObjectPart {
            part_number: Some(number),
            size: Some(signed(*len)),
            ..ObjectPart::default()
        })
        .collect();
    let count = i32::try_from(lens.len()).unwrap_or(i32::MAX);
    let last = parts
        .last()
        .and_then(|part| part.part_number)
        .unwrap_or(after);
    Ok(Some(GetObjectAttributesParts {
        is_truncated: Some(last < count),
        max_parts: Some(max),
        next_part_number_marker: Some(last),
        part_number_marker: Some(after),
        parts: Some(parts),
        total_parts_count: Some(count),
    }))
}

/// The tags of an object: none, as long as none can be put; clients ask before they copy.
pub(crate) async fn tagging(
    front: &Front,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let at = ObjectKey::new(bucket.id, input.key);
    let found = front.found(&at, input.version_id.as_deref()).await?;
    let version_id = told_version(&bucket, &found.record);
    let tags = found.record.attributes.tags.into_iter();
    let tag_set = tags
        .map(|(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        })
        .collect();
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set,
        version_id,
    }))
}
