//! Multipart uploads: create, abort, list. What becomes of their parts is in `complete`.

use enfilade_cluster::api::command::KeyOp;
use enfilade_cluster::api::query::{UploadsPage, UploadsQuery};
use enfilade_cluster::api::record::{ChecksumAlgorithm, ChecksumScope};
use enfilade_placement::UploadId;
use s3s::dto::{
    self, AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CommonPrefix,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, MultipartUpload,
};
use s3s::{S3Request, S3Response, S3Result};

use crate::s3::attributes::standard;
use crate::s3::checksum::{self, scope_type};
use crate::s3::conditions::timestamp;
use crate::s3::front::checked_key;
use crate::s3::list::{limit, some};
use crate::s3::text::Encoding;
use crate::s3::{Front, attributes, errors};

/// The most parts of an upload, as in S3.
pub(crate) const PARTS_MAX: usize = 10_000;

/// What parts of an upload carry, and what its object's checksum will be over.
pub(crate) type UploadChecksum = (ChecksumAlgorithm, ChecksumScope);

pub(crate) async fn create(
    front: &Front,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let S3Request { input, headers, .. } = req;
    checked_key(&input.key)?;
    let chosen = upload_checksum(
        input
            .checksum_algorithm
            .as_ref()
            .map(dto::ChecksumAlgorithm::as_str),
        input.checksum_type.as_ref().map(ChecksumType::as_str),
    )?;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let upload = UploadId::new(front.env.random.next_u128());
    let op = KeyOp::CreateUpload {
        upload,
        created_ms: front.env.clock.wall_ms(),
        attributes: attributes::of_request(&headers, input.metadata)?,
        checksum: chosen,
    };
    front
        .commit(&bucket, &input.key, front.request(), op)
        .await?;
    let algorithm = chosen.map(|(algorithm, _)| checksum::name(algorithm));
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        checksum_algorithm: algorithm.map(dto::ChecksumAlgorithm::from_static),
        checksum_type: chosen.map(|(_, scope)| scope_type(scope)),
        key: Some(input.key),
        upload_id: Some(upload.to_string()),
        ..CreateMultipartUploadOutput::default()
    }))
}

/// What a client chose, with the defaults of S3: none stands for CRC-64/NVME over the object.
fn upload_checksum(
    algorithm: Option<&str>,
    scope: Option<&str>,
) -> S3Result<Option<UploadChecksum>> {
    let Some(algorithm) = algorithm.map(checksum::of_name).transpose()? else {
        return match scope {
            None => Ok(None),
            Some(_) => Err(errors::invalid_request(
                "The x-amz-checksum-type header can only be used with the \
                 x-amz-checksum-algorithm header",
            )),
        };
    };
    let sha = matches!(
        algorithm,
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256
    );
    let scope = match scope {
        None if algorithm == ChecksumAlgorithm::Crc64Nvme => ChecksumScope::FullObject,
        None => ChecksumScope::Composite,
        Some(ChecksumType::FULL_OBJECT) if !sha => ChecksumScope::FullObject,
        Some(ChecksumType::COMPOSITE) if algorithm != ChecksumAlgorithm::Crc64Nvme => {
            ChecksumScope::Composite
        }
        Some(other) => {
            let name = checksum::name(algorithm);
            let text = format!("The {other} checksum type cannot be used with {name}");
            return Err(errors::invalid_request(text));
        }
    };
    Ok(Some((algorithm, scope)))
}

/// The upload id of a request.
///
/// # Errors
/// `NoSuchUpload` when it cannot be one of ours.
pub(crate) fn upload_id(text: &str) -> S3Result<UploadId> {
    text.parse().map_err(|_| errors::no_such_upload())
}

