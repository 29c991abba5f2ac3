//! Parts of uploads: put and list.

use enfilade_cluster::api::command::KeyOp;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::{PartsPage, PartsQuery};
use enfilade_cluster::api::record::{ChecksumAlgorithm, PartRecord};
use enfilade_cluster::api::root::Bucket;
use enfilade_placement::UploadId;
use enfilade_storage_node::api::Owner;
use s3s::dto::{
    self, Initiator, ListPartsInput, ListPartsOutput, Part, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result};

use crate::path::types::Written;
use crate::s3::attributes::{signed, standard};
use crate::s3::checksum::{self, Claims, of_body, scope_type, tell_checksum};
use crate::s3::conditions::{strong, timestamp};
use crate::s3::front::Receive;
use crate::s3::multipart::{PARTS_MAX, upload_id};
use crate::s3::{Front, errors};

/// Where a part goes.
pub(crate) struct PartAt<'a> {
    /// The bucket.
    pub(crate) bucket: &'a Bucket,
    /// The key.
    pub(crate) key: &'a str,
    /// The upload.
    pub(crate) upload: UploadId,
    /// The number of the part.
    pub(crate) number: u16,
}

impl PartAt<'_> {
    /// Whom the part's blob is for.
    pub(crate) fn owner(&self) -> Owner {
        let at = ObjectKey::new(self.bucket.id, self.key);
        Owner {
            at,
            upload: Some((self.upload, self.number)),
        }
    }
}

/// The number of a part.
///
/// # Errors
/// `InvalidArgument` when it is out of range.
pub(crate) fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok();
    let number = number.filter(|number| (1..=PARTS_MAX).contains(&usize::from(*number)));
    let text = "Part number must be an integer between 1 and 10000, inclusive";
    number.ok_or_else(|| errors::invalid_argument(text))
}

/// The algorithm that parts of an open upload carry, if it was chosen.
///
/// # Errors
/// `NoSuchUpload`, before any byte of the part is taken in.
pub(crate) async fn algorithm_of(
    front: &Front,
    part: &PartAt<'_>,
) -> S3Result<Option<ChecksumAlgorithm>> {
    let at = ObjectKey::new(part.bucket.id, part.key);
    let page = page_of(
        front,
        &at,
        PartsQuery {
            upload: part.upload,
            after: 0,
            limit: 0,
        },
    )
    .await?;
    Ok(page.checksum.map(|(algorithm, _)| algorithm))
}

async fn page_of(front: &Front, at: &ObjectKey, query: PartsQuery) -> S3Result<PartsPage> {
    let page = front
        .metadata
        .parts(at, query)
        .await
        .map_err(errors::metadata)?;
    page.ok_or_else(errors::no_such_upload)
}

/// Proposes a part whose bytes are written.
pub(crate) async fn commit(
    front: &Front,
    part: &PartAt<'_>,
    written: Written,
    algorithm: Option<ChecksumAlgorithm>,
) -> S3Result<PartRecord> {
    let record = PartRecord {
        number: part.number,
        etag: checksum::etag_of(&written, part.bucket.etag)?,
        modified_ms: front.env.clock.wall_ms(),
        checksum: algorithm
            .map(|_| of_body(&written, algorithm))
            .transpose()?,
        blob: written.blob,
    };
    let op = KeyOp::PutPart {
        upload: part.upload,
        part: record.clone(),
        inline: written.inline,
    };
    front
        .commit(part.bucket, part.key, record.blob.id.into(), op)
        .await?;
    front.path.committed(&record.blob);
    Ok(record)
}

pub(crate) async fn put(
    front: &Front,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let verified = checksum::verified_sha256(&req);
    let S3Request {
        input,
        headers,
        trailing_headers,
        ..
    } = req;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let part = PartAt {
        bucket: &bucket,
        key: &input.key,
        upload: upload_id(&input.upload_id)?,
        number: part_number(input.part_number)?,
    };
    let claims = Claims::of(&headers)?;
    let chosen = algorithm_of(front, &part).await?;
    if let (Some(chosen), Some(claimed)) = (chosen, claims.algorithm())
        && chosen != claimed
    {
        let text = format!(
            "Checksum type mismatch occurred, expected checksum type: {}, actual checksum type: {}",
            checksum::name(chosen),
            checksum::name(claimed)
        );
        return Err(errors::invalid_request(text));
    }
    let algorithm = chosen.or(claims.algorithm());
    let body = Receive {
        owner: part.owner(),
        body: input.body,
        headers: &headers,
        claims: &claims,
        algorithm,
        verified,
        etag: bucket.etag,
    };
    let written = front.receive(body).await?;
    claims.verify(&written, trailing_headers.as_ref())?;
    let crc64 = of_body(&written, None)?;
    let record = commit(front, &part, written, algorithm).await?;
    let mut answer = UploadPartOutput {
        e_tag: Some(strong(&record.etag)),
        ..UploadPartOutput::default()
    };
    let told = record.checksum.unwrap_or(crc64);
    tell_checksum!(answer, told.algorithm, told.value);
    Ok(S3Response::new(answer))
}

pub(crate) async fn list(
    front: &Front,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let upload = upload_id(&input.upload_id)?;
    let max = input.max_parts.unwrap_or(1000);
    let limit = u32::try_from(max)
        .map_err(|_| not_negative("max-parts"))?
        .min(1000);
    let marker = input.part_number_marker.unwrap_or(0);
    let after = u32::try_from(marker).map_err(|_| not_negative("part-number-marker"))?;
    let after = u16::try_from(after).unwrap_or(u16::MAX);
    let at = ObjectKey::new(bucket.id, &input.key);
    let page = page_of(
        front,
        &at,
        PartsQuery {
            upload,
            after,
            limit,
        },
    )
    .await?;
    let owner = front.owner();
    let next = page.parts.last().map(|part| i32::from(part.number));
    let algorithm = page
        .checksum
        .map(|(algorithm, _)| checksum::name(algorithm));
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        checksum_algorithm: algorithm.map(dto::ChecksumAlgorithm::from_static),
        checksum_type: page.checksum.map(|(_, scope)| scope_type(scope)),
        initiator: Some(Initiator {
            display_name: owner.display_name.clone(),
            id: owner.id.clone(),
        }),
        is_truncated: Some(page.more && limit > 0),
        key: Some(input.key),
        max_parts: Some(max),
        next_part_number_marker: Some(next.unwrap_or(marker)),
        owner: Some(owner),
        part_number_marker: Some(marker),
        parts: Some(page.parts.into_iter().map(told).collect()),
        storage_class: Some(standard()),
        upload_id: Some(input.upload_id),
        ..ListPartsOutput::default()
    }))
}

fn not_negative(what: &str) -> s3s::S3Error {
    errors::invalid_argument(format!("{what} must not be negative"))
}

fn told(part: PartRecord) -> Part {
    let mut told = Part {
        e_tag: Some(strong(part.etag)),
        last_modified: Some(timestamp(part.modified_ms)),
        part_number: Some(i32::from(part.number)),
        size: Some(signed(part.blob.len)),
        ..Part::default()
    };
    if let Some(checksum) = part.checksum {
        tell_checksum!(told, checksum.algorithm, checksum.value);
    }
    told
}
