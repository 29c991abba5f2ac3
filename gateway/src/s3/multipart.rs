//! Multipart uploads: create, complete, abort, list.

use enfilade_cluster::api::command::{ChosenPart, KeyOp, KeyReply};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::{PartsQuery, UploadsPage, UploadsQuery};
use enfilade_cluster::api::record::{Checksum, ChecksumAlgorithm, ChecksumScope, PartRecord};
use enfilade_placement::UploadId;
use md5::{Digest, Md5};
use s3s::dto::{
    self, AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, MultipartUpload,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::attributes::standard;
use crate::s3::checksum::{self, named_checksums, scope_type, tell_checksum};
use crate::s3::conditions::{on_write, strong, timestamp};
use crate::s3::front::checked_key;
use crate::s3::list::{limit, some};
use crate::s3::text::Encoding;
use crate::s3::{Front, attributes, errors, object};

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

pub(crate) async fn complete(
    front: &Front,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let upload = upload_id(&input.upload_id)?;
    let named = input
        .multipart_upload
        .as_ref()
        .and_then(|named| named.parts.as_deref());
    let named = chosen_parts(named.unwrap_or_default())?;
    let at = ObjectKey::new(bucket.id, &input.key);
    // Gone when the upload was completed already: then the state machine repeats its answer.
    let made = match parts_of(front, &at, upload).await? {
        Some((chosen, parts)) => Made::of(&named, &parts, chosen)?,
        None => Made {
            len: None,
            checksum: None,
        },
    };
    made.check(&input)?;
    let op = KeyOp::CompleteUpload {
        upload,
        etag: etag_of_parts(named.iter().map(|part| part.chosen.etag.as_str()))?,
        parts: named.into_iter().map(|part| part.chosen).collect(),
        checksum: made.checksum,
        modified_ms: front.env.clock.wall_ms(),
        conditions: on_write(input.if_match, input.if_none_match),
    };
    let reply = front
        .commit(&bucket, &input.key, front.request(), op)
        .await?;
    let version_id = object::put_version(&reply);
    let KeyReply::Completed { etag, checksum, .. } = reply else {
        return Err(errors::internal(
            "a completion was answered as something else",
            upload,
        ));
    };
    let mut answer = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        e_tag: Some(strong(etag)),
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        key: Some(input.key),
        version_id,
        ..CompleteMultipartUploadOutput::default()
    };
    if let Some(checksum) = checksum {
        answer.checksum_type = Some(scope_type(checksum.scope));
        tell_checksum!(answer, checksum.algorithm, checksum.value);
    }
    Ok(S3Response::new(answer))
}

/// A part as a completion names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedPart {
    chosen: ChosenPart,
    algorithm: Option<ChecksumAlgorithm>,
}

/// Reads the parts that a completion names.
///
/// # Errors
/// `MalformedXML` when there is none, or too many, or one lacks number or ETag; `InvalidPartOrder`;
/// `InvalidPart` for a number out of range.
fn chosen_parts(named: &[CompletedPart]) -> S3Result<Vec<NamedPart>> {
    if named.is_empty() || named.len() > PARTS_MAX {
        let text = format!("A completion names 1 to {PARTS_MAX} parts");
        return Err(errors::error(S3ErrorCode::MalformedXML, text));
    }
    let mut parts: Vec<NamedPart> = Vec::with_capacity(named.len());
    for part in named {
        let (Some(number), Some(etag)) = (part.part_number, &part.e_tag) else {
            let text = "A part lacks its number or its ETag";
            return Err(errors::error(S3ErrorCode::MalformedXML, text));
        };
        let number = u16::try_from(number)
            .ok()
            .filter(|number| usize::from(*number) <= PARTS_MAX);
        let Some(number) = number.filter(|number| *number > 0) else {
            return Err(invalid_part("a part number is out of range"));
        };
        if parts
            .last()
            .is_some_and(|last| last.chosen.number >= number)
        {
            let text = "The list of parts was not in ascending order";
            return Err(errors::error(S3ErrorCode::InvalidPartOrder, text));
        }
        let mut given = named_checksums!(part).into_iter();
        let given = given.find_map(|(algorithm, value)| value.map(|value| (algorithm, value)));
        parts.push(NamedPart {
            chosen: ChosenPart {
                number,
                etag: etag.value().to_owned(),
                checksum: given.map(|(_, value)| value.clone()),
            },
            algorithm: given.map(|(algorithm, _)| algorithm),
        });
    }
    Ok(parts)
}

fn invalid_part(why: &str) -> S3Error {
    let text =
        format!("One or more of the specified parts could not be found or did not match: {why}");
    errors::error(S3ErrorCode::InvalidPart, text)
}