pub(crate) async fn abort(
    front: &Front,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = req.input;
    if input.if_match_initiated_time.is_some() {
        return Err(errors::not_implemented("x-amz-if-match-initiated-time"));
    }
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let upload = upload_id(&input.upload_id)?;
    let op = KeyOp::AbortUpload { upload };
    front
        .commit(&bucket, &input.key, front.request(), op)
        .await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(crate) async fn list(
    front: &Front,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_uploads)?;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let key_marker = some(input.key_marker);
    // As in S3, an upload marker without a key marker is ignored.
    let upload_marker = some(input.upload_id_marker).filter(|_| key_marker.is_some());
    let upload = upload_marker
        .as_deref()
        .map(str::parse::<UploadId>)
        .transpose();
    let upload = upload.map_err(|_| errors::invalid_argument("Invalid uploadId marker"))?;
    let query = UploadsQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: some(input.delimiter.clone()),
        after: key_marker.clone().map(|key| (key, upload)),
        limit,
    };
    let page = gather(front, &bucket, query).await?;
    let (next_key, next_upload) = page.next.unzip();
    let truncated = next_key.is_some();
    let owner = front.owner();
    let uploads = page.uploads.into_iter().map(|upload| MultipartUpload {
        checksum_algorithm: upload
            .checksum
            .map(|(algorithm, _)| dto::ChecksumAlgorithm::from_static(checksum::name(algorithm))),
        checksum_type: upload.checksum.map(|(_, scope)| scope_type(scope)),
        initiated: Some(timestamp(upload.created_ms)),
        initiator: Some(Initiator {
            display_name: owner.display_name.clone(),
            id: owner.id.clone(),
        }),
        key: Some(encoding.write(&upload.key)),
        owner: Some(owner.clone()),
        storage_class: Some(standard()),
        upload_id: Some(upload.upload.to_string()),
    });
    let prefixes = page.prefixes.iter();
    let prefixes = prefixes.map(|prefix| CommonPrefix {
        prefix: Some(encoding.write(prefix)),
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes.collect()),
        delimiter: some(input.delimiter).map(|text| encoding.write(&text)),
        encoding_type: encoding.told(),
        is_truncated: Some(truncated),
        key_marker: Some(encoding.write(&key_marker.unwrap_or_default())),
        max_uploads: Some(input.max_uploads.unwrap_or(1000)),
        next_key_marker: next_key.map(|key| encoding.write(&key)),
        next_upload_id_marker: next_upload.flatten().map(|upload| upload.to_string()),
        prefix: Some(encoding.write(&input.prefix.unwrap_or_default())),
        request_charged: None,
        upload_id_marker: Some(upload_marker.unwrap_or_default()),
        uploads: Some(uploads.collect()),
    }))
}

/// Gathers pages until the answer is full or the end is reached.
async fn gather(
    front: &Front,
    bucket: &enfilade_cluster::api::root::Bucket,
    mut query: UploadsQuery,
) -> S3Result<UploadsPage> {
    let mut all = UploadsPage::default();
    if query.limit == 0 {
        return Ok(all);
    }
    loop {
        let page = front.metadata.uploads(bucket.id, query.clone()).await;
        let page = page.map_err(errors::metadata)?;
        let got = u32::try_from(page.uploads.len() + page.prefixes.len()).unwrap_or(u32::MAX);
        all.uploads.extend(page.uploads);
        all.prefixes.extend(page.prefixes);
        all.next = page.next;
        query.limit = query.limit.saturating_sub(got);
        if all.next.is_none() || query.limit == 0 {
            return Ok(all);
        }
        if all.next == query.after {
            return Err(errors::internal("a listing does not go on", "pages repeat"));
        }
        query.after.clone_from(&all.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_checksums_are_those_of_s3() {
        let full = Some(ChecksumType::FULL_OBJECT);
        let composite = Some(ChecksumType::COMPOSITE);
        assert_eq!(upload_checksum(None, None).unwrap(), None);
        for (name, scope, expected) in [
            ("CRC64NVME", None, Some(ChecksumScope::FullObject)),
            ("CRC32", None, Some(ChecksumScope::Composite)),
            ("CRC32", full, Some(ChecksumScope::FullObject)),
            ("SHA256", composite, Some(ChecksumScope::Composite)),
            ("SHA256", full, None),
            ("CRC64NVME", composite, None),
            ("MD4", None, None),
        ] {
            let found = upload_checksum(Some(name), scope).ok().flatten();
            assert_eq!(found.map(|(_, scope)| scope), expected, "{name} {scope:?}");
        }
        assert!(upload_checksum(None, full).is_err());
    }
}