/// MD5 over the parts' MD5s, and their number.
///
/// # Errors
/// `InvalidPart` when an ETag is no MD5.
fn etag_of_parts<'a>(etags: impl Iterator<Item = &'a str>) -> S3Result<String> {
    let (mut md5, mut count) = (Md5::new(), 0_usize);
    for etag in etags {
        let part = hex::decode(etag).ok().filter(|part| part.len() == 16);
        md5.update(part.ok_or_else(|| invalid_part("an ETag is malformed"))?);
        count += 1;
    }
    Ok(format!("{}-{count}", hex::encode(md5.finalize())))
}

/// The choice of an upload and all its parts; none when there is no such upload.
async fn parts_of(
    front: &Front,
    at: &ObjectKey,
    upload: UploadId,
) -> S3Result<Option<(Option<UploadChecksum>, Vec<PartRecord>)>> {
    let mut all: Vec<PartRecord> = Vec::new();
    loop {
        let after = all.last().map_or(0, |part| part.number);
        let query = PartsQuery {
            upload,
            after,
            limit: 1000,
        };
        let page = front
            .metadata
            .parts(at, query)
            .await
            .map_err(errors::metadata)?;
        let Some(page) = page else { return Ok(None) };
        let got = page.parts.len();
        all.extend(page.parts);
        if !page.more || got == 0 {
            return Ok(Some((page.checksum, all)));
        }
    }
}

/// What follows from the parts.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    len: Option<u64>,
    checksum: Option<Checksum>,
}

impl Made {
    fn of(
        named: &[NamedPart],
        parts: &[PartRecord],
        chosen: Option<UploadChecksum>,
    ) -> S3Result<Self> {
        let mut found = Vec::with_capacity(named.len());
        for part in named {
            let at = parts.binary_search_by_key(&part.chosen.number, |part| part.number);
            let record = at.ok().and_then(|at| parts.get(at));
            let Some(record) = record.filter(|record| record.etag == part.chosen.etag) else {
                return Err(invalid_part(&format!("part {}", part.chosen.number)));
            };
            let stored = record.checksum.as_ref().map(|checksum| checksum.algorithm);
            if part.algorithm.is_some() && part.algorithm != stored {
                return Err(invalid_part(&format!(
                    "checksum of part {}",
                    part.chosen.number
                )));
            }
            found.push(record);
        }
        let checksum = match chosen {
            None => {
                let crc = |part: &&PartRecord| part.blob.crc64.to_be_bytes().to_vec();
                let parts: Vec<_> = found
                    .iter()
                    .map(|part| (crc(part), part.blob.len))
                    .collect();
                checksum::combined(ChecksumAlgorithm::Crc64Nvme, &parts)
            }
            Some((algorithm, scope)) => {
                let parts = found.iter().map(|part| raw_of(part, algorithm));
                let parts: Vec<(Vec<u8>, u64)> = parts.collect::<S3Result<_>>()?;
                match scope {
                    ChecksumScope::FullObject => checksum::combined(algorithm, &parts),
                    ChecksumScope::Composite => {
                        let raw: Vec<_> = parts.into_iter().map(|(raw, _)| raw).collect();
                        Some(checksum::composite(algorithm, &raw))
                    }
                }
            }
        };
        let len = found.iter().map(|part| part.blob.len).sum();
        Ok(Self {
            len: Some(len),
            checksum,
        })
    }

    /// Compares with what the client says of the object.
    fn check(&self, input: &CompleteMultipartUploadInput) -> S3Result<()> {
        let size = input.mpu_object_size.map(u64::try_from);
        if let (Some(size), Some(len)) = (size, self.len)
            && size != Ok(len)
        {
            let text = "The provided x-amz-mp-object-size does not match the sum of the parts";
            return Err(errors::invalid_request(text));
        }
        let Some(made) = &self.checksum else {
            return Ok(());
        };
        let scope = scope_type(made.scope);
        if input
            .checksum_type
            .as_ref()
            .is_some_and(|named| named.as_str() != scope.as_str())
        {
            let text = "The upload was created with another checksum type";
            return Err(errors::invalid_request(text));
        }
        for (algorithm, value) in named_checksums!(input) {
            let Some(value) = value else { continue };
            if algorithm != made.algorithm {
                let text = "The upload was created with another checksum algorithm";
                return Err(errors::invalid_request(text));
            }
            // A composite may be named with or without its number of parts.
            let bare = made.value.split('-').next();
            if *value != made.value && Some(value.as_str()) != bare {
                let name = checksum::name(algorithm);
                let text = format!("The {name} you specified did not match what we received");
                return Err(errors::error(S3ErrorCode::BadDigest, text));
            }
        }
        Ok(())
    }
}

/// A part's checksum of that algorithm, raw, and its length.
fn raw_of(part: &PartRecord, algorithm: ChecksumAlgorithm) -> S3Result<(Vec<u8>, u64)> {
    let stored = part
        .checksum
        .as_ref()
        .filter(|checksum| checksum.algorithm == algorithm);
    let raw = stored.and_then(|checksum| checksum::raw(algorithm, &checksum.value));
    let missing = || invalid_part(&format!("part {} has no such checksum", part.number));
    Ok((raw.ok_or_else(missing)?, part.blob.len))
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
mod tests;
